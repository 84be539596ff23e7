package tunnels

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/tables"
)

// minimalIPv6 is the least MTU with which a link carries IPv6 (RFC 8200, section 5).
const minimalIPv6 = 1280

// removeDevice removes the device of a kind with all that is on it.
func (d *Driver) removeDevice(kind tables.TunnelKind) error {
	link, err := d.handle.LinkByName(kind.Device())
	if _, absent := errors.AsType[netlink.LinkNotFoundError](err); absent {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking for device %s: %w", kind.Device(), err)
	}
	if err := d.handle.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("removing device %s: %w", kind.Device(), err)
	}
	return nil
}

// makeDevice makes the device of a kind what it should be, and returns its index. What can be changed is changed; a device
// that differs in what can't be is made anew. first: nothing is known of what an earlier process did.
func (d *Driver) makeDevice(all *namespace, kind tables.TunnelKind, wish tables.Tunnel, first bool) (int, error) {
	mtu, err := all.mtu(kind, wish, d.options.WorkloadPrefix)
	if err != nil {
		return 0, err
	}
	link := all.named(kind.Device())
	if link != nil && !sameDevice(link, kind, wish) {
		d.monitor.expect(kind, 0)
		if err := d.removeDevice(kind); err != nil {
			return 0, err
		}
		link = nil
	}
	if link == nil {
		if link, err = d.add(kind, wish, mtu); err != nil {
			return 0, err
		}
		first = true
	}
	attrs := link.Attrs()
	if mac := net.HardwareAddr(wish.MAC[:]); kind != tables.IPIP && attrs.HardwareAddr.String() != mac.String() {
		if err := d.handle.LinkSetHardwareAddr(link, mac); err != nil {
			return 0, fmt.Errorf("setting the MAC address of %s: %w", attrs.Name, err)
		}
	}
	if attrs.MTU != mtu {
		if err := d.handle.LinkSetMTU(link, mtu); err != nil {
			return 0, fmt.Errorf("setting the MTU of %s to %d: %w", attrs.Name, mtu, err)
		}
	}
	if first && kind.Is4() {
		if err := d.loosen(attrs.Index); err != nil {
			return 0, fmt.Errorf("having %s take packets from nodes whose routes lead elsewhere (rp_filter): %w", attrs.Name, err)
		}
	}
	if err := d.setAddress(link, kind, wish.Address); err != nil {
		return 0, err
	}
	if attrs.Flags&net.FlagUp == 0 {
		if err := d.handle.LinkSetUp(link); err != nil {
			return 0, fmt.Errorf("setting %s up: %w", attrs.Name, err)
		}
	}
	return attrs.Index, nil
}

// add makes a device, and returns it as the kernel has it.
func (d *Driver) add(kind tables.TunnelKind, wish tables.Tunnel, mtu int) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = kind.Device(), mtu
	var link netlink.Link
	if kind == tables.IPIP {
		// With the node's address as the local one it takes only what is for the node, and there may be other such devices.
		link = &netlink.Iptun{LinkAttrs: attrs, Local: wish.Local.AsSlice(), PMtuDisc: 1}
	} else {
		attrs.HardwareAddr = wish.MAC[:]
		link = &netlink.Vxlan{LinkAttrs: attrs, VxlanId: int(wish.VNI), Port: int(wish.Port), SrcAddr: wish.Local.AsSlice()}
	}
	switch err := d.handle.LinkAdd(link); {
	case errors.Is(err, unix.EEXIST) && kind != tables.IPIP:
		return nil, fmt.Errorf("making device %s: another device has VNI %d on UDP port %d: remove it, or set vxlanVNI or vxlanPort in the FelixConfiguration", attrs.Name, wish.VNI, wish.Port)
	case errors.Is(err, unix.EADDRINUSE):
		return nil, fmt.Errorf("making device %s: UDP port %d is in use on the node: set another vxlanPort in the FelixConfiguration", attrs.Name, wish.Port)
	case errors.Is(err, unix.EOPNOTSUPP):
		return nil, fmt.Errorf("making device %s: the node's kernel knows no such tunnels (module %s): load it, or use pools without %s", attrs.Name, link.Type(), kind)
	case err != nil:
		return nil, fmt.Errorf("making device %s: %w", attrs.Name, err)
	}
	made, err := d.handle.LinkByName(attrs.Name)
	if err != nil {
		return nil, fmt.Errorf("looking for device %s: %w", attrs.Name, err)
	}
	return made, nil
}

// sameDevice tells whether a link can become the device by changes.
func sameDevice(link netlink.Link, kind tables.TunnelKind, wish tables.Tunnel) bool {
	switch l := link.(type) {
	case *netlink.Iptun:
		return kind == tables.IPIP && equal(l.Local, wish.Local) && (l.Remote == nil || l.Remote.IsUnspecified()) && l.PMtuDisc == 1 && !l.FlowBased
	case *netlink.Vxlan:
		return kind != tables.IPIP && l.VxlanId == int(wish.VNI) && l.Port == int(wish.Port) && equal(l.SrcAddr, wish.Local) &&
			!l.Learning && !l.FlowBased && l.VtepDevIndex == 0 && l.Group == nil
	}
	return false
}

