// Package addresses is the node's allocator in the terms of rendered state.
package addresses

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/nodeagent/attachments"
	"github.com/manul-net/manul/nodeagent/ipam"
)

// Given are the addresses that the node gives to its pods.
type Given struct{ *ipam.Allocator }

// Open opens the journal at path, or makes it.
func Open(path string, options ipam.Options) (Given, error) {
	a, err := ipam.Open(path, options)
	return Given{a}, err
}

// SetLeases is part of agent.Addresses. What can't be read does not keep the rest from use.
func (a Given) SetLeases(leases []v1alpha1.BlockLease, borrowed []v1alpha1.BorrowedAddress, cooldown time.Duration) error {
	var problems []error
	blocks := make([]ipam.Block, 0, len(leases)+len(borrowed))
	take := func(b ipam.Block, err error) {
		if err != nil {
			problems = append(problems, err)
			return
		}
		blocks = append(blocks, b)
	}
	for i := range leases {
		take(readLease(&leases[i]))
	}
	for i := range borrowed {
		take(readBorrowed(&borrowed[i]))
	}
	a.SetCooldown(cooldown)
	return errors.Join(append(problems, a.SetBlocks(blocks))...)
}

// Leases is part of agent.Addresses.
func (a Given) Leases() (list []v1alpha1.LeaseStatus, cooling bool) {
	agreements, cooling := a.Agreements()
	for _, x := range agreements {
		s := v1alpha1.LeaseStatus{CIDR: x.CIDR.String(), Revision: x.Revision, Released: x.Released}
		for _, addr := range x.Withheld {
			s.Withheld = append(s.Withheld, addr.String())
		}
		list = append(list, s)
	}
	return list, cooling
}

// Adopt is part of agent.Addresses.
func (a Given) Adopt(before []v1alpha1.EndpointStatus, resting []string) error {
	found := make([]ipam.Allocation, 0, len(before))
	for i := range before {
		e := &before[i]
		first := ipam.Allocation{
			Owner: ipam.Owner{Endpoint: e.ID, UID: string(e.UID)}, Addresses: readAddresses(e.Addresses), External: e.External || e.Chained, Chained: e.Chained,
		}
		for j := range e.Others {
			o := &e.Others[j]
			other := ipam.Allocation{
				Owner:     ipam.Owner{Endpoint: e.ID, UID: string(e.UID), Interface: o.Name},
				Addresses: readAddresses(o.Addresses), External: o.External || o.Chained, Chained: o.Chained,
			}
			first.Addresses = slices.DeleteFunc(first.Addresses, func(addr netip.Addr) bool { return slices.Contains(other.Addresses, addr) })
			found = append(found, other)
		}
		found = append(found, first)
	}
	blocks := make([]netip.Prefix, 0, len(resting))
	for _, text := range resting {
		if cidr, err := readPrefix(text); err == nil {
			blocks = append(blocks, cidr)
		}
	}
	return a.Allocator.Adopt(found, blocks)
}

// readAddresses reads those that can be read.
func readAddresses(texts []string) []netip.Addr {
	var out []netip.Addr
	for _, text := range texts {
		if addr, err := netip.ParseAddr(text); err == nil {
			out = append(out, addr)
		}
	}
	return out
}

func readBorrowed(l *v1alpha1.BorrowedAddress) (ipam.Block, error) {
	b := ipam.Block{Borrowed: true, Withdrawn: l.Recalled, Revision: l.Revision}
	addr, err := netip.ParseAddr(l.Address)
	if err != nil {
		return b, fmt.Errorf("reading borrowed address: %w", err)
	}
	b.CIDR = netip.PrefixFrom(addr, addr.BitLen())
	if b.Pool, err = netip.ParsePrefix(l.Pool); err != nil {
		return b, fmt.Errorf("reading pool of borrowed address %s: %w", l.Address, err)
	}
	return b, nil
}

