package routes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"path"
	"slices"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/tables"
)

// DefaultLearnedProtocol marks learned routes when nothing else is chosen.
const DefaultLearnedProtocol = 81

// LearnedOptions of a driver of learned routes.
type LearnedOptions struct {
	// Protocol marks the driver's routes. 0: DefaultLearnedProtocol.
	Protocol int
	// Workloads begins the names of pods' interfaces, of which the driver hears nothing unless a route waits for its next hop. Empty: it
	// hears of all interfaces.
	Workloads string
	// Log takes what an operator of the node may want to know. Nil: nothing is logged.
	Log *slog.Logger
}

// Learned keeps the routes that BGP learned: to each destination over all next hops at once that the kernel's other routes
// lead to. A destination of which no next hop can be reached has no route, and gets one as soon as that changes. Its methods
// may be called from one goroutine at a time, Resync and Changed from any.
type Learned struct {
	options LearnedOptions
	handle  *netlink.Handle
	watch   *watch
	resync  atomic.Bool
	// have are the driver's routes in the kernel; nil: not known.
	have map[netip.Prefix]multipath
	// others are the ways to next hops: the main table without learned routes.
	others  table
	waiting map[netip.Prefix]struct{}
}

// multipath is what the driver compares of a route in the kernel.
type multipath struct {
	metric int
	hops   []hop // in order
	alive  bool  // none of its next hops is dead
}

// hop is a next hop on a network of the node.
type hop struct {
	gateway netip.Addr
	link    int
}

func (h hop) compare(other hop) int {
	return cmp.Or(cmp.Compare(h.link, other.link), h.gateway.Compare(other.gateway))
}

func (m multipath) equal(other multipath) bool {
	return m.metric == other.metric && m.alive && other.alive && slices.Equal(m.hops, other.hops)
}

// NewLearned opens a lasting connection to the routes of the calling thread's network namespace. It changes nothing.
func NewLearned(options LearnedOptions) (*Learned, error) {
	options.Protocol = cmp.Or(options.Protocol, DefaultLearnedProtocol)
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("opening learned routes: %w", err)
	}
	l := &Learned{options: options, handle: handle, waiting: map[netip.Prefix]struct{}{}}
	if l.watch, err = startWatch(options); err != nil {
		handle.Close()
		return nil, fmt.Errorf("opening learned routes: %w", err)
	}
	return l, nil
}

// Close ends the connection. The routes stay.
func (l *Learned) Close() error {
	l.watch.Close()
	l.handle.Close()
	return nil
}

// Resync makes the next Apply compare everything with the kernel.
func (l *Learned) Resync() { l.resync.Store(true) }

// Changed yields a value when links or routes of others changed.
func (l *Learned) Changed() <-chan struct{} { return l.watch.Changed() }

// Disturbances implements the interface of drivers. Changes by others are undone, but not counted.
func (l *Learned) Disturbances() int64 { return 0 }

// InForce tells whether the kernel has the route to a destination, as of the last Apply.
func (l *Learned) InForce(p netip.Prefix) bool {
	have, ok := l.have[p]
	return ok && have.alive
}

// Apply makes the kernel's learned routes equal to desired. The first call, and the next one after an error, a change of
// links or of others' routes, or Resync, compares everything with the kernel. A route without a next hop in reach waits and
// is no failure. What can't be put into force alone is reported as tables.ItemErrors, joined.
func (l *Learned) Apply(ctx context.Context, desired *tables.LearnedRoutes) error {
	full := l.resync.Swap(false) || l.watch.take() || l.have == nil || desired.SettingsDirty
	if full {
		if err := l.list(); err != nil {
			l.have = nil
			return fmt.Errorf("listing learned routes: %w", err)
		}
	}
	look := map[netip.Prefix]struct{}{}
	for p := range desired.Routes.Dirty() {
		look[p] = struct{}{}
	}
	maps.Copy(look, l.waiting)
	if full {
		for p := range desired.Routes.All() {
			look[p] = struct{}{}
		}
		for p := range l.have {
			look[p] = struct{}{}
		}
	}
	var problems []error
	for _, p := range slices.SortedFunc(maps.Keys(look), netip.Prefix.Compare) {
		if err := ctx.Err(); err != nil {
			l.have = nil
			return fmt.Errorf("applying learned routes: %w", err)
		}
		waits, err := l.applyOne(desired, p, full)
		if waits || err != nil {
			l.waiting[p] = struct{}{}
		} else {
			delete(l.waiting, p)
		}
		if err != nil {
			problems = append(problems, &tables.ItemError{Kind: tables.KindLearnedRoute, Name: p.String(), Err: err})
		}
	}
	news := l.noteLinks(full, look)
	if waiting := len(l.waiting) > 0; l.watch.waiting.Swap(waiting) != waiting && waiting || news {
		l.resync.Store(true) // what it waits for may have come, or a link gone, before the watch knew
		l.watch.Wake()
	}
	desired.Clean()
	return errors.Join(problems...)
}

