// Package routes makes the kernel's routes equal to tables.Routes by rtnetlink.
//
// Its routes are in the main table and bear its own route protocol. It touches no others, and does not take the place of
// others.
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
	"slices"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/tables"
)

// DefaultProtocol marks the driver's routes when nothing else is chosen: no other known program uses it (rt_protos).
const DefaultProtocol = 80

// Options of a driver.
type Options struct {
	// WorkloadPrefix is what the names of workload interfaces begin with. Changes of these make only their own routes
	// be looked at again.
	WorkloadPrefix string
	// Protocol marks the driver's routes, 4 to 255. 0: DefaultProtocol.
	Protocol int
	// LearnedProtocol marks learned routes, which give way to the driver's own. 0: DefaultLearnedProtocol.
	LearnedProtocol int
	// Log takes what an operator of the node may want to know. Nil: nothing is logged.
	Log *slog.Logger
}

// Driver keeps one network namespace's routes equal to desired tables. Its methods may be called from one goroutine at
// a time, Resync and Changed from any.
type Driver struct {
	options Options
	handle  *netlink.Handle
	changer *changer
	monitor *monitor
	resync  atomic.Bool
	// disturbances counts how often others' changes were undone.
	disturbances atomic.Int64
	// have are the driver's routes in the kernel; nil when they are not known.
	have map[netip.Prefix]route
	// waiting are routes whose interface does not exist or is down, or that were refused: each Apply tries them again.
	waiting map[netip.Prefix]struct{}
}

// route is what the driver compares of a route in the kernel.
type route struct {
	kind    tables.RouteType // 0: none that the driver makes
	link    int              // of Workload and Encapsulated routes
	nextHop netip.Addr
}

// New opens a lasting connection to the routes of the calling thread's network namespace. It changes nothing.
func New(options Options) (*Driver, error) {
	options.Protocol = cmp.Or(options.Protocol, DefaultProtocol)
	options.LearnedProtocol = cmp.Or(options.LearnedProtocol, DefaultLearnedProtocol)
	if options.Protocol <= unix.RTPROT_STATIC-1 || options.Protocol > 255 {
		return nil, fmt.Errorf("opening routes: protocol %d is not in 4..255", options.Protocol)
	}
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("opening routes: %w", err)
	}
	d := &Driver{options: options, handle: handle, waiting: map[netip.Prefix]struct{}{}}
	if d.changer, err = newChanger(options.Protocol); err != nil {
		handle.Close()
		return nil, fmt.Errorf("opening routes: %w", err)
	}
	if d.monitor, err = startMonitor(options, d.changer.portID); err != nil {
		handle.Close()
		d.changer.close()
		return nil, fmt.Errorf("opening routes: %w", err)
	}
	return d, nil
}

// Close ends the connection. The routes stay.
func (d *Driver) Close() error {
	d.monitor.Close()
	d.changer.close()
	d.handle.Close()
	return nil
}

// Resync makes the next Apply compare everything with the kernel.
func (d *Driver) Resync() { d.resync.Store(true) }

// Changed yields a value when links or foreign changes of routes make another Apply necessary.
func (d *Driver) Changed() <-chan struct{} { return d.monitor.Changed() }

// Disturbances counts how often other programs' changes of the driver's routes were noticed, and undone. Changes that come
// close together count once.
func (d *Driver) Disturbances() int64 { return d.disturbances.Load() }

// Apply makes the kernel's routes equal to desired. The first call, and the next one after an error, a foreign change or
// Resync, compares everything with the kernel; others cost in proportion to what changed. A route whose interface does
// not exist or is down waits and is no failure. What can't be put into force alone is reported as tables.ItemErrors,
// joined, while all else is in force. Unless another error is returned, desired is clean afterwards.
func (d *Driver) Apply(ctx context.Context, desired *tables.Routes) error {
	news := d.monitor.take()
	full := d.resync.Swap(false) || news.all || d.have == nil
	if full {
		have, strange, err := d.list()
		if err != nil {
			d.have = nil
			return fmt.Errorf("listing routes: %w", err)
		}
		// Ours of a kind or with a metric that desired routes don't have. First, or they would be in the way.
		for _, r := range strange {
			if err := d.handle.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
				d.options.Log.Warn("a leftover route stays", "route", r.String(), "error", err)
			}
		}
		d.have = have
	}
	foreign := news.foreign || d.strange(desired, news.added)
	var problems []error
	for _, p := range d.toLookAt(desired, news, full) {
		if err := ctx.Err(); err != nil {
			d.have = nil
			return fmt.Errorf("applying routes: %w", err)
		}
		waits, err := d.applyOne(desired, p)
		if waits || err != nil {
			d.waiting[p] = struct{}{}
		} else {
			delete(d.waiting, p)
		}
		if err != nil {
			problems = append(problems, &tables.ItemError{Kind: tables.KindRoute, Name: p.String(), Err: err})
		}
	}
	desired.Clean()
	if foreign {
		d.disturbances.Add(1)
		d.options.Log.Warn("somebody else changed routes of this agent; they are what they should be again", "protocol", d.options.Protocol)
	}
	return errors.Join(problems...)
}

