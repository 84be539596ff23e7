package kernels

import (
	"net/netip"
	"testing"

	"github.com/manul-net/manul/test/oracle"
)

// Flows are sent at once only if connection tracking can't take one for another, whatever port masquerading chooses for it.
func TestBatches(t *testing.T) {
	const own, outside = "fd20::1", "2001:db8:1::1" // the node's address, and that of a machine
	network := &oracle.Network{
		Interfaces: []oracle.Interface{{Node: "x", Name: "eth1", Addresses: []netip.Addr{netip.MustParseAddr(own)}}},
		Translations: []oracle.Translation{{
			Address: netip.MustParseAddr("fd10::10"), Protocol: oracle.TCP, Port: 80, Endpoint: netip.MustParseAddr(outside), EndpointPort: 53, Masquerade: true,
		}},
	}
	flow := func(protocol int, from string, fromPort int, to string, toPort int) Flow {
		p := oracle.Packet{
			Protocol: protocol, Source: netip.MustParseAddr(from), SourcePort: fromPort, Destination: netip.MustParseAddr(to), DestinationPort: toPort,
		}
		return Flow{oracle.Flow{From: oracle.Place{Node: "x", Interface: "eth1"}, Packet: p}, oracle.Verdict{Arrived: true, Packet: p}}
	}
	// hidden is one of a pod that leaves with the node's address.
	hidden := func(protocol, toPort int) Flow {
		f := flow(protocol, "fd00::5", 80, outside, toPort)
		f.From, f.Want.Packet.Source = oracle.Place{Pod: "n/pod"}, netip.MustParseAddr(own)
		return f
	}
	dropped := hidden(oracle.TCP, 80)
	dropped.Want = oracle.Verdict{Packet: dropped.Packet}
	inside := hidden(oracle.TCP, 80)
	inside.Want.Packet = inside.Packet
	for _, tc := range []struct {
		what   string
		a, b   Flow
		atOnce bool
	}{
		{"two that have nothing to do with each other", flow(oracle.TCP, outside, 80, own, 22), flow(oracle.TCP, outside, 81, own, 22), true},
		{"one and its answer", flow(oracle.TCP, outside, 80, own, 22), flow(oracle.TCP, own, 22, outside, 80), false},
		{"what is masqueraded, and what comes to the node from where it goes", hidden(oracle.TCP, 80), flow(oracle.TCP, outside, 80, own, 22), false},
		{"the same the other way round", flow(oracle.TCP, outside, 80, own, 22), hidden(oracle.TCP, 80), false},
		{"the same, but policy denies it somewhere", dropped, flow(oracle.TCP, outside, 80, own, 22), false},
		{"the same, but it keeps its address", inside, flow(oracle.TCP, outside, 80, own, 22), true},
		{"from another port of where it goes", hidden(oracle.TCP, 80), flow(oracle.TCP, outside, 81, own, 22), true},
		{"from there by another protocol", hidden(oracle.TCP, 80), flow(oracle.UDP, outside, 80, own, 22), true},
		{"from there to a pod", hidden(oracle.TCP, 80), flow(oracle.TCP, outside, 80, "fd00::7", 22), true},
		{"through a service that hides where it is from", flow(oracle.TCP, "fd20::7", 80, "fd10::10", 80), flow(oracle.TCP, outside, 53, own, 22), false},
		{"ICMP", hidden(oracle.ICMPv6, 0), flow(oracle.ICMPv6, outside, 0, own, 0), true},
	} {
		if got := len(batches([]Flow{tc.a, tc.b}, network)) == 1; got != tc.atOnce {
			t.Errorf("%s: sent at once: %t, want %t", tc.what, got, tc.atOnce)
		}
	}
}
