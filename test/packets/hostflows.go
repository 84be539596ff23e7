package packets

import (
	"net/netip"
	"testing"

	"github.com/manul-net/manul/nodeagent/tables"
)

// hostConnections: known connections pass, though policy denies new ones by now; but not before connections are tracked.
func hostConnections(t *testing.T, subject Subject) {
	all := func(h tables.HostEndpoint) tables.HostEndpoint { h.LocalDefault = tables.Allow; return h }
	for name, tc := range map[string]struct {
		from, to string
		port     uint16
		after    tables.HostEndpoint
		server   string // where the other end is, if it is not at to
		ends     bool
	}{
		"local, in":              {from: Outside, to: HostSide, port: 80, after: all(tables.HostEndpoint{Local: inAndOut(deny())})},
		"local, out":             {from: HostSide, to: Outside, port: 80, after: all(tables.HostEndpoint{Local: inAndOut(deny())})},
		"forwarded, in":          {from: Outside, to: ServerPod, port: 80, after: all(tables.HostEndpoint{Forward: inAndOut(deny())})},
		"forwarded, out":         {from: ServerPod, to: Outside, port: 80, after: all(tables.HostEndpoint{Forward: inAndOut(deny())})},
		"before translation":     {from: Outside, to: HostSide, port: 30080, server: ServerPod, after: all(tables.HostEndpoint{PreDNAT: pass("deny-all")})},
		"before translation, in": {from: Outside, to: HostSide, port: 80, after: all(tables.HostEndpoint{PreDNAT: pass("deny-all")})},
		"untracked, in":          {from: Outside, to: HostSide, port: 80, after: all(tables.HostEndpoint{Untracked: in(pass("deny-all"))}), ends: true},
		"untracked, out":         {from: HostSide, to: Outside, port: 80, after: all(tables.HostEndpoint{Untracked: out(pass("deny-all"))}), ends: true},
		"untracked, forwarded":   {from: Outside, to: ServerPod, port: 80, after: all(tables.HostEndpoint{Untracked: in(pass("deny-all"))}), ends: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := NewNode(t, subject)
			p := hostTables(map[string]tables.HostEndpoint{"eth0": open()})
			n.Apply(p)
			for fam := range Families {
				to, listen, end := At(tc.to, fam, tc.port), tc.to, At(tc.to, fam, tc.port)
				if tc.server != "" {
					listen, end = tc.server, At(tc.server, fam, 80)
					n.service("tcp", to, end, false)
				}
				echo := n.Peer(listen).Echo(end)
				connection := n.Peer(tc.from).Connect(to)
				connection.Exchange("one")
				p.HostEndpoints.Set("eth0", tc.after)
				n.Apply(p)
				if tc.ends {
					connection.Stalls("two")
				} else {
					connection.Exchange("two")
				}
				if n.Peer(tc.from).CanConnect(to) {
					t.Error("a new connection can be opened")
				}
				p.HostEndpoints.Set("eth0", open())
				n.Apply(p)
				connection.Close()
				echo.Close()
			}
		})
	}
}

// hostUntrackedFlows: what is allowed before connections are tracked is not tracked, and so needs rules in both directions.
func hostUntrackedFlows(t *testing.T, subject Subject) {
	for name, tc := range map[string]struct {
		from, to  string
		untracked tables.Directions
		connects  bool
	}{
		"rules in both directions, in":  {Outside, HostSide, tables.Directions{Ingress: pass("allow-80"), Egress: pass("allow-answers-80")}, true},
		"rules in both directions, out": {HostSide, Outside, tables.Directions{Ingress: pass("allow-answers-80"), Egress: pass("allow-80")}, true},
		"a rule for one direction, in":  {Outside, HostSide, in(pass("allow-80")), false},
		"a rule for one direction, out": {HostSide, Outside, out(pass("allow-80")), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := NewNode(t, subject)
			n.Apply(hostTables(map[string]tables.HostEndpoint{"eth0": {Untracked: tc.untracked, Local: inAndOut(deny())}}))
			for fam := range Families {
				to := At(tc.to, fam, 80)
				echo := n.Peer(tc.to).Echo(to)
				if !tc.connects {
					if n.Peer(tc.from).CanConnect(to) {
						t.Error("a connection can be opened")
					}
					echo.Close()
					continue
				}
				connection := n.Peer(tc.from).Connect(to)
				connection.Exchange("over and back")
				if n.tracked(to) {
					t.Error("the connection is tracked")
				}
				connection.Close()
				echo.Close()
			}
		})
	}
}

