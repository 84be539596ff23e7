package packets

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/tables"
)

// hostCase is a sentence about host endpoints: the endpoints by interface, and packets with their verdicts.
type hostCase struct {
	hosts  map[string]tables.HostEndpoint
	probes func(f Family) []Probe
	// toHost is the setting for what workloads send to their node.
	toHost tables.HostAction
	// server, if any, is the policy of the server pod.
	server tables.Directions
	// set up what is foreign to the driver.
	prepare func(*Node)
}

func (tc hostCase) tables() *tables.Policy {
	p := hostTables(tc.hosts)
	p.Settings.EndpointToHost = tc.toHost
	e := Unrestricted(ServerPod)
	e.Ingress, e.Egress = tc.server.Ingress, tc.server.Egress
	p.Endpoints.Set(InterfaceOf(ServerPod), e)
	return p
}

// hostTables are tables with host endpoints, policies for them and failsafe ports. The policies say in both directions
// what their name says, of TCP where it names a port.
func hostTables(hosts map[string]tables.HostEndpoint) *tables.Policy {
	p := NewTables()
	answers := tables.Rule{Action: tables.Allow, Protocol: protoTCP, Source: tables.Entity{Ports: Ports(80)}}
	for name, r := range map[string]tables.Rule{
		"allow-80": Rule(tables.Allow, protoTCP, 80), "deny-80": Rule(tables.Deny, protoTCP, 80), "pass-80": Rule(tables.Pass, protoTCP, 80),
		"allow-81": Rule(tables.Allow, protoTCP, 81), "deny-81": Rule(tables.Deny, protoTCP, 81), "deny-30080": Rule(tables.Deny, protoTCP, 30080), "allow-30080": Rule(tables.Allow, protoTCP, 30080),
		"allow-all": {Action: tables.Allow}, "deny-all": {Action: tables.Deny}, "pass-all": {Action: tables.Pass}, "allow-answers-80": answers,
	} {
		p.Programs.Set(name, tables.Program{Ingress: []tables.Rule{r}, Egress: []tables.Rule{r}})
	}
	for name, h := range hosts {
		p.HostEndpoints.Set(name, h)
	}
	p.Settings.FailsafeInbound = []tables.FailsafePort{
		{Protocol: protoTCP, Port: 22},
		{Protocol: protoUDP, Port: 68},
		{Protocol: protoTCP, Port: 179, Net: Prefixes("192.0.2.0/24")[0]},
		{Protocol: protoTCP, Port: 179, Net: Prefixes("2001:db8::/64")[0]},
	}
	p.Settings.FailsafeOutbound = []tables.FailsafePort{
		{Protocol: protoTCP, Port: 6443},
		{Protocol: protoUDP, Port: 53},
		{Protocol: protoTCP, Port: 2379, Net: Prefixes("203.0.113.0/24")[0]},
		{Protocol: protoTCP, Port: 2379, Net: Prefixes("2001:db8:1::/64")[0]},
	}
	return p
}

// deny and pass are lists of one tier with that end; none of a tier's policies may be named.
func deny(programs ...string) []tables.Tier { return []tables.Tier{Tier(tables.Deny, programs...)} }
func pass(programs ...string) []tables.Tier { return []tables.Tier{Tier(tables.Pass, programs...)} }

func in(tiers []tables.Tier) tables.Directions  { return tables.Directions{Ingress: tiers} }
func out(tiers []tables.Tier) tables.Directions { return tables.Directions{Egress: tiers} }
func inAndOut(tiers []tables.Tier) tables.Directions {
	return tables.Directions{Ingress: tiers, Egress: tiers}
}

// Host endpoints that leave the node's own traffic alone, and that deny it.
func open() tables.HostEndpoint { return tables.HostEndpoint{LocalDefault: tables.Allow} }
func shut() tables.HostEndpoint { return tables.HostEndpoint{LocalDefault: tables.Deny} }

// runHostCases tries each sentence on a node of its own.
func runHostCases(t *testing.T, subject Subject, cases map[string]hostCase) {
	t.Helper()
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := NewNode(t, subject)
			if tc.prepare != nil {
				tc.prepare(n)
			}
			p := tc.tables()
			n.Apply(p)
			n.Verify(Both(tc.probes)...)
			for host := range tc.hosts { // and all of it goes again
				p.HostEndpoints.Delete(host)
			}
			p.Endpoints.Set(InterfaceOf(ServerPod), Unrestricted(ServerPod))
			n.Apply(p)
			n.SameAsFresh(p)
			n.Verify(Both(func(f Family) []Probe {
				return []Probe{TCP(f, Outside, HostSide, 9, true), TCP(f, HostSide, Outside, 9, true), TCP(f, Outside, Beside, 9, true), TCP(f, Outside, ServerPod, 9, true)}
			})...)
		})
	}
}

