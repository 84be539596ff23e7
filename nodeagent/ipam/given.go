package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// Take notes that an owner has the addresses which somebody else gave to one of its containers, in place of those that it had. They need
// not lie in a block. They are the owner's as long as a container is attached, and no longer: whoever gave them may then give them to another.
// chained: the interface is somebody else's too. *InUseError: another owner has one of them; nothing changes.
func (a *Allocator) Take(owner Owner, addrs []netip.Addr, containerID string, chained bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.take(owner, addrs, containerID, chained); err != nil {
		return fmt.Errorf("noting the addresses given to %s: %w", owner.Endpoint, err)
	}
	return nil
}

func (a *Allocator) take(owner Owner, addrs []netip.Addr, containerID string, chained bool) error {
	if err := errors.Join(a.broken, checkOwner(owner), checkName("container ID", containerID)); err != nil {
		return err
	}
	if len(addrs) == 0 || len(addrs) > maxFixed {
		return fmt.Errorf("%d addresses were given, want 1 to %d", len(addrs), maxFixed)
	}
	key, known := a.find(owner)
	if !known {
		key = keyOf(owner)
	}
	if of, ok := a.attached[containerID]; ok && of != key {
		return fmt.Errorf("container %s is attached to %s", containerID, a.owners[of].Owner.Endpoint)
	}
	addrs = slices.SortedFunc(slices.Values(addrs), netip.Addr.Compare)
	for _, addr := range addrs {
		if of, taken := a.used[addr]; taken && of != key {
			return &InUseError{Address: addr, By: a.owners[of].Owner}
		}
	}
	r := &record{Owner: owner, since: a.now()}
	c := change{freed: map[netip.Addr]int64{}}
	if old := a.owners[key]; old != nil {
		if old.External && old.Chained == chained && slices.Equal(old.Addresses, addrs) && slices.Contains(old.Attachments, containerID) {
			return nil
		}
		r = old.clone()
		for _, addr := range old.Addresses {
			c.freed[addr] = a.now()
		}
	}
	for _, addr := range addrs {
		c.freed[addr] = neverUsed
	}
	r.Addresses, r.External, r.Chained = addrs, true, chained
	if !slices.Contains(r.Attachments, containerID) {
		if len(r.Attachments) >= maxAttachments {
			return errTooManyAttachments
		}
		r.Attachments = append(r.Attachments, containerID)
		slices.Sort(r.Attachments)
	}
	c.owners = map[ownerKey]*record{key: r}
	return a.commit(c)
}

// Drop frees the addresses of an owner that has no container, and tells whether it did.
func (a *Allocator) Drop(owner Owner) (bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	key, ok := a.find(owner)
	if !ok || len(a.owners[key].Attachments) > 0 {
		return false, nil
	}
	c := change{owners: map[ownerKey]*record{key: nil}, freed: map[netip.Addr]int64{}}
	for _, addr := range a.owners[key].Addresses {
		c.freed[addr] = a.now()
	}
	if err := a.commit(c); err != nil {
		return false, fmt.Errorf("freeing the addresses of %s: %w", owner.Endpoint, err)
	}
	return true, nil
}