// hostFailsafeConnections: answers of failsafe ports come through, too.
func hostFailsafeConnections(t *testing.T, subject Subject) {
	n := NewNode(t, subject)
	none := pass("deny-all")
	n.Apply(hostTables(map[string]tables.HostEndpoint{tables.AllInterfaces: {Untracked: inAndOut(none), PreDNAT: none, Local: inAndOut(deny()), Forward: inAndOut(deny())}}))
	for fam := range Families {
		for _, c := range []struct {
			from, to string
			port     uint16
		}{{Outside, HostSide, 22}, {Outside, HostSide, 179}, {HostSide, Outside, 6443}, {OtherSide, Beside, 2379}} {
			to := At(c.to, fam, c.port)
			echo := n.Peer(c.to).Echo(to)
			connection := n.Peer(c.from).Connect(to)
			connection.Exchange("safe")
			connection.Close()
			echo.Close()
		}
	}
}

// hostServices: what the node sends to a service is judged by the endpoint that was chosen, at the interface by which it
// really leaves. The way to services is over eth0.
func hostServices(t *testing.T, subject Subject) {
	for name, tc := range map[string]struct {
		hosts   map[string]tables.HostEndpoint
		to      string // the service's endpoint, port 80; the service's own port is 81
		arrives bool
	}{
		"the endpoint's interface denies":              {map[string]tables.HostEndpoint{"eth1": {Local: out(deny()), LocalDefault: tables.Allow}}, Beside, false},
		"the endpoint's port is denied there":          {map[string]tables.HostEndpoint{"eth1": {Local: out(pass("deny-80")), LocalDefault: tables.Allow}}, Beside, false},
		"the endpoint's port is allowed there":         {map[string]tables.HostEndpoint{"eth1": {Local: out(deny("allow-80"))}, "eth0": {Local: out(deny())}}, Beside, true},
		"the service's own port does not matter":       {map[string]tables.HostEndpoint{"eth1": {Local: out(pass("deny-81")), LocalDefault: tables.Allow}}, Beside, true},
		"the way to the service does not matter":       {map[string]tables.HostEndpoint{"eth0": shut()}, Beside, true},
		"all interfaces":                               {map[string]tables.HostEndpoint{tables.AllInterfaces: {Local: out(deny("allow-81"))}}, Beside, false},
		"all interfaces but the one that it leaves by": {map[string]tables.HostEndpoint{tables.AllInterfaces: shut(), "eth1": open()}, Beside, true},
		"an endpoint on the same way":                  {map[string]tables.HostEndpoint{"eth0": {Local: out(deny("allow-80"))}}, Outside, true},
		"an endpoint on the same way, denied":          {map[string]tables.HostEndpoint{"eth0": {Local: out(deny("allow-81"))}}, Outside, false},
		"a pod of the node":                            {map[string]tables.HostEndpoint{tables.AllInterfaces: {Local: inAndOut(deny()), Forward: inAndOut(deny())}}, ServerPod, true},
		"the node itself":                              {map[string]tables.HostEndpoint{tables.AllInterfaces: shut()}, OtherSide, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := NewNode(t, subject)
			n.routeServices()
			n.marking()
			for fam := range Families {
				n.service("tcp", netip.AddrPortFrom(serviceAddress(fam), 81), At(tc.to, fam, 80), false)
			}
			n.Apply(hostTables(tc.hosts))
			n.Verify(Both(func(f Family) []Probe { return []Probe{Service(f, HostSide, 81, tc.to, tc.arrives)} })...)
		})
	}
}

