package plugin

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/skel"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/cni/protocol"
)

func (p plugin) check(args *skel.CmdArgs) error {
	c, err := p.parse(args)
	if err != nil {
		return err
	}
	prev, err := c.previous()
	if err != nil {
		return err
	}
	if prev == nil {
		return configError("prevResult: missing; CHECK needs the result of the ADD")
	}
	if err := c.check(prev); err != nil {
		err = failure(fmt.Sprintf("checking pod %s/%s", c.pod.namespace, c.pod.name), err)
		c.log.Error("CHECK", "error", err)
		return err
	}
	return nil
}

func (c *call) check(prev *types100.Result) error {
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	defer unlock()
	ctx, cancel := context.WithTimeoutCause(context.Background(), callTimeout, fmt.Errorf("no answer within %v", callTimeout))
	defer cancel()
	given, err := c.client.Check(ctx, protocol.CheckRequest{
		Attachment: c.attachment, Netns: c.netns, PodNamespace: c.pod.namespace, PodName: c.pod.name, PodUID: c.pod.uid,
	})
	if err != nil {
		return err
	}
	a := newAttachment(c.attachment, given)
	if err := a.compare(prev, given.Chained); err != nil {
		return err
	}
	pod, err := openNetns(c.netns)
	if err != nil {
		return mismatch("%v", err)
	}
	defer pod.Close() // only looked at
	if given.Chained {
		return a.verifyChained(pod)
	}
	if err := a.verify(pod); err != nil {
		return err
	}
	return c.tell(ctx, "CHECK")
}

func mismatch(format string, args ...any) error {
	return protocol.Errorf(protocol.CodeMismatch, format, args...)
}

// compare the runtime's memory with the agent's. Later plugins of the list may have added to the result.
//
// Of a chained interface the runtime knows the name that it had at first.
func (a attachment) compare(prev *types100.Result, chained bool) error {
	known := chained
	for _, i := range prev.Interfaces {
		known = known || i.Name == a.hostName && i.Sandbox == ""
	}
	if !known {
		return mismatch("prevResult has no host interface %s, which the node agent has for this container", a.hostName)
	}
	ips := make(map[netip.Addr]bool, len(prev.IPs))
	for _, ip := range prev.IPs {
		if addr, ok := netip.AddrFromSlice(ip.Address.IP); ok {
			ips[addr.Unmap()] = true
		}
	}
	for _, addr := range a.addrs {
		if !ips[addr] {
			return mismatch("prevResult lacks address %s, which the node agent has for this container", addr)
		}
	}
	return nil
}

// verify finds all that is not as make left it.
func (a attachment) verify(podNS ns.NetNS) error {
	return a.look(podNS, func(host, pod *netlink.Handle, outer, inner netlink.Link) error {
		return errors.Join(
			a.verifyLinks(outer.Attrs(), inner.Attrs()),
			a.verifyHost(host, outer),
			a.verifyPod(pod, inner),
		)
	})
}

// look has both ends of the pair looked at.
func (a attachment) look(podNS ns.NetNS, at func(host, pod *netlink.Handle, outer, inner netlink.Link) error) error {
	host, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("opening netlink: %w", err)
	}
	defer host.Close()
	pod, err := podHandle(podNS)
	if err != nil {
		return err
	}
	defer pod.Close()
	outer, inner, err := a.bothEnds(host, pod)
	if err != nil {
		return err
	}
	return at(host, pod, outer, inner)
}

// bothEnds finds the ends of the pair by their names.
func (a attachment) bothEnds(host, pod *netlink.Handle) (outer, inner netlink.Link, err error) {
	outer, err = find(host.LinkByName(a.hostName))
	if err != nil {
		return nil, nil, fmt.Errorf("looking for %s: %w", a.hostName, err)
	}
	inner, err = find(pod.LinkByName(a.id.IfName))
	if err != nil {
		return nil, nil, fmt.Errorf("looking for %s in the pod: %w", a.id.IfName, err)
	}
	if outer == nil {
		return nil, nil, mismatch("interface %s is missing on the host", a.hostName)
	}
	if inner == nil {
		return nil, nil, mismatch("interface %s is missing in the pod", a.id.IfName)
	}
	return outer, inner, nil
}

