package policy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
)

// compile compiles the spec of a policy of a kind, called p and in namespace n.
func compile(t *testing.T, kind, spec string) *Compiled {
	t.Helper()
	text := []byte("metadata: {namespace: \"n\", name: p, generation: 3}\nspec: " + spec)
	read := func(into any) {
		if err := yaml.UnmarshalStrict(text, into); err != nil {
			t.Fatalf("reading policy: %v", err)
		}
	}
	switch kind {
	case KindNetworkPolicy:
		var p v3.NetworkPolicy
		read(&p)
		return NetworkPolicy(&p)
	case KindGlobalNetworkPolicy:
		var p v3.GlobalNetworkPolicy
		read(&p)
		p.Namespace = ""
		return GlobalNetworkPolicy(&p)
	case KindStagedNetworkPolicy:
		var p v3.StagedNetworkPolicy
		read(&p)
		return StagedNetworkPolicy(&p)
	case KindStagedGlobalNetworkPolicy:
		var p v3.StagedGlobalNetworkPolicy
		read(&p)
		p.Namespace = ""
		return StagedGlobalNetworkPolicy(&p)
	case KindStagedKubernetesNetworkPolicy:
		var p v3.StagedKubernetesNetworkPolicy
		read(&p)
		return StagedKubernetesNetworkPolicy(&p)
	default:
		var p networkingv1.NetworkPolicy
		read(&p)
		return KubernetesNetworkPolicy(&p)
	}
}