// hostMatching: which host endpoint decides on the packets of an interface.
func hostMatching(t *testing.T, subject Subject) {
	runHostCases(t, subject, map[string]hostCase{
		"an interface without a host endpoint is not policed": {
			hosts: map[string]tables.HostEndpoint{"eth0": shut()},
			probes: func(f Family) []Probe {
				return []Probe{
					TCP(f, Outside, HostSide, 80, false), TCP(f, HostSide, Outside, 80, false), UDP(f, Outside, HostSide, 80, false), Ping(f, Outside, HostSide, 0, false), SCTP(f, HostSide, Outside, 80, false),
					TCP(f, Beside, OtherSide, 80, true), TCP(f, OtherSide, Beside, 80, true), Ping(f, Beside, OtherSide, 0, true),
				}
			},
		},
		"it is the interface that counts, not the address": {
			hosts: map[string]tables.HostEndpoint{"eth0": shut()},
			probes: func(f Family) []Probe {
				return []Probe{TCP(f, Outside, OtherSide, 80, false), TCP(f, Beside, HostSide, 80, true), TCP(f, OtherSide, Outside, 80, false)}
			},
		},
		"* stands for all others": {
			hosts: map[string]tables.HostEndpoint{"eth1": open(), tables.AllInterfaces: shut()},
			probes: func(f Family) []Probe {
				return []Probe{TCP(f, Outside, HostSide, 80, false), TCP(f, HostSide, Outside, 80, false), TCP(f, Beside, OtherSide, 80, true), TCP(f, OtherSide, Beside, 80, true)}
			},
		},
		"* does not reach what has a host endpoint of its own": {
			hosts: map[string]tables.HostEndpoint{
				"eth1":               open(),
				tables.AllInterfaces: {LocalDefault: tables.Deny, Local: inAndOut(deny()), Forward: inAndOut(deny()), PreDNAT: deny("deny-all"), Untracked: inAndOut(pass("deny-81"))},
			},
			probes: func(f Family) []Probe {
				return []Probe{
					TCP(f, Beside, OtherSide, 81, true), TCP(f, OtherSide, Beside, 81, true), TCP(f, Beside, ServerPod, 81, true), TCP(f, ServerPod, Beside, 81, true),
					TCP(f, Outside, ServerPod, 80, false), TCP(f, ServerPod, Outside, 80, false), TCP(f, HostSide, Outside, 80, false),
				}
			},
		},
		"the loopback interface is not policed": {
			hosts: map[string]tables.HostEndpoint{
				tables.AllInterfaces: {LocalDefault: tables.Deny, Untracked: inAndOut(pass("deny-all")), PreDNAT: pass("deny-all")}, "lo": shut(),
			},
			probes: func(f Family) []Probe {
				return []Probe{TCP(f, HostSide, HostSide, 80, true), TCP(f, OtherSide, HostSide, 80, true), TCP(f, Outside, HostSide, 80, false)}
			},
		},
		"workloads are not policed, and a node reaches its own pods": {
			toHost: tables.HostAccept,
			hosts: map[string]tables.HostEndpoint{
				tables.AllInterfaces: {LocalDefault: tables.Deny, Untracked: inAndOut(pass("deny-all")), PreDNAT: pass("deny-all"), Forward: inAndOut(deny("deny-all"))},
			},
			probes: func(f Family) []Probe {
				return []Probe{
					TCP(f, ClientPod, ServerPod, 80, true), TCP(f, HostSide, ServerPod, 80, true), TCP(f, OtherSide, ServerPod, 80, true), Ping(f, HostSide, ServerPod, 0, true), TCP(f, ClientPod, HostSide, 80, true),
					TCP(f, Outside, ServerPod, 80, false), TCP(f, ServerPod, Outside, 80, false),
				}
			},
		},
	})
}

