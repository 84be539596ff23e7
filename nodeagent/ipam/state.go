package ipam

import (
	"net/netip"
	"slices"
)

// ownerKey names an owner's record: by UID, or by the name of an owner without one.
type ownerKey string

func keyOf(owner Owner) ownerKey {
	more := ""
	if owner.Interface != "" {
		more = "/" + owner.Interface // no UID and no pod's name has a slash
	}
	if owner.UID != "" {
		return ownerKey("uid:" + owner.UID + more)
	}
	return ownerKey("name:" + owner.Endpoint + more)
}

// record is what an owner holds. Records are replaced, never changed, but for live and named.
type record struct {
	Owner       Owner
	Addresses   []netip.Addr
	Attachments []string
	// External: somebody else gave the addresses, to containers that are attached. Chained: and made the interface.
	External, Chained bool

	// since is when the owner was first seen by this process.
	since int64
	// live: the newest SetLive named the owner. named: any did.
	live, named bool
}

// attachedOnly: the addresses are the owner's as long as a container is attached.
func (r *record) attachedOnly() bool { return r.External || r.Owner.Interface != "" }

func (r *record) clone() *record {
	c := *r
	c.Attachments = slices.Clone(r.Attachments)
	return &c
}

// change is a step from one consistent state to the next.
type change struct {
	// owners by key; nil: the owner is gone.
	owners map[ownerKey]*record
	// freed: when an address was freed; 0: it is not free any more, or nobody needs to know when.
	freed map[netip.Addr]int64
	// stances by block; nil: the node has none any more.
	stances map[netip.Prefix]*stance
	// known: what was in use before the journal was made is in it.
	known bool
}

// commit puts a change into memory, and among those that go to disk next.
func (a *Allocator) commit(c change) error {
	if a.broken != nil {
		return a.broken
	}
	if len(c.owners) == 0 && len(c.freed) == 0 && len(c.stances) == 0 && !c.known {
		return nil
	}
	if a.next == nil {
		a.next = newBatch()
	}
	a.next.merge(c)
	a.apply(c)
	return nil
}

// load fills memory from disk.
func (a *Allocator) load() error {
	now := a.now()
	c, err := a.journal.read()
	if err != nil {
		return err
	}
	if a.fresh, err = a.journal.fresh(); err != nil {
		return err
	}
	for addr, at := range c.freed {
		// The clock was ahead when this was written. Nobody is to wait until it gets there again.
		c.freed[addr] = min(at, now)
	}
	a.owners, a.used, a.attached, a.orphans = map[ownerKey]*record{}, map[netip.Addr]ownerKey{}, map[string]ownerKey{}, map[netip.Addr]int64{}
	a.stances = map[netip.Prefix]stance{}
	for _, r := range c.owners {
		r.since, r.named = now, true
	}
	for _, b := range a.blocks {
		clear(b.state)
	}
	a.apply(c)
	return nil
}

// reload is load in the course of operation: what is not on disk stays as it was. Who comes back is live until the next SetLive.
func (a *Allocator) reload() error {
	before := a.owners
	if err := a.load(); err != nil {
		return err
	}
	for key, r := range a.owners {
		r.live = true
		if old, ok := before[key]; ok {
			r.since, r.live, r.named = old.since, old.live, old.named
		}
	}
	return nil
}

// apply puts a change into memory. What is taken away goes first, since an address may pass from one owner to another.
func (a *Allocator) apply(c change) {
	a.fresh = a.fresh && !c.known
	for cidr, s := range c.stances {
		if s == nil {
			delete(a.stances, cidr)
		} else {
			a.stances[cidr] = *s
		}
	}
	for key := range c.owners {
		old, ok := a.owners[key]
		if !ok {
			continue
		}
		for _, addr := range old.Addresses {
			delete(a.used, addr)
			a.setState(addr, neverUsed)
		}
		for _, id := range old.Attachments {
			delete(a.attached, id)
		}
		delete(a.owners, key)
	}
	for addr, at := range c.freed {
		delete(a.orphans, addr)
		if !a.setState(addr, at) && at != neverUsed {
			a.orphans[addr] = at
		}
	}
	for key, r := range c.owners {
		if r == nil {
			continue
		}
		a.owners[key] = r
		for _, addr := range r.Addresses {
			a.used[addr] = key
			a.setState(addr, inUse)
		}
		for _, id := range r.Attachments {
			a.attached[id] = key
		}
	}
}

// setState sets the state of an address in its block, if there is one.
func (a *Allocator) setState(addr netip.Addr, state int64) bool {
	b := a.blockOf(addr)
	if b != nil {
		b.setState(addr, state)
	}
	return b != nil
}
