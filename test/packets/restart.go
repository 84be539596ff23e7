package packets

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/manul-net/manul/nodeagent/tables"
)

// A restart changes no rule that is right, drops no connection, and removes what is left over.
func restart(t *testing.T, subject Subject) {
	n := NewNode(t, subject)
	p := ManyThings()
	n.Apply(p)
	to := netip.AddrPortFrom(Address(ServerPod, IPv4), 80)
	echo := n.Peer(ServerPod).Echo(to)
	connection := n.Peer(ClientPod).Connect(to)
	connection.Exchange("before")
	n.untouched("the restart", func() {
		n.Reopen()
		n.Apply(ManyThings())
	})
	connection.Exchange("after")
	connection.Close()
	echo.Close()

	n.Reopen()
	p = ManyThings()
	ChangeOfManyThings(p)
	n.Apply(p)
	n.SameAsFresh(p)
}

// restartAtSize: so it is with 100 policies, of which some fold, 30 pods and 50,000 members of sets.
func restartAtSize(t *testing.T, subject Subject) {
	n := NewNode(t, subject)
	n.Apply(atSize())
	n.untouched("the restart with 50,000 members", func() {
		n.Reopen()
		began := time.Now()
		n.Apply(atSize())
		t.Logf("the restarted driver found all as it should be in %s", time.Since(began).Round(time.Millisecond))
	})
}

func atSize() *tables.Policy {
	p := NewTables()
	const policies, pods, members = 100, 30, 50_000
	for i := range policies {
		name, set := fmt.Sprintf("np.ns.policy-%d", i), fmt.Sprintf("set-%d", i)
		p.Sets.Set(set, tables.Addresses)
		for j := range members / policies {
			k := i*members/policies + j
			p.Members.Set(AddressMember(set, netip.AddrFrom4([4]byte{10, byte(64 + k>>16), byte(k >> 8), byte(k)})), struct{}{})
		}
		program := tables.Program{Ingress: []tables.Rule{{
			Action: tables.Allow, Protocol: protoTCP, Source: tables.Entity{Sets: []string{set}}, Destination: tables.Entity{Ports: Ports(80, uint16(1000+i))},
		}}}
		if i%4 == 0 {
			program.Ingress = append(program.Ingress, tables.Rule{Action: tables.Deny, Source: tables.Entity{Nets: Prefixes("203.0.113.0/24")}})
		}
		p.Programs.Set(name, program)
	}
	for i := range pods {
		e := tables.Endpoint{Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 48, 1, byte(i)})}}
		var names []string
		for j := range 10 {
			names = append(names, fmt.Sprintf("np.ns.policy-%d", (i*7+j)%policies))
		}
		e.Ingress = []tables.Tier{Tier(tables.Deny, names...)}
		p.Endpoints.Set(fmt.Sprintf("%s%d", WorkloadPrefix, i), e)
	}
	return p
}

// ChangeOfManyThings changes a little of ManyThings.
func ChangeOfManyThings(p *tables.Policy) {
	p.Programs.Delete("np.ns.policy-19")
	p.Programs.Set("np.ns.policy-18", tables.Program{Ingress: []tables.Rule{{Action: tables.Deny}}})
	p.Endpoints.Delete(InterfaceOf(OtherPod))
	p.Members.Delete(AddressMember(ClientSet, Address(ClientPod, IPv4)))
	p.Sets.Set("new", tables.Nets)
	p.Members.Set(Member("new", "10.0.0.0/8"), struct{}{})
	p.Members.Set(Member(NetSet, "203.0.113.0/24"), struct{}{})
	p.Pools.Delete(netip.MustParsePrefix("fd00:48::/48"))
}

func contextEnds(t *testing.T, subject Subject) {
	n := NewNode(t, subject)
	p := NewTables()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var err error
	n.Do(func() { err = n.Driver.Apply(ctx, p) })
	if !errors.Is(err, context.Canceled) || !p.HasDirty() {
		t.Errorf("Apply = %v, dirty %v; want it canceled with the tables still dirty", err, p.HasDirty())
	}
	n.Apply(p)
	n.Verify(TCP(IPv4, ClientPod, ServerPod, 80, true))
}

