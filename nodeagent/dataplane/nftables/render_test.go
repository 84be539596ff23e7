package nftables

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/fold"
	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/test/packets"
)

// TestRenderVersion fails when rules are rendered in another way than before. Then raise renderVersion and put the new
// digest here: otherwise an agent would take the chains of an earlier version for its own.
func TestRenderVersion(t *testing.T) {
	const version, want = 6, "32da81fd366eadb5"
	b := newBatch()
	var setID uint32
	types := func(id string) (tables.SetType, bool) {
		typ, ok := map[string]tables.SetType{packets.ClientSet: tables.Addresses, packets.NetSet: tables.Nets, packets.PortsSet: tables.NamedPorts}[id]
		return typ, ok
	}
	add := func(chain string, list []*ruleBuilder) {
		for _, r := range list {
			for _, set := range r.sets {
				b.addSet(anonymousSet, set.id, set.spec)
				b.elements(1, anonymousSet, set.id, set.elements)
			}
			if err := b.addRule(chain, "", r.exprs); err != nil {
				t.Fatal(err)
			}
		}
	}
	all := hostUse{any: true, untracked: true, preDNAT: true, forward: true, others: targets{untrackedIn: toAccept, preDNAT: toDrop, localIn: "list"}}
	for _, use := range []inUse{{}, {v6: true}} {
		for _, settings := range []tables.Settings{{}, {EndpointToHost: tables.HostAccept, VXLANPort: 1, AllowIPIP: true}, {EndpointToHost: tables.HostReturn, AllowVXLAN: true, FailsafeInbound: failsafe()}} {
			for _, hosts := range []hostUse{{}, {any: true}, all} {
				l := &layout{prefix: packets.WorkloadPrefix, settings: settings, inUse: use, hosts: hosts, setID: &setID}
				for _, base := range baseChains() {
					add(base.name, base.rules(l))
				}
			}
		}
		add("program", renderer{types: types, inUse: use, setID: &setID}.program(everyRule()))
	}
	shapes := func(name string) shape {
		return map[string]shape{"missing": missing, "empty": empty, "plain": plain, "passing": passing}[name]
	}
	for _, fallback := range []tables.Action{tables.Deny, tables.Pass} {
		name, chain := newTierChain(egress, packets.Tier(fallback, "plain", "passing", "empty", "missing"))
		add(name, chain.rules(shapes, nil, &setID))
		for kind := podList; kind <= untrackedList; kind++ {
			name, list := newListChain(ingress, kind, []string{name, "other"})
			add(name, list.rules(&setID))
		}
	}
	folded := foldOf(t)
	tierName, tier := newTierChain(egress, packets.Tier(tables.Deny, "a", "plain"))
	add(tierName, tier.rules(shapes, []fold.Step{{Fold: folded}, {Program: "plain"}}, &setID))
	var keys []string
	for e := range folded.Elements() {
		keys = append(keys, foldKey(e))
	}
	slices.Sort(keys)
	for _, key := range keys {
		b.elements(1, "fold", 0, []element{{key: key}})
	}
	name, chain := newSourceChain(packets.Prefixes("10.0.0.0/8", "fd00::/8"))
	add(name, chain.rules(&setID))
	sum := sha256.Sum256(b.w.b)
	if got := hex.EncodeToString(sum[:8]); got != want || renderVersion != version {
		t.Errorf("digest of what is rendered = %s, version %d; want %s, version %d", got, renderVersion, want, version)
	}
}

// foldOf is a fold that has elements of several shapes, one of each.
func foldOf(t *testing.T) *fold.Fold {
	t.Helper()
	p := tables.NewPolicy()
	rule := packets.Rule(tables.Allow, unix.IPPROTO_TCP, 80)
	rule.Destination.Nets = packets.Prefixes("10.0.0.0/8", "10.0.0.1/32", "fd00::/8", "fd00::1/128")
	content := tables.Program{Egress: []tables.Rule{rule, {Action: tables.Allow, Protocol: unix.IPPROTO_UDP}, {Action: tables.Allow}}}
	f := fold.New(p, true, fold.EverythingFolds(), fold.ShapeByFields)
	f.Program("a", content, true)
	f.User("endpoint", []fold.Tier{{Name: "tier", Direction: fold.Egress, Programs: []string{"a"}}})
	f.Settle()
	steps := f.Steps("tier")
	if len(steps) != 1 || steps[0].Fold == nil {
		t.Fatalf("the program is not folded: %v", steps)
	}
	return steps[0].Fold
}

func failsafe() []tables.FailsafePort {
	return []tables.FailsafePort{
		{Protocol: unix.IPPROTO_TCP, Port: 22},
		{Protocol: unix.IPPROTO_UDP, Port: 68},
		{Protocol: unix.IPPROTO_TCP, Port: 179, Net: packets.Prefixes("192.0.2.0/24")[0]},
		{Protocol: unix.IPPROTO_TCP, Port: 179, Net: packets.Prefixes("fd00::/8")[0]},
		{Protocol: unix.IPPROTO_ICMP},
	}
}

// everyRule are rules with every field.
func everyRule() []tables.Rule {
	many := packets.Ports(1, 3, 5, 7, 9, 11)
	nets := packets.Prefixes("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fd00::/8", "fe80::/10", "198.51.100.1/32", "0.0.0.0/32")
	return []tables.Rule{
		{Action: tables.Allow},
		{Action: tables.Deny, IPVersion: 4, NotProtocol: unix.IPPROTO_TCP},
		{Action: tables.Pass, Protocol: unix.IPPROTO_ICMP, ICMP: &tables.ICMP{Type: 8, Code: -1}, NotICMP: &tables.ICMP{Type: 8, Code: 1}},
		{Action: tables.Log, IPVersion: 6, ICMP: &tables.ICMP{Type: 128, Code: 0}},
		{Action: tables.Allow, Protocol: unix.IPPROTO_TCP, Source: tables.Entity{Sets: []string{packets.ClientSet}, NotSets: []string{packets.NetSet}, Nets: nets, NotNets: nets[:2], NotPorts: many}, Destination: tables.Entity{Ports: many, PortSets: []string{packets.PortsSet}, NotPortSets: []string{packets.PortsSet}}},
		{Action: tables.Allow, Source: tables.Entity{Nets: nets[:2], NotNets: nets, NotPorts: packets.Ports(1)}, Destination: tables.Entity{Nets: nets[5:6], Ports: []tables.PortRange{{First: 1, Last: 9}, {First: 20, Last: 65535}}}},
	}
}

func TestNames(t *testing.T) {
	long := "np."
	for range 30 {
		long += "namespace."
	}
	seen := map[string]string{}
	for _, name := range []string{"gnp.a", "gnp.a_b", "gnp.a b", "gnp.a/b", long, long + "x", "", "ümlaut"} {
		chain := programChain(ingress, name)
		if len(chain) > 200 {
			t.Errorf("the chain of %q has %d characters", name, len(chain))
		}
		if other, ok := seen[chain]; ok {
			t.Errorf("%q and %q have the same chain %s", name, other, chain)
		}
		seen[chain] = name
	}
	if got := programChain(egress, "np.shop.web"); got != "pe-np.shop.web" {
		t.Errorf("programChain = %s", got)
	}
}
