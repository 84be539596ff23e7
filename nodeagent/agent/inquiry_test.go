package agent

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/nodeagent/tables"
)

// Where each route comes from, and whether the kernel has it.
func TestListedRoutes(t *testing.T) {
	prefix, addr := netip.MustParsePrefix, netip.MustParseAddr
	kernel := []tables.KernelRoute{
		{Destination: prefix("192.0.2.0/24"), Interface: "eth0", Origin: tables.FromNetwork},
		{Destination: prefix("0.0.0.0/0"), Gateway: addr("192.0.2.254"), Interface: "eth0"},
		{Destination: prefix("10.48.1.0/26"), Origin: tables.FromAgent, Nowhere: true},
		{Destination: prefix("10.48.1.7/32"), Interface: "cali1", Origin: tables.FromAgent},
		{Destination: prefix("10.48.2.0/26"), Gateway: addr("192.0.2.2"), Interface: "eth0", Origin: tables.FromBGP},
		{Destination: prefix("198.51.100.0/24"), Gateway: addr("192.0.2.100"), Interface: "eth0", Origin: tables.FromBGP},
		{Destination: prefix("203.0.113.0/24"), Gateway: addr("192.0.2.254"), Interface: "eth0", Origin: tables.FromBGP},
		{Destination: prefix("2001:db8::/64"), Interface: "eth0", Origin: tables.FromNetwork},
	}
	paths := []tables.BGPPath{
		{Destination: prefix("10.48.1.0/26"), Best: true},
		{Destination: prefix("10.49.0.0/16"), Best: true},
		{Destination: prefix("10.48.2.0/26"), NextHop: addr("192.0.2.2"), Peer: addr("192.0.2.2"), Best: true},
		{Destination: prefix("198.51.100.0/24"), NextHop: addr("192.0.2.101"), Peer: addr("192.0.2.101")},
		{Destination: prefix("198.51.100.0/24"), NextHop: addr("192.0.2.100"), Peer: addr("192.0.2.100"), Best: true},
		{Destination: prefix("203.0.113.0/24"), NextHop: addr("192.168.7.7"), Peer: addr("192.168.7.7"), Best: true},
	}
	mesh := map[netip.Addr]bool{addr("192.0.2.2"): true}
	var got []string
	for _, r := range mergeRoutes(kernel, paths) {
		s := r.status(mesh)
		kind := "RIB"
		if s.Installed {
			kind = "FIB"
		}
		got = append(got, fmt.Sprintf("%s %s via %q dev %q: %s %s", kind, s.Destination, s.Gateway, s.Interface, s.Source, s.Peer))
	}
	want := []string{
		`FIB 0.0.0.0/0 via "192.0.2.254" dev "eth0": Kernel `,
		`FIB 10.48.1.0/26 via "" dev "": Static `,
		`FIB 10.48.1.7/32 via "" dev "cali1": Kernel `,
		`FIB 10.48.2.0/26 via "192.0.2.2" dev "eth0": NodeMesh 192.0.2.2`,
		`RIB 10.49.0.0/16 via "" dev "": Static `,
		`FIB 192.0.2.0/24 via "" dev "eth0": Direct `,
		`FIB 198.51.100.0/24 via "192.0.2.100" dev "eth0": BGPPeer 192.0.2.100`,
		`RIB 198.51.100.0/24 via "192.0.2.101" dev "": BGPPeer 192.0.2.101`,
		`FIB 203.0.113.0/24 via "192.0.2.254" dev "eth0": BGPPeer 192.168.7.7`,
		`FIB 2001:db8::/64 via "" dev "eth0": Direct `,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
}

// An inquiry is answered at once and after each period, with bounded lists, and no longer than somebody asks.
func TestInquiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var routes []tables.KernelRoute
		for i := range 2000 {
			routes = append(routes, tables.KernelRoute{Destination: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 32), Interface: "eth0"})
		}
		var sessions []tables.BGPSessionState
		for i := range 1000 {
			sessions = append(sessions, tables.BGPSessionState{Group: "mesh", Name: fmt.Sprint("mesh/", i), State: "Established", Address: netip.MustParseAddr("192.0.2.1")})
		}
		listed := 0
		l := newLab(t, newFakeCheckpoint(), newFakeAddresses(), func(o *Options) {
			o.BGP, o.Learned = talkingBGP{sessions: sessions}, noLearned{}
			o.KernelRoutes = func() ([]tables.KernelRoute, error) { listed++; return routes, nil }
		})
		state := l.state(1, nil, "web")
		l.sync(state)
		pause(time.Minute)
		if r := l.source.last(t).Status.Report; r != nil || listed != 0 {
			t.Fatalf("nobody asks: %+v, listed %d times", r, listed)
		}
		state = state.DeepCopy()
		state.Generation, state.ResourceVersion = 2, "2"
		state.Spec.Inquiry = &v1alpha1.Inquiry{PeriodSeconds: 10, Sessions: true, Routes: true}
		l.sync(state)
		pause(5 * time.Second)
		first := l.source.last(t).Status.Report
		if first == nil || len(first.Sessions) != v1alpha1.MaxReportedSessions || len(first.Routes) != v1alpha1.MaxReportedRoutes || first.RoutesTotal != 2000 {
			t.Fatalf("report: %+v", first)
		}
		pause(time.Minute)
		if last := l.source.last(t).Status.Report; last.At.Sub(first.At.Time) < 50*time.Second || listed < 6 || listed > 8 {
			t.Errorf("the last report is of %v after the first, routes were listed %d times", last.At.Sub(first.At.Time), listed)
		}
		state = state.DeepCopy()
		state.Generation, state.ResourceVersion = 3, "3"
		state.Spec.Inquiry = nil
		l.sync(state)
		pause(5 * time.Second)
		if r := l.source.last(t).Status.Report; r != nil {
			t.Errorf("nobody asks any more: %+v", r)
		}
		l.stop()
	})
}
