package policy

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	clusterv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"
	"sigs.k8s.io/yaml"
)

func clusterPolicy(t *testing.T, spec string) *Compiled {
	t.Helper()
	var p clusterv1alpha2.ClusterNetworkPolicy
	if err := yaml.UnmarshalStrict([]byte("metadata: {name: p, generation: 3}\nspec: "+spec), &p); err != nil {
		t.Fatalf("reading policy: %v", err)
	}
	return ClusterNetworkPolicy(&p)
}

func TestClusterNetworkPolicies(t *testing.T) {
	const (
		anywhere = "has(namespace//projectcalico.org/name)"
		pods     = "projectcalico.org/orchestrator == 'k8s'"
		head     = "tier: Admin, priority: 7, subject: {namespaces: {}}, "
	)
	for name, tc := range map[string]struct{ spec, reason, message, ingress, egress string }{
		"one rule for each peer and protocol": {
			spec: head + `ingress: [{action: Accept, from: [{namespaces: {matchLabels: {x: z}}}, {pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: a}}}}],
				protocols: [{tcp: {destinationPort: {number: 80}}}, {udp: {}}]}]`,
			reason: ReasonAccepted,
			ingress: "Allow protocol 6 from [" + anywhere + " && namespace//x == 'z' && " + pods + "] to :[{80 80}]\n" +
				"Allow protocol 17 from [" + anywhere + " && namespace//x == 'z' && " + pods + "]\n" +
				"Allow protocol 6 from [app == 'a' && " + anywhere + " && " + pods + "] to :[{80 80}]\n" +
				"Allow protocol 17 from [app == 'a' && " + anywhere + " && " + pods + "]",
		},
		"networks, ranges and names of ports": {
			spec: head + `egress: [{action: Deny, to: [{networks: [10.0.0.0/8, "fd00::/8"]}],
				protocols: [{sctp: {destinationPort: {range: {start: 5, end: 9}}}}, {destinationNamedPort: http}]}, {action: Pass, to: [{namespaces: {}}]}]`,
			reason: ReasonAccepted,
			egress: "Deny protocol 132 to [10.0.0.0/8 fd00::/8] to :[{5 9}]\nDeny to [10.0.0.0/8 fd00::/8] to :named [http]\n" +
				"Pass to [" + anywhere + " && " + pods + "]",
		},
		"nodes": {
			spec:   head + "egress: [{action: Deny, to: [{nodes: {}}, {nodes: {matchLabels: {role: control}}}], protocols: [{tcp: {destinationPort: {number: 6443}}}]}]",
			reason: ReasonAccepted,
			egress: "Deny protocol 6 to nodes [all()] to :[{6443 6443}]\nDeny protocol 6 to nodes [role == 'control'] to :[{6443 6443}]",
		},
		"what is not supported accepts nothing": {
			spec:   head + "egress: [{action: Accept, to: [{}, {domainNames: [example.com]}, {networks: [192.0.2.1/32]}]}]",
			reason: ReasonNotSupported, message: "spec.egress[0].to[1].domainNames", egress: "Allow to [192.0.2.1/32]",
		},
		"what is not supported denies everything otherwise": {
			spec:   head + "egress: [{action: Pass, to: [{networks: [192.0.2.1/32]}, {domainNames: [example.com]}]}]",
			reason: ReasonNotSupported, message: "spec.egress[0].to[1].domainNames", egress: "Deny",
		},
		"a protocol of a newer version": {
			spec:   head + "ingress: [{action: Deny, from: [{namespaces: {}}], protocols: [{}]}, {action: Accept, from: [{}]}]",
			reason: ReasonNotSupported, message: "spec.ingress[0].protocols[0]", ingress: "Deny",
		},
		"a rule that is wrong": {
			spec:   head + "egress: [{action: Accept, to: [{networks: [ten]}]}]",
			reason: ReasonInvalid, message: "spec.egress[0].to[0].networks[0]", egress: "Deny",
		},
		"an action that does not exist": {
			spec:   head + "ingress: [{action: Allow, from: [{namespaces: {}}]}]",
			reason: ReasonInvalid, message: "spec.ingress[0].action", ingress: "Deny",
		},
		"no subject": {
			spec:   "tier: Admin, priority: 7, subject: {}",
			reason: ReasonInvalidSelector, message: "spec.subject",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := clusterPolicy(t, "{"+tc.spec+"}")
			if c.Finding.Reason != tc.reason || c.Finding.Accepted != (tc.reason == ReasonAccepted) || !strings.Contains(c.Finding.Message, tc.message) {
				t.Errorf("got %+v, want %s about %s", c.Finding, tc.reason, tc.message)
			}
			if c.Tier != AdminTier || c.Order != 7 || c.Ingress != (tc.ingress != "") || c.Egress != (tc.egress != "") {
				t.Errorf("tier %s, order %f, ingress %t, egress %t", c.Tier, c.Order, c.Ingress, c.Egress)
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
	if c := clusterPolicy(t, "{tier: Baseline, priority: 0, subject: {namespaces: {}}}"); c.Tier != BaselineTier || c.Ingress || c.Egress {
		t.Errorf("a baseline policy without rules: tier %s, ingress %t, egress %t", c.Tier, c.Ingress, c.Egress)
	}
}
