package connections

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/nodeagent/verdict"
)

const (
	web, db = "caliweb", "calidb"
	tcp     = 6
)

func at(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func flow(source, destination string) *Flow {
	return &Flow{
		Protocol: tcp, Original: Tuple{at(source), at(destination)}, Reply: Tuple{at(destination), at(source)},
	}
}

func locator() *Locator {
	return &Locator{
		Workloads: map[netip.Addr]string{netip.MustParseAddr("10.48.0.1"): web, netip.MustParseAddr("10.48.0.2"): db},
		Own:       map[netip.Addr]struct{}{netip.MustParseAddr("192.168.0.1"): {}},
	}
}

func towards(a netip.Addr) (Place, error) {
	switch {
	case netip.MustParsePrefix("192.168.0.0/24").Contains(a):
		return Place{Interface: "eth0"}, nil
	case netip.MustParsePrefix("192.168.1.0/24").Contains(a):
		return Place{Interface: "eth1"}, nil
	case a == netip.MustParseAddr("203.0.113.1"): // a local route without an address on an interface
		return Place{Local: true}, nil
	}
	return Place{}, errors.New("no route to host")
}

func TestThePacketThatDecidesOnAConnection(t *testing.T) {
	nat := flow("10.48.0.1:1000", "10.96.0.10:80")
	nat.Reply = Tuple{Source: at("10.48.0.2:8080"), Destination: at("192.168.0.1:2000")} // both ends translated
	nodePort := flow("192.168.0.9:1000", "192.168.0.1:30080")
	nodePort.Reply.Source = at("10.48.0.2:8080")
	ping := flow("10.48.0.1:0", "10.48.0.2:0")
	ping.Protocol, ping.ICMPType, ping.ICMPID = 1, 8, 77
	packet := func(in, source, out, destination string) *verdict.Packet {
		return &verdict.Packet{
			In: in, Out: out, Protocol: tcp, Source: at(source).Addr(), SourcePort: at(source).Port(),
			Destination: at(destination).Addr(), DestinationPort: at(destination).Port(),
		}
	}
	translated := func(p *verdict.Packet, original string) *verdict.Packet { p.Original = at(original); return p }
	with := func(f *Flow, change func(*Flow)) *Flow { change(f); return f }
	for what, tc := range map[string]struct {
		f *Flow
		// want without and with host endpoints; nil: the connection is left alone.
		want, withHosts *verdict.Packet
	}{
		"between two pods of the node": {
			flow("10.48.0.1:1000", "10.48.0.2:80"), packet(web, "10.48.0.1:1000", db, "10.48.0.2:80"), packet(web, "10.48.0.1:1000", db, "10.48.0.2:80"),
		},
		"to a service: the chosen endpoint, and the source before it was translated": {
			nat,
			translated(packet(web, "10.48.0.1:1000", db, "10.48.0.2:8080"), "10.96.0.10:80"),
			translated(packet(web, "10.48.0.1:1000", db, "10.48.0.2:8080"), "10.96.0.10:80"),
		},
		"from elsewhere to a pod": {
			flow("192.168.0.9:1000", "10.48.0.2:80"),
			packet(Elsewhere, "192.168.0.9:1000", db, "10.48.0.2:80"), packet("eth0", "192.168.0.9:1000", db, "10.48.0.2:80"),
		},
		"to a node port": {
			nodePort,
			translated(packet(Elsewhere, "192.168.0.9:1000", db, "10.48.0.2:8080"), "192.168.0.1:30080"),
			translated(packet("eth0", "192.168.0.9:1000", db, "10.48.0.2:8080"), "192.168.0.1:30080"),
		},
		"from a pod to elsewhere": {
			flow("10.48.0.1:1000", "192.168.1.9:80"),
			packet(web, "10.48.0.1:1000", Elsewhere, "192.168.1.9:80"), packet(web, "10.48.0.1:1000", "eth1", "192.168.1.9:80"),
		},
		"from a pod to its node": {
			flow("10.48.0.1:1000", "192.168.0.1:22"), packet(web, "10.48.0.1:1000", "", "192.168.0.1:22"), packet(web, "10.48.0.1:1000", "", "192.168.0.1:22"),
		},
		"from elsewhere to the node": {flow("192.168.0.9:1000", "192.168.0.1:22"), nil, packet("eth0", "192.168.0.9:1000", "", "192.168.0.1:22")},
		"from the node to elsewhere": {flow("192.168.0.1:1000", "192.168.1.9:22"), nil, packet("", "192.168.0.1:1000", "eth1", "192.168.1.9:22")},
		"through the node":           {flow("192.168.0.9:1000", "192.168.1.9:22"), nil, packet("eth0", "192.168.0.9:1000", "eth1", "192.168.1.9:22")},
		"to an address that the node has by a route": {
			flow("192.168.0.9:1000", "203.0.113.1:22"), nil, packet("eth0", "192.168.0.9:1000", "", "203.0.113.1:22"),
		},
		"within the node":                         {flow("192.168.0.1:1000", "192.168.0.1:22"), nil, nil},
		"over the loopback interface":             {flow("127.0.0.1:1000", "127.0.0.2:22"), nil, nil},
		"where no route leads":                    {flow("198.51.100.1:1000", "192.168.0.1:22"), nil, nil},
		"closed already":                          {with(flow("10.48.0.1:1000", "10.48.0.2:80"), func(f *Flow) { f.Closed = true }), nil, nil},
		"opened at the bidding of another":        {with(flow("10.48.0.1:1000", "10.48.0.2:80"), func(f *Flow) { f.Related = true }), nil, nil},
		"in a zone of its own":                    {with(flow("10.48.0.1:1000", "10.48.0.2:80"), func(f *Flow) { f.Zoned = true }), nil, nil},
		"to a group":                              {flow("10.48.0.1:1000", "224.0.0.251:5353"), nil, nil},
		"from no address":                         {flow("0.0.0.0:68", "255.255.255.255:67"), nil, nil},
		"between addresses that hold on one link": {flow("[fe80::1]:1000", "[fe80::2]:80"), nil, nil},
	} {
		t.Run(what, func(t *testing.T) {
			l := locator()
			for _, want := range []*verdict.Packet{tc.want, tc.withHosts} {
				got, ok := l.Packet(tc.f)
				if ok != (want != nil) || ok && got != *want {
					t.Errorf("with host endpoints %t: %+v, %t, want %+v", l.Towards != nil, got, ok, want)
				}
				l.Towards = towards
			}
		})
	}
	if p, ok := locator().Packet(ping); !ok || p.Protocol != 1 || p.ICMPType != 8 {
		t.Errorf("an echo: %+v", p)
	}
}

func TestScope(t *testing.T) {
	var s Scope
	if !s.Empty() || s.Covers(flow("10.48.0.1:1000", "10.48.0.2:80")) {
		t.Error("an empty scope covers something")
	}
	s.add(netip.MustParsePrefix("10.48.0.1/32"))
	s.add(netip.MustParsePrefix("fd00::1/128"))
	if want := []netip.Addr{netip.MustParseAddr("10.48.0.1"), netip.MustParseAddr("fd00::1")}; !cmp.Equal(want, s.Addresses(2), cmpopts.EquateComparable(netip.Addr{})) {
		t.Errorf("addresses: %v", s.Addresses(2))
	}
	if s.Addresses(1) != nil {
		t.Error("more addresses than were asked for")
	}
	service := flow("192.168.0.9:1000", "10.48.0.1:80")
	service.Reply.Source = at("10.48.7.7:80")
	for _, f := range []*Flow{flow("10.48.0.1:1000", "10.9.9.9:80"), flow("10.9.9.9:1000", "10.48.0.1:80"), service} {
		if !s.Covers(f) {
			t.Errorf("%+v is not covered", f)
		}
	}
	if s.Covers(flow("10.9.9.9:1000", "10.48.0.2:80")) {
		t.Error("a connection between others is covered")
	}
	s.add(netip.MustParsePrefix("10.9.0.0/16"))
	if !s.Covers(flow("10.9.9.9:1000", "10.48.0.2:80")) || s.Addresses(10) != nil {
		t.Error("a CIDR is not covered, or would not be asked for")
	}
	for i := range maxNets {
		s.add(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, 0}), 24))
	}
	if !s.IsAll() {
		t.Error("a scope of many CIDRs names them one by one")
	}
}