func equal(ip net.IP, addr netip.Addr) bool {
	other, ok := netip.AddrFromSlice(ip)
	return ok && other.Unmap() == addr
}

// setAddress gives a device its address and then takes others from it, link-local ones apart: with its last address go its neighbours
// and routes.
func (d *Driver) setAddress(link netlink.Link, kind tables.TunnelKind, want netip.Addr) error {
	name := link.Attrs().Name
	if want.IsValid() && want.Is4() != kind.Is4() {
		return fmt.Errorf("giving %s its address: %s is of the other family", name, want)
	}
	have, err := retried(func() ([]netlink.Addr, error) { return d.handle.AddrList(link, netlink.FAMILY_ALL) })
	if err != nil {
		return fmt.Errorf("listing the addresses of %s: %w", name, err)
	}
	isWanted := func(a *netlink.Addr) bool {
		ones, bits := a.Mask.Size()
		return equal(a.IP, want) && ones == bits
	}
	there := false
	for i := range have {
		there = there || isWanted(&have[i])
	}
	if want.IsValid() && !there {
		single := &net.IPNet{IP: want.AsSlice(), Mask: net.CIDRMask(want.BitLen(), want.BitLen())}
		if err := d.handle.AddrReplace(link, &netlink.Addr{IPNet: single, Flags: unix.IFA_F_NODAD}); err != nil {
			return fmt.Errorf("giving %s address %s: %w", name, want, err)
		}
	}
	for i := range have {
		if isWanted(&have[i]) || have[i].IP.IsLinkLocalUnicast() {
			continue
		}
		if err := d.handle.AddrDel(link, &have[i]); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("taking address %s from %s: %w", have[i].IP, name, err)
		}
	}
	return nil
}

// mtu of a device: as wished, else that of the node's interface less the encapsulation.
func (n *namespace) mtu(kind tables.TunnelKind, wish tables.Tunnel, workloadPrefix string) (int, error) {
	mtu := wish.MTU
	if mtu == 0 {
		under, err := n.underlying(wish, workloadPrefix)
		if err != nil {
			return 0, err
		}
		mtu = under - kind.Overhead()
	}
	if kind == tables.VXLANv6 && mtu < minimalIPv6 {
		return 0, fmt.Errorf("device %s would have an MTU of %d, and IPv6 needs %d: raise the MTU of the node's interface to %d", kind.Device(), mtu, minimalIPv6, minimalIPv6+kind.Overhead())
	}
	return mtu, nil
}

// underlying is the MTU of the node's interface.
func (n *namespace) underlying(wish tables.Tunnel, workloadPrefix string) (int, error) {
	if wish.MTUInterfaces != "" {
		pattern, err := regexp.Compile(wish.MTUInterfaces)
		if err != nil {
			return 0, fmt.Errorf("reading mtuIfacePattern: %w", err)
		}
		least := 0
		for _, link := range n.links {
			attrs := link.Attrs()
			if isOurs(attrs.Name) || workloadPrefix != "" && strings.HasPrefix(attrs.Name, workloadPrefix) || attrs.Flags&net.FlagLoopback != 0 {
				continue
			}
			if pattern.MatchString(attrs.Name) && (least == 0 || attrs.MTU < least) {
				least = attrs.MTU
			}
		}
		if least > 0 {
			return least, nil
		}
	}
	index, ok := n.bearers[wish.Local]
	for _, link := range n.links {
		if ok && link.Attrs().Index == index {
			return link.Attrs().MTU, nil
		}
	}
	return 0, fmt.Errorf("no interface of the node has its address %s", wish.Local)
}

func isOurs(name string) bool {
	for _, kind := range tables.TunnelKinds() {
		if name == kind.Device() {
			return true
		}
	}
	return false
}

// IFLA_INET_CONF of linux/if_link.h and IPV4_DEVCONF_RP_FILTER of linux/ip.h.
const (
	inetConf = 1
	rpFilter = 8
)

// loosen lets a device take packets whose source is reached by another one: while nodes change from one encapsulation to another
// one after the other, and from a node that has no address in its tunnel yet. Who may send through the tunnel at all is policy's
// to say. The kernel goes by the higher of the values for all interfaces and for this one, so that strict filtering elsewhere stays.
func (d *Driver) loosen(index int) error {
	const loose = 2
	// By netlink, since /proc shows the namespace of whoever looks.
	request := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	message := nl.NewIfInfomsg(unix.AF_UNSPEC)
	message.Index = int32(index)
	request.AddData(message)
	spec := nl.NewRtAttr(unix.IFLA_AF_SPEC, nil)
	inet := spec.AddRtAttr(unix.AF_INET, nil)
	conf := inet.AddRtAttr(inetConf, nil)
	conf.AddRtAttr(rpFilter, nl.Uint32Attr(loose))
	request.AddData(spec)
	request.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: d.socket}
	_, err := request.Execute(unix.NETLINK_ROUTE, 0)
	return err
}