// strange tells whether any of the routes that another program made is not one that the driver would have made itself.
func (d *Driver) strange(desired *tables.Routes, added map[netip.Prefix]int) bool {
	for p, link := range added {
		wish, wanted := desired.Get(p)
		if next, err := d.resolve(p, wish); !wanted || err != nil || next != (route{kind: tables.Workload, link: link}) {
			return true
		}
	}
	return false
}

// toLookAt returns the destinations that may have to change: those that go before those that come, since an address may
// move from a route to one that covers it.
func (d *Driver) toLookAt(desired *tables.Routes, news news, full bool) []netip.Prefix {
	links := news.links
	look := map[netip.Prefix]struct{}{}
	for p := range desired.Dirty() {
		look[p] = struct{}{}
	}
	for p, link := range news.added {
		if !full {
			d.have[p] = route{kind: tables.Workload, link: link}
		}
		look[p] = struct{}{}
	}
	maps.Copy(look, d.waiting)
	if full {
		for p := range d.have {
			look[p] = struct{}{}
		}
	}
	if full || len(links) > 0 {
		for p, r := range desired.All() {
			index, changed := links[r.Interface]
			if changed && d.have[p].link == index {
				delete(d.have, p) // went with its link, of which the kernel says nothing for IPv4
			}
			if full || changed {
				look[p] = struct{}{}
			}
		}
	}
	return slices.SortedFunc(maps.Keys(look), func(a, b netip.Prefix) int {
		_, aStays := desired.Get(a)
		_, bStays := desired.Get(b)
		if aStays != bStays {
			if bStays {
				return -1
			}
			return 1
		}
		return a.Compare(b)
	})
}

// applyOne makes one destination's route what it should be. It tells whether the route waits for its interface.
func (d *Driver) applyOne(desired *tables.Routes, p netip.Prefix) (waits bool, err error) {
	have, exists := d.have[p]
	wish, wanted := desired.Get(p)
	if !wanted {
		return false, d.remove(p)
	}
	next, err := d.resolve(p, wish)
	switch {
	case errors.Is(err, errNoInterface):
		return true, d.remove(p) // what it was before is wrong in any case
	case err != nil:
		return false, err
	case exists && have == next:
		return false, nil
	}
	err = d.changer.set(p, next, exists)
	switch {
	case exists && (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH)):
		err = d.changer.set(p, next, false) // it went with its link
	case !exists && errors.Is(err, unix.EEXIST) && (d.isOurs(p) || d.isLearned(p)):
		err = d.changer.set(p, next, true) // it did not go with its link; or it is BGP's with the same metric, and is not to go first
	}
	switch {
	case err == nil:
		d.have[p] = next
		return false, nil
	case wish.Interface != "" && (errors.Is(err, unix.ENETDOWN) || errors.Is(err, unix.ENODEV)):
		return true, nil
	case errors.Is(err, unix.EEXIST):
		return false, errors.New("adding the route: there is one to the same destination that is not ours")
	case exists:
		return false, fmt.Errorf("replacing the route: %w", err)
	}
	return false, fmt.Errorf("adding the route: %w", err)
}

// isOurs tells whether the kernel has a route of the driver's to p.
func (d *Driver) isOurs(p netip.Prefix) bool {
	have, _, err := d.list()
	_, ok := have[p]
	return err == nil && ok
}

// isLearned tells whether what the kernel has in the place of the driver's route to p is a learned one.
func (d *Driver) isLearned(p netip.Prefix) bool {
	family := unix.AF_INET6
	if p.Addr().Is4() {
		family = unix.AF_INET
	}
	filter := &netlink.Route{Dst: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}, Table: unix.RT_TABLE_MAIN}
	list, err := d.handle.RouteListFiltered(family, filter, netlink.RT_FILTER_DST|netlink.RT_FILTER_TABLE)
	if err != nil {
		return false
	}
	there := false
	for i := range list {
		if list[i].Priority != metric(p) {
			continue
		}
		if int(list[i].Protocol) != d.options.LearnedProtocol {
			return false
		}
		there = true
	}
	return there
}