// policies puts programs on the ingress of the database.
func policies(p *tables.Policy, names ...string) {
	p.Endpoints.Set(db, tables.Endpoint{Addresses: []netip.Addr{netip.MustParseAddr("10.48.0.2")}, Ingress: []tables.Tier{{Programs: names, Default: tables.Deny}}})
}

func member(set, prefix string) tables.Member {
	return tables.Member{Set: set, Prefix: netip.MustParsePrefix(prefix)}
}

func TestWhatAChangeConcerns(t *testing.T) {
	uses := func(action tables.Action, source tables.Entity) tables.Program {
		return tables.Program{Ingress: []tables.Rule{{Action: action, Source: source}}}
	}
	in, not := tables.Entity{Sets: []string{"s"}}, tables.Entity{NotSets: []string{"s"}}
	add := func(p *tables.Policy) { p.Members.Set(member("s", "10.48.7.8/32"), struct{}{}) }
	remove := func(p *tables.Policy) { p.Members.Delete(member("s", "10.48.7.7/32")) }
	for what, tc := range map[string]struct {
		program tables.Program
		change  func(*tables.Policy)
		want    []string // addresses; "*": all connections
	}{
		"nothing":                               {uses(tables.Allow, in), func(*tables.Policy) {}, nil},
		"a member more of what is allowed":      {uses(tables.Allow, in), add, nil},
		"a member less of what is allowed":      {uses(tables.Allow, in), remove, []string{"10.48.7.7"}},
		"a member more of what is denied":       {uses(tables.Deny, in), add, []string{"10.48.7.8"}},
		"a member less of what is denied":       {uses(tables.Deny, in), remove, nil},
		"a member more of what passes":          {uses(tables.Pass, in), add, []string{"10.48.7.8"}},
		"a member less of what passes":          {uses(tables.Pass, in), remove, []string{"10.48.7.7"}},
		"a member of what is only logged":       {uses(tables.Log, in), remove, nil},
		"a member more of what is not allowed":  {uses(tables.Allow, not), add, []string{"10.48.7.8"}},
		"a member less of what is not allowed":  {uses(tables.Allow, not), remove, nil},
		"a member less of what is not denied":   {uses(tables.Deny, not), remove, []string{"10.48.7.7"}},
		"a member of a set that nobody uses":    {uses(tables.Allow, tables.Entity{}), remove, nil},
		"another type of set, the members stay": {uses(tables.Allow, in), func(p *tables.Policy) { p.Members.MarkDirty(member("s", "10.48.7.7/32")) }, nil},
		"a program that changed: its endpoints": {uses(tables.Allow, in), func(p *tables.Policy) { p.Programs.Set("p", uses(tables.Deny, in)) }, []string{"10.48.0.2"}},
		"a program that others have":            {uses(tables.Allow, in), func(p *tables.Policy) { p.Programs.Set("q", uses(tables.Deny, in)) }, nil},
		"another list of an endpoint":           {uses(tables.Allow, in), func(p *tables.Policy) { policies(p) }, []string{"10.48.0.2"}},
		"a new endpoint: its address may have been another's": {uses(tables.Allow, in), func(p *tables.Policy) {
			p.Endpoints.Set(web, tables.Endpoint{Addresses: []netip.Addr{netip.MustParseAddr("10.48.0.1")}})
		}, []string{"10.48.0.1"}},
		"an endpoint that is gone": {uses(tables.Allow, in), func(p *tables.Policy) { p.Endpoints.Delete(db) }, nil},
		"a host endpoint":          {uses(tables.Allow, in), func(p *tables.Policy) { p.HostEndpoints.Set("eth0", tables.HostEndpoint{}) }, []string{"*"}},
		"settings":                 {uses(tables.Allow, in), func(p *tables.Policy) { p.SettingsDirty = true }, []string{"*"}},
		"pools":                    {uses(tables.Allow, in), func(p *tables.Policy) { p.Pools.Set(netip.MustParsePrefix("10.0.0.0/8"), tables.Pool{}) }, nil},
	} {
		t.Run(what, func(t *testing.T) {
			p := tables.NewPolicy()
			p.Programs.Set("p", tc.program)
			p.Programs.Set("q", tables.Program{})
			policies(p, "p")
			p.Members.Set(member("s", "10.48.7.7/32"), struct{}{})
			tracker := NewTracker()
			tracker.Note(p)
			if s := tracker.Take(); !s.IsAll() {
				t.Error("the first tables do not concern all connections")
			}
			p.Clean()
			tc.change(p)
			tracker.Note(p)
			tracker.Note(p) // an apply that failed
			s := tracker.Take()
			var got []string
			for _, a := range s.Addresses(maxAddresses) {
				got = append(got, a.String())
			}
			if s.IsAll() {
				got = []string{"*"}
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("concerned (-want +got):\n%s", d)
			}
		})
	}
}

