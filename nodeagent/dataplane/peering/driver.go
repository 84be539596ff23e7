// Package peering gives the node the addresses at which its pods open BGP sessions with it.
//
// They are on the loopback interface: a pod reaches them by its default route, which leads to the node, and they are no other
// network's. They bear marks: those of IPv4 a label, those of IPv6 are deprecated, so that the kernel chooses none of them as the source of
// anything else.
package peering

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/dataplane/whole"
	"github.com/manul-net/manul/nodeagent/tables"
)

const (
	loopback = "lo"
	// label of the driver's IPv4 addresses.
	label = loopback + ":manul"
)

// Driver makes the addresses what they should be.
type Driver = whole.Driver[*tables.PeeringAddresses]

// New opens a connection to the addresses of the calling thread's network namespace. It changes nothing.
func New() (*Driver, error) { return whole.New("addresses", compare) }

// compare gives an address that the node can't have as a tables.ItemError.
func compare(kernel *netlink.Handle, desired *tables.PeeringAddresses) (refused []error, err error) {
	lo, err := kernel.LinkByName(loopback)
	if err != nil {
		return nil, fmt.Errorf("looking for interface lo: %w", err)
	}
	list, err := kernel.AddrList(lo, netlink.FAMILY_ALL)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("listing the addresses of lo: %w", err)
	}
	wanted := map[netip.Addr]bool{}
	for _, a := range desired.Addresses {
		wanted[a] = true
	}
	for i := range list {
		a, _ := netip.AddrFromSlice(list[i].IP)
		a = a.Unmap()
		if wanted[a] {
			delete(wanted, a)
			continue
		}
		if !isOurs(&list[i]) {
			continue
		}
		if err := kernel.AddrDel(lo, &list[i]); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			refused = append(refused, &tables.ItemError{Kind: tables.KindPeeringAddress, Name: a.String(), Err: fmt.Errorf("taking it from lo: %w", err)})
		}
	}
	for a := range wanted {
		if err := kernel.AddrAdd(lo, address(a)); err != nil && !errors.Is(err, unix.EEXIST) {
			refused = append(refused, &tables.ItemError{Kind: tables.KindPeeringAddress, Name: a.String(), Err: fmt.Errorf("putting it on lo: %w", err)})
		}
	}
	return refused, nil
}

func address(a netip.Addr) *netlink.Addr {
	out := &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}}
	if a.Is4() {
		out.Label, out.Scope = label, unix.RT_SCOPE_HOST
		return out
	}
	out.ValidLft, out.Flags = math.MaxUint32, unix.IFA_F_NODAD // preferred for no time: deprecated
	return out
}

// isOurs recognizes the marks.
func isOurs(a *netlink.Addr) bool {
	if a.IP.To4() != nil {
		return a.Label == label
	}
	return a.Flags&unix.IFA_F_DEPRECATED != 0
}