// hostLocal: policy on traffic to and from the node itself.
func hostLocal(t *testing.T, subject Subject) {
	local := func(l tables.Directions, atEnd tables.Action) map[string]tables.HostEndpoint {
		return map[string]tables.HostEndpoint{"eth0": {Local: l, LocalDefault: atEnd}}
	}
	const h, x = HostSide, Outside
	runHostCases(t, subject, map[string]hostCase{
		"no policy, a profile that allows": {hosts: local(tables.Directions{}, tables.Allow), probes: func(f Family) []Probe {
			return []Probe{TCP(f, x, h, 80, true), TCP(f, h, x, 80, true)}
		}},
		"no policy, no profile": {hosts: local(tables.Directions{}, tables.Deny), probes: func(f Family) []Probe {
			return []Probe{TCP(f, x, h, 80, false), TCP(f, h, x, 80, false)}
		}},
		"each direction by itself": {hosts: local(in(deny("allow-80")), tables.Allow), probes: func(f Family) []Probe {
			return []Probe{TCP(f, x, h, 80, true), TCP(f, x, h, 81, false), TCP(f, h, x, 80, true), TCP(f, h, x, 81, true)}
		}},
		"the other direction": {hosts: local(out(deny("allow-80")), tables.Allow), probes: func(f Family) []Probe {
			return []Probe{TCP(f, x, h, 80, true), TCP(f, x, h, 81, true), TCP(f, h, x, 80, true), TCP(f, h, x, 81, false)}
		}},
		"a tier that does not decide, its default action": {hosts: local(inAndOut(deny("allow-80")), tables.Allow), probes: func(f Family) []Probe {
			return []Probe{TCP(f, x, h, 80, true), UDP(f, x, h, 80, false), TCP(f, h, x, 80, true), UDP(f, h, x, 80, false)}
		}},
		"no tier decides, the profile": {hosts: local(inAndOut(pass("deny-80", "allow-81")), tables.Allow), probes: func(f Family) []Probe {
			return []Probe{TCP(f, x, h, 80, false), TCP(f, x, h, 81, true), TCP(f, x, h, 82, true), TCP(f, h, x, 80, false), TCP(f, h, x, 82, true)}
		}},
		"no tier decides, no profile": {hosts: local(inAndOut(pass("deny-80", "allow-81")), tables.Deny), probes: func(f Family) []Probe {
			return []Probe{TCP(f, x, h, 80, false), TCP(f, x, h, 81, true), TCP(f, x, h, 82, false), TCP(f, h, x, 81, true), TCP(f, h, x, 82, false)}
		}},
		"pass to the next tier": {hosts: local(inAndOut(append(deny("pass-80"), deny("deny-81", "allow-80")...)), tables.Deny), probes: func(f Family) []Probe {
			return []Probe{TCP(f, x, h, 80, true), TCP(f, x, h, 81, false), TCP(f, h, x, 80, true), TCP(f, h, x, 81, false)}
		}},
		"local policy does not see what is forwarded": {hosts: local(inAndOut(deny("deny-all")), tables.Deny), probes: func(f Family) []Probe {
			return []Probe{TCP(f, x, ServerPod, 80, true), TCP(f, ServerPod, x, 80, true), TCP(f, x, Beside, 80, true), TCP(f, Beside, x, 80, true)}
		}},
		"unknown policy drops the node's own traffic": {
			hosts: map[string]tables.HostEndpoint{"eth0": {Unknown: true, LocalDefault: tables.Allow, Local: inAndOut(pass("allow-all"))}},
			probes: func(f Family) []Probe {
				return []Probe{TCP(f, x, h, 80, false), TCP(f, h, x, 80, false), TCP(f, x, h, 22, true), TCP(f, h, x, 6443, true), TCP(f, x, ServerPod, 80, true), TCP(f, ServerPod, x, 80, true)}
			},
		},
		"a policy that is not there denies": {hosts: local(inAndOut(pass("no-such-policy")), tables.Allow), probes: func(f Family) []Probe {
			return []Probe{TCP(f, x, h, 80, false), TCP(f, h, x, 80, false), TCP(f, x, h, 22, true)}
		}},
	})
}