// errNoInterface says that a route has to wait.
var errNoInterface = errors.New("no such interface")

// remove removes the driver's route to p, if there is one.
func (d *Driver) remove(p netip.Prefix) error {
	have, exists := d.have[p]
	if !exists {
		return nil
	}
	if err := d.changer.remove(p, have); err != nil && !errors.Is(err, unix.ESRCH) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("removing the route: %w", err)
	}
	delete(d.have, p)
	return nil
}

// resolve turns a desired route into what the kernel is to have.
func (d *Driver) resolve(p netip.Prefix, wish tables.Route) (route, error) {
	if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() {
		return route{}, fmt.Errorf("%v is not a canonical CIDR", p)
	}
	out := route{kind: wish.Type}
	switch wish.Type {
	case tables.Workload, tables.Encapsulated:
		link, err := d.handle.LinkByName(wish.Interface)
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			return route{}, errNoInterface
		}
		if err != nil {
			return route{}, fmt.Errorf("looking for interface %q: %w", wish.Interface, err)
		}
		out.link = link.Attrs().Index
	case tables.Gateway, tables.Blackhole:
	default:
		return route{}, fmt.Errorf("route type %d is none of Workload, Gateway, Blackhole, Encapsulated", wish.Type)
	}
	if wish.Type == tables.Gateway || wish.Type == tables.Encapsulated {
		if !wish.NextHop.IsValid() || wish.NextHop.Is4() != p.Addr().Is4() {
			return route{}, fmt.Errorf("the next hop %v is not an address of the destination's family", wish.NextHop)
		}
		out.nextHop = wish.NextHop
	}
	return out, nil
}

// list reads the driver's routes; foreign are those that bear its protocol and are nothing that it makes.
func (d *Driver) list() (map[netip.Prefix]route, []netlink.Route, error) {
	have := map[netip.Prefix]route{}
	var foreign []netlink.Route
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		filter := &netlink.Route{Protocol: netlink.RouteProtocol(d.options.Protocol)}
		list, err := d.handle.RouteListFiltered(family, filter, netlink.RT_FILTER_PROTOCOL)
		for attempt := 0; errors.Is(err, netlink.ErrDumpInterrupted) && attempt < listAttempts; attempt++ {
			list, err = d.handle.RouteListFiltered(family, filter, netlink.RT_FILTER_PROTOCOL)
		}
		if err != nil {
			return nil, nil, err
		}
		for i := range list {
			p, r, ok := parse(&list[i], family)
			if _, twice := have[p]; !ok || twice {
				foreign = append(foreign, list[i])
				continue
			}
			have[p] = r
		}
	}
	return have, foreign, nil
}

// listAttempts bounds the repetition of a listing that a change has interrupted.
const listAttempts = 10

// parse turns a route of the kernel into what the driver compares; false when it is none of the driver's.
func parse(r *netlink.Route, family int) (netip.Prefix, route, bool) {
	p, ok := prefixOf(r.Dst, family)
	if !ok || r.Tos != 0 || len(r.MultiPath) > 0 || r.Priority != metric(p) {
		return p, route{}, false
	}
	switch {
	case r.Type == unix.RTN_BLACKHOLE:
		return p, route{kind: tables.Blackhole}, true
	case r.Type != unix.RTN_UNICAST:
		return p, route{}, false
	case r.Gw != nil:
		gateway, _ := netip.AddrFromSlice(r.Gw)
		gateway = gateway.Unmap()
		if r.Flags&unix.RTNH_F_ONLINK != 0 || gateway.IsLinkLocalUnicast() { // see changer.request
			return p, route{kind: tables.Encapsulated, link: r.LinkIndex, nextHop: gateway}, true
		}
		return p, route{kind: tables.Gateway, nextHop: gateway}, true
	}
	return p, route{kind: tables.Workload, link: r.LinkIndex}, true
}

// metric is that of routes that are added without one.
func metric(p netip.Prefix) int {
	if p.Addr().Is4() {
		return 0
	}
	return tables.OwnMetricIPv6
}

func prefixOf(n *net.IPNet, family int) (netip.Prefix, bool) {
	if n == nil {
		if family == unix.AF_INET {
			return netip.PrefixFrom(netip.IPv4Unspecified(), 0), true
		}
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0), true
	}
	address, ok := netip.AddrFromSlice(n.IP)
	if family == unix.AF_INET {
		address = address.Unmap()
	}
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(address, ones), ok
}
