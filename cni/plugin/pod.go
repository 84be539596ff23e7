package plugin

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// openNetns opens the pod's network namespace and refuses the plugin's own.
func openNetns(path string) (ns.NetNS, error) {
	pod, err := ns.GetNS(path)
	if err != nil {
		return nil, fmt.Errorf("opening the pod's network namespace: %w", err)
	}
	own, err := ns.GetCurrentNS()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening the host's network namespace: %w", err), pod.Close())
	}
	defer own.Close() // only looked at
	var a, b unix.Stat_t
	if err := errors.Join(unix.Fstat(int(pod.Fd()), &a), unix.Fstat(int(own.Fd()), &b)); err != nil {
		return nil, errors.Join(fmt.Errorf("comparing network namespaces: %w", err), pod.Close())
	}
	if a.Dev == b.Dev && a.Ino == b.Ino {
		return nil, errors.Join(fmt.Errorf("network namespace %s is the host's own: pods on the host's network get no interface", path), pod.Close())
	}
	return pod, nil
}

func podHandle(pod ns.NetNS) (*netlink.Handle, error) {
	h, err := netlink.NewHandleAt(netns.NsHandle(int(pod.Fd())), unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("opening netlink in the pod: %w", err)
	}
	return h, nil
}

// peerOf gives the index of the host side of the pod's interface, 0 when namespace or interface are gone.
func peerOf(netnsPath, ifName string) (int, error) {
	pod, err := ns.GetNS(netnsPath)
	if err != nil {
		if netnsPath == "" || errors.Is(err, fs.ErrNotExist) || errors.As(err, new(ns.NSPathNotExistErr)) || errors.As(err, new(ns.NSPathNotNSErr)) {
			return 0, nil
		}
		return 0, fmt.Errorf("opening the pod's network namespace: %w", err)
	}
	defer pod.Close() // only looked at
	h, err := podHandle(pod)
	if err != nil {
		return 0, err
	}
	defer h.Close()
	link, err := find(h.LinkByName(ifName))
	if err != nil {
		return 0, fmt.Errorf("looking for %s in the pod: %w", ifName, err)
	}
	if link == nil || link.Type() != "veth" {
		return 0, nil
	}
	return link.Attrs().ParentIndex, nil
}

// configurePod gives the pod its addresses and the way out.
func (a *attachment) configurePod(pod ns.NetNS) error {
	h, err := podHandle(pod)
	if err != nil {
		return err
	}
	defer h.Close()
	lo, err := h.LinkByName("lo")
	if err == nil {
		err = h.LinkSetUp(lo)
	}
	if err != nil {
		return fmt.Errorf("setting lo up in the pod: %w", err)
	}
	link, err := h.LinkByName(a.id.IfName)
	if err != nil {
		return fmt.Errorf("looking for %s in the pod: %w", a.id.IfName, err)
	}
	if a.hasIPv6() {
		// Runtimes make namespaces in which IPv6 is off.
		err := pod.Do(func(ns.NetNS) error {
			return apply([]setting{
				{"net/ipv6/conf/lo/disable_ipv6", "0"},
				{"net/ipv6/conf/" + a.id.IfName + "/disable_ipv6", "0"},
				{"net/ipv6/conf/" + a.id.IfName + "/accept_dad", "0"},
				{"net/ipv6/conf/" + a.id.IfName + "/accept_ra", "0"},
			})
		})
		if err != nil {
			return fmt.Errorf("in the pod: %w", err)
		}
	}
	for _, addr := range a.addrs {
		if err := h.AddrReplace(link, podAddr(addr)); err != nil {
			return fmt.Errorf("giving the pod address %s: %w", addr, err)
		}
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("setting %s up in the pod: %w", a.id.IfName, err)
	}
	if err := sweepRules(h, a.id.IfName); err != nil {
		return err
	}
	for _, ipv6 := range a.families() {
		if err := h.NeighSet(gatewayNeigh(link.Attrs().Index, ipv6, a.hostMAC)); err != nil {
			return fmt.Errorf("adding neighbour %s in the pod: %w", gateway(ipv6), err)
		}
		if err := a.routePod(h, link, ipv6); err != nil {
			return err
		}
	}
	return nil
}

func podAddr(addr netip.Addr) *netlink.Addr {
	a := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(addr, addr.BitLen()))}
	if addr.Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	return a
}

func gatewayNeigh(index int, ipv6 bool, mac net.HardwareAddr) *netlink.Neigh {
	return &netlink.Neigh{
		LinkIndex: index, Family: family(ipv6), State: netlink.NUD_PERMANENT,
		IP: net.IP(gateway(ipv6).AsSlice()), HardwareAddr: mac,
	}
}

// podRoutes are the pod's routes of a family, in the order in which they can be added.
func podRoutes(index int, ipv6 bool) []*netlink.Route {
	gw := gateway(ipv6)
	way := &netlink.Route{LinkIndex: index, Dst: ipNet(everywhere(ipv6)), Gw: net.IP(gw.AsSlice())}
	if ipv6 {
		return []*netlink.Route{way} // fe80::/64 is on the link
	}
	link := &netlink.Route{LinkIndex: index, Dst: ipNet(netip.PrefixFrom(gw, gw.BitLen())), Scope: netlink.SCOPE_LINK}
	return []*netlink.Route{link, way}
}

func family(ipv6 bool) int {
	if ipv6 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}