// hostFailsafe: ports that no host endpoint closes.
func hostFailsafe(t *testing.T, subject Subject) {
	const h, x, b = HostSide, Outside, Beside
	// What passes, whatever the policy is.
	probes := func(f Family) []Probe {
		return []Probe{
			TCP(f, x, h, 22, true), UDP(f, x, h, 68, true), TCP(f, b, OtherSide, 22, true),
			UDP(f, x, h, 22, false), TCP(f, x, h, 68, false), TCP(f, x, h, 23, false), SCTP(f, x, h, 22, false),
			TCP(f, x, h, 179, true), TCP(f, b, OtherSide, 179, false), // only from one network
			TCP(f, h, x, 6443, true), UDP(f, h, x, 53, true), TCP(f, OtherSide, b, 6443, true),
			TCP(f, h, x, 53, false), UDP(f, h, x, 6443, false), TCP(f, h, x, 22, false), TCP(f, x, h, 6443, false),
			TCP(f, OtherSide, b, 2379, true), TCP(f, h, x, 2379, false), // only to one network
		}
	}
	all := func(h tables.HostEndpoint) map[string]tables.HostEndpoint {
		return map[string]tables.HostEndpoint{tables.AllInterfaces: h}
	}
	runHostCases(t, subject, map[string]hostCase{
		"no policy":         {hosts: all(shut()), probes: probes},
		"a policy":          {hosts: all(tables.HostEndpoint{LocalDefault: tables.Allow, Local: inAndOut(deny("deny-all"))}), probes: probes},
		"each has a policy": {hosts: map[string]tables.HostEndpoint{"eth0": {Local: inAndOut(deny("deny-all"))}, "eth1": {Local: inAndOut(deny())}}, probes: probes},
		"before addresses are translated": {
			hosts:  all(tables.HostEndpoint{PreDNAT: pass("deny-all"), Local: out(deny())}),
			probes: probes,
		},
		"before connections are tracked": {hosts: all(tables.HostEndpoint{LocalDefault: tables.Allow, Untracked: inAndOut(pass("deny-all"))}), probes: probes},
		"not for what is forwarded": {
			hosts: all(tables.HostEndpoint{LocalDefault: tables.Allow, Forward: inAndOut(deny("deny-all"))}),
			probes: func(f Family) []Probe {
				return []Probe{TCP(f, x, ServerPod, 22, false), TCP(f, ServerPod, x, 6443, false), TCP(f, x, b, 22, false)}
			},
		},
	})
}

// hostForward: policy on what the node passes on.
func hostForward(t *testing.T, subject Subject) {
	forward := func(f tables.Directions) map[string]tables.HostEndpoint {
		return map[string]tables.HostEndpoint{"eth0": {Forward: f, LocalDefault: tables.Allow}}
	}
	const h, x, b, s = HostSide, Outside, Beside, ServerPod
	runHostCases(t, subject, map[string]hostCase{
		"ingress policy of the interface a packet comes in by": {hosts: forward(in(deny("allow-80"))), probes: func(f Family) []Probe {
			return []Probe{
				TCP(f, x, s, 80, true), TCP(f, x, s, 81, false), TCP(f, x, b, 80, true), TCP(f, x, b, 81, false),
				TCP(f, s, x, 81, true), TCP(f, b, x, 81, true), TCP(f, b, s, 81, true), TCP(f, x, h, 81, true), TCP(f, h, x, 81, true),
			}
		}},
		"egress policy of the interface a packet leaves by": {hosts: forward(out(deny("allow-80"))), probes: func(f Family) []Probe {
			return []Probe{
				TCP(f, s, x, 80, true), TCP(f, s, x, 81, false), TCP(f, b, x, 80, true), TCP(f, b, x, 81, false),
				TCP(f, x, s, 81, true), TCP(f, x, b, 81, true), TCP(f, s, b, 81, true), TCP(f, x, h, 81, true), TCP(f, h, x, 81, true),
			}
		}},
		"both interfaces have their say": {
			hosts: map[string]tables.HostEndpoint{"eth0": {Forward: in(pass("deny-80"))}, "eth1": {Forward: out(pass("deny-81"))}},
			probes: func(f Family) []Probe {
				return []Probe{TCP(f, x, b, 80, false), TCP(f, x, b, 81, false), TCP(f, x, b, 82, true), TCP(f, b, x, 80, true)}
			},
		},
		"no tier decides: passes": {hosts: forward(inAndOut(pass("deny-80"))), probes: func(f Family) []Probe {
			return []Probe{TCP(f, x, s, 80, false), TCP(f, x, s, 81, true), TCP(f, s, x, 80, false), TCP(f, s, x, 81, true)}
		}},
		"pass to the next tier": {hosts: forward(inAndOut(append(deny("pass-80"), deny("allow-80")...))), probes: func(f Family) []Probe {
			return []Probe{TCP(f, x, s, 80, true), TCP(f, x, s, 81, false), TCP(f, s, x, 80, true), TCP(f, s, x, 81, false)}
		}},
		"all interfaces": {
			hosts: map[string]tables.HostEndpoint{tables.AllInterfaces: {Forward: inAndOut(deny("allow-80"))}},
			probes: func(f Family) []Probe {
				return []Probe{TCP(f, x, s, 80, true), TCP(f, x, s, 81, false), TCP(f, s, b, 80, true), TCP(f, s, b, 81, false), TCP(f, x, b, 80, true), TCP(f, ClientPod, s, 81, true)}
			},
		},
		"what it allows still sees the workload's policy": {
			hosts: forward(inAndOut(deny("allow-all"))), server: inAndOut(deny("allow-80")),
			probes: func(f Family) []Probe {
				return []Probe{TCP(f, x, s, 80, true), TCP(f, x, s, 81, false), TCP(f, s, x, 80, true), TCP(f, s, x, 81, false)}
			},
		},
		"what the workload's policy allows still sees it": {
			hosts: forward(inAndOut(deny("allow-80"))), server: inAndOut(deny("allow-all")),
			probes: func(f Family) []Probe {
				return []Probe{TCP(f, x, s, 80, true), TCP(f, x, s, 81, false), TCP(f, s, x, 80, true), TCP(f, s, x, 81, false)}
			},
		},
	})
}

