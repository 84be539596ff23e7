package routes

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/tables"
)

// Lister reads the kernel's main table. It changes nothing, and may be used from any goroutine, one at a time.
type Lister struct {
	handle         *netlink.Handle
	agent, learned int
}

// NewLister opens a connection to the routes of the calling thread's network namespace. agent and learned are the protocols of
// the agent's own routes and of those that BGP learned. 0: the defaults.
func NewLister(agent, learned int) (*Lister, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("opening routes: %w", err)
	}
	l := &Lister{handle: handle, agent: agent, learned: learned}
	if l.agent == 0 {
		l.agent = DefaultProtocol
	}
	if l.learned == 0 {
		l.learned = DefaultLearnedProtocol
	}
	return l, nil
}

// Close ends the connection.
func (l *Lister) Close() error {
	l.handle.Close()
	return nil
}

// List lists the ways to all destinations, in no order. Routes that IPv6 makes for link-local and multicast addresses are left out.
func (l *Lister) List() ([]tables.KernelRoute, error) {
	links, err := l.handle.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("listing interfaces: %w", err)
	}
	names := make(map[int]string, len(links))
	for _, link := range links {
		names[link.Attrs().Index] = link.Attrs().Name
	}
	var out []tables.KernelRoute
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		filter := &netlink.Route{Table: unix.RT_TABLE_MAIN}
		list, err := l.handle.RouteListFiltered(family, filter, netlink.RT_FILTER_TABLE)
		for attempt := 0; errors.Is(err, netlink.ErrDumpInterrupted) && attempt < listAttempts; attempt++ {
			list, err = l.handle.RouteListFiltered(family, filter, netlink.RT_FILTER_TABLE)
		}
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return nil, fmt.Errorf("listing routes: %w", err)
		}
		for i := range list {
			out = l.ways(out, &list[i], family, names)
		}
	}
	return out, nil
}

// ways adds those of one route.
func (l *Lister) ways(out []tables.KernelRoute, r *netlink.Route, family int, names map[int]string) []tables.KernelRoute {
	p, ok := prefixOf(r.Dst, family)
	if !ok || p.Addr().IsLinkLocalUnicast() && family == unix.AF_INET6 || p.Addr().IsMulticast() {
		return out
	}
	one := tables.KernelRoute{Destination: p, Nowhere: r.Type != unix.RTN_UNICAST}
	switch int(r.Protocol) {
	case unix.RTPROT_KERNEL:
		one.Origin = tables.FromNetwork
	case l.agent:
		one.Origin = tables.FromAgent
	case l.learned:
		one.Origin = tables.FromBGP
	}
	add := func(gateway net.IP, link int) {
		way := one
		addr, _ := netip.AddrFromSlice(gateway)
		way.Gateway, way.Interface = addr.Unmap(), names[link]
		if way.Nowhere {
			way.Interface = ""
		}
		out = append(out, way)
	}
	if len(r.MultiPath) == 0 {
		add(r.Gw, r.LinkIndex)
	}
	for _, n := range r.MultiPath {
		add(n.Gw, n.LinkIndex)
	}
	return out
}
