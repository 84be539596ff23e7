package plugin

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/cni/protocol"
)

// prepareHost sets the host side up: a router's interface without an address of its own.
func (a attachment) prepareHost(host *netlink.Handle, index int) error {
	settings := []setting{
		{"net/ipv4/conf/" + a.hostName + "/forwarding", "1"},
		// The pod has a neighbour entry for its gateway. Should it lose that, the host answers for the gateway, and at
		// once instead of after a random delay of up to 0.8 s.
		{"net/ipv4/conf/" + a.hostName + "/proxy_arp", "1"},
		{"net/ipv4/neigh/" + a.hostName + "/proxy_delay", "0"},
		// Strict: a pod sends from addresses that are routed to it.
		{"net/ipv4/conf/" + a.hostName + "/rp_filter", "1"},
	}
	if a.hasIPv6() {
		settings = append(settings,
			setting{"net/ipv6/conf/" + a.hostName + "/disable_ipv6", "0"},
			setting{"net/ipv6/conf/" + a.hostName + "/forwarding", "1"},
			setting{"net/ipv6/conf/" + a.hostName + "/proxy_ndp", "1"},
			setting{"net/ipv6/conf/" + a.hostName + "/accept_ra", "0"},
			// The link-local address is given below, not made by the kernel, and usable at once.
			setting{"net/ipv6/conf/" + a.hostName + "/addr_gen_mode", "1"},
			setting{"net/ipv6/conf/" + a.hostName + "/accept_dad", "0"},
		)
	}
	if err := apply(settings); err != nil {
		return err
	}
	link := byIndex(index)
	if a.hasIPv6() {
		addr := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(gateway(true), 64)), Flags: unix.IFA_F_NODAD}
		if err := host.AddrReplace(link, addr); err != nil {
			return fmt.Errorf("giving %s its link-local address: %w", a.hostName, err)
		}
	}
	if err := host.LinkSetUp(link); err != nil {
		return fmt.Errorf("setting %s up: %w", a.hostName, err)
	}
	return nil
}

// hostRoute leads to one address of the pod. The agent keeps the same routes: either may come first.
func hostRoute(index int, addr netip.Addr) *netlink.Route {
	return &netlink.Route{
		LinkIndex: index, Dst: ipNet(netip.PrefixFrom(addr, addr.BitLen())), Scope: netlink.SCOPE_LINK,
		Protocol: protocol.RouteProtocol, Table: unix.RT_TABLE_MAIN,
	}
}

func (a attachment) routeHost(host *netlink.Handle, index int) error {
	for _, addr := range a.addrs {
		if err := host.RouteReplace(hostRoute(index, addr)); err != nil {
			return fmt.Errorf("adding route to %s over %s: %w", addr, a.hostName, err)
		}
	}
	return nil
}

// removeLeftover removes the interface of that name, if there is one: an earlier sandbox's of the same pod, or that of an
// ADD that died.
//
// The other interface of a container that has one already is not: the pod would lose it.
func removeLeftover(host *netlink.Handle, name string, id protocol.Attachment) error {
	link, err := find(host.LinkByName(name))
	if err != nil {
		return fmt.Errorf("looking for an earlier %s: %w", name, err)
	}
	if link == nil {
		return nil
	}
	if other, _, ok := parseAlias(link.Attrs().Alias); ok && other.ContainerID == id.ContainerID && other.IfName != id.IfName {
		return protocol.Errorf(protocol.CodeInvalidRequest,
			"interface %s: the pod has %s under the name %s, of which the node agent does not know; delete the pod, so that it is made again", id.IfName, other.IfName, name)
	}
	if link.Type() != "veth" {
		return fmt.Errorf("making interface %s: the name is taken by an interface of type %s; remove it", name, link.Type())
	}
	return deleteLink(host, link.Attrs().Index, name)
}

// removeInterface removes the attachment's interface, wherever one of its ends can still be found. hostName is the name by
// which the runtime knows it, or empty.
func removeInterface(id protocol.Attachment, netns, hostName string) error {
	host, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("opening netlink: %w", err)
	}
	defer host.Close()
	if err := removeRules(netns, id.IfName); err != nil {
		return err
	}
	mark := alias(id)

	if hostName != "" {
		link, err := find(host.LinkByName(hostName))
		if err != nil {
			return fmt.Errorf("looking for %s: %w", hostName, err)
		}
		if link != nil && link.Attrs().Alias == mark {
			return deleteLink(host, link.Attrs().Index, hostName)
		}
	}
	peer, err := peerOf(netns, id.IfName)
	if err != nil {
		return err
	}
	if peer != 0 {
		link, err := find(host.LinkByIndex(peer))
		if err != nil {
			return fmt.Errorf("looking for the host side of %s: %w", id.IfName, err)
		}
		// Without a mark: of an ADD that died before it set one.
		if link != nil && link.Type() == "veth" && isOurName(link.Attrs().Name) && (link.Attrs().Alias == mark || link.Attrs().Alias == "") {
			return deleteLink(host, peer, link.Attrs().Name)
		}
	}
	_, err = removeMarked(host, func(a protocol.Attachment) bool { return a == id })
	return err
}

// removeStale removes the interfaces of all attachments that are not valid, and says how many.
func removeStale(valid map[protocol.Attachment]bool) (int, error) {
	host, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return 0, fmt.Errorf("opening netlink: %w", err)
	}
	defer host.Close()
	return removeMarked(host, func(a protocol.Attachment) bool { return !valid[a] })
}

// removeMarked removes the interfaces that bear our mark and name and that the caller wants gone.
func removeMarked(host *netlink.Handle, gone func(protocol.Attachment) bool) (int, error) {
	links, err := dump(host.LinkList)
	if err != nil {
		return 0, fmt.Errorf("listing interfaces: %w", err)
	}
	var errs []error
	removed := 0
	for _, link := range links {
		attrs := link.Attrs()
		a, chained, marked := parseAlias(attrs.Alias)
		if !marked || chained || link.Type() != "veth" || !isOurName(attrs.Name) || !gone(a) {
			continue
		}
		if err := deleteLink(host, attrs.Index, attrs.Name); err != nil {
			errs = append(errs, err)
			continue
		}
		removed++
	}
	return removed, errors.Join(errs...)
}

func isOurName(name string) bool {
	return len(name) > len(protocol.InterfacePrefix) && name[:len(protocol.InterfacePrefix)] == protocol.InterfacePrefix
}

// deleteLink removes an interface by its index, which no other interface gets while the system runs. Gone already is fine.
func deleteLink(h *netlink.Handle, index int, name string) error {
	err := h.LinkDel(byIndex(index))
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("removing interface %s: %w", name, err)
	}
	return nil
}

// byIndex names an interface in calls that need nothing but its index.
func byIndex(index int) netlink.Link {
	return &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: index}}
}

// find makes of an interface that is not there nil.
func find(link netlink.Link, err error) (netlink.Link, error) {
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil, nil
	}
	return link, err
}

// dump lists again when the kernel says that the list changed meanwhile, ten times at most.
func dump[T any](list func() ([]T, error)) ([]T, error) {
	var items []T
	var err error
	for range 10 {
		if items, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return items, err
}

func sameMAC(a, b net.HardwareAddr) bool { return a.String() == b.String() }
