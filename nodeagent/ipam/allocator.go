// Package ipam gives the pods of a node their addresses out of the blocks that the node has leased, and keeps a journal of
// that on disk.
//
// An address is in use while its owner is live (the node's state names it) or a container is attached. What is not
// in use is free, and free addresses are taken in order of how long they have been free, none before its cooldown is over.
// What a call changes is in memory when it returns, and on disk when an [Allocator.Save] returns that began after it. Changes come there in
// their order, each as a whole or not at all, so the process may be killed at any time, and finds what it had saved, or more. Nobody else must be
// told of a change before it is saved.
package ipam

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// Bounds of what is kept.
const (
	maxNameLength  = 512
	maxAttachments = 256
	maxFixed       = 16
)

// Owner is a pod, or one of its further interfaces.
type Owner struct {
	// Interface is the name in the pod of an interface beside the pod's first; empty: the first. What such an owner holds it holds as
	// long as a container is attached, and no longer.
	Interface string
	// Endpoint is "namespace/name".
	Endpoint string
	// UID of the pod; empty if the runtime did not say it. The owner is then known by its name until a request with a UID
	// for the same name takes its addresses over.
	UID string
}

// Request says which addresses an owner may get. The zero Request: one address of each family of which the node has a block.
type Request struct {
	// Pools are the CIDRs of the pools to take from. For each family among them there is an address, or none at all.
	Pools []netip.Prefix
	// Fixed are addresses that the owner must get, and no others. Neither cooldown nor reservation holds them back.
	Fixed []netip.Addr
	// Unmanaged: the fixed addresses need not lie in a block.
	Unmanaged bool
	// Tunnel: the owner is an end of a tunnel of the node, for which alone some blocks are.
	Tunnel bool
}

// Options of an allocator.
type Options struct {
	// Clock tells the time; nil: time.Now.
	Clock func() time.Time
	// Cooldown is how long an address stays unused after it was in use.
	Cooldown time.Duration
	// Grace is how long an address stays with an owner that SetLive has never named and that has no container yet: a pod
	// that came before the state that names it. 0: one minute.
	Grace time.Duration
	// Around, if set, is called in place of each write of the journal, which it may carry out: for tests that end the process in its midst.
	Around func(write func() error) error
}

var errTooManyAttachments = fmt.Errorf("%d containers are attached, which is the limit: the runtime has not released them", maxAttachments)

const defaultGrace = time.Minute

// Allocation is an owner and what it holds.
type Allocation struct {
	Owner Owner
	// Addresses, IPv4 first.
	Addresses []netip.Addr
	// Attachments are the containers that use the addresses, sorted.
	Attachments []string
	// External: somebody else gave the addresses, see Take. Chained: and made the interface.
	External, Chained bool
	// Live: SetLive has named the owner, or has not been called yet since Open.
	Live bool
}

// Attachment is a container and the owner whose addresses it uses.
type Attachment struct {
	ContainerID string
	Owner       Owner
}

// Allocator is safe for concurrent use.
type Allocator struct {
	// saving has an element while somebody writes to disk; mu is locked after that.
	saving   chan struct{}
	mu       sync.Mutex
	journal  *journal
	clock    func() time.Time
	cooldown time.Duration
	grace    time.Duration

	owners map[ownerKey]*record
	// used and attached lead from addresses and containers to owners.
	used     map[netip.Addr]ownerKey
	attached map[string]ownerKey
	// blocks in order of CIDR.
	blocks []*block
	// stances are what the node has agreed to about blocks.
	stances map[netip.Prefix]stance
	// orphans are the times at which addresses outside all blocks were freed. They are kept for the cooldown, in case
	// their block comes back.
	orphans map[netip.Addr]int64
	// next are the changes that go to disk next; nil: none. writing are those on their way.
	next, writing *batch
	// failures is how often the disk failed, and failure how it did last.
	failures Mark
	failure  error
	// failing is why the newest write failed.
	failing error
	// liveKnown: SetLive was called.
	liveKnown bool
	// fresh: nothing was known of the addresses in use when the journal was made, and nobody has told since.
	fresh bool
	// broken is set when memory and disk may differ.
	broken error
}