// Whatever a change makes the tables deny is in the scope of the change, and nothing is kept for programs that are gone.
func TestWhatComesToBeDeniedIsConcerned(t *testing.T) {
	peers := []string{"10.48.0.1", "10.48.0.2", "10.48.7.7", "10.48.7.8", "10.9.0.1"}
	prefixes := []string{"10.48.7.7/32", "10.48.7.8/32", "10.9.0.0/16", "10.48.0.0/24", "10.48.0.1/32"}
	sets, names := []string{"s", "u"}, []string{"p", "q"}
	rapid.Check(t, func(t *rapid.T) {
		p := tables.NewPolicy()
		p.Settings.EndpointToHost = tables.HostAccept
		entity := func() tables.Entity {
			var e tables.Entity
			if rapid.Bool().Draw(t, "in") {
				e.Sets = []string{rapid.SampledFrom(sets).Draw(t, "set")}
			}
			if rapid.IntRange(0, 3).Draw(t, "not in") == 0 {
				e.NotSets = []string{rapid.SampledFrom(sets).Draw(t, "not set")}
			}
			return e
		}
		rules := func() []tables.Rule {
			var out []tables.Rule
			for range rapid.IntRange(0, 3).Draw(t, "rules") {
				out = append(out, tables.Rule{
					Action: rapid.SampledFrom([]tables.Action{tables.Allow, tables.Deny, tables.Pass, tables.Log}).Draw(t, "action"),
					Source: entity(), Destination: entity(),
				})
			}
			return out
		}
		tiers := func() []tables.Tier {
			var out []tables.Tier
			for range rapid.IntRange(1, 2).Draw(t, "tiers") {
				out = append(out, tables.Tier{
					Programs: rapid.SliceOfNDistinct(rapid.SampledFrom(names), 1, 2, rapid.ID[string]).Draw(t, "programs"),
					Default:  rapid.SampledFrom([]tables.Action{tables.Deny, tables.Pass}).Draw(t, "default"),
				})
			}
			return out
		}
		change := func() {
			switch rapid.IntRange(0, 7).Draw(t, "change") {
			case 0:
				p.Programs.Set(rapid.SampledFrom(names).Draw(t, "program"), tables.Program{Ingress: rules(), Egress: rules()})
			case 1:
				iface := rapid.SampledFrom([]string{web, db}).Draw(t, "endpoint")
				e, _ := p.Endpoints.Get(iface)
				e.Ingress, e.Egress = tiers(), tiers()
				p.Endpoints.Set(iface, e)
			default:
				m := member(rapid.SampledFrom(sets).Draw(t, "of"), rapid.SampledFrom(prefixes).Draw(t, "member"))
				if !p.Members.Delete(m) {
					p.Members.Set(m, struct{}{})
				}
			}
		}
		for _, name := range names {
			p.Programs.Set(name, tables.Program{Ingress: rules(), Egress: rules()})
		}
		l := locator()
		for addr, iface := range l.Workloads {
			p.Endpoints.Set(iface, tables.Endpoint{Addresses: []netip.Addr{addr}, Ingress: tiers(), Egress: tiers()})
		}
		tracker, e := NewTracker(), verdict.New(p, "cali")
		for range 12 {
			change()
			verdicts := func() map[[2]string]bool {
				out := map[[2]string]bool{}
				for _, a := range peers {
					for _, b := range peers {
						if packet, ok := l.Packet(flow(a+":1000", b+":80")); ok && a != b {
							out[[2]string{a, b}] = e.Evaluate(packet).Allowed
						}
					}
				}
				return out
			}
			tracker.Note(p)
			e.Update()
			tracker.Take()
			p.Clean()
			before := verdicts()
			change()
			tracker.Note(p)
			e.Update()
			scope := tracker.Take()
			p.Clean()
			for pair, allowed := range verdicts() {
				if before[pair] && !allowed && !scope.Covers(flow(pair[0]+":1000", pair[1]+":80")) {
					t.Fatalf("%s to %s came to be denied, and is not concerned", pair[0], pair[1])
				}
			}
		}
		for _, name := range names {
			p.Programs.Delete(name)
		}
		tracker.Note(p)
		if len(tracker.programs)+len(tracker.sets) > 0 {
			t.Fatalf("kept: %v, %v", tracker.programs, tracker.sets)
		}
	})
}
