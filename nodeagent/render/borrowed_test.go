package render

import (
	"net/netip"
	"testing"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/nodeagent/tables"
)

// TestRoutesToBorrowedAddresses: a borrowed address is behind the node that borrowed it, for its owner and for all others.
func TestRoutesToBorrowedAddresses(t *testing.T) {
	const block, single, whole = "10.48.0.0/26", "10.48.0.7/32", "10.48.9.9/32"
	owner := v1alpha1.NodeNetworkSpec{Addresses: []string{"192.0.2.1"}, Blocks: []string{block, whole}}
	borrower := v1alpha1.NodeNetworkSpec{Addresses: []string{"192.0.2.9"}, Borrowed: []string{"10.48.0.7", "10.48.9.9"}}
	hop := func(addr string) tables.Route {
		return tables.Route{Type: tables.Gateway, NextHop: netip.MustParseAddr(addr)}
	}
	check := func(s *State, when string, want map[string]tables.Route) {
		t.Helper()
		for _, cidr := range []string{block, single, whole} {
			got, _ := s.Routes().Get(netip.MustParsePrefix(cidr))
			if got != want[cidr] {
				t.Errorf("%s: route to %s is %+v, want %+v", when, cidr, got, want[cidr])
			}
		}
	}
	other := New(self)
	other.SetNetwork("a-owner", &owner)
	other.SetNetwork("borrower", &borrower)
	check(other, "another node", map[string]tables.Route{block: hop("192.0.2.1"), single: hop("192.0.2.9"), whole: hop("192.0.2.9")})

	own := New(self)
	own.SetNodeState(&v1alpha1.NodeStateSpec{Blocks: []v1alpha1.BlockLease{{CIDR: block, Pool: "10.48.0.0/16"}, {CIDR: whole, Pool: "10.48.0.0/16"}}})
	own.SetNetwork("borrower", &borrower)
	check(own, "the owner", map[string]tables.Route{block: {Type: tables.Blackhole}, single: hop("192.0.2.9"), whole: hop("192.0.2.9")})
	own.SetNetwork("borrower", &v1alpha1.NodeNetworkSpec{Addresses: borrower.Addresses})
	check(own, "given back", map[string]tables.Route{block: {Type: tables.Blackhole}, whole: {Type: tables.Blackhole}})

	here := New(self)
	here.SetNetwork("a-owner", &owner)
	here.SetNetwork(self, &borrower)
	pod := netip.MustParseAddr("10.48.0.7")
	here.SetLocal("shop/a", "u1", []netip.Addr{pod})
	here.SetNodeState(&v1alpha1.NodeStateSpec{Endpoints: []v1alpha1.Endpoint{{ID: "shop/a", UID: "u1"}}})
	check(here, "the borrower", map[string]tables.Route{
		block: hop("192.0.2.1"), single: {Type: tables.Workload, Interface: InterfaceName("shop/a")}, whole: hop("192.0.2.1"),
	})
}
