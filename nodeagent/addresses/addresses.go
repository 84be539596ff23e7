// Package addresses is the node's allocator in the terms of rendered state.
package addresses

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/manul-net/manul/api/v1alpha1"
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
		x := ipam.Allocation{Owner: ipam.Owner{Endpoint: before[i].ID, UID: string(before[i].UID)}}
		for _, text := range before[i].Addresses {
			if addr, err := netip.ParseAddr(text); err == nil {
				x.Addresses = append(x.Addresses, addr)
			}
		}
		found = append(found, x)
	}
	blocks := make([]netip.Prefix, 0, len(resting))
	for _, text := range resting {
		if cidr, err := readPrefix(text); err == nil {
			blocks = append(blocks, cidr)
		}
	}
	return a.Allocator.Adopt(found, blocks)
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
	r := ipam.Request{Unmanaged: request.Unmanaged}
	for _, s := range request.Pools {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("reading pools asked for: %w", err)
		}
		r.Pools = append(r.Pools, p.Masked())
	}
	for _, s := range request.Fixed {
		addr, err := netip.ParseAddr(s)
		if err != nil {
			return nil, fmt.Errorf("reading addresses asked for: %w", err)
		}
		r.Fixed = append(r.Fixed, addr.Unmap())
	}
	return a.Allocator.Allocate(ipam.Owner{Endpoint: endpoint, UID: uid}, r)
}

// Take is part of agent.Addresses.
func (a Given) Take(endpoint, uid string, addrs []netip.Addr, attachment string) error {
	return a.Allocator.Take(ipam.Owner{Endpoint: endpoint, UID: uid}, addrs, attachment)
}

// External is part of agent.Addresses.
func (a Given) External(endpoint, uid string) bool {
	return a.Allocator.External(ipam.Owner{Endpoint: endpoint, UID: uid})
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

// Attach is part of agent.Addresses.
func (a Given) Attach(endpoint, uid, attachment string) error {
	return a.Allocator.Attach(ipam.Owner{Endpoint: endpoint, UID: uid}, attachment)
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
func (a Given) Attached(attachment string) (endpoint, uid string, ok bool) {
	o, ok := a.Allocator.Attached(attachment)
	return o.Endpoint, o.UID, ok
}

// Held is part of agent.Addresses.
func (a Given) Held(each func(endpoint, uid string, addrs []netip.Addr)) error {
	for _, x := range a.Allocations() {
		each(x.Owner.Endpoint, x.Owner.UID, x.Addresses)
	}
	return nil
}

// EachAttachment is part of agent.Addresses.
func (a Given) EachAttachment(each func(attachment, endpoint, uid string, addrs []netip.Addr)) error {
	for _, x := range a.Allocations() {
		for _, name := range x.Attachments {
			each(name, x.Owner.Endpoint, x.Owner.UID, x.Addresses)
		}
	}
	return nil
}

var errNoPods = errors.New("this host runs without pods (--standalone)")

// None are the addresses of a host without pods.
type None struct{}

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
func (None) Take(string, string, []netip.Addr, string) error { return errNoPods }

// External is part of agent.Addresses.
func (None) External(string, string) bool { return false }

// Drop is part of agent.Addresses.
func (None) Drop(string, string) (bool, error) { return false, nil }

// AllocateTunnel is part of agent.Addresses.
func (None) AllocateTunnel(string, string) (netip.Addr, error) { return netip.Addr{}, errNoPods }

// Attach is part of agent.Addresses.
func (None) Attach(string, string, string) error { return errNoPods }

// Detach is part of agent.Addresses.
func (None) Detach(string) error { return nil }

// Retain is part of agent.Addresses.
func (None) Retain([]string) error { return nil }

// KeepAttachments is part of agent.Addresses.
func (None) KeepAttachments([]string) error { return nil }

// Attached is part of agent.Addresses.
func (None) Attached(string) (endpoint, uid string, ok bool) { return "", "", false }

// Held is part of agent.Addresses.
func (None) Held(func(endpoint, uid string, addrs []netip.Addr)) error { return nil }

// EachAttachment is part of agent.Addresses.
func (None) EachAttachment(func(attachment, endpoint, uid string, addrs []netip.Addr)) error {
	return nil
}