// hostForwardedServices: what is translated and forwarded is none of the node's own.
func hostForwardedServices(t *testing.T, subject Subject) {
	n := NewNode(t, subject)
	n.marking()
	for fam := range Families {
		n.service("tcp", At(HostSide, fam, 30080), At(Beside, fam, 80), true)
		n.service("tcp", At(HostSide, fam, 30081), At(ServerPod, fam, 80), true)
	}
	p := hostTables(map[string]tables.HostEndpoint{"eth1": shut(), "eth0": open()})
	n.Apply(p)
	expect := func(passes bool) {
		t.Helper()
		n.Verify(Both(func(f Family) []Probe {
			return []Probe{
				NodePort(f, Outside, HostSide, 30080, Beside, passes), NodePort(f, Outside, HostSide, 30081, ServerPod, true), NodePort(f, ServerPod, HostSide, 30080, Beside, passes),
				NodePort(f, HostSide, HostSide, 30080, Beside, false), NodePort(f, HostSide, HostSide, 30081, ServerPod, true),
			}
		})...)
	}
	expect(true)
	p.HostEndpoints.Set("eth1", tables.HostEndpoint{Forward: out(deny("allow-81"))})
	n.Apply(p)
	expect(false)
	p.HostEndpoints.Set("eth1", tables.HostEndpoint{Forward: out(deny("allow-80"))})
	n.Apply(p)
	expect(true)
}

// hostRestart: a restart changes no rule of host endpoints that is right, and removes those that are left over.
func hostRestart(t *testing.T, subject Subject) {
	n := NewNode(t, subject)
	things := func() *tables.Policy {
		p := ManyThings()
		ManyHosts(p)
		return p
	}
	n.Apply(things())
	to := At(HostSide, IPv4, 80)
	echo := n.Peer(HostSide).Echo(to)
	connection := n.Peer(Outside).Connect(to)
	connection.Exchange("before")
	n.untouched("the restart", func() {
		n.Reopen()
		n.Apply(things())
	})
	connection.Exchange("after")
	connection.Close()
	echo.Close()

	n.Reopen()
	p := things()
	p.HostEndpoints.Delete("eth1")
	p.HostEndpoints.Set(tables.AllInterfaces, tables.HostEndpoint{Local: in(deny("np.ns.policy-4")), LocalDefault: tables.Allow})
	n.Apply(p)
	n.SameAsFresh(p)
	n.Reopen()
	p = ManyThings()
	n.Apply(p)
	n.SameAsFresh(p)
}

// ManyHosts adds host endpoints to ManyThings, with something of everything.
func ManyHosts(p *tables.Policy) {
	p.Programs.Set("gnp.open", tables.Program{Ingress: []tables.Rule{Rule(tables.Allow, protoTCP, 80, 22)}, Egress: []tables.Rule{{Action: tables.Allow}}})
	p.HostEndpoints.Set("eth0", tables.HostEndpoint{
		Local: inAndOut(deny("gnp.open", "np.ns.policy-1")), Forward: inAndOut(deny("np.ns.policy-2", "gnp.open")),
		PreDNAT: pass("np.ns.policy-3"), Untracked: in(pass("np.ns.policy-4")),
	})
	p.HostEndpoints.Set("eth1", tables.HostEndpoint{LocalDefault: tables.Allow, Untracked: out(pass("np.ns.policy-4"))})
	p.HostEndpoints.Set("eth2", tables.HostEndpoint{Unknown: true})
	p.HostEndpoints.Set(tables.AllInterfaces, tables.HostEndpoint{Local: inAndOut(deny("gnp.open")), PreDNAT: pass("np.ns.policy-5"), Forward: out(pass("np.ns.policy-6"))})
	p.Settings.FailsafeInbound = []tables.FailsafePort{{Protocol: protoTCP, Port: 22}, {Protocol: protoTCP, Port: 179, Net: Prefixes("192.0.2.0/24")[0]}}
	p.Settings.FailsafeOutbound = []tables.FailsafePort{{Protocol: protoUDP, Port: 53}}
	p.SettingsDirty = true
}

