package policy

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	adminv1alpha1 "sigs.k8s.io/network-policy-api/apis/v1alpha1"
	"sigs.k8s.io/yaml"
)

func adminPolicy(t *testing.T, spec string) *Compiled {
	t.Helper()
	var p adminv1alpha1.AdminNetworkPolicy
	if err := yaml.UnmarshalStrict([]byte("metadata: {name: p, generation: 3}\nspec: "+spec), &p); err != nil {
		t.Fatalf("reading policy: %v", err)
	}
	return AdminNetworkPolicy(&p)
}

func baselinePolicy(t *testing.T, spec string) *Compiled {
	t.Helper()
	var p adminv1alpha1.BaselineAdminNetworkPolicy
	if err := yaml.UnmarshalStrict([]byte("metadata: {name: default, generation: 3}\nspec: "+spec), &p); err != nil {
		t.Fatalf("reading policy: %v", err)
	}
	return BaselineAdminNetworkPolicy(&p)
}

func TestAdminNetworkPolicies(t *testing.T) {
	const (
		anywhere = "has(namespace//projectcalico.org/name)"
		pods     = "projectcalico.org/orchestrator == 'k8s'"
		head     = "priority: 7, subject: {namespaces: {}}, "
	)
	for name, tc := range map[string]struct{ spec, reason, message, ingress, egress string }{
		"one rule for each peer and port": {
			spec: head + `ingress: [{action: Allow, from: [{namespaces: {matchLabels: {x: z}}}, {pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: a}}}}],
				ports: [{portNumber: {protocol: TCP, port: 80}}, {portRange: {protocol: UDP, start: 5, end: 9}}]}]`,
			reason: ReasonAccepted,
			ingress: "Allow protocol 6 from [" + anywhere + " && namespace//x == 'z' && " + pods + "] to :[{80 80}]\n" +
				"Allow protocol 17 from [" + anywhere + " && namespace//x == 'z' && " + pods + "] to :[{5 9}]\n" +
				"Allow protocol 6 from [app == 'a' && " + anywhere + " && " + pods + "] to :[{80 80}]\n" +
				"Allow protocol 17 from [app == 'a' && " + anywhere + " && " + pods + "] to :[{5 9}]",
		},
		"networks, nodes and names of ports": {
			spec: head + `egress: [{action: Deny, to: [{networks: [10.0.0.0/8]}, {nodes: {matchLabels: {role: control}}}]},
				{action: Pass, to: [{namespaces: {}}], ports: [{namedPort: http}]}]`,
			reason: ReasonAccepted,
			egress: "Deny to [10.0.0.0/8]\nDeny to nodes [role == 'control']\nPass to [" + anywhere + " && " + pods + "] to :named [http]",
		},
		"what is not supported accepts nothing, and denies everything otherwise": {
			spec: head + `egress: [{action: Allow, to: [{domainNames: [example.com]}, {networks: [192.0.2.1/32]}]}, {action: Pass, to: [{domainNames: [example.com]}]}],
				ingress: [{action: Deny, from: [{namespaces: {}}], ports: [{}]}]`,
			reason: ReasonNotSupported, message: "spec.ingress[0].ports[0]", ingress: "Deny", egress: "Allow to [192.0.2.1/32]\nDeny",
		},
		"a protocol without ports": {
			spec:   head + "ingress: [{action: Allow, from: [{namespaces: {}}], ports: [{portNumber: {protocol: ICMP, port: 80}}]}]",
			reason: ReasonInvalid, message: "spec.ingress[0].ports[0].portNumber.protocol", ingress: "Deny",
		},
		"an action that does not exist": {
			spec:   head + "egress: [{action: Log, to: [{namespaces: {}}]}]",
			reason: ReasonInvalid, message: `spec.egress[0].action: Unsupported value: "Log"`, egress: "Deny",
		},
		"no subject": {spec: "priority: 7, subject: {}", reason: ReasonInvalidSelector, message: "spec.subject"},
	} {
		t.Run(name, func(t *testing.T) {
			c := adminPolicy(t, "{"+tc.spec+"}")
			if c.Finding.Reason != tc.reason || c.Finding.Accepted != (tc.reason == ReasonAccepted) || !strings.Contains(c.Finding.Message, tc.message) {
				t.Errorf("got %+v, want %s about %s", c.Finding, tc.reason, tc.message)
			}
			if c.Tier != AdminTier || c.Order != 7 || c.Ingress != (tc.ingress != "") || c.Egress != (tc.egress != "") {
				t.Errorf("tier %s, order %f, ingress %t, egress %t", c.Tier, c.Order, c.Ingress, c.Egress)
			}
			if diff := cmp.Diff([]string{tc.ingress, tc.egress}, []string{text(c, c.Program.Ingress), text(c, c.Program.Egress)}); diff != "" {
				t.Errorf("ingress and egress (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTheBaselineComesBehindEverythingWithAPriority(t *testing.T) {
	c := baselinePolicy(t, "{subject: {namespaces: {}}, egress: [{action: Allow, to: [{networks: [10.0.0.0/8]}, {nodes: {}}]}, {action: Deny, to: [{networks: [0.0.0.0/0]}]}]}")
	if c.Tier != BaselineTier || c.Order <= 1000 || !c.Finding.Accepted || c.Ingress || !c.Egress {
		t.Errorf("tier %s, order %f, %+v, ingress %t, egress %t", c.Tier, c.Order, c.Finding, c.Ingress, c.Egress)
	}
	if diff := cmp.Diff("Allow to [10.0.0.0/8]\nAllow to nodes [all()]\nDeny to [0.0.0.0/0]", text(c, c.Program.Egress)); diff != "" {
		t.Errorf("egress (-want +got):\n%s", diff)
	}
	if c := baselinePolicy(t, "{subject: {namespaces: {}}, ingress: [{action: Pass, from: [{namespaces: {}}]}]}"); c.Finding.Reason != ReasonInvalid {
		t.Errorf("a baseline that passes: %+v", c.Finding)
	}
}
