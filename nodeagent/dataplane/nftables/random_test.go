package nftables

import (
	"fmt"
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
		r.Destination.Ports = ports(rapid.SliceOfN(rapid.Uint16Range(1, 4), 0, 3).Draw(t, "port")...)
		r.Destination.PortSets = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"p0", "p1"}), 0, 2, rapid.ID).Draw(t, "port sets")
	}
	r.Source.Sets = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"s0", "s1", "s2"}), 0, 2, rapid.ID).Draw(t, "sets")
	r.Source.Nets = rapid.SliceOfN(randomNet(), 0, 3).Draw(t, "nets")
	return r
}

// randomNet draws CIDRs that often overlap.
func randomNet() *rapid.Generator[netip.Prefix] {
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
	switch rapid.IntRange(0, 5).Draw(t, "what") {
	case 0:
		name := rapid.SampledFrom([]string{"cali1", "cali2", "cali3"}).Draw(t, "endpoint")
		if gone {
			p.Endpoints.Delete(name)
			return
		}
		p.Endpoints.Set(name, tables.Endpoint{
			Addresses: rapid.SliceOfN(rapid.SampledFrom([]netip.Addr{netip.MustParseAddr("10.48.0.1"), netip.MustParseAddr("fd00::1"), netip.MustParseAddr("10.48.0.2")}), 0, 3).Draw(t, "addresses"),
			Ingress:   randomTiers(t), Egress: randomTiers(t), Unknown: rapid.IntRange(0, 5).Draw(t, "unknown") == 0,
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
		m := tables.Member{Set: rapid.SampledFrom([]string{"s0", "s1", "s2", "p0"}).Draw(t, "set"), Prefix: randomNet().Draw(t, "net")}
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
			p.Settings = tables.Settings{EndpointToHost: rapid.SampledFrom([]tables.HostAction{tables.HostDrop, tables.HostAccept}).Draw(t, "to host"), AllowIPIP: gone}
			p.SettingsDirty = true
		case gone:
			p.Pools.Delete(randomNet().Draw(t, "pool"))
		default:
			p.Pools.Set(randomNet().Draw(t, "pool"), tables.Pool{NATOutgoing: rapid.Bool().Draw(t, "NAT")})
		}
	}
}

// Whatever way leads to a state, after Apply the kernel is what a fresh driver makes of it.
func TestRandomStates(t *testing.T) {
	ns, fresh := netns.New(t), netns.New(t)
	rapid.Check(t, func(rt *rapid.T) {
		d, other := openIn(t, ns), openIn(t, fresh)
		defer func() { _ = d.Close(); _ = other.Close() }()
		p := tables.NewPolicy()
		for _, id := range []string{"s0", "s1", "s2"} {
			p.Sets.Set(id, tables.Addresses)
		}
		for _, id := range []string{"p0", "p1"} {
			p.Sets.Set(id, tables.NamedPorts)
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
				d = openIn(t, ns)
			}
			itemsOnly(rt, d.Apply(t.Context(), p))
			if rapid.IntRange(0, 3).Draw(rt, "settle") != 0 {
				continue // let differences add up
			}
			if held := missingSets(p); len(held) > 0 {
				continue // previous forms are not a fresh driver's
			}
			removeTable(t, fresh)
			other.Resync()
			itemsOnly(rt, other.Apply(t.Context(), p))
			if d.state.inUse != other.state.inUse { // the last IPv6 endpoint went: a comparison of everything sees that
				d.Resync()
				itemsOnly(rt, d.Apply(t.Context(), p))
			}
			if diff := cmp.Diff(dump(t, fresh, false), dump(t, ns, false)); diff != "" {
				rt.Fatalf("the kernel is not what a fresh driver makes (-fresh +got):\n%s", diff)
			}
		}
	})
}

func openIn(t testing.TB, ns *netns.NS) *Driver {
	t.Helper()
	var d *Driver
	ns.Must("opening a driver", func() error {
		var err error
		d, err = New(Options{WorkloadPrefix: testPrefix})
		return err
	})
	return d
}

func removeTable(t testing.TB, ns *netns.NS) {
	t.Helper()
	s := &socket{}
	ns.Must("removing the table", func() error {
		var err error
		s, err = openSocket()
		return err
	})
	defer func() { _ = s.close() }()
	b := newBatch()
	b.addTable()
	b.deleteTable()
	if refused, err := s.transact(b); err != nil || len(refused) > 0 {
		t.Fatalf("removing the table: %v %v", refused, err)
	}
}

// itemsOnly fails on errors that are not about single items.
func itemsOnly(t *rapid.T, err error) {
	if err == nil {
		return
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("Apply: %v", err)
	}
	for _, e := range joined.Unwrap() {
		if _, ok := e.(*tables.ItemError); !ok { //nolint:errorlint // nothing wraps it
			t.Fatalf("Apply: %v", err)
		}
	}
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

// The intervals that the kernel gets are those CIDRs that no other covers, whatever the order of changes.
func TestIntervals(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &intervals{}
		members, kernel := map[netip.Prefix]bool{}, map[netip.Prefix]bool{}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			c := changes{}
			for range rapid.IntRange(1, 5).Draw(t, "changes") {
				p := randomNet().Draw(t, "net")
				if rapid.Bool().Draw(t, "add") {
					members[p] = true
					s.insert(p, c)
				} else {
					delete(members, p)
					s.remove(p, c)
				}
			}
			for _, p := range c.sorted(-1) {
				if !kernel[p] {
					t.Fatalf("%v is removed from the kernel, which does not have it", p)
				}
				delete(kernel, p)
			}
			for _, p := range c.sorted(1) {
				if kernel[p] {
					t.Fatalf("%v is added to the kernel, which has it", p)
				}
				kernel[p] = true
			}
			want := map[netip.Prefix]bool{}
			for p := range members {
				covered := false
				for q := range members {
					covered = covered || q != p && q.Bits() < p.Bits() && q.Contains(p.Addr())
				}
				if !covered {
					want[p] = true
				}
			}
			if diff := cmp.Diff(fmt.Sprint(want), fmt.Sprint(kernel)); diff != "" {
				t.Fatalf("in the kernel (-want +got):\n%s", diff)
			}
			var all []netip.Prefix
			for fam := range families {
				all = append(all, s.greatest(fam)...)
			}
			if len(all) != len(want) {
				t.Fatalf("greatest = %v, want %v", all, want)
			}
		}
	})
}
