package routes

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/test/netns"
)

// Test addresses, declared once.
const (
	pod4, pod6     = "10.48.0.1/32", "fd00:48::1/128"
	block4, block6 = "10.48.0.0/26", "fd00:48::/122"
	far4, far6     = "10.48.1.0/26", "fd00:48::40/122"
	nextHop4       = "192.0.2.2"
	nextHop6       = "2001:db8::2"
	otherHop4      = "192.0.2.3"
)

type node struct {
	*netns.NS
	t      testing.TB
	peer   *netns.NS
	driver *Driver
}

// newNode is a node with an uplink and one pod.
func newNode(t testing.TB) *node {
	t.Helper()
	n := &node{NS: netns.New(t), t: t, peer: netns.New(t)}
	n.Sysctl("ipv6/conf/default/accept_dad", "0")
	n.Veth("eth0", n.peer, "eth0")
	n.Address("eth0", "192.0.2.1/24", "2001:db8::1/64")
	n.Veth("cali1", n.peer, "pod1")
	n.open()
	t.Cleanup(func() {
		if err := n.driver.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

func (n *node) open() {
	n.t.Helper()
	var err error
	n.Do(func() { n.driver, err = New(Options{WorkloadPrefix: "cali"}) })
	if err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) apply(desired *tables.Routes) {
	n.t.Helper()
	if err := n.driver.Apply(n.t.Context(), desired); err != nil {
		n.t.Fatalf("applying: %v", err)
	}
	if desired.HasDirty() {
		n.t.Fatal("the table is dirty after Apply")
	}
}

// routes are those of the main table that are not the kernel's own, as text.
func (n *node) routes() []string {
	n.t.Helper()
	var out []string
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		list, err := n.RouteList(nil, family)
		if err != nil {
			n.t.Fatal(err)
		}
		for i := range list {
			r := &list[i]
			if r.Protocol == unix.RTPROT_KERNEL || r.Dst.IP.IsMulticast() || r.Dst.IP.IsLinkLocalUnicast() {
				continue
			}
			text := r.Dst.String()
			switch {
			case r.Type == unix.RTN_BLACKHOLE:
				text = "blackhole " + text
			case r.Gw != nil:
				text += " via " + r.Gw.String()
			}
			if r.Type != unix.RTN_BLACKHOLE {
				link, err := n.LinkByIndex(r.LinkIndex)
				if err != nil {
					n.t.Fatal(err)
				}
				text += " dev " + link.Attrs().Name
			}
			out = append(out, fmt.Sprintf("%s proto %d", text, r.Protocol))
		}
	}
	slices.Sort(out)
	return out
}

func (n *node) want(routes ...string) {
	n.t.Helper()
	slices.Sort(routes)
	if diff := cmp.Diff(routes, n.routes()); diff != "" {
		n.t.Errorf("routes (-want +got):\n%s", diff)
	}
}

// patience bounds the wait for what takes milliseconds.
const patience = time.Minute

// changed waits for the driver to say that another Apply is necessary.
func (n *node) changed() {
	n.t.Helper()
	select {
	case <-n.driver.Changed():
	case <-time.After(patience):
		n.t.Fatal("the driver does not say that anything changed")
	}
}

// quiet tells whether the driver says nothing for a moment.
func (n *node) quiet() bool {
	select {
	case <-n.driver.Changed():
		return false
	case <-time.After(50 * time.Millisecond):
		return true
	}
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func ipNet(s string) *net.IPNet {
	p := prefix(s)
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func desiredRoutes() *tables.Routes {
	r := tables.NewRoutes()
	for _, p := range []string{pod4, pod6} {
		r.Set(prefix(p), tables.Route{Type: tables.Workload, Interface: "cali1"})
	}
	for _, p := range []string{block4, block6} {
		r.Set(prefix(p), tables.Route{Type: tables.Blackhole})
	}
	r.Set(prefix(far4), tables.Route{Type: tables.Gateway, NextHop: netip.MustParseAddr(nextHop4)})
	r.Set(prefix(far6), tables.Route{Type: tables.Gateway, NextHop: netip.MustParseAddr(nextHop6)})
	return r
}

var allRoutes = []string{ //nolint:gochecknoglobals // what desiredRoutes become
	"10.48.0.1/32 dev cali1 proto 80", "fd00:48::1/128 dev cali1 proto 80",
	"blackhole 10.48.0.0/26 proto 80", "blackhole fd00:48::/122 proto 80",
	"10.48.1.0/26 via 192.0.2.2 dev eth0 proto 80", "fd00:48::40/122 via 2001:db8::2 dev eth0 proto 80",
}

func TestRoutes(t *testing.T) {
	n := newNode(t)
	n.Route("198.51.100.0/24", nextHop4, "eth0") // somebody else's
	const others = "198.51.100.0/24 via 192.0.2.2 dev eth0 proto 3"
	r := desiredRoutes()
	n.apply(r)
	n.want(append(slices.Clone(allRoutes), others)...)

	t.Run("change", func(t *testing.T) {
		r.Set(prefix(far4), tables.Route{Type: tables.Gateway, NextHop: netip.MustParseAddr(otherHop4)})
		r.Set(prefix(block6), tables.Route{Type: tables.Gateway, NextHop: netip.MustParseAddr(nextHop6)})
		r.Delete(prefix(block4))
		n.apply(r)
		n.want("10.48.0.1/32 dev cali1 proto 80", "fd00:48::1/128 dev cali1 proto 80",
			"fd00:48::/122 via 2001:db8::2 dev eth0 proto 80", "10.48.1.0/26 via 192.0.2.3 dev eth0 proto 80",
			"fd00:48::40/122 via 2001:db8::2 dev eth0 proto 80", others)
	})
	t.Run("none", func(t *testing.T) {
		for p := range maps.Collect(r.All()) {
			r.Delete(p)
		}
		n.apply(r)
		n.want(others)
	})
}

// A restarted driver adds what is missing, removes what is left over and touches nothing that is right.
// Closing is no failure.
func TestCloseIsSilent(t *testing.T) {
	ns := netns.New(t)
	var log bytes.Buffer
	var d *Driver
	ns.Must("opening the driver", func() (err error) {
		d, err = New(Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
		return err
	})
	if err := d.Close(); err != nil || log.Len() > 0 {
		t.Errorf("%v; logged: %s", err, &log)
	}
}

func TestRestart(t *testing.T) {
	n := newNode(t)
	n.apply(desiredRoutes())
	leftover := &netlink.Route{Dst: ipNet("10.49.0.0/26"), Type: unix.RTN_BLACKHOLE, Protocol: DefaultProtocol}
	odd := &netlink.Route{Dst: leftover.Dst, Type: unix.RTN_BLACKHOLE, Protocol: DefaultProtocol, Priority: 77}
	for _, route := range []*netlink.Route{leftover, odd} {
		if err := n.RouteAdd(route); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.RouteDel(&netlink.Route{Dst: ipNet(pod4), Scope: netlink.SCOPE_LINK}); err != nil {
		t.Fatal(err)
	}
	if err := n.driver.Close(); err != nil {
		t.Fatal(err)
	}
	n.open()
	updates, done := make(chan netlink.RouteUpdate, 100), make(chan struct{})
	defer close(done)
	n.Must("watching routes", func() error { return netlink.RouteSubscribe(updates, done) })
	n.apply(desiredRoutes())
	n.want(allRoutes...)
	const must = 3
	var touched []netlink.RouteUpdate
	for quiet, wait := false, patience; !quiet; {
		if len(touched) == must {
			wait = 100 * time.Millisecond // for more than must be
		}
		select {
		case update := <-updates:
			if update.Table == unix.RT_TABLE_MAIN { // the others' are the kernel's own
				touched = append(touched, update)
			}
		case <-time.After(wait):
			quiet = true
		}
	}
	if len(touched) != must {
		t.Errorf("%d routes were touched, want %d: %v", len(touched), must, touched)
	}
}

func TestInterfaceComesAndGoes(t *testing.T) {
	n := newNode(t)
	r := tables.NewRoutes()
	r.Set(prefix("10.48.0.7/32"), tables.Route{Type: tables.Workload, Interface: "cali7"})
	r.Set(prefix(pod4), tables.Route{Type: tables.Workload, Interface: "cali1"})
	n.apply(r)
	n.want("10.48.0.1/32 dev cali1 proto 80")
	until := func(routes ...string) {
		t.Helper()
		slices.Sort(routes)
		for {
			n.changed()
			n.apply(r)
			if slices.Equal(n.routes(), routes) {
				return
			}
		}
	}
	for range 2 {
		n.Veth("cali7", n.peer, "pod7")
		until("10.48.0.1/32 dev cali1 proto 80", "10.48.0.7/32 dev cali7 proto 80")
		if err := n.LinkDel(n.Link("cali7")); err != nil {
			t.Fatal(err)
		}
		until("10.48.0.1/32 dev cali1 proto 80")
	}
	t.Run("quickly", func(t *testing.T) {
		n.Veth("cali7", n.peer, "pod7")
		until("10.48.0.1/32 dev cali1 proto 80", "10.48.0.7/32 dev cali7 proto 80")
		if err := n.LinkDel(n.Link("cali7")); err != nil {
			t.Fatal(err)
		}
		n.Veth("cali7", n.peer, "pod7")
		until("10.48.0.1/32 dev cali1 proto 80", "10.48.0.7/32 dev cali7 proto 80")
	})
	t.Run("down and up", func(t *testing.T) {
		if err := n.LinkSetDown(n.Link("cali1")); err != nil {
			t.Fatal(err)
		}
		until("10.48.0.7/32 dev cali7 proto 80")
		n.Up("cali1")
		until("10.48.0.1/32 dev cali1 proto 80", "10.48.0.7/32 dev cali7 proto 80")
	})
}

func TestForeignChange(t *testing.T) {
	n := newNode(t)
	r := desiredRoutes()
	n.apply(r)
	if err := n.RouteDel(&netlink.Route{Dst: ipNet(pod4), Scope: netlink.SCOPE_LINK}); err != nil {
		t.Fatal(err)
	}
	n.changed()
	n.apply(r)
	n.want(allRoutes...)
	for !n.quiet() { // news of links that were made above
	}
	n.apply(r)
	if got := n.driver.Disturbances(); got != 1 {
		t.Errorf("%d disturbances were counted, want 1", got)
	}
	r.Delete(prefix(far4)) // one's own changes are no news
	n.apply(r)
	if !n.quiet() {
		t.Error("the driver calls its own change a foreign one")
	}
}

// The CNI plugin makes the routes of its pod, too, and is no stranger; who leads a pod's address elsewhere is one.
func TestRoutesOfThePlugin(t *testing.T) {
	n := newNode(t)
	r := desiredRoutes()
	wish, _ := r.Get(prefix(pod4))
	r.Delete(prefix(pod4))
	n.apply(r)
	for !n.quiet() { // news of links that were made above
		n.apply(r)
	}
	r.Set(prefix(pod4), wish)
	route := &netlink.Route{Dst: ipNet(pod4), LinkIndex: n.Link("cali1").Attrs().Index, Scope: netlink.SCOPE_LINK, Protocol: DefaultProtocol}
	for _, step := range []struct {
		what, over   string
		disturbances int64
	}{
		{"the route that is about to be made", "cali1", 0},
		{"the pod's address over another interface", "eth0", 1},
	} {
		route.LinkIndex = n.Link(step.over).Attrs().Index
		if err := n.RouteReplace(route); err != nil {
			t.Fatalf("%s: %v", step.what, err)
		}
		n.changed()
		n.apply(r)
		n.want(allRoutes...)
		if got := n.driver.Disturbances(); got != step.disturbances {
			t.Errorf("%s: %d disturbances were counted, want %d", step.what, got, step.disturbances)
		}
	}
}

// The uplink takes all routes through gateways with it.
func TestUplinkDownAndUp(t *testing.T) {
	n := newNode(t)
	r := desiredRoutes()
	r.Delete(prefix(far6)) // its address goes with the link
	n.apply(r)
	want := slices.DeleteFunc(slices.Clone(allRoutes), func(s string) bool { return strings.Contains(s, nextHop6) })
	n.want(want...)
	if err := n.LinkSetDown(n.Link("eth0")); err != nil {
		t.Fatal(err)
	}
	n.changed()
	var item *tables.ItemError
	if err := n.driver.Apply(t.Context(), r); !errors.As(err, &item) || item.Name != far4 {
		t.Errorf("Apply = %v, want an error about %s", err, far4)
	}
	n.Up("eth0")
	slices.Sort(want)
	for !slices.Equal(n.routes(), want) {
		n.changed()
		if err := n.driver.Apply(t.Context(), r); err != nil {
			t.Log(err) // the link may not be quite up
		}
	}
	if got := n.driver.Disturbances(); got != 0 { // the kernel takes routes with their link
		t.Errorf("%d disturbances were counted where nobody changed routes", got)
	}
}

// One route that can't be does not keep others from being.
func TestItems(t *testing.T) {
	n := newNode(t)
	n.Route("10.50.0.0/24", nextHop4, "eth0")
	r := desiredRoutes()
	for destination, route := range map[string]tables.Route{
		"10.50.0.0/24": {Type: tables.Blackhole}, // there is another's
		"10.51.0.0/24": {Type: tables.Gateway, NextHop: netip.MustParseAddr("203.0.113.1")},
		"10.52.0.0/24": {Type: tables.Gateway, NextHop: netip.MustParseAddr(nextHop6)},
		"10.53.0.1/24": {Type: tables.Blackhole},
		"10.54.0.0/24": {},
	} {
		r.Set(prefix(destination), route)
	}
	err := n.driver.Apply(t.Context(), r)
	var names []string
	joined, _ := err.(interface{ Unwrap() []error }) // errors.Join has no other way
	if joined == nil {
		t.Fatalf("Apply = %v, want joined errors", err)
	}
	for _, e := range joined.Unwrap() {
		var item *tables.ItemError
		if !errors.As(e, &item) || item.Kind != tables.KindRoute {
			t.Errorf("%v is no ItemError of a route", e)
			continue
		}
		names = append(names, item.Name)
		t.Log(item)
	}
	slices.Sort(names)
	if diff := cmp.Diff([]string{"10.50.0.0/24", "10.51.0.0/24", "10.52.0.0/24", "10.53.0.1/24", "10.54.0.0/24"}, names); diff != "" {
		t.Errorf("failed items (-want +got):\n%s", diff)
	}
	n.want(append(slices.Clone(allRoutes), "10.50.0.0/24 via 192.0.2.2 dev eth0 proto 3")...)
	if err := n.RouteDel(&netlink.Route{Dst: ipNet("10.50.0.0/24")}); err != nil {
		t.Fatal(err)
	}
	_ = n.driver.Apply(t.Context(), r)
	n.want(append(slices.Clone(allRoutes), "blackhole 10.50.0.0/24 proto 80")...)
}

// A learned route of the same metric, of which the kernel has but one for IPv6, gives way without going first; another program's does not.
func TestLearnedRoutesGiveWay(t *testing.T) {
	n := newNode(t)
	for _, tc := range []struct {
		protocol int
		want     string
	}{
		{DefaultLearnedProtocol, far6 + " via " + nextHop6 + " dev eth0 proto 80"},
		{unix.RTPROT_STATIC, far6 + " via 2001:db8::3 dev eth0 proto 4"},
	} {
		there := &netlink.Route{Dst: ipNet(far6), Gw: netip.MustParseAddr("2001:db8::3").AsSlice(), Protocol: netlink.RouteProtocol(tc.protocol), Priority: tables.OwnMetricIPv6}
		if err := n.RouteAdd(there); err != nil {
			t.Fatal(err)
		}
		r := tables.NewRoutes()
		r.Set(prefix(far6), tables.Route{Type: tables.Gateway, NextHop: netip.MustParseAddr(nextHop6)})
		err := n.driver.Apply(t.Context(), r)
		if refused := err != nil; refused != (tc.protocol == unix.RTPROT_STATIC) {
			t.Errorf("protocol %d: %v", tc.protocol, err)
		}
		n.want(tc.want)
		r.Delete(prefix(far6))
		n.apply(r)
	}
}

// Whatever way leads to a state, the kernel's routes are those that a fresh driver makes of it.
func TestRandomStates(t *testing.T) {
	n := newNode(t)
	destinations := []string{pod4, pod6, block4, block6, far4, far6, "10.48.0.2/32", "0.0.0.0/0", "fd00:48::2/128"}
	rapid.Check(t, func(t *rapid.T) {
		r := tables.NewRoutes()
		n.driver.Resync()
		for range rapid.IntRange(1, 5).Draw(t, "states") {
			for range rapid.IntRange(1, 6).Draw(t, "changes") {
				p := prefix(rapid.SampledFrom(destinations).Draw(t, "destination"))
				hop := netip.MustParseAddr(rapid.SampledFrom([]string{nextHop4, otherHop4}).Draw(t, "hop"))
				if p.Addr().Is6() {
					hop = netip.MustParseAddr(nextHop6)
				}
				if wish := rapid.SampledFrom([]tables.Route{
					{},
					{Type: tables.Blackhole},
					{Type: tables.Gateway, NextHop: hop},
					{Type: tables.Workload, Interface: "cali1"},
					{Type: tables.Workload, Interface: "cali-none"},
				}).Draw(t, "route"); wish.Type == 0 {
					r.Delete(p)
				} else {
					r.Set(p, wish)
				}
			}
			n.apply(r)
			var want []string
			for p, route := range r.All() {
				switch {
				case route.Type == tables.Blackhole:
					want = append(want, fmt.Sprintf("blackhole %s proto 80", p))
				case route.Type == tables.Gateway:
					want = append(want, fmt.Sprintf("%s via %s dev eth0 proto 80", p, route.NextHop))
				case route.Interface == "cali1":
					want = append(want, fmt.Sprintf("%s dev cali1 proto 80", p))
				}
			}
			slices.Sort(want)
			if diff := cmp.Diff(want, n.routes()); diff != "" {
				t.Fatalf("routes (-want +got):\n%s", diff)
			}
		}
	})
}

func BenchmarkOneRoute(b *testing.B) {
	n := newNode(b)
	r := tables.NewRoutes()
	for i := range 5000 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(100 + i>>8), byte(i), 0}), 26)
		r.Set(p.Masked(), tables.Route{Type: tables.Gateway, NextHop: netip.MustParseAddr(nextHop4)})
	}
	n.apply(r)
	for b.Loop() {
		if !r.Delete(prefix(pod4)) {
			r.Set(prefix(pod4), tables.Route{Type: tables.Workload, Interface: "cali1"})
		}
		if err := n.driver.Apply(b.Context(), r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFirstApply5000Routes(b *testing.B) {
	n := newNode(b)
	r := tables.NewRoutes()
	for i := range 5000 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(100 + i>>8), byte(i), 0}), 26)
		r.Set(p.Masked(), tables.Route{Type: tables.Gateway, NextHop: netip.MustParseAddr(nextHop4)})
	}
	none := tables.NewRoutes()
	for b.Loop() {
		n.driver.Resync()
		n.apply2(b, r)
		b.StopTimer()
		n.driver.Resync()
		n.apply2(b, none)
		b.StartTimer()
	}
}

func (n *node) apply2(b *testing.B, r *tables.Routes) {
	b.Helper()
	if err := n.driver.Apply(b.Context(), r); err != nil {
		b.Fatal(err)
	}
}
