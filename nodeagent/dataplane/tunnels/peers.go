package tunnels

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/tables"
)

// entry is a neighbour (the next hop of routes -> MAC address) or a forwarding entry (MAC address -> node) of a device.
type entry struct {
	forwarding bool
	key        string // the address of the next hop, or the MAC address
}

// entriesOf are the entries of a peer, with what they lead to.
func entriesOf(node netip.Addr, n tables.Neighbor) map[entry]string {
	mac := net.HardwareAddr(n.MAC[:]).String()
	return map[entry]string{
		{false, n.NextHop.String()}: mac,
		{true, mac}:                 node.String(),
	}
}

// makePeer makes what leads to one peer what it should be.
func (d *Driver) makePeer(desired *tables.Tunnels, key tables.TunnelPeer, index int) error {
	n, wanted := desired.Peers.Get(key)
	next := map[entry]string{}
	if wanted {
		next = entriesOf(key.Node, n)
	}
	var errs []error
	for e, to := range d.monitor.entriesOf(index, key.Node) {
		if _, stays := next[e]; !stays {
			if err := d.removeEntry(index, e, to); err != nil {
				errs = append(errs, err)
				d.monitor.expectEntry(index, e, to, key.Node) // so that it is tried again
			}
		}
	}
	for e, to := range next {
		errs = append(errs, d.setEntry(index, e, to, key.Node))
	}
	return errors.Join(errs...)
}

// comparePeers makes the neighbours and forwarding entries of a device those of its peers and no others.
func (d *Driver) comparePeers(desired *tables.Tunnels, kind tables.TunnelKind, index int) error {
	if kind == tables.IPIP {
		return nil
	}
	have, err := d.entries(kind, index)
	if err != nil {
		return err
	}
	want := map[entry]string{}
	nodes := map[entry]netip.Addr{}
	for key, n := range desired.Peers.All() {
		if key.Kind != kind {
			continue
		}
		for e, to := range entriesOf(key.Node, n) {
			want[e], nodes[e] = to, key.Node
		}
	}
	var errs []error
	for e, to := range have {
		if _, wanted := want[e]; !wanted {
			errs = append(errs, d.removeEntry(index, e, to))
		}
	}
	for e, to := range want {
		if have[e] == to {
			d.monitor.expectEntry(index, e, to, nodes[e])
			continue
		}
		if err := d.setEntry(index, e, to, nodes[e]); err != nil {
			key := tables.TunnelPeer{Kind: kind, Node: nodes[e]}
			d.refused[key] = errors.Join(d.refused[key], err)
		}
	}
	return errors.Join(errs...)
}

// entries are the permanent neighbours and forwarding entries of a device.
func (d *Driver) entries(kind tables.TunnelKind, index int) (map[entry]string, error) {
	have := map[entry]string{}
	for _, family := range []int{familyOf(kind.Is4()), unix.AF_BRIDGE} {
		list, err := retried(func() ([]netlink.Neigh, error) { return d.handle.NeighList(index, family) })
		if err != nil {
			return nil, fmt.Errorf("listing the neighbours of %s: %w", kind.Device(), err)
		}
		for i := range list {
			n := &list[i]
			addr, ok := netip.AddrFromSlice(n.IP)
			if n.State&unix.NUD_PERMANENT == 0 {
				continue
			}
			switch {
			case family == unix.AF_BRIDGE && ok:
				have[entry{true, n.HardwareAddr.String()}] = addr.Unmap().String()
			case family == unix.AF_BRIDGE:
				have[entry{true, n.HardwareAddr.String()}] = ""
			case ok:
				have[entry{false, addr.Unmap().String()}] = n.HardwareAddr.String()
			}
		}
	}
	return have, nil
}

func familyOf(is4 bool) int {
	if is4 {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// setEntry makes an entry lead to what it should.
func (d *Driver) setEntry(index int, e entry, to string, node netip.Addr) error {
	if d.monitor.expects(index, e) == to {
		return nil
	}
	n, err := neighbor(index, e, to)
	if err != nil {
		return err
	}
	// Before the change, so that the kernel's news of it is none.
	d.monitor.expectEntry(index, e, to, node)
	if err := d.handle.NeighSet(n); err != nil {
		d.monitor.forgetEntry(index, e)
		return fmt.Errorf("setting the way to node %s (%s): %w", node, e, err)
	}
	return nil
}

func (d *Driver) removeEntry(index int, e entry, to string) error {
	d.monitor.forgetEntry(index, e)
	n, err := neighbor(index, e, to)
	if err != nil {
		return err
	}
	if err := d.handle.NeighDel(n); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("removing %s, which leads to %s: %w", e, to, err)
	}
	return nil
}

func (e entry) String() string {
	if e.forwarding {
		return "forwarding entry " + e.key
	}
	return "neighbour " + e.key
}

// neighbor is an entry in the library's terms.
func neighbor(index int, e entry, to string) (*netlink.Neigh, error) {
	n := &netlink.Neigh{LinkIndex: index, State: unix.NUD_PERMANENT}
	mac, addr := to, e.key
	if e.forwarding {
		mac, addr = e.key, to
		n.Family, n.Flags = unix.AF_BRIDGE, unix.NTF_SELF
	}
	var err error
	if addr != "" {
		parsed, err := netip.ParseAddr(addr)
		if err != nil {
			return nil, fmt.Errorf("reading address: %w", err)
		}
		n.IP = parsed.AsSlice()
		if !e.forwarding {
			n.Family = familyOf(parsed.Is4())
		}
	}
	if mac != "" {
		if n.HardwareAddr, err = net.ParseMAC(mac); err != nil {
			return nil, fmt.Errorf("reading MAC address: %w", err)
		}
	}
	return n, nil
}
