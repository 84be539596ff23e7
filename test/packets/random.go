package packets

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/test/netns"
)

// randomRule draws a rule over the sets named s0 to s2 and ports p0 and p1.
func randomRule(t *rapid.T) tables.Rule {
	r := tables.Rule{Action: rapid.SampledFrom([]tables.Action{tables.Allow, tables.Deny, tables.Pass, tables.Log}).Draw(t, "action")}
	if rapid.Bool().Draw(t, "ports") {
		r.Protocol = rapid.SampledFrom([]uint8{protoTCP, protoUDP}).Draw(t, "protocol")
		r.Destination.Ports = Ports(rapid.SliceOfN(rapid.Uint16Range(1, 4), 0, 3).Draw(t, "port")...)
		r.Destination.PortSets = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"p0", "p1"}), 0, 2, rapid.ID).Draw(t, "port sets")
	}
	r.Source.Sets = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"s0", "s1", "s2"}), 0, 2, rapid.ID).Draw(t, "sets")
	r.Source.Nets = rapid.SliceOfN(RandomNet(), 0, 3).Draw(t, "nets")
	return r
}

// RandomNet draws CIDRs that often overlap.
func RandomNet() *rapid.Generator[netip.Prefix] {
	return rapid.Custom(func(t *rapid.T) netip.Prefix {
		if rapid.Bool().Draw(t, "IPv6") {
			return netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 15: rapid.Uint8Range(0, 3).Draw(t, "last")}), rapid.SampledFrom([]int{0, 8, 126, 127, 128}).Draw(t, "bits")).Masked()
		}
		address := rapid.SampledFrom([]string{"10.0.0.0", "10.0.0.1", "10.0.0.2", "10.0.0.3", "255.255.255.255", "0.0.0.0"}).Draw(t, "address")
		return netip.PrefixFrom(netip.MustParseAddr(address), rapid.SampledFrom([]int{0, 1, 8, 30, 31, 32}).Draw(t, "bits")).Masked()
	})
}

func randomTiers(t *rapid.T) []tables.Tier {
	names := rapid.SampledFrom([]string{"a", "b", "c", "d"})
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) tables.Tier {
		return tables.Tier{
			Name: "t", Programs: rapid.SliceOfNDistinct(names, 0, 3, rapid.ID).Draw(t, "programs"),
			Default: rapid.SampledFrom([]tables.Action{tables.Deny, tables.Pass}).Draw(t, "default"),
		}
	}), 0, 3).Draw(t, "tiers")
}

// change makes one random change to the tables.
func change(t *rapid.T, p *tables.Policy) {
	gone := rapid.IntRange(0, 3).Draw(t, "gone") == 0
	switch rapid.IntRange(0, 6).Draw(t, "what") {
	case 6:
		changeHost(t, p, gone)
	case 0:
		name := rapid.SampledFrom([]string{"cali1", "cali2", "cali3"}).Draw(t, "endpoint")
		if gone {
			p.Endpoints.Delete(name)
			return
		}
		p.Endpoints.Set(name, tables.Endpoint{
			Addresses:      rapid.SliceOfN(rapid.SampledFrom([]netip.Addr{netip.MustParseAddr("10.48.0.1"), netip.MustParseAddr("fd00::1"), netip.MustParseAddr("10.48.0.2")}), 0, 3).Draw(t, "addresses"),
			SourcePrefixes: rapid.SliceOfN(RandomNet(), 0, 2).Draw(t, "source prefixes"),
			Ingress:        randomTiers(t), Egress: randomTiers(t), Unknown: rapid.IntRange(0, 5).Draw(t, "unknown") == 0,
		})
	case 1:
		name := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "program")
		if gone {
			p.Programs.Delete(name)
			return
		}
		rules := rapid.SliceOfN(rapid.Custom(randomRule), 0, 3)
		p.Programs.Set(name, tables.Program{Ingress: rules.Draw(t, "ingress"), Egress: rules.Draw(t, "egress")})
	case 2:
		id := rapid.SampledFrom([]string{"s0", "s1", "s2", "p0", "p1"}).Draw(t, "set")
		switch {
		case gone && rapid.Bool().Draw(t, "for good"):
			p.Sets.Delete(id)
		case id[0] == 'p':
			p.Sets.Set(id, tables.NamedPorts)
		default:
			p.Sets.Set(id, rapid.SampledFrom([]tables.SetType{tables.Addresses, tables.Nets}).Draw(t, "type"))
		}
	case 3, 4:
		m := tables.Member{Set: rapid.SampledFrom([]string{"s0", "s1", "s2", "p0"}).Draw(t, "set"), Prefix: RandomNet().Draw(t, "net")}
		typ, _ := p.Sets.Get(m.Set)
		if typ != tables.Nets {
			m.Prefix = netip.PrefixFrom(m.Prefix.Addr(), m.Prefix.Addr().BitLen())
		}
		if m.Set[0] == 'p' {
			m.Protocol, m.Port = protoTCP, rapid.Uint16Range(1, 3).Draw(t, "port")
		}
		if gone {
			p.Members.Delete(m)
		} else {
			p.Members.Set(m, struct{}{})
		}
	case 5:
		switch {
		case rapid.Bool().Draw(t, "settings"):
			p.Settings = tables.Settings{EndpointToHost: rapid.SampledFrom([]tables.HostAction{tables.HostDrop, tables.HostAccept, tables.HostReturn}).Draw(t, "to host"), AllowIPIP: gone}
			failsafe := rapid.SliceOfN(rapid.Custom(randomFailsafe), 0, 3)
			p.Settings.FailsafeInbound, p.Settings.FailsafeOutbound = failsafe.Draw(t, "inbound"), failsafe.Draw(t, "outbound")
			p.SettingsDirty = true
		case rapid.Bool().Draw(t, "floating"):
			fam := Family(rapid.IntRange(0, 1).Draw(t, "family"))
			address := [Families]netip.Addr{netip.MustParseAddr("10.50.0.1"), netip.MustParseAddr("fd00:50::1")}[fam]
			if gone {
				p.Floating.Delete(address)
			} else {
				p.Floating.Set(address, Address(rapid.SampledFrom(Pods()).Draw(t, "floating to"), fam))
			}
		case gone:
			p.Pools.Delete(RandomNet().Draw(t, "pool"))
		default:
			p.Pools.Set(RandomNet().Draw(t, "pool"), tables.Pool{NATOutgoing: rapid.Bool().Draw(t, "NAT")})
		}
	}
}