// hostPreDNAT: policy before addresses are translated. The node's port 30080 leads to the server's 80.
func hostPreDNAT(t *testing.T, subject Subject) {
	const h, x, b, s = HostSide, Outside, Beside, ServerPod
	nodePort := func(f Family, from string, arrives bool) Probe { return NodePort(f, from, h, 30080, s, arrives) }
	eth0 := func(h tables.HostEndpoint) map[string]tables.HostEndpoint {
		return map[string]tables.HostEndpoint{"eth0": h}
	}
	cases := map[string]hostCase{
		"sees the address before its translation": {hosts: eth0(tables.HostEndpoint{PreDNAT: pass("deny-30080"), LocalDefault: tables.Allow}), probes: func(f Family) []Probe {
			return []Probe{nodePort(f, x, false), nodePort(f, b, true), TCP(f, x, s, 80, true), TCP(f, x, s, 30080, false), TCP(f, x, h, 30081, true)}
		}},
		"not the one after": {hosts: eth0(tables.HostEndpoint{PreDNAT: pass("deny-80"), LocalDefault: tables.Allow}), probes: func(f Family) []Probe {
			return []Probe{nodePort(f, x, true), TCP(f, x, s, 80, false), TCP(f, x, h, 80, false)}
		}},
		"what it allows for the node itself is not looked at again": {hosts: eth0(tables.HostEndpoint{PreDNAT: pass("allow-81"), Local: in(deny("deny-all"))}), probes: func(f Family) []Probe {
			return []Probe{TCP(f, x, h, 81, true), TCP(f, x, h, 82, false)}
		}},
		"what it allows and is forwarded sees forward policy": {hosts: eth0(tables.HostEndpoint{PreDNAT: pass("allow-all"), Forward: in(deny("allow-81"))}), probes: func(f Family) []Probe {
			return []Probe{nodePort(f, x, false), TCP(f, x, s, 81, true), TCP(f, x, s, 82, false), TCP(f, x, b, 82, false), TCP(f, x, h, 82, true)}
		}},
		"what it allows and is forwarded sees the workload's policy": {
			hosts: eth0(tables.HostEndpoint{PreDNAT: pass("allow-all")}), server: in(deny("allow-81")),
			probes: func(f Family) []Probe {
				return []Probe{nodePort(f, x, false), TCP(f, x, s, 81, true)}
			},
		},
		"what it does not decide goes on": {hosts: eth0(tables.HostEndpoint{PreDNAT: pass("allow-81", "pass-80"), Local: in(deny("allow-80"))}), probes: func(f Family) []Probe {
			return []Probe{nodePort(f, x, true), TCP(f, x, h, 80, true), TCP(f, x, h, 81, true), TCP(f, x, h, 82, false), TCP(f, x, s, 82, true)}
		}},
		"pass to the next tier": {hosts: eth0(tables.HostEndpoint{PreDNAT: append(pass("pass-80", "deny-80"), pass("allow-80")...), LocalDefault: tables.Deny}), probes: func(f Family) []Probe {
			return []Probe{TCP(f, x, h, 80, true), TCP(f, x, h, 81, false)}
		}},
		"close all, open one again": {hosts: eth0(tables.HostEndpoint{PreDNAT: pass("allow-30080", "deny-all"), LocalDefault: tables.Allow}), probes: func(f Family) []Probe {
			return []Probe{nodePort(f, x, true), TCP(f, x, h, 80, false), TCP(f, x, s, 80, false), TCP(f, x, h, 22, true), TCP(f, s, x, 80, true), TCP(f, h, x, 80, true)}
		}},
		"all interfaces, but not those of workloads": {
			hosts: map[string]tables.HostEndpoint{tables.AllInterfaces: {PreDNAT: pass("deny-all"), LocalDefault: tables.Allow}},
			probes: func(f Family) []Probe {
				return []Probe{nodePort(f, x, false), nodePort(f, b, false), nodePort(f, ClientPod, true), nodePort(f, h, true), TCP(f, ClientPod, s, 80, true), TCP(f, s, x, 80, true)}
			},
		},
	}
	for name, tc := range cases {
		tc.toHost = tables.HostAccept
		tc.prepare = func(n *Node) {
			for fam := range Families {
				n.service("tcp", At(h, fam, 30080), At(s, fam, 80), false)
			}
		}
		cases[name] = tc
	}
	runHostCases(t, subject, cases)
}