// verifyPair looks whether two interfaces are the ends of one pair, and up.
func (a attachment) verifyPair(host, pod *netlink.LinkAttrs) error {
	var errs []error
	if host.ParentIndex != pod.Index || pod.ParentIndex != host.Index {
		errs = append(errs, mismatch("interfaces %s and %s are not the ends of one pair", a.hostName, a.id.IfName))
	}
	for _, l := range []*netlink.LinkAttrs{host, pod} {
		if l.RawFlags&unix.IFF_UP == 0 {
			errs = append(errs, mismatch("interface %s is down", l.Name))
		}
	}
	return errors.Join(errs...)
}

func (a attachment) verifyLinks(host, pod *netlink.LinkAttrs) error {
	var errs []error
	if host.Alias != alias(a.id) {
		errs = append(errs, mismatch("interface %s belongs to another container (%q)", a.hostName, host.Alias))
	}
	errs = append(errs, a.verifyPair(host, pod))
	if !sameMAC(host.HardwareAddr, a.hostMAC) {
		errs = append(errs, mismatch("interface %s has hardware address %s, want %s", a.hostName, host.HardwareAddr, a.hostMAC))
	}
	if !sameMAC(pod.HardwareAddr, a.podMAC) {
		errs = append(errs, mismatch("interface %s in the pod has hardware address %s, want %s", a.id.IfName, pod.HardwareAddr, a.podMAC))
	}
	for _, l := range []*netlink.LinkAttrs{host, pod} {
		if l.MTU != a.mtu {
			errs = append(errs, mismatch("interface %s has MTU %d, want %d", l.Name, l.MTU, a.mtu))
		}
	}
	return errors.Join(errs...)
}

func (a attachment) verifyHost(host *netlink.Handle, link netlink.Link) error {
	var want []*netlink.Route
	for _, addr := range a.addrs {
		want = append(want, hostRoute(link.Attrs().Index, addr))
	}
	return verifyRoutes(host, link, unix.RT_TABLE_MAIN, want, "on the host")
}

func (a attachment) verifyPod(pod *netlink.Handle, link netlink.Link) error {
	addrs, err := dump(func() ([]netlink.Addr, error) { return pod.AddrList(link, unix.AF_UNSPEC) })
	if err != nil {
		return fmt.Errorf("listing the pod's addresses: %w", err)
	}
	have := make(map[string]bool, len(addrs))
	for _, addr := range addrs {
		have[addr.IPNet.String()] = true
	}
	var errs []error
	for _, addr := range a.addrs {
		if !have[podAddr(addr).IPNet.String()] {
			errs = append(errs, mismatch("address %s is missing in the pod", addr))
		}
	}
	for _, ipv6 := range a.families() {
		errs = append(errs, verifyNeigh(pod, gatewayNeigh(link.Attrs().Index, ipv6, a.hostMAC)))
		errs = append(errs, a.verifyWay(pod, link, ipv6))
	}
	return errors.Join(errs...)
}

func verifyNeigh(pod *netlink.Handle, want *netlink.Neigh) error {
	neighs, err := dump(func() ([]netlink.Neigh, error) { return pod.NeighList(want.LinkIndex, want.Family) })
	if err != nil {
		return fmt.Errorf("listing the pod's neighbours: %w", err)
	}
	for _, n := range neighs {
		if n.IP.Equal(want.IP) && n.State&netlink.NUD_PERMANENT != 0 && sameMAC(n.HardwareAddr, want.HardwareAddr) {
			return nil
		}
	}
	return mismatch("the permanent neighbour entry of gateway %s is missing in the pod", want.IP)
}

func verifyRoutes(h *netlink.Handle, link netlink.Link, table int, want []*netlink.Route, where string) error {
	var errs []error
	have := make(map[string]bool)
	for _, ipv6 := range []bool{false, true} {
		if !slices.ContainsFunc(want, func(r *netlink.Route) bool { return (r.Dst.IP.To4() == nil) == ipv6 }) {
			continue // a kernel may have no IPv6
		}
		routes, err := routesBy(h, link, table, ipv6)
		if err != nil {
			return fmt.Errorf("listing routes %s: %w", where, err)
		}
		for _, r := range routes {
			have[routeKey(&r, ipv6)] = true
		}
	}
	for _, r := range want {
		if !have[routeKey(r, r.Dst.IP.To4() == nil)] {
			errs = append(errs, mismatch("route to %s is missing %s", r.Dst, where))
		}
	}
	return errors.Join(errs...)
}

// routeKey is what must be equal of two routes over one interface. netlink gives a default route with or without a destination.
func routeKey(r *netlink.Route, ipv6 bool) string {
	dst := everywhere(ipv6).String()
	if r.Dst != nil {
		dst = r.Dst.String()
	}
	return fmt.Sprintf("%s via %s", dst, r.Gw)
}