// noteLinks tells the watch which links the routes lead over, and whether it did not know of one.
func (l *Learned) noteLinks(full bool, changed map[netip.Prefix]struct{}) (news bool) {
	if l.options.Workloads == "" {
		return false
	}
	known := map[int32]struct{}{}
	if used := l.watch.used.Load(); used != nil {
		known = *used
	}
	next := map[int32]struct{}{}
	if !full {
		next = maps.Clone(known)
	}
	for p := range changed {
		for _, h := range l.have[p].hops {
			next[int32(h.link)] = struct{}{}
		}
	}
	for link := range next {
		_, ok := known[link]
		news = news || !ok
	}
	if news || len(next) != len(known) {
		l.watch.used.Store(&next)
	}
	return news
}

// applyOne makes one destination's route what it should be. It tells whether the route waits for a next hop.
func (l *Learned) applyOne(desired *tables.LearnedRoutes, p netip.Prefix, full bool) (waits bool, err error) {
	have, exists := l.have[p]
	wish, wanted := desired.Routes.Get(p)
	if !wanted {
		if !exists || desired.Keep && full && !desired.Routes.Had(p) {
			return false, nil // it may be learned again
		}
		return false, l.remove(p, have)
	}
	hops, missing := l.resolve(p, wish, desired.IgnoredInterfaces)
	next := multipath{metric: int(wish.Metric), alive: true, hops: hops}
	if len(next.hops) == 0 {
		if exists {
			err = l.remove(p, have)
		}
		return missing, err
	}
	if exists && have.equal(next) {
		return false, nil
	}
	if exists && have.metric != next.metric {
		if err := l.set(p, next, false); err != nil {
			return false, err
		}
		l.have[p] = next
		return false, l.removeOld(p, have)
	}
	err = l.set(p, next, exists)
	if exists && (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH)) {
		err = l.set(p, next, false)
	}
	switch {
	case err == nil:
		l.have[p] = next
		return false, nil
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.ENETDOWN), errors.Is(err, unix.ENODEV):
		l.resync.Store(true) // the ways to next hops are others by now
		l.watch.Wake()
		return true, nil
	case errors.Is(err, unix.EEXIST):
		return false, errors.New("adding the learned route: there is one to the same destination with the same metric that is not BGP's")
	}
	return false, fmt.Errorf("adding the learned route: %w", err)
}

func (l *Learned) set(p netip.Prefix, m multipath, replace bool) error {
	route := l.route(p, m)
	if replace {
		return l.handle.RouteReplace(route)
	}
	return l.handle.RouteAdd(route)
}

func (l *Learned) route(p netip.Prefix, m multipath) *netlink.Route {
	r := &netlink.Route{
		Dst: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}, Table: unix.RT_TABLE_MAIN,
		Protocol: netlink.RouteProtocol(l.options.Protocol), Priority: m.metric,
	}
	if len(m.hops) == 1 {
		r.Gw, r.LinkIndex = m.hops[0].gateway.AsSlice(), m.hops[0].link
		return r
	}
	for _, h := range m.hops {
		r.MultiPath = append(r.MultiPath, &netlink.NexthopInfo{Gw: h.gateway.AsSlice(), LinkIndex: h.link})
	}
	return r
}

func (l *Learned) remove(p netip.Prefix, have multipath) error {
	if err := l.removeOld(p, have); err != nil {
		return err
	}
	delete(l.have, p)
	return nil
}

func (l *Learned) removeOld(p netip.Prefix, have multipath) error {
	r := l.route(p, multipath{metric: have.metric})
	if err := l.handle.RouteDel(r); err != nil && !errors.Is(err, unix.ESRCH) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("removing the learned route: %w", err)
	}
	return nil
}

// resolve gives the next hops that can be reached: those on networks of the node as they are, others through the gateway
// that the kernel's routes lead to. missing: there are some that can't be. A next hop on a network of the node's is none to that network or a part of it,
// which routers tell of too: the route would lead over itself, and with it all others by the next hop.
func (l *Learned) resolve(p netip.Prefix, wish tables.LearnedRoute, ignored []string) (hops []hop, missing bool) {
	for _, addr := range wish.NextHops {
		way, ok := l.others.lookUp(addr)
		if ok && !way.gateway.IsValid() && p.Contains(addr) && p.Bits() >= way.length {
			continue
		}
		missing = true
		if !ok || wish.Interface != "" && !matches(wish.Interface, way.name) {
			continue
		}
		if slices.ContainsFunc(ignored, func(pattern string) bool { return matches(pattern, way.name) }) {
			continue
		}
		if !way.gateway.IsValid() {
			way.gateway = addr
		}
		hops = append(hops, hop{gateway: way.gateway, link: way.link})
	}
	slices.SortFunc(hops, hop.compare)
	return slices.Compact(hops), missing
}

