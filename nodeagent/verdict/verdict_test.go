package verdict

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/manul-net/manul/nodeagent/tables"
)

// The node of the tests: two pods, a host endpoint on eth0 and one on all other interfaces, of which eth1 is one.
const (
	web, db  = "caliweb", "calidb"
	webAddr  = "10.48.0.1"
	dbAddr   = "10.48.0.2"
	nodeAddr = "192.168.0.1"
	far      = "192.168.0.9"
)

type world struct{ *tables.Policy }

func newWorld() *world {
	w := &world{tables.NewPolicy()}
	w.Endpoints.Set(web, tables.Endpoint{Addresses: addrs(webAddr, "fd00::1"), SourcePrefixes: nets("198.51.100.0/24")})
	w.Endpoints.Set(db, tables.Endpoint{Addresses: addrs(dbAddr, "fd00::2")})
	w.Settings.EndpointToHost = tables.HostAccept
	return w
}

func addrs(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range texts {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func nets(texts ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range texts {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func (w *world) program(name string, ingress, egress []tables.Rule) *world {
	w.Programs.Set(name, tables.Program{Ingress: ingress, Egress: egress})
	return w
}

func (w *world) set(id string, typ tables.SetType, members ...tables.Member) *world {
	w.Sets.Set(id, typ)
	for _, m := range members {
		m.Set = id
		w.Members.Set(m, struct{}{})
	}
	return w
}

// policies puts programs into one tier of a pod, in both directions.
func (w *world) policies(iface string, tiers ...tables.Tier) *world {
	e, _ := w.Endpoints.Get(iface)
	e.Ingress, e.Egress = tiers, tiers
	w.Endpoints.Set(iface, e)
	return w
}

func (w *world) host(iface string, h tables.HostEndpoint) *world {
	w.HostEndpoints.Set(iface, h)
	return w
}

func (w *world) settings(change func(*tables.Settings)) *world {
	change(&w.Settings)
	return w
}

func tier(fallback tables.Action, programs ...string) tables.Tier {
	return tables.Tier{Name: "default", Programs: programs, Default: fallback}
}

func both(t ...tables.Tier) tables.Directions { return tables.Directions{Ingress: t, Egress: t} }

func rule(action tables.Action, change ...func(*tables.Rule)) tables.Rule {
	r := tables.Rule{Action: action}
	for _, f := range change {
		f(&r)
	}
	return r
}

func port(first, last uint16) func(*tables.Rule) {
	return func(r *tables.Rule) {
		r.Protocol, r.Destination.Ports = protocolTCP, append(r.Destination.Ports, tables.PortRange{First: first, Last: last})
	}
}

func one(rules ...tables.Rule) []tables.Rule { return rules }

// tcp is a packet of TCP: "caliweb 10.48.0.1:1000 > calidb 10.48.0.2:80". An interface "-" is the node itself.
func tcp(t *testing.T, text string) Packet { t.Helper(); return packet(t, protocolTCP, text) }

func udp(t *testing.T, text string) Packet { t.Helper(); return packet(t, protocolUDP, text) }

func packet(t *testing.T, protocol uint8, text string) Packet {
	t.Helper()
	from, to, ok := strings.Cut(text, " > ")
	if !ok {
		t.Fatalf("no packet: %q", text)
	}
	in, source := end(t, from)
	out, destination := end(t, to)
	return Packet{
		In: in, Out: out, Protocol: protocol, Source: source.Addr(), SourcePort: source.Port(),
		Destination: destination.Addr(), DestinationPort: destination.Port(),
	}
}

func end(t *testing.T, text string) (string, netip.AddrPort) {
	t.Helper()
	iface, address, _ := strings.Cut(text, " ")
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(iface, "-"), at
}

func icmp(protocol uint8, in, source, out, destination string, kind, code uint8) Packet {
	return Packet{
		In: in, Out: out, Protocol: protocol, Source: netip.MustParseAddr(source), Destination: netip.MustParseAddr(destination),
		ICMPType: kind, ICMPCode: code,
	}
}

type testCase struct {
	what  string
	world *world
	p     Packet
	want  bool
	why   string // part of the last decision
}

func check(t *testing.T, cases []testCase) {
	t.Helper()
	for _, tc := range cases {
		t.Run(tc.what, func(t *testing.T) {
			v := New(tc.world.Policy, "cali").Evaluate(tc.p)
			if v.Allowed != tc.want {
				t.Errorf("allowed %t, want %t: %v", v.Allowed, tc.want, v.Decisions)
			}
			if last := v.Last().String(); !strings.Contains(last, tc.why) {
				t.Errorf("decided: %s, want %s", last, tc.why)
			}
			if v.Unknown != strings.Contains(tc.why, "not known") {
				t.Errorf("unknown: %t", v.Unknown)
			}
		})
	}
}

func TestTiersAndPrograms(t *testing.T) {
	webToDB := tcp(t, "caliweb 10.48.0.1:1000 > calidb 10.48.0.2:80")
	allow, deny, pass, log := rule(tables.Allow), rule(tables.Deny), rule(tables.Pass), rule(tables.Log)
	check(t, []testCase{
		{"no policy, no restriction", newWorld(), webToDB, true, "workload (ingress of calidb): default of the endpoint"},
		{
			"the first rule that matches decides",
			newWorld().program("p", one(rule(tables.Deny, port(81, 90)), allow, deny), nil).policies(db, tier(tables.Deny, "p")),
			webToDB, true, "rule 1 of p in tier default",
		},
		{"an ingress rule says nothing of egress", newWorld().program("p", one(allow), nil).policies(web, tier(tables.Deny, "p")), webToDB, false, "denied by workload (egress of caliweb): default action of tier default"},
		{"egress of the source, then ingress of the destination", newWorld().program("p", one(deny), one(allow)).policies(web, tier(tables.Deny, "p")).policies(db, tier(tables.Deny, "p")), webToDB, false, "(ingress of calidb): rule 0 of p"},
		{"the second program when the first does not decide", newWorld().program("p", nil, nil).program("q", one(deny), nil).policies(db, tier(tables.Pass, "p", "q")), webToDB, false, "rule 0 of q"},
		{"log goes on", newWorld().program("p", one(log, deny), nil).policies(db, tier(tables.Pass, "p")), webToDB, false, "rule 1 of p"},
		{"pass leaves the tier", newWorld().program("p", one(pass, deny), nil).program("q", one(deny), nil).policies(db, tier(tables.Deny, "p", "q")), webToDB, true, "default of the endpoint"},
		{"and the next tier decides", newWorld().program("p", one(pass), nil).program("q", one(deny), nil).policies(db, tier(tables.Deny, "p"), tier(tables.Deny, "q")), webToDB, false, "rule 0 of q"},
		{"a tier's default may pass", newWorld().program("p", nil, nil).policies(db, tier(tables.Pass, "p")), webToDB, true, "default of the endpoint"},
		{"a program that is not there denies", newWorld().policies(db, tier(tables.Pass, "p")), webToDB, false, "not known yet p"},
	})
}

func TestRules(t *testing.T) {
	webToDB := tcp(t, "caliweb 10.48.0.1:1000 > calidb 10.48.0.2:80")
	webToDB6 := tcp(t, "caliweb [fd00::1]:1000 > calidb [fd00::2]:80")
	ping := icmp(protocolICMP, web, webAddr, db, dbAddr, 8, 0)
	ping6 := icmp(protocolICMPv6, web, "fd00::1", db, "fd00::2", 128, 0)
	// with is a world in which ingress to the database needs the rule to match.
	with := func(change ...func(*tables.Rule)) *world {
		return newWorld().program("p", one(rule(tables.Allow, change...)), nil).policies(db, tier(tables.Deny, "p"))
	}
	source := func(e tables.Entity) func(*tables.Rule) { return func(r *tables.Rule) { r.Source = e } }
	dest := func(e tables.Entity) func(*tables.Rule) { return func(r *tables.Rule) { r.Destination = e } }
	proto := func(n uint8) func(*tables.Rule) { return func(r *tables.Rule) { r.Protocol = n } }
	kind := func(typ, code int16) func(*tables.Rule) {
		return func(r *tables.Rule) { r.ICMP = &tables.ICMP{Type: typ, Code: code} }
	}
	notKind := func(typ, code int16) func(*tables.Rule) {
		return func(r *tables.Rule) { r.NotICMP = &tables.ICMP{Type: typ, Code: code} }
	}
	one := tables.Member{Prefix: netip.MustParsePrefix("10.48.0.1/32")}
	wide := tables.Member{Prefix: netip.MustParsePrefix("10.48.0.0/24")}
	named := tables.Member{Prefix: netip.MustParsePrefix("10.48.0.2/32"), Protocol: protocolTCP, Port: 80}
	check(t, []testCase{
		{"everything", with(), webToDB, true, ""},
		{"protocol", with(proto(protocolTCP)), webToDB, true, ""},
		{"another protocol", with(proto(protocolUDP)), webToDB, false, ""},
		{"not a protocol", with(func(r *tables.Rule) { r.NotProtocol = protocolTCP }), webToDB, false, ""},
		{"not another protocol", with(func(r *tables.Rule) { r.NotProtocol = protocolUDP }), webToDB, true, ""},
		{"IP version", with(func(r *tables.Rule) { r.IPVersion = 4 }), webToDB, true, ""},
		{"the other IP version", with(func(r *tables.Rule) { r.IPVersion = 4 }), webToDB6, false, ""},
		{"nets", with(source(tables.Entity{Nets: nets("10.0.0.0/8")})), webToDB, true, ""},
		{"other nets", with(source(tables.Entity{Nets: nets("10.49.0.0/16")})), webToDB, false, ""},
		{"nets of one family match nothing of the other", with(source(tables.Entity{Nets: nets("0.0.0.0/0")})), webToDB6, false, ""},
		{"not nets", with(source(tables.Entity{NotNets: nets("10.48.0.1/32")})), webToDB, false, ""},
		{"not nets of one family exclude nothing of the other", with(source(tables.Entity{NotNets: nets("0.0.0.0/1")})), webToDB6, true, ""},
		{"a set", with(source(tables.Entity{Sets: []string{"s"}})).set("s", tables.Addresses, one), webToDB, true, ""},
		{"a set without the address", with(source(tables.Entity{Sets: []string{"s"}})).set("s", tables.Addresses), webToDB, false, ""},
		{"a set of CIDRs", with(source(tables.Entity{Sets: []string{"s"}})).set("s", tables.Nets, wide), webToDB, true, ""},
		{"a set of CIDRs, by one of its single addresses", with(source(tables.Entity{Sets: []string{"s"}})).set("s", tables.Nets, one), webToDB, true, ""},
		{"all of several sets", with(source(tables.Entity{Sets: []string{"s", "u"}})).set("s", tables.Nets, wide).set("u", tables.Addresses), webToDB, false, ""},
		{"not in a set", with(source(tables.Entity{NotSets: []string{"s"}})).set("s", tables.Nets, wide), webToDB, false, ""},
		{"not in a set, and it is not", with(dest(tables.Entity{NotSets: []string{"s"}})).set("s", tables.Addresses, one), webToDB, true, ""},
		{"a port", with(dest(tables.Entity{Ports: []tables.PortRange{{First: 80, Last: 80}}})), webToDB, true, ""},
		{"a range of ports", with(dest(tables.Entity{Ports: []tables.PortRange{{First: 81, Last: 90}, {First: 70, Last: 79}}})), webToDB, false, ""},
		{"a source port", with(source(tables.Entity{Ports: []tables.PortRange{{First: 1000, Last: 1000}}})), webToDB, true, ""},
		{"a named port", with(dest(tables.Entity{PortSets: []string{"port:http"}})).set("port:http", tables.NamedPorts, named), webToDB, true, ""},
		{"a named port of another protocol", with(dest(tables.Entity{PortSets: []string{"port:http"}})).set("port:http", tables.NamedPorts, named), udp(t, "caliweb 10.48.0.1:1000 > calidb 10.48.0.2:80"), false, ""},
		{"a number or a named port", with(dest(tables.Entity{Ports: []tables.PortRange{{First: 1, Last: 2}}, PortSets: []string{"port:http"}})).set("port:http", tables.NamedPorts, named), webToDB, true, ""},
		{"not a port", with(dest(tables.Entity{NotPorts: []tables.PortRange{{First: 80, Last: 80}}})), webToDB, false, ""},
		{"not a named port", with(dest(tables.Entity{NotPortSets: []string{"port:http"}})).set("port:http", tables.NamedPorts, named), webToDB, false, ""},
		{"not another port", with(dest(tables.Entity{NotPorts: []tables.PortRange{{First: 81, Last: 81}}})), webToDB, true, ""},
		{"what has no ports is not outside a port", with(dest(tables.Entity{NotPorts: []tables.PortRange{{First: 81, Last: 81}}})), ping, false, ""},
		{"ICMP of a type", with(kind(8, -1)), ping, true, ""},
		{"ICMP of a type and code", with(kind(8, 1)), ping, false, ""},
		{"a type is one of the packet's own ICMP", with(kind(8, -1), proto(protocolICMP)), ping6, false, ""},
		{"a type of ICMPv6", with(kind(128, 0), proto(protocolICMPv6)), ping6, true, ""},
		{"not a type", with(notKind(8, -1)), ping, false, ""},
		{"not another type", with(notKind(0, -1)), ping, true, ""},
		{"a type says that it is ICMP", with(notKind(0, -1)), webToDB, false, ""},
	})
}

func TestWorkloads(t *testing.T) {
	encapsulated := Packet{In: web, Out: "eth1", Protocol: protocolIPIP, Source: netip.MustParseAddr(webAddr), Destination: netip.MustParseAddr(far)}
	vxlan := udp(t, "caliweb 10.48.0.1:1000 > eth1 192.168.0.9:4789")
	ownVXLAN := udp(t, "caliweb 10.48.0.1:1000 > eth1 192.168.0.9:53")
	ownVXLAN.Original = netip.MustParseAddrPort("10.96.0.10:4789")
	toNode := tcp(t, "caliweb 10.48.0.1:1000 > - 192.168.0.1:22")
	action := func(a tables.HostAction) *world {
		return newWorld().settings(func(s *tables.Settings) { s.EndpointToHost = a })
	}
	unknown := newWorld()
	unknown.Endpoints.Set(db, tables.Endpoint{Addresses: addrs(dbAddr), Unknown: true})
	check(t, []testCase{
		{"from its own address", newWorld(), tcp(t, "caliweb 10.48.0.1:1000 > eth1 192.168.0.9:80"), true, ""},
		{"from a prefix that it may use", newWorld(), tcp(t, "caliweb 198.51.100.7:1000 > eth1 192.168.0.9:80"), true, ""},
		{"from another address", newWorld(), tcp(t, "caliweb 10.48.0.2:1000 > eth1 192.168.0.9:80"), false, "not the workload's"},
		{"an interface of which nothing is known", newWorld(), tcp(t, "calix 10.48.0.7:1000 > eth1 192.168.0.9:80"), false, "not known yet"},
		{"towards an interface of which nothing is known", newWorld(), tcp(t, "eth1 192.168.0.9:1000 > calix 10.48.0.7:80"), false, "not known yet"},
		{"towards one whose policy is not known", unknown, tcp(t, "caliweb 10.48.0.1:1000 > calidb 10.48.0.2:80"), false, "not known yet"},
		{"from one whose policy is not known", unknown, tcp(t, "calidb 10.48.0.2:1000 > eth1 192.168.0.9:80"), false, "not known yet"},
		{"IPIP", newWorld(), encapsulated, false, "encapsulated"},
		{"IPIP that is allowed", newWorld().settings(func(s *tables.Settings) { s.AllowIPIP = true }), encapsulated, true, ""},
		{"VXLAN", newWorld(), vxlan, false, "encapsulated"},
		{"VXLAN that is allowed", newWorld().settings(func(s *tables.Settings) { s.AllowVXLAN = true }), vxlan, true, ""},
		{"VXLAN on another port", newWorld().settings(func(s *tables.Settings) { s.VXLANPort = 8472 }), vxlan, true, ""},
		{"VXLAN is looked for before addresses are translated", newWorld(), ownVXLAN, false, "encapsulated"},
		{"the node reaches its own pods", newWorld().program("p", nil, nil).policies(db, tier(tables.Deny, "p")), tcp(t, "- 192.168.0.1:1000 > calidb 10.48.0.2:80"), true, "from the node"},
		{"to the node: Accept", action(tables.HostAccept), toNode, true, "endpoint to host"},
		{"to the node: Drop", action(tables.HostDrop), toNode, false, "endpoint to host"},
		{"to the node: Return, and no host endpoint for all interfaces", action(tables.HostReturn).host("eth0", tables.HostEndpoint{}), toNode, true, ""},
		{"to the node: Return, and one that denies", action(tables.HostReturn).host("*", tables.HostEndpoint{LocalDefault: tables.Deny}), toNode, false, "local (ingress of *)"},
		{"to the node: egress policy comes first", action(tables.HostAccept).program("p", nil, nil).policies(web, tier(tables.Deny, "p")), toNode, false, "workload (egress of caliweb)"},
		{"neighbour discovery reaches the node", action(tables.HostDrop), icmp(protocolICMPv6, web, "fe80::1", "", "fe80::2", neighborSolicitation, 0), true, "neighbour discovery"},
		{"router advertisements of pods do not", action(tables.HostAccept), icmp(protocolICMPv6, web, "fe80::1", "", "fe80::2", 134, 0), false, "not the workload's"},
	})
}

func TestHostEndpoints(t *testing.T) {
	in := tcp(t, "eth0 192.168.0.9:1000 > - 192.168.0.1:80")
	out := tcp(t, "- 192.168.0.1:1000 > eth0 192.168.0.9:80")
	through := tcp(t, "eth0 192.168.0.9:1000 > eth1 192.168.1.9:80")
	toPod := tcp(t, "eth0 192.168.0.9:1000 > calidb 10.48.0.2:80")
	fromPod := tcp(t, "calidb 10.48.0.2:1000 > eth0 192.168.0.9:80")
	nodePort := toPod
	nodePort.Original = netip.MustParseAddrPort("192.168.0.1:30080")

	ownNodePort := tcp(t, "- 192.168.0.1:1000 > calidb 10.48.0.2:80")
	ownNodePort.Original, ownNodePort.OriginalOut = netip.MustParseAddrPort("192.168.0.2:30080"), "eth0"
	loopedNodePort := ownNodePort
	loopedNodePort.Original, loopedNodePort.OriginalOut = netip.MustParseAddrPort("192.168.0.1:30080"), "lo"

	allow, deny := tables.HostEndpoint{LocalDefault: tables.Allow}, tables.HostEndpoint{LocalDefault: tables.Deny}
	policies := func(w *world) *world {
		return w.program("yes", one(rule(tables.Allow)), one(rule(tables.Allow))).
			program("no", one(rule(tables.Deny)), one(rule(tables.Deny))).
			program("undecided", nil, nil).
			program("no30080", one(rule(tables.Deny, port(30080, 30080))), nil).
			program("no30080out", nil, one(rule(tables.Deny, port(30080, 30080))))
	}
	with := func(h tables.HostEndpoint) *world { return policies(newWorld()).host("eth0", h) }
	local := func(t tables.Tier) tables.HostEndpoint {
		return tables.HostEndpoint{Local: both(t), LocalDefault: tables.Deny}
	}
	failsafe := func(w *world) *world {
		return w.settings(func(s *tables.Settings) {
			s.FailsafeInbound = []tables.FailsafePort{{Protocol: protocolTCP, Port: 22}, {Protocol: protocolTCP, Port: 80, Net: netip.MustParsePrefix("192.168.0.0/24")}}
			s.FailsafeOutbound = []tables.FailsafePort{{Protocol: protocolTCP, Port: 6443}}
		})
	}
	check(t, []testCase{
		{"without one", policies(newWorld()), in, true, ""},
		{"one without policies: its default, in", with(deny), in, false, "local (ingress of eth0): default of the endpoint"},
		{"and out", with(deny), out, false, "local (egress of eth0)"},
		{"whose default allows", with(allow), in, true, ""},
		{"a policy that allows", with(local(tier(tables.Deny, "yes"))), in, true, ""},
		{"a policy that denies", with(local(tier(tables.Deny, "no"))), out, false, "rule 0 of no"},
		{"the end of a tier", with(tables.HostEndpoint{Local: both(tier(tables.Deny, "undecided")), LocalDefault: tables.Allow}), in, false, "default action of tier"},
		{"one for all interfaces", policies(newWorld()).host("*", deny), in, false, "(ingress of *)"},
		{"an interface of its own goes before all interfaces", with(allow).host("*", deny), in, true, ""},
		{"the loopback interface is never policed", policies(newWorld()).host("*", deny), tcp(t, "lo 192.168.0.1:1000 > - 192.168.0.1:80"), true, ""},
		{"nor on the way out", policies(newWorld()).host("*", deny), tcp(t, "- 192.168.0.1:1000 > lo 192.168.0.1:80"), true, ""},
		{"its own pods are not asked about", policies(newWorld()).host("*", deny), tcp(t, "- 192.168.0.1:1000 > calidb 10.48.0.2:80"), true, ""},
		{"neighbour discovery passes", with(deny), icmp(protocolICMPv6, "eth0", "fe80::1", "", "ff02::1", 134, 0), true, ""},
		{"one that is not known yet", with(tables.HostEndpoint{Unknown: true, LocalDefault: tables.Deny}), in, false, "not known yet"},
		{"but for what it passes on", with(tables.HostEndpoint{Unknown: true, LocalDefault: tables.Deny}), through, true, ""},

		{"failsafe port of the node", failsafe(with(local(tier(tables.Deny, "no")))), tcp(t, "eth0 192.168.0.9:1000 > - 192.168.0.1:22"), true, "failsafe"},
		{"failsafe port for some", failsafe(with(local(tier(tables.Deny, "no")))), in, true, "failsafe"},
		{"and not for others", failsafe(with(local(tier(tables.Deny, "no")))), tcp(t, "eth0 192.168.9.9:1000 > - 192.168.0.1:80"), false, "rule 0 of no"},
		{"failsafe port elsewhere", failsafe(with(deny)), tcp(t, "- 192.168.0.1:1000 > eth0 192.168.0.9:6443"), true, "failsafe"},
		{"a failsafe port elsewhere is none of the node's", failsafe(with(deny)), tcp(t, "eth0 192.168.0.9:1000 > - 192.168.0.1:6443"), false, "default"},
		{"failsafe ports of one that is not known yet", failsafe(with(tables.HostEndpoint{Unknown: true})), tcp(t, "eth0 192.168.0.9:1000 > - 192.168.0.1:22"), true, "failsafe"},

		{"traffic passed on is not local", with(local(tier(tables.Deny, "no"))), through, true, ""},
		{"forward: in", with(tables.HostEndpoint{Forward: both(tier(tables.Deny, "no"))}), through, false, "forward (ingress of eth0)"},
		{"forward: out", with(tables.HostEndpoint{Forward: both(tier(tables.Deny, "no"))}), fromPod, false, "forward (egress of eth0)"},
		{"forward: what no tier decides passes", with(tables.HostEndpoint{Forward: both(tier(tables.Pass, "undecided"))}), through, true, "default of the endpoint"},
		{"forward: then the workload's policies", with(tables.HostEndpoint{Forward: both(tier(tables.Deny, "yes"))}).policies(db, tier(tables.Deny, "no")), toPod, false, "workload (ingress of calidb)"},
		{"forward: egress of the workload first", with(tables.HostEndpoint{Forward: both(tier(tables.Deny, "no"))}).policies(db, tier(tables.Deny, "no")), fromPod, false, "workload (egress of calidb)"},

		{"preDNAT sees the destination as it came", with(tables.HostEndpoint{PreDNAT: []tables.Tier{tier(tables.Pass, "no30080")}, LocalDefault: tables.Deny}), nodePort, false, "preDNAT (ingress of eth0): rule 0 of no30080"},
		{"preDNAT: nothing decided goes on", with(tables.HostEndpoint{PreDNAT: []tables.Tier{tier(tables.Pass, "undecided")}, LocalDefault: tables.Deny}), in, false, "local"},
		{"preDNAT: what it allows is not local any more", with(tables.HostEndpoint{PreDNAT: []tables.Tier{tier(tables.Pass, "yes")}, LocalDefault: tables.Deny}), in, true, "preDNAT"},
		{"preDNAT: what it allows is still forwarded by policy", with(tables.HostEndpoint{PreDNAT: []tables.Tier{tier(tables.Pass, "yes")}, Forward: both(tier(tables.Deny, "no"))}), through, false, "forward"},
		{"preDNAT: failsafe ports are not asked about", failsafe(with(tables.HostEndpoint{PreDNAT: []tables.Tier{tier(tables.Pass, "no")}, LocalDefault: tables.Deny})), in, true, "failsafe"},
		{"preDNAT: is no egress", with(tables.HostEndpoint{PreDNAT: []tables.Tier{tier(tables.Pass, "no")}, LocalDefault: tables.Allow}), out, true, "default"},

		{"untracked: deny", with(tables.HostEndpoint{Untracked: both(tier(tables.Pass, "no")), LocalDefault: tables.Allow}), in, false, "untracked (ingress of eth0)"},
		{"untracked: deny on the way out", with(tables.HostEndpoint{Untracked: both(tier(tables.Pass, "no")), LocalDefault: tables.Allow}), out, false, "untracked (egress of eth0)"},
		{"untracked: what it allows is not looked at as local", with(tables.HostEndpoint{Untracked: both(tier(tables.Pass, "yes")), PreDNAT: []tables.Tier{tier(tables.Pass, "no")}, LocalDefault: tables.Deny}), in, true, "untracked"},
		{"untracked: what it allows is still forwarded by policy", with(tables.HostEndpoint{Untracked: both(tier(tables.Pass, "yes")), Forward: both(tier(tables.Deny, "no"))}), through, false, "forward"},
		{"untracked: egress is not asked about what is passed on", with(tables.HostEndpoint{Untracked: tables.Directions{Egress: []tables.Tier{tier(tables.Pass, "no")}}}), fromPod, true, ""},
		{"untracked: of what the node sends to a service it sees the first destination and the first interface", with(tables.HostEndpoint{Untracked: both(tier(tables.Pass, "no30080out"))}), ownNodePort, false, "untracked (egress of eth0)"},
		{"untracked: that goes over the loopback interface if the first destination is the node itself", with(tables.HostEndpoint{Untracked: both(tier(tables.Pass, "no30080out"))}).host("*", deny), loopedNodePort, true, "from the node"},
		{"untracked: nothing decided goes on", with(tables.HostEndpoint{Untracked: both(tier(tables.Pass, "undecided")), LocalDefault: tables.Deny}), in, false, "local"},
		{"untracked: answers from failsafe ports", failsafe(with(tables.HostEndpoint{Untracked: both(tier(tables.Pass, "no")), LocalDefault: tables.Allow})), tcp(t, "- 192.168.0.1:22 > eth0 192.168.0.9:1000"), true, "default"},
		{"untracked: answers from failsafe ports elsewhere", failsafe(with(tables.HostEndpoint{Untracked: both(tier(tables.Pass, "no")), LocalDefault: tables.Allow})), tcp(t, "eth0 192.168.0.9:6443 > - 192.168.0.1:1000"), true, "default"},
	})
}
