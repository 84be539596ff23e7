package ipam

import (
	"fmt"
	"net/netip"
	"slices"
)

// Allocate gives an owner its addresses, IPv4 first. Asked again for the same owner it gives the same addresses, whatever
// the request says: a pod's addresses do not change during its life.
//
// Errors that tell what to do: *ExhaustedError, *NoBlockError, *InUseError, *OutsideError. Nothing is allocated then.
func (a *Allocator) Allocate(owner Owner, request Request) ([]netip.Addr, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	addrs, err := a.allocate(owner, request)
	if err != nil {
		return nil, fmt.Errorf("allocating addresses for %s: %w", owner.Endpoint, err)
	}
	return slices.Clone(addrs), nil
}

// AllocateAttached is Allocate and Attach in one step.
func (a *Allocator) AllocateAttached(owner Owner, request Request, containerID string) ([]netip.Addr, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	err := checkName("container ID", containerID)
	if of, ok := a.attached[containerID]; ok && of != keyOf(owner) {
		err = fmt.Errorf("container %s is attached to %s", containerID, a.owners[of].Owner.Endpoint)
	}
	var addrs []netip.Addr
	if err == nil {
		addrs, err = a.allocate(owner, request, containerID)
	}
	if err != nil {
		return nil, fmt.Errorf("allocating addresses for interface %s of %s: %w", owner.Interface, owner.Endpoint, err)
	}
	return slices.Clone(addrs), nil
}

func (a *Allocator) allocate(owner Owner, request Request, attachments ...string) ([]netip.Addr, error) {
	if a.broken != nil {
		return nil, a.broken
	}
	if key, ok := a.find(owner); ok {
		if len(attachments) > 0 {
			return a.owners[key].Addresses, a.attach(owner, attachments[0])
		}
		return a.owners[key].Addresses, nil
	}
	if err := checkOwner(owner); err != nil {
		return nil, err
	}
	if nameless, ok := a.owners[keyOf(Owner{Endpoint: owner.Endpoint, Interface: owner.Interface})]; ok {
		return nameless.Addresses, a.takeOver(nameless, owner)
	}
	// Pods that waited in vain for their state may have what this one needs.
	late := change{owners: map[ownerKey]*record{}, freed: map[netip.Addr]int64{}}
	a.release(&late)
	if err := a.commit(late); err != nil {
		return nil, err
	}

	addrs, err := a.choose(request)
	if err != nil {
		return nil, err
	}
	r := &record{Owner: owner, Addresses: addrs, Attachments: attachments, since: a.now()}
	c := change{owners: map[ownerKey]*record{keyOf(owner): r}, freed: map[netip.Addr]int64{}}
	for _, addr := range addrs {
		c.freed[addr] = neverUsed
	}
	return addrs, a.commit(c)
}

// takeOver gives the addresses of an owner without a UID to the owner of the same name, now that its UID is known.
func (a *Allocator) takeOver(nameless *record, owner Owner) error {
	r := nameless.clone()
	r.Owner = owner
	return a.commit(change{owners: map[ownerKey]*record{keyOf(nameless.Owner): nil, keyOf(owner): r}})
}

func checkOwner(owner Owner) error {
	if err := checkName("endpoint", owner.Endpoint); err != nil {
		return err
	}
	if owner.UID == "" {
		return nil
	}
	return checkName("UID", owner.UID)
}

// choose finds the addresses for a request.
func (a *Allocator) choose(request Request) ([]netip.Addr, error) {
	if len(request.Fixed) > 0 {
		return a.chooseFixed(request.Fixed, request.Unmanaged)
	}
	var candidates []*block
	for _, b := range a.blocks {
		asked := len(request.Pools) == 0 || slices.Contains(request.Pools, b.Pool)
		if asked && !b.Withdrawn && (request.Tunnel || !b.TunnelsOnly) {
			candidates = append(candidates, b)
		}
	}
	var addrs []netip.Addr
	for _, is4 := range []bool{true, false} {
		isFamily := func(cidr netip.Prefix) bool { return cidr.Addr().Is4() == is4 }
		var family []*block
		for _, b := range candidates {
			if isFamily(b.CIDR) {
				family = append(family, b)
			}
		}
		if len(family) == 0 {
			if slices.ContainsFunc(request.Pools, isFamily) {
				return nil, &NoBlockError{Pools: slices.DeleteFunc(slices.Clone(request.Pools), func(p netip.Prefix) bool { return !isFamily(p) })}
			}
			continue
		}
		addr, ok := a.longestFree(family, false)
		if !ok {
			addr, ok = a.longestFree(family, true)
		}
		if !ok {
			return nil, &ExhaustedError{Blocks: a.uses(family)}
		}
		addrs = append(addrs, addr)
	}
	if len(addrs) == 0 {
		return nil, &NoBlockError{}
	}
	return addrs, nil
}

// longestFree is the address that has been free for the longest time, the lowest among equals; never used is longest. It is
// one of the borrowed ones or of the others.
func (a *Allocator) longestFree(blocks []*block, borrowed bool) (netip.Addr, bool) {
	now := a.now()
	var best netip.Addr
	var bestAt int64
	for _, b := range blocks {
		if b.Borrowed != borrowed {
			continue
		}
		for offset, at := range b.state {
			if at == inUse {
				continue
			}
			if at > now {
				// The clock was set back. The cooldown begins anew, so as to end before the clock is there again.
				at = now
				b.state[offset] = now
			}
			if best.IsValid() && at >= bestAt || at != neverUsed && now-at < int64(a.cooldown) {
				continue
			}
			addr := b.at(offset)
			if b.reserved(addr) || b.lends(addr) {
				continue
			}
			if best, bestAt = addr, at; at == neverUsed {
				return best, true
			}
		}
	}
	return best, best.IsValid()
}

// chooseFixed checks that addresses which were asked for by name can be had.
func (a *Allocator) chooseFixed(fixed []netip.Addr, unmanaged bool) ([]netip.Addr, error) {
	if len(fixed) > maxFixed {
		return nil, fmt.Errorf("%d addresses are asked for, at most %d are possible", len(fixed), maxFixed)
	}
	addrs := make([]netip.Addr, 0, len(fixed))
	for _, addr := range fixed {
		addrs = append(addrs, addr.Unmap())
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	addrs = slices.Compact(addrs)
	for _, addr := range addrs {
		if key, taken := a.used[addr]; taken {
			return nil, &InUseError{Address: addr, By: a.owners[key].Owner}
		}
		if b := a.blockOf(addr); !unmanaged && (b == nil || b.Withdrawn || b.lends(addr)) {
			err := &OutsideError{Address: addr}
			for _, b := range a.blocks {
				if b.CIDR.Addr().BitLen() == addr.BitLen() {
					err.Blocks = append(err.Blocks, b.CIDR)
				}
			}
			return nil, err
		}
	}
	return addrs, nil
}
