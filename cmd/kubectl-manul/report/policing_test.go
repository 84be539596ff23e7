package report

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/cmd/kubectl-manul/policing"
)

func TestPolicing(t *testing.T) {
	tcp := int32(6)
	database := v1alpha1.PolicyReference{Kind: "KubernetesNetworkPolicy", Namespace: "bank", Name: "database"}
	p := &Policing{Asked: "TCP port 2379", Answer: policing.Answer{
		From: policing.End{Pod: "bank/customer", Address: netip.MustParseAddr("10.48.0.2"), Node: "worker1"},
		To:   policing.End{Pod: "bank/database", Address: netip.MustParseAddr("10.48.1.1"), Node: "worker2"},
		Steps: []policing.Step{
			{
				Node: "worker1", Endpoint: "bank/customer", Point: "workload", Direction: "egress", Allowed: true, Reason: "rule", Tier: "security", Rule: 2,
				Policy: &v1alpha1.PolicyReference{Kind: "GlobalNetworkPolicy", Name: "security.guard"},
				Match: &v1alpha1.Rule{Action: v1alpha1.Allow, Protocol: &tcp, Destination: v1alpha1.EntityMatch{
					Nets: []string{"10.0.0.0/8"}, Sets: []string{"s"}, Ports: []v1alpha1.PortRange{{First: 80, Last: 80}, {First: 2000, Last: 3000}},
				}},
			},
			{
				Node: "worker2", Endpoint: "bank/database", Point: "workload", Direction: "ingress", Reason: "default action of tier", Tier: "default",
				Passed: []v1alpha1.PolicyReference{database},
			},
		},
		Behind: []string{"worker2"},
	}}
	var out strings.Builder
	if err := p.Text(&out); err != nil {
		t.Fatal(err)
	}
	want := `bank/customer (10.48.0.2, on worker1) -> bank/database (10.48.1.1, on worker2), TCP port 2379

NODE      WHOSE POLICY    DIRECTION   DECISION   BECAUSE
worker1   bank/customer   egress      allowed    egress rule 2 of GlobalNetworkPolicy security.guard, tier security: Allow TCP to 10.0.0.0/8 those selected port 80,2000-3000
worker2   bank/database   ingress     denied     end of tier default, no ingress rule matches of KubernetesNetworkPolicy bank/database

Denied on worker2. That is what the operator has rendered; not all of it is in effect on worker2: see kubectl manul nodes.
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}