func readLease(l *v1alpha1.BlockLease) (ipam.Block, error) {
	b := ipam.Block{TunnelsOnly: l.TunnelsOnly, Withdrawn: l.Withdrawn, Revision: l.Revision}
	var err error
	if b.CIDR, err = netip.ParsePrefix(l.CIDR); err != nil {
		return b, fmt.Errorf("reading block: %w", err)
	}
	if b.Pool, err = netip.ParsePrefix(l.Pool); err != nil {
		return b, fmt.Errorf("reading pool of block %s: %w", l.CIDR, err)
	}
	for _, r := range l.Reserved {
		p, err := readPrefix(r)
		if err != nil {
			return b, fmt.Errorf("reading reservation in block %s: %w", l.CIDR, err)
		}
		b.Reserved = append(b.Reserved, p)
	}
	for _, text := range l.Lent {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return b, fmt.Errorf("reading lent address of block %s: %w", l.CIDR, err)
		}
		b.Lent = append(b.Lent, addr)
	}
	return b, nil
}

// readPrefix reads a CIDR or a single address.
func readPrefix(s string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	return p.Masked(), err
}

// Allocate is part of agent.Addresses.
func (a Given) Allocate(endpoint, uid string, request v1alpha1.AddressRequest) ([]netip.Addr, error) {
	r, err := readRequest(&request)
	if err != nil {
		return nil, err
	}
	return a.Allocator.Allocate(ipam.Owner{Endpoint: endpoint, UID: uid}, r)
}

// AllocateAttached is part of agent.Addresses.
func (a Given) AllocateAttached(o attachments.Owner, request v1alpha1.AddressRequest, attachment string) error {
	r, err := readRequest(&request)
	if err != nil {
		return err
	}
	_, err = a.Allocator.AllocateAttached(ipamOwner(o), r, attachment)
	return err
}

func readRequest(request *v1alpha1.AddressRequest) (ipam.Request, error) {
	r := ipam.Request{Unmanaged: request.Unmanaged}
	for _, s := range request.Pools {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return r, fmt.Errorf("reading pools asked for: %w", err)
		}
		r.Pools = append(r.Pools, p.Masked())
	}
	for _, s := range request.Fixed {
		addr, err := netip.ParseAddr(s)
		if err != nil {
			return r, fmt.Errorf("reading addresses asked for: %w", err)
		}
		r.Fixed = append(r.Fixed, addr.Unmap())
	}
	return r, nil
}

func ipamOwner(o attachments.Owner) ipam.Owner {
	return ipam.Owner{Endpoint: o.Endpoint, UID: o.UID, Interface: o.Interface}
}

func held(x *ipam.Allocation) attachments.Held {
	return attachments.Held{
		Owner:     attachments.Owner{Endpoint: x.Owner.Endpoint, UID: x.Owner.UID, Interface: x.Owner.Interface},
		Addresses: x.Addresses, External: x.External, Chained: x.Chained,
	}
}

// Take is part of agent.Addresses.
func (a Given) Take(o attachments.Owner, addrs []netip.Addr, attachment string, chained bool) error {
	return a.Allocator.Take(ipamOwner(o), addrs, attachment, chained)
}

// AttachmentsOf is part of agent.Addresses.
func (a Given) AttachmentsOf(o attachments.Owner) []string {
	return a.Allocator.AttachmentsOf(ipamOwner(o))
}

// Drop is part of agent.Addresses.
func (a Given) Drop(endpoint, uid string) (bool, error) {
	return a.Allocator.Drop(ipam.Owner{Endpoint: endpoint, UID: uid})
}

// AllocateTunnel is part of agent.Addresses.
func (a Given) AllocateTunnel(owner, pool string) (netip.Addr, error) {
	cidr, err := netip.ParsePrefix(pool)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("reading the pool of a tunnel: %w", err)
	}
	addrs, err := a.Allocator.Allocate(ipam.Owner{Endpoint: owner, UID: owner}, ipam.Request{Pools: []netip.Prefix{cidr.Masked()}, Tunnel: true})
	if err != nil {
		return netip.Addr{}, err
	}
	return addrs[0], nil
}

// Mark is part of agent.Addresses.
func (a Given) Mark() int { return int(a.Allocator.Mark()) }

// Save is part of agent.Addresses.
func (a Given) Save(ctx context.Context, since int) error {
	return a.Allocator.Save(ctx, ipam.Mark(since))
}