// hostUntracked: policy before connections are tracked.
func hostUntracked(t *testing.T, subject Subject) {
	const h, x, b, s = HostSide, Outside, Beside, ServerPod
	eth0 := func(h tables.HostEndpoint) map[string]tables.HostEndpoint {
		return map[string]tables.HostEndpoint{"eth0": h}
	}
	runHostCases(t, subject, map[string]hostCase{
		"denies what comes in, for the node or not": {hosts: eth0(tables.HostEndpoint{Untracked: in(pass("deny-80")), LocalDefault: tables.Allow}), probes: func(f Family) []Probe {
			return []Probe{
				TCP(f, x, h, 80, false), TCP(f, x, s, 80, false), TCP(f, x, b, 80, false), TCP(f, x, h, 81, true), TCP(f, x, s, 81, true),
				TCP(f, h, x, 80, true), TCP(f, b, OtherSide, 80, true), TCP(f, s, x, 80, true),
			}
		}},
		"denies what the node sends, and not what it forwards": {hosts: eth0(tables.HostEndpoint{Untracked: out(pass("deny-80")), LocalDefault: tables.Allow}), probes: func(f Family) []Probe {
			return []Probe{TCP(f, h, x, 80, false), TCP(f, h, x, 81, true), TCP(f, OtherSide, b, 80, true), TCP(f, s, x, 80, true), TCP(f, x, h, 80, true)}
		}},
		"what it allows is not looked at again": {hosts: eth0(tables.HostEndpoint{Untracked: inAndOut(pass("allow-80")), PreDNAT: pass("deny-80"), Local: inAndOut(deny("deny-all"))}), probes: func(f Family) []Probe {
			return []Probe{TCP(f, x, h, 80, true), TCP(f, x, h, 81, false), TCP(f, h, x, 80, true), TCP(f, h, x, 81, false)}
		}},
		"what it does not decide goes on": {hosts: eth0(tables.HostEndpoint{Untracked: inAndOut(pass("allow-80", "pass-all")), Local: inAndOut(deny("allow-81"))}), probes: func(f Family) []Probe {
			return []Probe{TCP(f, x, h, 80, true), TCP(f, x, h, 81, true), TCP(f, x, h, 82, false), TCP(f, h, x, 81, true), TCP(f, h, x, 82, false)}
		}},
		"what it allows and is forwarded sees forward policy": {hosts: eth0(tables.HostEndpoint{Untracked: in(pass("allow-all")), Forward: in(deny("allow-80"))}), probes: func(f Family) []Probe {
			return []Probe{TCP(f, x, s, 80, true), TCP(f, x, s, 81, false), TCP(f, x, b, 81, false), TCP(f, x, h, 81, true)}
		}},
		"what it allows and is forwarded sees the workload's policy": {
			hosts: eth0(tables.HostEndpoint{Untracked: in(pass("allow-all"))}), server: in(deny("allow-80")),
			probes: func(f Family) []Probe {
				return []Probe{TCP(f, x, s, 80, true), TCP(f, x, s, 81, false), TCP(f, x, ClientPod, 81, true)}
			},
		},
		"what it allows is not translated": {
			hosts: eth0(tables.HostEndpoint{Untracked: in(pass("allow-30080"))}),
			prepare: func(n *Node) {
				for fam := range Families {
					n.service("tcp", At(h, fam, 30080), At(s, fam, 80), false)
				}
			},
			probes: func(f Family) []Probe {
				return []Probe{NodePort(f, x, h, 30080, s, false), TCP(f, x, h, 30080, true), NodePort(f, b, OtherSide, 80, s, false)}
			},
		},
	})
}