// Open opens the journal at path, or makes it. It fails at once if another process has it open. Until SetBlocks there
// is nothing to allocate from; until SetLive all owners in the journal count as live.
func Open(path string, options Options) (*Allocator, error) {
	j, err := openJournal(path)
	if err != nil {
		return nil, fmt.Errorf("opening the address journal: %w", err)
	}
	a := &Allocator{saving: make(chan struct{}, 1), journal: j, clock: options.Clock, cooldown: max(options.Cooldown, 0), grace: options.Grace}
	j.around = options.Around
	if a.clock == nil {
		a.clock = time.Now
	}
	if a.grace == 0 {
		a.grace = defaultGrace
	}
	if err := a.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("opening the address journal: %w", err), j.close())
	}
	return a, nil
}

// Close saves what is not saved, and closes the journal. Calls after it fail.
func (a *Allocator) Close() error {
	err := a.Save(context.Background(), a.Mark())
	if errors.Is(err, errClosed) {
		err = nil
	}
	a.saving <- struct{}{}
	defer func() { <-a.saving }()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.broken = errClosed
	return errors.Join(err, a.journal.close())
}

// Attach notes that a container uses the owner's addresses; a container is named by whatever string identifies the
// attachment. Repeating it changes nothing. *NotAllocatedError: the owner has no addresses.
func (a *Allocator) Attach(owner Owner, containerID string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.attach(owner, containerID); err != nil {
		return fmt.Errorf("attaching container %s to %s: %w", containerID, owner.Endpoint, err)
	}
	return nil
}

func (a *Allocator) attach(owner Owner, containerID string) error {
	if err := checkName("container ID", containerID); err != nil {
		return err
	}
	key, ok := a.find(owner)
	if !ok {
		return &NotAllocatedError{Owner: owner}
	}
	if of, ok := a.attached[containerID]; ok {
		if of == key {
			return nil
		}
		return fmt.Errorf("it is attached to %s", a.owners[of].Owner.Endpoint)
	}
	r := a.owners[key].clone()
	if len(r.Attachments) >= maxAttachments {
		return errTooManyAttachments
	}
	r.Attachments = append(r.Attachments, containerID)
	slices.Sort(r.Attachments)
	return a.commit(change{owners: map[ownerKey]*record{key: r}})
}

// Detach notes that a container is gone, and tells whether it was attached.
func (a *Allocator) Detach(containerID string) (found bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, found = a.attached[containerID]; !found {
		return false, a.broken
	}
	if err := a.detach(func(id string) bool { return id == containerID }); err != nil {
		return true, fmt.Errorf("detaching container %s: %w", containerID, err)
	}
	return true, nil
}