// hostAtomicity: while host endpoints are rewritten over and over, what all their forms deny gets not one packet through,
// and what all allow loses none. A packet passes several hooks, and may find one as it was and the next as it is; so in each
// test the forms differ in what they say at one hook.
func hostAtomicity(t *testing.T, subject Subject) {
	for name, at := range map[string]struct {
		to   string
		host func(tiers []tables.Tier) tables.HostEndpoint
	}{
		"local": {HostSide, func(tiers []tables.Tier) tables.HostEndpoint {
			return tables.HostEndpoint{Local: in(tiers), LocalDefault: tables.Allow}
		}},
		"forward": {ServerPod, func(tiers []tables.Tier) tables.HostEndpoint {
			return tables.HostEndpoint{Forward: in(tiers), LocalDefault: tables.Allow}
		}},
		"before translation": {ServerPod, func(tiers []tables.Tier) tables.HostEndpoint {
			return tables.HostEndpoint{PreDNAT: tiers, LocalDefault: tables.Allow}
		}},
		"untracked": {ServerPod, func(tiers []tables.Tier) tables.HostEndpoint {
			return tables.HostEndpoint{Untracked: in(tiers), LocalDefault: tables.Allow}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			n := NewNode(t, subject)
			p := hostTables(nil)
			p.Programs.Set("allow-53", tables.Program{Ingress: []tables.Rule{Rule(tables.Allow, protoUDP, 53)}})
			p.Programs.Set("deny-54", tables.Program{Ingress: []tables.Rule{Rule(tables.Deny, protoUDP, 54)}})
			p.Programs.Set("pass-53", tables.Program{Ingress: []tables.Rule{Rule(tables.Pass, protoUDP, 53), {Action: tables.Deny}}})
			lists := [][]tables.Tier{pass("deny-54"), deny("allow-53"), append(deny("pass-53"), deny("allow-53")...), pass("allow-53", "deny-all"), append(pass("pass-53"), pass("deny-54")...)}
			none := at.host(deny())
			set := func(i int) {
				form := at.host(lists[i%len(lists)])
				p.HostEndpoints.Delete("eth0")
				p.HostEndpoints.Delete("eth1")
				p.HostEndpoints.Delete(tables.AllInterfaces)
				switch i % 4 {
				case 0:
					p.HostEndpoints.Set("eth0", form)
				case 1:
					p.HostEndpoints.Set(tables.AllInterfaces, form)
				case 2:
					p.HostEndpoints.Set("eth0", form)
					p.HostEndpoints.Set(tables.AllInterfaces, none)
				case 3:
					p.HostEndpoints.Set("eth1", none)
					p.HostEndpoints.Set(tables.AllInterfaces, form)
				}
			}
			set(0)
			n.Apply(p)
			rewrites := 1
			n.Flooded(Outside, at.to, func() {
				set(rewrites)
				if rewrites%50 == 49 {
					n.Driver.Resync()
				}
				n.Apply(p)
				rewrites++
			})
		})
	}
}

// hostErrors: what can't be a host endpoint is reported, and all else is in force.
func hostErrors(t *testing.T, subject Subject) {
	n := NewNode(t, subject)
	p := hostTables(map[string]tables.HostEndpoint{"eth0": shut(), InterfaceOf(ClientPod): open(), "an-interface-with-a-long-name": open(), "": open()})
	n.WantItems(n.TryApply(p), "HostEndpoint ", "HostEndpoint an-interface-with-a-long-name", "HostEndpoint "+InterfaceOf(ClientPod))
	n.Verify(TCP(IPv4, Outside, HostSide, 80, false), TCP(IPv4, Outside, HostSide, 22, true), TCP(IPv4, ClientPod, ServerPod, 80, true))
}