// matches tells whether an interface has a name of the pattern.
func matches(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return ok && err == nil
}

// list reads the driver's routes, and the ways to next hops.
func (l *Learned) list() error {
	links, err := l.handle.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return err
	}
	names := map[int]string{}
	for _, link := range links {
		names[link.Attrs().Index] = link.Attrs().Name
	}
	have := map[netip.Prefix]multipath{}
	others := table{}
	var doubles []netlink.Route
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		filter := &netlink.Route{Table: unix.RT_TABLE_MAIN}
		list, err := l.handle.RouteListFiltered(family, filter, netlink.RT_FILTER_TABLE)
		for attempt := 0; errors.Is(err, netlink.ErrDumpInterrupted) && attempt < listAttempts; attempt++ {
			list, err = l.handle.RouteListFiltered(family, filter, netlink.RT_FILTER_TABLE)
		}
		if err != nil {
			return err
		}
		for i := range list {
			r := &list[i]
			p, ok := prefixOf(r.Dst, family)
			if !ok {
				continue
			}
			if int(r.Protocol) != l.options.Protocol {
				others.add(p, r, names)
				continue
			}
			if _, twice := have[p]; twice {
				doubles = append(doubles, *r)
				continue
			}
			have[p] = parseMultipath(r)
		}
	}
	for i := range doubles { // of an earlier metric
		if err := l.handle.RouteDel(&doubles[i]); err != nil && !errors.Is(err, unix.ESRCH) {
			l.options.Log.Warn("a leftover learned route stays", "route", doubles[i].String(), "error", err)
		}
	}
	l.have, l.others = have, others
	return nil
}

func parseMultipath(r *netlink.Route) multipath {
	m := multipath{metric: r.Priority, alive: true}
	add := func(gw net.IP, link, flags int) {
		gateway, _ := netip.AddrFromSlice(gw)
		m.hops = append(m.hops, hop{gateway: gateway.Unmap(), link: link})
		m.alive = m.alive && flags&(unix.RTNH_F_DEAD|unix.RTNH_F_LINKDOWN) == 0
	}
	if len(r.MultiPath) == 0 {
		add(r.Gw, r.LinkIndex, r.Flags)
	}
	for _, n := range r.MultiPath {
		add(n.Gw, n.LinkIndex, n.Flags)
	}
	slices.SortFunc(m.hops, hop.compare)
	return m
}

// way to a next hop.
type way struct {
	gateway netip.Addr // not valid: on the network itself
	link    int
	name    string
	metric  int
	length  int // of the prefix of the route
}

// table is the main table without learned routes.
type table struct {
	ways    map[netip.Prefix]way
	lengths [2][129]bool
}

func familyIndex(v4 bool) int {
	if v4 {
		return 0
	}
	return 1
}

func (t *table) add(p netip.Prefix, r *netlink.Route, names map[int]string) {
	w := way{link: r.LinkIndex, metric: r.Priority, length: p.Bits()}
	if len(r.MultiPath) > 0 { // one of them will do
		w.link, r.Gw = r.MultiPath[0].LinkIndex, r.MultiPath[0].Gw
	}
	if r.Gw != nil {
		gateway, _ := netip.AddrFromSlice(r.Gw)
		w.gateway = gateway.Unmap()
	}
	w.name = names[w.link]
	if r.Type != unix.RTN_UNICAST || r.Flags&(unix.RTNH_F_DEAD|unix.RTNH_F_LINKDOWN) != 0 || w.name == "" {
		w = way{metric: r.Priority, length: p.Bits()} // leads nowhere, and hides what is less specific
	}
	if t.ways == nil {
		t.ways = map[netip.Prefix]way{}
	}
	if old, ok := t.ways[p]; ok && old.metric <= w.metric {
		return
	}
	t.ways[p] = w
	t.lengths[familyIndex(p.Addr().Is4())][p.Bits()] = true
}

// lookUp finds the most specific way.
func (t *table) lookUp(addr netip.Addr) (way, bool) {
	for bits := addr.BitLen(); bits >= 0; bits-- {
		if !t.lengths[familyIndex(addr.Is4())][bits] {
			continue
		}
		p, err := addr.Prefix(bits)
		if err != nil {
			return way{}, false
		}
		if w, ok := t.ways[p]; ok {
			return w, w.name != ""
		}
	}
	return way{}, false
}