// hostToHost: what pods send to their own node.
func hostToHost(t *testing.T, subject Subject) {
	const h, c, s = HostSide, ClientPod, ServerPod
	all := map[string]tables.HostEndpoint{tables.AllInterfaces: {Local: in(deny("allow-80")), LocalDefault: tables.Allow}}
	probes := func(eighty, eightyOne, failsafe bool) func(Family) []Probe {
		return func(f Family) []Probe {
			return []Probe{
				TCP(f, c, h, 80, eighty), TCP(f, c, h, 81, eightyOne), TCP(f, c, h, 22, failsafe), TCP(f, s, h, 22, false), TCP(f, s, h, 81, eightyOne), TCP(f, s, h, 80, false),
				TCP(f, h, c, 81, true), TCP(f, h, s, 22, true), TCP(f, c, s, 81, true), TCP(f, c, Outside, 81, true),
			}
		}
	}
	egress := out(deny("allow-81")) // the pod's own policy comes first
	runHostCases(t, subject, map[string]hostCase{
		"Drop":                            {toHost: tables.HostDrop, server: egress, probes: probes(false, false, false)},
		"Accept":                          {toHost: tables.HostAccept, server: egress, probes: probes(true, true, true)},
		"Return":                          {toHost: tables.HostReturn, server: egress, probes: probes(true, true, true)},
		"Drop beside *":                   {toHost: tables.HostDrop, server: egress, hosts: all, probes: probes(false, false, false)},
		"Accept beside *":                 {toHost: tables.HostAccept, server: egress, hosts: all, probes: probes(true, true, true)},
		"Return to *":                     {toHost: tables.HostReturn, server: egress, hosts: all, probes: probes(true, false, true)},
		"Return beside a named interface": {toHost: tables.HostReturn, server: egress, hosts: map[string]tables.HostEndpoint{"eth0": shut()}, probes: probes(true, true, true)},
		"Return to * without policies":    {toHost: tables.HostReturn, server: egress, hosts: map[string]tables.HostEndpoint{tables.AllInterfaces: shut()}, probes: probes(false, false, true)},
		"Return to * with others": {
			toHost: tables.HostReturn, server: egress,
			hosts: map[string]tables.HostEndpoint{tables.AllInterfaces: {Local: in(deny("allow-80")), PreDNAT: pass("allow-all"), Untracked: inAndOut(pass("allow-all"))}, "eth0": open()},
			probes: func(f Family) []Probe {
				return []Probe{TCP(f, c, h, 80, true), TCP(f, c, h, 81, false), TCP(f, Outside, h, 81, true)}
			},
		},
	})
}

// hostDiscovery: neighbours are found whatever policy says.
func hostDiscovery(t *testing.T, subject Subject) {
	n := NewNode(t, subject)
	all := pass("deny-all")
	p := hostTables(map[string]tables.HostEndpoint{tables.AllInterfaces: {Local: inAndOut(deny("deny-all")), PreDNAT: all, Untracked: inAndOut(all), Forward: inAndOut(all)}})
	n.Apply(p)
	var probes []Probe
	for _, typ := range []uint8{133, 134, 135, 136, 137} {
		probes = append(probes, ICMP(IPv6, Outside, HostSide, typ, 0, true), ICMP(IPv6, HostSide, Outside, typ, 0, true))
	}
	probes = append(probes, ICMP(IPv6, Outside, HostSide, 128, 0, false), ICMP(IPv6, HostSide, Outside, 128, 0, false))
	n.Verify(probes...)
	// The kernel's own: the way to a machine is looked for anew.
	router := n.LinkLocal("eth0")
	peer := n.Peer(Outside)
	peer.Route("2001:db8:1::1/128", router.String(), "eth0")
	n.Verify(Between(IPv6, Outside, OtherSide, packet(unix.IPPROTO_TCP, 22), true))
}
