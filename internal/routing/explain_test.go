package routing

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestExplain: of each address the verdict is the plan's, and the reason is what the plan goes by.
func TestExplain(t *testing.T) {
	const ranges = `{serviceClusterIPs: [{cidr: 10.49.0.0/16}], serviceExternalIPs: [{cidr: 10.50.0.0/24}], serviceLoadBalancerIPs: [{cidr: 10.51.0.0/24}]}`
	for sentence, tc := range map[string]struct {
		given func(w *town)
		want  []string
	}{
		"nothing is configured": {func(w *town) { w.service("s", "cluster=10.49.0.1") }, []string{
			"10.49.0.1 - the address is in no CIDR of the BGPConfiguration's serviceClusterIPs: add one",
		}},
		"a range": {func(w *town) { w.config("default", ranges); w.service("s", "cluster=10.49.0.1", "external=192.0.2.1") }, []string{
			"10.49.0.1 10.49.0.0/16 every node advertises the ranges of serviceClusterIPs",
			"192.0.2.1 - the address is in no CIDR of the BGPConfiguration's serviceExternalIPs: add one",
		}},
		"Local, with an endpoint here": {func(w *town) {
			w.config("default", ranges)
			w.service("s", "Local", "external=10.50.0.1")
			w.endpoints("s", "a")
		}, []string{
			"10.50.0.1 10.50.0.1/32 externalTrafficPolicy is Local, and the node has a ready endpoint",
		}},
		"Local, with none here": {func(w *town) {
			w.config("default", ranges)
			w.service("s", "Local", "external=10.50.0.1")
			w.endpoints("s", "b")
		}, []string{
			"10.50.0.1 10.50.0.0/24 every node advertises the ranges of serviceExternalIPs; the address alone is advertised by nodes with a ready endpoint",
		}},
		"Local, with none here, and just the address is configured": {func(w *town) {
			w.config("default", `{serviceExternalIPs: [{cidr: 10.50.0.1/32}]}`)
			w.service("s", "Local", "external=10.50.0.1")
			w.endpoints("s", "b")
		}, []string{"10.50.0.1 - externalTrafficPolicy is Local, and the node has no ready endpoint"}},
		"no endpoint at all": {func(w *town) {
			w.config("default", `{serviceLoadBalancerIPs: [{cidr: 10.51.0.0/24}], serviceLoadBalancerAggregation: Disabled}`)
			w.service("s", "lb=10.51.0.1")
		}, []string{"10.51.0.1 - the service has no ready endpoint"}},
		"one by one": {func(w *town) {
			w.config("default", `{serviceLoadBalancerIPs: [{cidr: 10.51.0.0/24}], serviceLoadBalancerAggregation: Disabled}`)
			w.service("s", "lb=10.51.0.1")
			w.endpoints("s", "b")
		}, []string{"10.51.0.1 10.51.0.1/32 addresses of load balancers are advertised one by one"}},
		"just the address is configured, and the service is as others": {func(w *town) {
			w.config("default", `{serviceExternalIPs: [{cidr: 10.50.0.1/32}]}`)
			w.service("s", "external=10.50.0.1")
		}, []string{"10.50.0.1 10.50.0.1/32 every node advertises the ranges of serviceExternalIPs"}},
		"just the address is configured, and another service holds it": {func(w *town) {
			w.config("default", `{serviceExternalIPs: [{cidr: 10.50.0.1/32}]}`)
			w.service("s", "external=10.50.0.1")
			w.service("t", "Local", "external=10.50.0.1")
			w.endpoints("t", "b")
		}, []string{"10.50.0.1 - another service with the address is advertised by some nodes only"}},
		"another service with the address is advertised here": {func(w *town) {
			w.config("default", `{serviceExternalIPs: [{cidr: 10.50.0.0/24}]}`)
			w.service("s", "external=10.50.0.1")
			w.service("t", "Local", "external=10.50.0.1")
			w.endpoints("t", "a")
		}, []string{"10.50.0.1 10.50.0.1/32 it is advertised for another service, or for the addresses of another kind"}},
		"from nodes that it selects": {func(w *town) {
			w.config("default", `{serviceExternalIPs: [{cidr: 10.50.0.1/32}]}`)
			w.service("s", "from=rack == '1'", "external=10.50.0.1")
			w.endpoints("s", "b")
		}, []string{"10.50.0.1 10.50.0.1/32 the service is advertised from nodes that match rack == '1'"}},
		"from other nodes": {func(w *town) {
			w.config("default", `{serviceExternalIPs: [{cidr: 10.50.0.0/24}]}`)
			w.service("s", "from=rack == '2'", "external=10.50.0.1")
			w.endpoints("s", "b")
		}, []string{
			"10.50.0.1 10.50.0.0/24 every node advertises the ranges of serviceExternalIPs; the service is advertised from nodes that match rack == '2', and this one does not",
		}},
		"the node is left out": {func(w *town) {
			w.config("default", ranges)
			w.node("a", LabelExclude+"=")
			w.service("s", "cluster=10.49.0.1")
		}, []string{"10.49.0.1 - the node has the label " + LabelExclude}},
	} {
		t.Run(sentence, func(t *testing.T) {
			w := newTown(t)
			tc.given(w)
			var got []string
			verdicts, ok := w.plan.Explain("a", ServiceName{"default", "s"})
			if !ok {
				t.Fatal("there is no such service")
			}
			for _, v := range verdicts {
				prefix := "-"
				if v.Advertised.IsValid() {
					prefix = v.Advertised.String()
				}
				got = append(got, fmt.Sprintf("%s %s %s", v.Address, prefix, v.Why))
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("verdicts (-want +got):\n%s", diff)
			}
		})
	}
	if _, ok := newTown(t).plan.Explain("a", ServiceName{"default", "s"}); ok {
		t.Error("what is not there is explained")
	}
}
