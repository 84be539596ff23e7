// Package peering gives the node the addresses at which its pods open BGP sessions with it.
//
// They are on the loopback interface: a pod reaches them by its default route, which leads to the node, and they are no other
// network's. They bear marks: those of IPv4 a label, those of IPv6 are deprecated, so that the kernel chooses none of them as the source of
// anything else.
package peering

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/tables"
)

const (
	loopback = "lo"
	// label of the driver's IPv4 addresses.
	label = loopback + ":manul"
)

// Driver makes the addresses what they should be. Its methods may be called from one goroutine at a time, Resync from any.
type Driver struct {
	handle *netlink.Handle
	resync atomic.Bool
	known  bool
}

// New opens a connection to the addresses of the calling thread's network namespace. It changes nothing.
func New() (*Driver, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("opening addresses: %w", err)
	}
	return &Driver{handle: handle}, nil
}

// Close ends the connection. The addresses stay.
func (d *Driver) Close() error {
	d.handle.Close()
	return nil
}

// Resync makes the next Apply compare everything with the kernel.
func (d *Driver) Resync() { d.resync.Store(true) }

// Changed implements the interface of drivers: changes by others are undone at the next comparison.
func (d *Driver) Changed() <-chan struct{} { return nil }

// Disturbances implements the interface of drivers.
func (d *Driver) Disturbances() int64 { return 0 }

// Apply makes the kernel equal to desired. It compares with the kernel each time that something changed: there are few. An address that
// can't be given is reported as a tables.ItemError, while the others are in force.
func (d *Driver) Apply(_ context.Context, desired *tables.PeeringAddresses) error {
	if !d.resync.Swap(false) && d.known && !desired.HasDirty() {
		return nil
	}
	d.known = false
	lo, err := d.handle.LinkByName(loopback)
	if err != nil {
		return fmt.Errorf("looking for interface lo: %w", err)
	}
	list, err := d.handle.AddrList(lo, netlink.FAMILY_ALL)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return fmt.Errorf("listing the addresses of lo: %w", err)
	}
	wanted := map[netip.Addr]bool{}
	for _, a := range desired.Addresses {
		wanted[a] = true
	}
	var problems []error
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
		if err := d.handle.AddrDel(lo, &list[i]); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			problems = append(problems, &tables.ItemError{Kind: tables.KindPeeringAddress, Name: a.String(), Err: fmt.Errorf("taking it from lo: %w", err)})
		}
	}
	for a := range wanted {
		if err := d.handle.AddrAdd(lo, address(a)); err != nil && !errors.Is(err, unix.EEXIST) {
			problems = append(problems, &tables.ItemError{Kind: tables.KindPeeringAddress, Name: a.String(), Err: fmt.Errorf("putting it on lo: %w", err)})
		}
	}
	d.known = len(problems) == 0
	desired.Clean()
	return errors.Join(problems...)
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