// text writes rules with their sets as selectors, a line each.
func text(c *Compiled, rules []v1alpha1.Rule) string {
	var lines []string
	for _, r := range rules {
		line := string(r.Action)
		add := func(format string, args ...any) { line += " " + fmt.Sprintf(format, args...) }
		if r.IPVersion != 0 {
			add("v%d", r.IPVersion)
		}
		if r.Protocol != nil {
			add("protocol %d", *r.Protocol)
		}
		if r.NotProtocol != nil {
			add("!protocol %d", *r.NotProtocol)
		}
		if r.ICMP != nil {
			add("icmp %d", *r.ICMP.Type)
		}
		for _, end := range []struct {
			name string
			m    v1alpha1.EntityMatch
		}{{"from", r.Source}, {"to", r.Destination}} {
			for _, id := range end.m.Sets {
				if s := c.Sets[id]; s.Nodes != nil {
					add("%s nodes [%s]", end.name, s.Nodes)
				} else if s.Selector == nil {
					add("%s service %s", end.name, s.Service)
				} else {
					add("%s [%s]", end.name, s.Selector)
				}
			}
			for _, id := range end.m.PortSets {
				add("%s ports of service %s", end.name, c.Sets[id].Service)
			}
			for _, id := range end.m.NotSets {
				add("%s ![%s]", end.name, c.Sets[id].Selector)
			}
			for _, part := range []struct {
				name string
				list any
			}{
				{"", end.m.Nets},
				{"!", end.m.NotNets},
				{":", end.m.Ports},
				{":named ", end.m.NamedPorts},
				{"!:", end.m.NotPorts},
				{"!:named ", end.m.NotNamedPorts},
			} {
				if list := fmt.Sprint(part.list); list != "[]" {
					add("%s %s%s", end.name, part.name, list)
				}
			}
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

const inN = "namespace//projectcalico.org/name == 'n'"

func TestPeers(t *testing.T) {
	for name, tc := range map[string]struct{ kind, rule, want string }{
		"no match at all means any address": {
			KindNetworkPolicy, "{action: Allow}", "Allow",
		},
		"a selector in a namespaced policy stays in its namespace": {
			KindNetworkPolicy, "{action: Allow, source: {selector: app == 'a'}}", "Allow from [app == 'a' && " + inN + "]",
		},
		"a selector in a global policy does not": {
			KindGlobalNetworkPolicy, "{action: Allow, source: {selector: app == 'a'}}", "Allow from [app == 'a']",
		},
		"all() in a global policy means all endpoints, not all addresses": {
			KindGlobalNetworkPolicy, "{action: Allow, source: {selector: all()}}", "Allow from [all()]",
		},
		"a namespace selector takes the place of the policy's namespace": {
			KindNetworkPolicy, "{action: Allow, source: {namespaceSelector: stage == 'x'}}",
			"Allow from [has(namespace//projectcalico.org/name) && namespace//stage == 'x']",
		},
		"a negated namespace selector does not match what has no namespace": {
			KindGlobalNetworkPolicy, "{action: Allow, source: {namespaceSelector: '!has(stage)'}}",
			"Allow from [!has(namespace//stage) && has(namespace//projectcalico.org/name)]",
		},
		"global() means what has no namespace": {
			KindNetworkPolicy, "{action: Allow, source: {namespaceSelector: global(), selector: app == 'a'}}",
			"Allow from [!has(namespace//projectcalico.org/name) && app == 'a']",
		},
		"notSelector alone in a namespaced policy still means the same namespace": {
			KindNetworkPolicy, "{action: Allow, source: {notSelector: app == 'a'}}", "Allow from [" + inN + "] from ![app == 'a']",
		},
		"notSelector alone in a global policy means any other address": {
			KindGlobalNetworkPolicy, "{action: Allow, source: {notSelector: app == 'a'}}", "Allow from ![app == 'a']",
		},
		"names of service accounts mean the policy's namespace": {
			KindNetworkPolicy, "{action: Allow, source: {serviceAccounts: {names: [r, q]}}}",
			"Allow from [" + inN + " && serviceaccount//projectcalico.org/name in {'q', 'r'}]",
		},
		"names and selector of service accounts must both hold": {
			KindGlobalNetworkPolicy, "{action: Allow, source: {serviceAccounts: {names: [r], selector: 'trust != ''low'''}}}",
			"Allow from [has(serviceaccount//projectcalico.org/name) && serviceaccount//projectcalico.org/name == 'r' && serviceaccount//trust != 'low']",
		},
		"a service is of the policy's namespace": {
			KindNetworkPolicy, "{action: Allow, source: {services: {name: s}}}", "Allow from service n/s",
		},
		"a service of another namespace": {
			KindGlobalNetworkPolicy, "{action: Allow, source: {services: {name: s, namespace: o}}}", "Allow from service o/s",
		},
		"nets and a selector must both hold": {
			KindGlobalNetworkPolicy, "{action: Deny, destination: {nets: [10.0.0.0/8], selector: has(a)}}", "Deny to [has(a)] to [10.0.0.0/8]",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := compile(t, tc.kind, "{ingress: ["+tc.rule+"]}")
			if !c.Finding.Accepted {
				t.Fatalf("not accepted: %s", c.Finding.Message)
			}
			if diff := cmp.Diff(tc.want, text(c, c.Program.Ingress)); diff != "" {
				t.Errorf("rule (-want +got):\n%s", diff)
			}
		})
	}
}

func TestServicesBringTheirPortsOnEgress(t *testing.T) {
	c := compile(t, KindNetworkPolicy, "{egress: [{action: Allow, destination: {services: {name: s}}}, {action: Deny, protocol: TCP, destination: {services: {name: s, namespace: o}}}]}")
	want := "Allow to ports of service n/s\nDeny protocol 6 to ports of service o/s"
	if diff := cmp.Diff(want, text(c, c.Program.Egress)); diff != "" || !c.Finding.Accepted || len(c.Sets) != 2 {
		t.Errorf("%+v, %d sets, rules (-want +got):\n%s", c.Finding, len(c.Sets), diff)
	}
}

func TestRulesWithHTTPMatchNothing(t *testing.T) {
	c := compile(t, KindNetworkPolicy, `{ingress: [{action: Allow, protocol: TCP, source: {selector: app == 'a'}, http: {methods: [GET]}}, {action: Pass}]}`)
	if got := text(c, c.Program.Ingress); got != "Pass" || len(c.Sets) != 0 {
		t.Errorf("got %q and %d sets, want the other rule alone", got, len(c.Sets))
	}
	if f := c.Finding; !f.Accepted || f.Reason != ReasonHTTPNotEnforced || !strings.Contains(f.Message, "spec.ingress[0] match nothing") {
		t.Errorf("got %+v", f)
	}
}

func TestPerformanceHintsChangeNothing(t *testing.T) {
	without := compile(t, KindGlobalNetworkPolicy, "{ingress: [{action: Deny, source: {selector: app == 'a'}}]}")
	with := compile(t, KindGlobalNetworkPolicy, "{performanceHints: [AssumeNeededOnEveryNode], ingress: [{action: Deny, source: {selector: app == 'a'}}]}")
	if diff := cmp.Diff(without.Program, with.Program); diff != "" || without.Finding != with.Finding || without.Selector.String() != with.Selector.String() {
		t.Errorf("the hint changes what is compiled (-without +with):\n%s", diff)
	}
}

func TestPortsAndProtocols(t *testing.T) {
	for rule, want := range map[string]string{
		"{action: Allow, protocol: TCP, destination: {ports: [80]}}":             "Allow protocol 6 to :[{80 80}]",
		`{action: Allow, protocol: UDP, source: {ports: ["1000:2000"]}}`:         "Allow protocol 17 from :[{1000 2000}]",
		`{action: Allow, protocol: SCTP, destination: {ports: ["80"]}}`:          "Allow protocol 132 to :[{80 80}]",
		"{action: Pass, protocol: 6, destination: {ports: [http]}}":              "Pass protocol 6 to :named [http]",
		"{action: Log, protocol: tcp, destination: {notPorts: [http]}}":          "Log protocol 6 to !:named [http]",
		"{action: Allow, protocol: ICMP, icmp: {type: 8}}":                       "Allow v4 protocol 1 icmp 8",
		"{action: Allow, protocol: ICMPv6, icmp: {type: 128}}":                   "Allow v6 protocol 58 icmp 128",
		"{action: Allow, notProtocol: UDPLite, ipVersion: 6}":                    "Allow v6 !protocol 136",
		"{action: Allow, source: {nets: [10.0.0.1], notNets: [10.0.0.0/31]}}":    "Allow from [10.0.0.1/32] from ![10.0.0.0/31]",
		"{action: Allow, source: {nets: ['2001:db8::/32', '2001:DB8::/32']}}":    "Allow from [2001:db8::/32]",
		"{action: Allow, metadata: {annotations: {why: because}}, protocol: 47}": "Allow protocol 47",
	} {
		t.Run(rule, func(t *testing.T) {
			c := compile(t, KindGlobalNetworkPolicy, "{ingress: ["+rule+"]}")
			if !c.Finding.Accepted {
				t.Fatalf("not accepted: %s", c.Finding.Message)
			}
			if diff := cmp.Diff(want, text(c, c.Program.Ingress)); diff != "" {
				t.Errorf("rule (-want +got):\n%s", diff)
			}
		})
	}
}

func TestKubernetesPolicies(t *testing.T) {
	const pods = "projectcalico.org/orchestrator == 'k8s'"
	for name, tc := range map[string]struct{ spec, ingress, egress string }{
		"isolation without a rule": {spec: "{podSelector: {}}"},
		"one rule for each peer and protocol": {
			spec: `{podSelector: {}, ingress: [{
				from: [{podSelector: {matchLabels: {app: a}}}, {ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}],
				ports: [{port: 80}, {port: http}, {port: 100, endPort: 200, protocol: UDP}]}]}`,
			ingress: "Allow protocol 6 from [app == 'a' && " + inN + " && " + pods + "] to :[{80 80}] to :named [http]\n" +
				"Allow protocol 17 from [app == 'a' && " + inN + " && " + pods + "] to :[{100 200}]\n" +
				"Allow protocol 6 from [10.0.0.0/8] from ![10.1.0.0/16] to :[{80 80}] to :named [http]\n" +
				"Allow protocol 17 from [10.0.0.0/8] from ![10.1.0.0/16] to :[{100 200}]",
		},
		"no peers and no ports": {
			spec:    "{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{}], egress: [{ports: [{protocol: SCTP}]}]}",
			ingress: "Allow", egress: "Allow protocol 132",
		},
		"an empty namespace selector means all namespaces": {
			spec:   "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {}, podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [a]}]}}]}]}",
			egress: "Allow to [app != 'a' && has(namespace//projectcalico.org/name) && " + pods + "]",
		},
		"bits behind the prefix mean nothing": {
			spec:    "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.1.2.3/8}}]}]}",
			ingress: "Allow from [10.0.0.0/8]",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := compile(t, KindKubernetesNetworkPolicy, tc.spec)
			if !c.Finding.Accepted || c.Tier != "default" || c.Order != 1000 {
				t.Fatalf("got tier %s, order %f, %+v", c.Tier, c.Order, c.Finding)
			}
			for direction, rules := range map[string][2]string{
				"ingress": {tc.ingress, text(c, c.Program.Ingress)}, "egress": {tc.egress, text(c, c.Program.Egress)},
			} {
				if diff := cmp.Diff(rules[0], rules[1]); diff != "" {
					t.Errorf("%s (-want +got):\n%s", direction, diff)
				}
			}
		})
	}
}

func TestWhatCannotBeCompiledFailsClosed(t *testing.T) {
	for name, tc := range map[string]struct{ kind, spec, reason, message string }{
		"a rule's selector": {
			KindNetworkPolicy, "{ingress: [{action: Allow}, {action: Allow, source: {selector: app = 'x'}}]}",
			ReasonInvalid, "spec.ingress[1].source.selector",
		},
		"a service without its namespace": {
			KindGlobalNetworkPolicy, "{egress: [{action: Allow, destination: {services: {name: s}}}]}",
			ReasonInvalid, "spec.egress[0].destination.services.namespace",
		},
		"preDNAT without applyOnForward": {
			KindGlobalNetworkPolicy, "{preDNAT: true, ingress: [{action: Allow}]}",
			ReasonInvalid, "spec.preDNAT",
		},
		"preDNAT with egress": {
			KindGlobalNetworkPolicy, "{applyOnForward: true, preDNAT: true, egress: [{action: Allow}]}",
			ReasonInvalid, "spec.egress",
		},
		"preDNAT and doNotTrack": {
			KindGlobalNetworkPolicy, "{applyOnForward: true, preDNAT: true, doNotTrack: true, types: [Ingress, Egress]}",
			ReasonInvalid, "spec.preDNAT",
		},
		"ports without protocol": {
			KindNetworkPolicy, "{types: [Ingress, Egress], ingress: [{action: Allow, destination: {ports: [80]}}]}",
			ReasonInvalid, "spec.ingress[0].destination.ports",
		},
		"a protocol that Kubernetes does not know": {
			KindKubernetesNetworkPolicy, "{podSelector: {}, ingress: [{ports: [{protocol: GRE}]}]}",
			ReasonInvalid, "spec.ingress[0].ports[0].protocol",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := compile(t, tc.kind, tc.spec)
			if c.Finding.Accepted || c.Finding.Reason != tc.reason || !strings.Contains(c.Finding.Message, tc.message) {
				t.Errorf("got %+v, want reason %s and a message about %s", c.Finding, tc.reason, tc.message)
			}
			if c.Selector == nil || len(c.Sets) > 0 {
				t.Errorf("got selector %v and %d sets, want a selector and no sets", c.Selector, len(c.Sets))
			}
			for direction, d := range map[string]struct {
				applies bool
				rules   []v1alpha1.Rule
			}{"ingress": {c.Ingress, c.Program.Ingress}, "egress": {c.Egress, c.Program.Egress}} {
				want := ""
				if d.applies {
					want = "Deny"
				}
				if got := text(c, d.rules); got != want {
					t.Errorf("%s: got rules %q, want %q", direction, got, want)
				}
			}
		})
	}
}