// Attach is part of agent.Addresses.
func (a Given) Attach(o attachments.Owner, attachment string) error {
	return a.Allocator.Attach(ipamOwner(o), attachment)
}

// Detach is part of agent.Addresses.
func (a Given) Detach(attachment string) error {
	_, err := a.Allocator.Detach(attachment)
	return err
}

// Retain is part of agent.Addresses.
func (a Given) Retain(uids []string) error { return a.SetLive(uids) }

// KeepAttachments is part of agent.Addresses.
func (a Given) KeepAttachments(attachments []string) error { return a.GC(attachments) }

// Attached is part of agent.Addresses.
func (a Given) Attached(attachment string) (attachments.Owner, bool) {
	o, ok := a.Allocator.Attached(attachment)
	return attachments.Owner{Endpoint: o.Endpoint, UID: o.UID, Interface: o.Interface}, ok
}

// Held is part of agent.Addresses.
func (a Given) Held(each func(attachments.Held)) error {
	list := a.Allocations()
	for i := range list {
		each(held(&list[i]))
	}
	return nil
}

// EachAttachment is part of agent.Addresses.
func (a Given) EachAttachment(each func(attachment string, of attachments.Held)) error {
	list := a.Allocations()
	for i := range list {
		for _, name := range list[i].Attachments {
			each(name, held(&list[i]))
		}
	}
	return nil
}

var errNoPods = errors.New("this host runs without pods (--standalone)")

// None are the addresses of a host without pods.
type None struct{}

// Save is part of agent.Addresses.
func (None) Save(context.Context, int) error { return nil }

// Mark is part of agent.Addresses.
func (None) Mark() int { return 0 }

// Failing is part of agent.Addresses.
func (None) Failing() error { return nil }

// Unsaved is part of agent.Addresses.
func (None) Unsaved() bool { return false }

// SetLeases is part of agent.Addresses.
func (None) SetLeases([]v1alpha1.BlockLease, []v1alpha1.BorrowedAddress, time.Duration) error {
	return nil
}

// Leases is part of agent.Addresses.
func (None) Leases() ([]v1alpha1.LeaseStatus, bool) { return nil, false }

// NeedsAdoption is part of agent.Addresses.
func (None) NeedsAdoption() (bool, error) { return false, nil }

// Adopt is part of agent.Addresses.
func (None) Adopt([]v1alpha1.EndpointStatus, []string) error { return nil }

// Allocate is part of agent.Addresses.
func (None) Allocate(string, string, v1alpha1.AddressRequest) ([]netip.Addr, error) {
	return nil, errNoPods
}

// Take is part of agent.Addresses.
func (None) Take(attachments.Owner, []netip.Addr, string, bool) error { return errNoPods }

// AllocateAttached is part of agent.Addresses.
func (None) AllocateAttached(attachments.Owner, v1alpha1.AddressRequest, string) error {
	return errNoPods
}

// AttachmentsOf is part of agent.Addresses.
func (None) AttachmentsOf(attachments.Owner) []string { return nil }

// Drop is part of agent.Addresses.
func (None) Drop(string, string) (bool, error) { return false, nil }

// AllocateTunnel is part of agent.Addresses.
func (None) AllocateTunnel(string, string) (netip.Addr, error) { return netip.Addr{}, errNoPods }

// Attach is part of agent.Addresses.
func (None) Attach(attachments.Owner, string) error { return errNoPods }

// Detach is part of agent.Addresses.
func (None) Detach(string) error { return nil }

// Retain is part of agent.Addresses.
func (None) Retain([]string) error { return nil }

// KeepAttachments is part of agent.Addresses.
func (None) KeepAttachments([]string) error { return nil }

// Attached is part of agent.Addresses.
func (None) Attached(string) (attachments.Owner, bool) { return attachments.Owner{}, false }

// Held is part of agent.Addresses.
func (None) Held(func(attachments.Held)) error { return nil }

// EachAttachment is part of agent.Addresses.
func (None) EachAttachment(func(attachment string, of attachments.Held)) error { return nil }
