package daemon

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/nodeagent/agent"
	"github.com/manul-net/manul/nodeagent/ipam"
)

// addresses is the allocator in the terms of rendered state.
type addresses struct{ *ipam.Allocator }

var _ agent.Addresses = addresses{}

// OpenAddresses opens the journal of a node's addresses, or makes it.
func OpenAddresses(path string) (interface {
	agent.Addresses
	io.Closer
}, error,
) {
	return openAddresses(path)
}

func openAddresses(path string) (addresses, error) {
	a, err := ipam.Open(path, ipam.Options{})
	return addresses{a}, err
}

// SetBlocks implements agent.Addresses. A block that can't be read does not keep others from use.
func (a addresses) SetBlocks(leases []v1alpha1.BlockLease, cooldown time.Duration) error {
	var problems []error
	blocks := make([]ipam.Block, 0, len(leases))
	for i := range leases {
		b, err := readLease(&leases[i])
		if err != nil {
			problems = append(problems, err)
			continue
		}
		blocks = append(blocks, b)
	}
	a.SetCooldown(cooldown)
	return errors.Join(append(problems, a.Allocator.SetBlocks(blocks))...)
}

func readLease(l *v1alpha1.BlockLease) (ipam.Block, error) {
	b := ipam.Block{TunnelsOnly: l.TunnelsOnly}
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

// Allocate implements agent.Addresses.
func (a addresses) Allocate(endpoint, uid string, request v1alpha1.AddressRequest) ([]netip.Addr, error) {
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

// AllocateTunnel implements agent.Addresses.
func (a addresses) AllocateTunnel(owner, pool string) (netip.Addr, error) {
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

// Attach implements agent.Addresses.
func (a addresses) Attach(endpoint, uid, attachment string) error {
	return a.Allocator.Attach(ipam.Owner{Endpoint: endpoint, UID: uid}, attachment)
}

// Detach implements agent.Addresses.
func (a addresses) Detach(attachment string) error {
	_, err := a.Allocator.Detach(attachment)
	return err
}

// Retain implements agent.Addresses.
func (a addresses) Retain(uids []string) error { return a.SetLive(uids) }

// KeepAttachments implements agent.Addresses.
func (a addresses) KeepAttachments(attachments []string) error { return a.GC(attachments) }

// Attached implements agent.Addresses.
func (a addresses) Attached(attachment string) (endpoint, uid string, ok bool) {
	o, ok := a.Allocator.Attached(attachment)
	return o.Endpoint, o.UID, ok
}

// Held implements agent.Addresses.
func (a addresses) Held(each func(endpoint, uid string, addrs []netip.Addr)) error {
	for _, x := range a.Allocations() {
		each(x.Owner.Endpoint, x.Owner.UID, x.Addresses)
	}
	return nil
}

var errNoPods = errors.New("this host runs without pods (--standalone)")

// noAddresses are those of a host without pods.
type noAddresses struct{}

var _ agent.Addresses = noAddresses{}

// SetBlocks implements agent.Addresses.
func (noAddresses) SetBlocks([]v1alpha1.BlockLease, time.Duration) error { return nil }

// Allocate implements agent.Addresses.
func (noAddresses) Allocate(string, string, v1alpha1.AddressRequest) ([]netip.Addr, error) {
	return nil, errNoPods
}

// AllocateTunnel implements agent.Addresses.
func (noAddresses) AllocateTunnel(string, string) (netip.Addr, error) { return netip.Addr{}, errNoPods }

// Attach implements agent.Addresses.
func (noAddresses) Attach(string, string, string) error { return errNoPods }

// Detach implements agent.Addresses.
func (noAddresses) Detach(string) error { return nil }

// Retain implements agent.Addresses.
func (noAddresses) Retain([]string) error { return nil }

// KeepAttachments implements agent.Addresses.
func (noAddresses) KeepAttachments([]string) error { return nil }

// Attached implements agent.Addresses.
func (noAddresses) Attached(string) (endpoint, uid string, ok bool) { return "", "", false }

// Held implements agent.Addresses.
func (noAddresses) Held(func(endpoint, uid string, addrs []netip.Addr)) error { return nil }