func randomFailsafe(t *rapid.T) tables.FailsafePort {
	p := tables.FailsafePort{Protocol: rapid.SampledFrom([]uint8{protoTCP, protoUDP}).Draw(t, "protocol"), Port: rapid.Uint16Range(1, 3).Draw(t, "port")}
	if rapid.Bool().Draw(t, "with a net") {
		p.Net = RandomNet().Draw(t, "net")
	}
	return p
}

// changeHost makes one random change to host endpoints.
func changeHost(t *rapid.T, p *tables.Policy, gone bool) {
	name := rapid.SampledFrom([]string{"eth0", "eth1", tables.AllInterfaces}).Draw(t, "host endpoint")
	if gone {
		p.HostEndpoints.Delete(name)
		return
	}
	some := func(what string) tables.Directions {
		var d tables.Directions
		if rapid.Bool().Draw(t, what+", in") {
			d.Ingress = randomTiers(t)
		}
		if rapid.Bool().Draw(t, what+", out") {
			d.Egress = randomTiers(t)
		}
		return d
	}
	p.HostEndpoints.Set(name, tables.HostEndpoint{
		Untracked: some("untracked"), PreDNAT: some("before translation").Ingress, Forward: some("forward"), Local: some("local"),
		LocalDefault: rapid.SampledFrom([]tables.Action{tables.Allow, tables.Deny}).Draw(t, "default"), Unknown: rapid.IntRange(0, 5).Draw(t, "unknown") == 0,
	})
}

// Whatever way leads to a state, after Apply the kernel is what a fresh driver makes of it.
func randomStates(t *testing.T, subject Subject) {
	ns := netns.New(t)
	rapid.Check(t, func(rt *rapid.T) {
		d := subject.openIn(t, ns)
		defer func() { _ = d.Close() }()
		p := tables.NewPolicy()
		for _, id := range []string{"s0", "s1", "s2"} {
			p.Sets.Set(id, tables.Addresses)
		}
		for _, id := range []string{"p0", "p1"} {
			p.Sets.Set(id, tables.NamedPorts)
		}
		apply := func() {
			var err error
			ns.Do(func() { err = d.Apply(t.Context(), p) })
			itemsOf(rt, err) // single items may be in error, nothing else
		}
		for range rapid.IntRange(1, 6).Draw(rt, "states") {
			for range rapid.IntRange(1, 8).Draw(rt, "changes") {
				change(rt, p)
			}
			switch rapid.IntRange(0, 9).Draw(rt, "trouble") {
			case 0:
				d.Resync()
			case 1:
				_ = d.Close()
				d = subject.openIn(t, ns)
			}
			apply()
			if rapid.IntRange(0, 3).Draw(rt, "settle") != 0 {
				continue // let differences add up
			}
			if held := missingSets(p); len(held) > 0 {
				continue // previous forms are not a fresh driver's
			}
			subject.settle(t, d, p, apply)
			want := subject.freshDump(t, p)
			if diff := cmp.Diff(want, subject.Dump(t, ns)); diff != "" {
				rt.Fatalf("the kernel is not what a fresh driver makes (-fresh +got):\n%s", diff)
			}
		}
	})
}

// missingSets are sets that programs name and that do not exist: such programs stay in their previous form.
func missingSets(p *tables.Policy) []string {
	var missing []string
	for _, program := range p.Programs.All() {
		for _, r := range slices.Concat(program.Ingress, program.Egress) {
			for _, id := range slices.Concat(r.Source.Sets, r.Destination.PortSets) {
				if _, ok := p.Sets.Get(id); !ok {
					missing = append(missing, id)
				}
			}
		}
	}
	return missing
}