// GC detaches all containers but the valid ones.
func (a *Allocator) GC(validContainerIDs []string) error {
	valid := make(map[string]bool, len(validContainerIDs))
	for _, id := range validContainerIDs {
		valid[id] = true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.detach(func(id string) bool { return !valid[id] }); err != nil {
		return fmt.Errorf("detaching containers that the runtime does not know: %w", err)
	}
	return nil
}

// detach removes attachments and frees what is not in use without them, in one step.
func (a *Allocator) detach(gone func(id string) bool) error {
	c := change{owners: map[ownerKey]*record{}, freed: map[netip.Addr]int64{}}
	for id, key := range a.attached {
		if gone(id) && c.owners[key] == nil {
			r := a.owners[key].clone()
			r.Attachments = slices.DeleteFunc(r.Attachments, gone)
			c.owners[key] = r
		}
	}
	a.release(&c)
	return a.commit(c)
}

// SetLive gives the UIDs of all pods that the node's state names. What neither they nor a container hold is freed.
func (a *Allocator) SetLive(uids []string) error {
	live := make(map[ownerKey]bool, len(uids))
	for _, uid := range uids {
		if uid != "" {
			live[keyOf(Owner{UID: uid})] = true
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.liveKnown = true
	for key, r := range a.owners {
		r.live = live[key]
		r.named = r.named || r.live
	}
	c := change{owners: map[ownerKey]*record{}, freed: map[netip.Addr]int64{}}
	a.release(&c)
	if err := a.commit(c); err != nil {
		return fmt.Errorf("freeing the addresses of departed pods: %w", err)
	}
	return nil
}

// release adds to a change that the owners which hold their addresses no longer lose them.
func (a *Allocator) release(c *change) {
	if !a.liveKnown {
		return
	}
	now := a.now()
	for key, r := range a.owners {
		after := r
		if changed, ok := c.owners[key]; ok {
			after = changed
		}
		r.since = min(r.since, now) // in case the clock was set back
		waiting := !r.named && now-r.since < int64(a.grace)
		if after == nil || (r.live || waiting) && !after.attachedOnly() || len(after.Attachments) > 0 {
			continue
		}
		c.owners[key] = nil
		for _, addr := range r.Addresses {
			c.freed[addr] = now
		}
	}
}

// now is the time as it is kept: nanoseconds since 1970, never 0.
func (a *Allocator) now() int64 { return max(a.clock().UnixNano(), 1) }

// Lookup returns the addresses of an owner.
func (a *Allocator) Lookup(owner Owner) ([]netip.Addr, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	key, ok := a.find(owner)
	if !ok {
		return nil, false
	}
	return slices.Clone(a.owners[key].Addresses), true
}

// Attached returns the owner to whom a container is attached.
func (a *Allocator) Attached(containerID string) (Owner, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	key, ok := a.attached[containerID]
	if !ok {
		return Owner{}, false
	}
	return a.owners[key].Owner, true
}

// AttachmentsOf lists the containers that use the owner's addresses, in order.
func (a *Allocator) AttachmentsOf(owner Owner) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	key, ok := a.find(owner)
	if !ok {
		return nil
	}
	return slices.Clone(a.owners[key].Attachments)
}

// Attachments lists all attachments in order of container ID.
func (a *Allocator) Attachments() []Attachment {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := make([]Attachment, 0, len(a.attached))
	for id, key := range a.attached {
		list = append(list, Attachment{ContainerID: id, Owner: a.owners[key].Owner})
	}
	slices.SortFunc(list, func(a, b Attachment) int { return strings.Compare(a.ContainerID, b.ContainerID) })
	return list
}

// Allocations lists all owners in order of endpoint and UID.
func (a *Allocator) Allocations() []Allocation {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := make([]Allocation, 0, len(a.owners))
	for _, r := range a.owners {
		list = append(list, Allocation{
			Owner: r.Owner, Addresses: slices.Clone(r.Addresses), Attachments: slices.Clone(r.Attachments), Live: r.live || !a.liveKnown,
			External: r.External, Chained: r.Chained,
		})
	}
	slices.SortFunc(list, func(a, b Allocation) int {
		return cmp.Or(strings.Compare(a.Owner.Endpoint, b.Owner.Endpoint), strings.Compare(a.Owner.UID, b.Owner.UID),
			strings.Compare(a.Owner.Interface, b.Owner.Interface))
	})
	return list
}

// find finds the record of an owner. Without a UID in the request, a live pod of that name is meant.
func (a *Allocator) find(owner Owner) (ownerKey, bool) {
	key := keyOf(owner)
	if _, ok := a.owners[key]; ok {
		return key, true
	}
	if owner.UID != "" {
		return "", false
	}
	for key, r := range a.owners {
		if r.Owner.Endpoint == owner.Endpoint && r.Owner.Interface == owner.Interface && (r.live || !a.liveKnown) {
			return key, true
		}
	}
	return "", false
}

func checkName(what, name string) error {
	if name == "" || len(name) > maxNameLength {
		return fmt.Errorf("%s has %d characters, not 1 to %d", what, len(name), maxNameLength)
	}
	return nil
}