// A program that names a set which does not exist can't be put into force.
func missingSet(t *testing.T, subject Subject) {
	RefusedProgram(t, subject, tables.Rule{Action: tables.Allow, Source: tables.Entity{Sets: []string{"no-such-set"}}}, AddSets)
}

// The set comes after the program, and after a restart.
func setComesLate(t *testing.T, subject Subject) {
	n := NewNode(t, subject)
	p := NewTables()
	p.Programs.Set("p", tables.Program{Ingress: []tables.Rule{{Action: tables.Allow, Source: tables.Entity{Sets: []string{"late"}}}, {Action: tables.Log}}})
	server := Unrestricted(ServerPod)
	server.Ingress = []tables.Tier{Tier(tables.Deny, "p")}
	p.Endpoints.Set(InterfaceOf(ServerPod), server)
	p.Endpoints.Set(InterfaceOf(ClientPod), Unrestricted(ClientPod))
	n.WantItems(n.TryApply(p), "PolicyProgram p")
	n.Reopen()
	n.WantItems(n.TryApply(p), "PolicyProgram p")
	n.Verify(TCP(IPv4, ClientPod, ServerPod, 80, false))
	p.Sets.Set("late", tables.Addresses)
	p.Members.Set(AddressMember("late", Address(ClientPod, IPv4)), struct{}{})
	n.Apply(p)
	n.Verify(TCP(IPv4, ClientPod, ServerPod, 80, true))
	n.SameAsFresh(p)
}

// RefusedProgram checks that one program that can't be put into force, for its wrong rule, does not keep others from being
// in force. It stays in its previous form; where there is none, as that of a folded program, what needs it drops. prepare may add to the tables what the
// rule names, and also are items ("<kind> <name>") that are in error whenever everything is compared.
func RefusedProgram(t *testing.T, subject Subject, wrong tables.Rule, prepare func(*tables.Policy), also ...string) {
	t.Helper()
	n := NewNode(t, subject)
	good := tables.Program{Ingress: []tables.Rule{Rule(tables.Allow, protoTCP, 80)}}
	bad := tables.Program{Ingress: []tables.Rule{wrong}}
	p := NewTables()
	prepare(p)
	p.Programs.Set("p", good)
	server, client, other := Unrestricted(ServerPod), Unrestricted(ClientPod), Unrestricted(OtherPod)
	server.Ingress = []tables.Tier{Tier(tables.Deny, "p")}
	client.Ingress = []tables.Tier{Tier(tables.Pass, "q")}
	other.Ingress = []tables.Tier{Tier(tables.Pass, "r")}
	p.Endpoints.Set(InterfaceOf(ServerPod), server)
	n.WantItems(n.TryApply(p), also...)

	p.Programs.Set("p", bad)
	p.Programs.Set("q", bad)
	p.Programs.Set("r", tables.Program{Ingress: []tables.Rule{Rule(tables.Deny, protoTCP, 81)}})
	p.Endpoints.Set(InterfaceOf(ClientPod), client)
	p.Endpoints.Set(InterfaceOf(OtherPod), other)
	verdicts := func() {
		t.Helper()
		n.Verify(
			TCP(IPv4, ClientPod, ServerPod, 80, !subject.Folds), TCP(IPv4, ClientPod, ServerPod, 81, false), // the previous form
			TCP(IPv4, ServerPod, ClientPod, 80, false),                                          // there was none: fail closed
			TCP(IPv4, ServerPod, OtherPod, 81, false), TCP(IPv4, ServerPod, OtherPod, 80, true), // in force
		)
	}
	compared := append([]string{"PolicyProgram p", "PolicyProgram q"}, also...)
	n.Driver.Resync()
	n.WantItems(n.TryApply(p), compared...)
	verdicts()
	p.Pools.Set(netip.MustParsePrefix("10.50.0.0/16"), tables.Pool{})
	n.WantItems(n.TryApply(p), compared...) // an unrelated change
	verdicts()
	n.Reopen() // a restart
	n.WantItems(n.TryApply(p), compared...)
	verdicts()
	p.Programs.Set("p", good)
	p.Programs.Set("q", good)
	n.WantItems(n.TryApply(p), also...)
	n.Verify(TCP(IPv4, ServerPod, ClientPod, 80, true))
	n.SameAsFresh(p)
}