func TestAPolicyWithAnUnreadableSelectorSelectsNothing(t *testing.T) {
	for _, tc := range []struct{ kind, spec, field string }{
		{KindNetworkPolicy, "{selector: app = 'x'}", "spec.selector"},
		{KindNetworkPolicy, "{selector: global()}", "spec.selector"},
		{KindNetworkPolicy, "{serviceAccountSelector: '('}", "spec.serviceAccountSelector"},
		{KindGlobalNetworkPolicy, "{namespaceSelector: global()}", "spec.namespaceSelector"},
		{KindKubernetesNetworkPolicy, "{podSelector: {matchExpressions: [{key: a, operator: Like}]}}", "spec.podSelector.matchExpressions[0].operator"},
	} {
		c := compile(t, tc.kind, tc.spec)
		if c.Selector != nil || c.Finding.Accepted || c.Finding.Reason != ReasonInvalidSelector || !strings.Contains(c.Finding.Message, tc.field) {
			t.Errorf("%s %s: got selector %v and %+v", tc.kind, tc.spec, c.Selector, c.Finding)
		}
	}
}

func TestStagedPolicies(t *testing.T) {
	for name, tc := range map[string]struct{ kind, spec, selects, reason, message string }{
		"to be set": {
			KindStagedNetworkPolicy, "{selector: app == 'a', ingress: [{action: Allow, source: {selector: app == 'b'}}]}",
			"app == 'a' && " + inN, ReasonAccepted, "valid",
		},
		"being learned": {
			KindStagedGlobalNetworkPolicy, "{stagedAction: Learn, namespaceSelector: has(x)}",
			"has(namespace//projectcalico.org/name) && has(namespace//x)", ReasonAccepted, "valid",
		},
		"of Kubernetes": {
			KindStagedKubernetesNetworkPolicy, "{podSelector: {matchLabels: {app: a}}, ingress: [{}]}",
			"app == 'a' && " + inN + " && projectcalico.org/orchestrator == 'k8s'", ReasonAccepted, "valid",
		},
		"a deletion": {
			KindStagedNetworkPolicy, "{stagedAction: Delete, tier: security}", "", ReasonAccepted, "deleting the NetworkPolicy called p; not enforced",
		},
		"ignored": {
			KindStagedKubernetesNetworkPolicy, "{stagedAction: Ignore, podSelector: {}}", "", ReasonAccepted, "ignored",
		},
		"a deletion that says what the policy would be": {
			KindStagedGlobalNetworkPolicy, "{stagedAction: Delete, selector: has(a)}", "", ReasonInvalid, "spec.selector: Forbidden",
		},
		"an action that does not exist": {
			KindStagedKubernetesNetworkPolicy, "{stagedAction: Replace}", "", ReasonInvalid, "spec.stagedAction: Unsupported",
		},
		"a rule that is wrong": {
			KindStagedNetworkPolicy, "{selector: app == 'a', ingress: [{action: Allow, destination: {ports: [1]}}]}",
			"app == 'a' && " + inN, ReasonInvalid, "spec.ingress[0].destination.ports: Forbidden: ports need protocol TCP, UDP or SCTP in the same rule; a staged policy is not enforced",
		},
		"a selector that is wrong": {KindStagedGlobalNetworkPolicy, "{selector: '('}", "", ReasonInvalidSelector, "spec.selector"},
	} {
		t.Run(name, func(t *testing.T) {
			c := compile(t, tc.kind, tc.spec)
			selects := ""
			if c.Selector != nil {
				selects = c.Selector.String()
			}
			if diff := cmp.Diff(tc.selects, selects); diff != "" {
				t.Errorf("selects (-want +got):\n%s", diff)
			}
			if c.Finding.Reason != tc.reason || c.Finding.Accepted != (tc.reason == ReasonAccepted) || !strings.Contains(c.Finding.Message, tc.message) {
				t.Errorf("got %+v, want %s with %q", c.Finding, tc.reason, tc.message)
			}
			if c.Ref.Kind != tc.kind || !c.Staged || len(c.Sets)+len(c.Program.Ingress)+len(c.Program.Egress) > 0 {
				t.Errorf("%v, staged %t, has %d sets and program %+v", c.Ref, c.Staged, len(c.Sets), c.Program)
			}
		})
	}
}

func TestProgramNames(t *testing.T) {
	long := strings.Repeat("x", 253)
	for _, tc := range []struct {
		ref  Ref
		want string
	}{
		{Ref{KindGlobalNetworkPolicy, "", "a.b"}, "gnp.a.b"},
		{Ref{KindNetworkPolicy, "n", "a"}, "np.n.a"},
		{Ref{KindKubernetesNetworkPolicy, "n", "a"}, "knp.n.a"},
		{Ref{KindClusterNetworkPolicy, "", "a"}, "cnp.a"},
		{Ref{KindAdminNetworkPolicy, "", "a"}, "anp.a"},
		{Ref{KindBaselineAdminNetworkPolicy, "", "default"}, "banp.default"},
		{Ref{KindGlobalNetworkPolicy, "", long}, "gnp." + long[:232] + "-" + hash("gnp."+long)},
	} {
		if got := tc.ref.ProgramName(); got != tc.want || len(got) > 253 {
			t.Errorf("%v: got %s (%d characters), want %s", tc.ref, got, len(got), tc.want)
		}
	}
}
