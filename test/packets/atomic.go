package packets

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/test/netns"
)

// floodTime is how long a node is flooded.
const floodTime = 2 * time.Second

// Flooded sends to UDP ports 53 and 54 while rewrite is called over and over, and checks that all of the one arrive and none
// of the other.
func (n *Node) Flooded(from, to string, rewrite func()) {
	n.t.Helper()
	ports := [2]uint16{53, 54}
	var counters [2]*netns.Counter
	var floods [2]netns.Flood
	var senders sync.WaitGroup
	stop := make(chan struct{})
	for i, port := range ports {
		counters[i] = n.Peer(to).CountUDP(At(to, IPv4, port))
		senders.Go(func() { floods[i].Run(n.Peer(from), At(to, IPv4, port), stop) })
	}
	rewrites := 0
	for end := time.Now().Add(floodTime); time.Now().Before(end); rewrites++ {
		rewrite()
	}
	close(stop)
	senders.Wait()
	arrived := [2]int64{counters[0].All(Address(from, IPv4), floods[0].Sent()), counters[1].From(Address(from, IPv4))}
	n.t.Logf("%d rewrites; %d of %d denied and %d of %d allowed packets arrived", rewrites, arrived[1], floods[1].Sent(), arrived[0], floods[0].Sent())
	if arrived[1] != 0 {
		n.t.Errorf("%d denied packets arrived", arrived[1])
	}
	if arrived[0] == 0 || floods[1].Sent() == 0 {
		n.t.Error("no packets were sent")
	}
	if lost := floods[0].Sent() - arrived[0]; lost != 0 {
		n.t.Errorf("%d allowed packets were lost", lost)
	}
}

// While a policy is rewritten over and over, a peer that all its forms deny gets not one packet through, and one that
// all allow loses none.
func atomicity(t *testing.T, subject Subject) {
	n := NewNode(t, subject)
	p := NewTables()
	AddSets(p)
	forms := [][]tables.Rule{
		{{Action: tables.Deny, Source: tables.Entity{Sets: []string{ClientSet}}}, {Action: tables.Allow}},
		{{Action: tables.Allow, Source: Nets("10.48.0.2/31", "fd00:48::2/127")}},
		{{Action: tables.Pass, Protocol: protoTCP}, {Action: tables.Allow, Source: tables.Entity{NotSets: []string{ClientSet}}}, {Action: tables.Deny}},
		{{Action: tables.Deny, Source: Nets("10.48.0.1/32", "fd00:48::1/128")}, {Action: tables.Allow, Protocol: protoUDP}},
	}
	lists := [][]tables.Tier{{Tier(tables.Deny, "in")}, {Tier(tables.Pass, "none"), Tier(tables.Deny, "in", "none")}}
	p.Programs.Set("none", tables.Program{})
	set := func(i int) {
		p.Programs.Set("in", tables.Program{Ingress: forms[i%len(forms)]})
		e := Unrestricted(ServerPod)
		e.Ingress = lists[i/3%len(lists)]
		p.Endpoints.Set(InterfaceOf(ServerPod), e)
	}
	set(0)
	n.Apply(p)

	stop := make(chan struct{})
	var senders sync.WaitGroup
	var denied, allowed netns.Flood
	server := n.Peer(ServerPod).CountUDP(netip.AddrPortFrom(Address(ServerPod, IPv4), 53))
	for _, flood := range []struct {
		from  string
		count *netns.Flood
	}{{ClientPod, &denied}, {OtherPod, &allowed}} {
		senders.Go(func() { flood.count.Run(n.peers[flood.from], netip.AddrPortFrom(Address(ServerPod, IPv4), 53), stop) })
	}
	rewrites := 0
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); rewrites++ {
		set(rewrites)
		if rewrites%50 == 49 {
			n.Driver.Resync()
		}
		n.Apply(p)
	}
	close(stop)
	senders.Wait()
	fromOther, fromClient := server.All(Address(OtherPod, IPv4), allowed.Sent()), server.From(Address(ClientPod, IPv4))
	t.Logf("%d rewrites; %d of %d denied and %d of %d allowed packets arrived", rewrites, fromClient, denied.Sent(), fromOther, allowed.Sent())
	if fromClient != 0 {
		t.Errorf("%d denied packets arrived", fromClient)
	}
	if fromOther == 0 || denied.Sent() == 0 {
		t.Error("no packets were sent")
	}
	if lost := allowed.Sent() - fromOther; lost != 0 {
		t.Errorf("%d allowed packets were lost", lost)
	}
}

// At no time may a packet see half of an old and half of a new state: while policies that all let one flow through
// follow each other, none of its packets may be lost; and one that none of them lets through must never pass.
func atomicSets(t *testing.T, subject Subject) {
	n := NewNode(t, subject)
	p := NewTables()
	states := []func(){
		func() { // by address
			p.Sets.Set("a", tables.Addresses)
			p.Members.Set(AddressMember("a", Address(ClientPod, IPv4)), struct{}{})
			p.Programs.Set("p", tables.Program{Ingress: []tables.Rule{{Action: tables.Deny, Protocol: protoUDP, Destination: tables.Entity{Ports: Ports(54)}}, {Action: tables.Allow, Source: tables.Entity{Sets: []string{"a"}}}}})
			p.Members.Delete(AddressMember("b", Address(ClientPod, IPv4)))
			p.Sets.Delete("b")
			n.tiers(p, Tier(tables.Deny, "p"))
		},
		func() { // by another set, in another order of tiers
			p.Sets.Set("b", tables.Nets)
			p.Members.Set(AddressMember("b", Address(ClientPod, IPv4)), struct{}{})
			p.Programs.Set("p", tables.Program{Ingress: []tables.Rule{{Action: tables.Pass, Source: tables.Entity{Sets: []string{"b"}}}}})
			p.Programs.Set("q", tables.Program{Ingress: []tables.Rule{Rule(tables.Deny, protoUDP, 54), {Action: tables.Allow, Protocol: protoUDP}}})
			p.Members.Delete(AddressMember("a", Address(ClientPod, IPv4)))
			p.Sets.Delete("a")
			n.tiers(p, Tier(tables.Deny, "p"), Tier(tables.Deny, "q"))
		},
		func() { // by CIDRs and a port
			p.Programs.Set("r", tables.Program{Ingress: []tables.Rule{{Action: tables.Allow, Protocol: protoUDP, Source: Nets("10.48.0.0/24", "192.0.2.0/24"), Destination: tables.Entity{Ports: Ports(53)}}}})
			p.Programs.Delete("p")
			p.Programs.Delete("q")
			n.tiers(p, Tier(tables.Deny, "r"))
		},
	}
	states[0]()
	n.Apply(p)
	var stop atomic.Bool
	var sender sync.WaitGroup
	sender.Go(func() {
		other := &Node{NS: n.NS, t: t, peers: n.peers, port: 40000}
		for !stop.Load() {
			var probes []Probe
			for range 40 {
				probes = append(probes, UDP(IPv4, ClientPod, ServerPod, 53, true), UDP(IPv4, ClientPod, ServerPod, 54, false))
			}
			other.Verify(probes...)
		}
	})
	for i := range 45 {
		states[(i+1)%len(states)]()
		n.Apply(p)
	}
	stop.Store(true)
	sender.Wait()
}

func (n *Node) tiers(p *tables.Policy, tiers ...tables.Tier) {
	e := Unrestricted(ServerPod)
	e.Ingress = tiers
	p.Endpoints.Set(InterfaceOf(ServerPod), e)
}
