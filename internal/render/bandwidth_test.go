package render

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/manul-net/manul/api/v1alpha1"
)

func TestBandwidthOfPods(t *testing.T) {
	limit := func(rate, burst int64) *v1alpha1.BandwidthLimit {
		return &v1alpha1.BandwidthLimit{BitsPerSecond: rate, BurstBits: burst}
	}
	const ingress = "qos.projectcalico.org/ingressBandwidth or kubernetes.io/ingress-bandwidth"
	for _, test := range []struct {
		annotations string
		want        *v1alpha1.Bandwidth
		problem     string
	}{
		{"", nil, ""},
		{"kubernetes.io/ingress-bandwidth: 10M", &v1alpha1.Bandwidth{Ingress: limit(10_000_000, 4_294_967_296)}, ""},
		{"kubernetes.io/egress-bandwidth: 1Ki", &v1alpha1.Bandwidth{Egress: limit(1024, 4_294_967_296)}, ""},
		{"qos.projectcalico.org/ingressBandwidth: 1G, qos.projectcalico.org/ingressBurst: 1Mi", &v1alpha1.Bandwidth{Ingress: limit(1_000_000_000, 1_048_576)}, ""},
		{"qos.projectcalico.org/egressBandwidth: 2k, qos.projectcalico.org/egressBurst: 3k", &v1alpha1.Bandwidth{Egress: limit(2000, 3000)}, ""},
		{"qos.projectcalico.org/ingressBandwidth: 5M, kubernetes.io/ingress-bandwidth: 10M", &v1alpha1.Bandwidth{Ingress: limit(5_000_000, 4_294_967_296)}, ""},
		{"kubernetes.io/ingress-bandwidth: fast", nil, `annotation ` + ingress + `: got "fast": write it like 10M, bits per second, from 1k to 1P`},
		{"kubernetes.io/ingress-bandwidth: '10'", nil, `annotation ` + ingress + `: got "10": write it like 10M, bits per second, from 1k to 1P`},
		{"kubernetes.io/ingress-bandwidth: 2P", nil, `annotation ` + ingress + `: got "2P": write it like 10M, bits per second, from 1k to 1P`},
		{"qos.projectcalico.org/ingressBurst: 1Mi", nil, "annotation qos.projectcalico.org/ingressBurst: a burst needs a rate: set " + ingress + " too"},
		{"kubernetes.io/ingress-bandwidth: 1M, qos.projectcalico.org/ingressBurst: much", nil, `annotation qos.projectcalico.org/ingressBurst: got "much": write it like 1Mi, bits, from 1k to 34359738360`},
		{"kubernetes.io/ingress-bandwidth: 1M, qos.projectcalico.org/ingressPeakrate: 2M", &v1alpha1.Bandwidth{Ingress: &v1alpha1.BandwidthLimit{
			BitsPerSecond: 1_000_000, BurstBits: 4_294_967_296, PeakBitsPerSecond: 2_000_000,
		}}, ""},
		{"qos.projectcalico.org/egressBandwidth: 1k, qos.projectcalico.org/egressPeakrate: 1.01k, qos.projectcalico.org/egressMinburst: 9k", &v1alpha1.Bandwidth{Egress: &v1alpha1.BandwidthLimit{
			BitsPerSecond: 1000, BurstBits: 4_294_967_296, PeakBitsPerSecond: 1010, MinBurstBytes: 9000,
		}}, ""},
		{"qos.projectcalico.org/ingressPeakrate: 2M", nil, "annotation qos.projectcalico.org/ingressPeakrate: a peak rate needs a rate: set " + ingress + " too"},
		{
			"kubernetes.io/ingress-bandwidth: 2M, qos.projectcalico.org/ingressPeakrate: 2M", nil,
			`annotation qos.projectcalico.org/ingressPeakrate: got "2M", which is not above the rate, "2M": write a greater one, or leave it out`,
		},
		{
			"kubernetes.io/ingress-bandwidth: 2M, qos.projectcalico.org/ingressPeakrate: high", nil,
			`annotation qos.projectcalico.org/ingressPeakrate: got "high": write it like 20M, bits per second, from 1010 to 1.01P`,
		},
		{
			"kubernetes.io/ingress-bandwidth: 2M, qos.projectcalico.org/ingressMinburst: 9k", nil,
			"annotation qos.projectcalico.org/ingressMinburst: a least burst needs a peak rate: set qos.projectcalico.org/ingressPeakrate too",
		},
		{
			"kubernetes.io/ingress-bandwidth: 2M, qos.projectcalico.org/ingressPeakrate: 3M, qos.projectcalico.org/ingressMinburst: '1'", nil,
			`annotation qos.projectcalico.org/ingressMinburst: got "1": write it like 1500, bytes, from 1k to 100M`,
		},
	} {
		c := New()
		give(t, c, parse(t, oneNode+"---\napiVersion: v1\nkind: Pod\nmetadata: {namespace: a, name: p}\n")...)
		c.Dirty()
		give(t, c, parse(t, "apiVersion: v1\nkind: Pod\nmetadata: {namespace: a, name: p, annotations: {"+test.annotations+"}}\n")...)
		if touched := len(c.Dirty()) > 0; touched != (test.annotations != "") {
			t.Errorf("%s: touched: %v", test.annotations, touched)
		}
		state, ok := c.Desired(Key{KindNodeState, "x"}).(*v1alpha1.NodeState)
		if !ok || len(state.Spec.Endpoints) != 1 {
			t.Fatalf("NodeState x has no endpoint: %+v", state)
		}
		if diff := cmp.Diff(test.want, state.Spec.Endpoints[0].Bandwidth); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.annotations, diff)
		}
		if got := state.Spec.Endpoints[0].Addresses.Impossible; got != test.problem {
			t.Errorf("%s:\ngot  %s\nwant %s", test.annotations, got, test.problem)
		}
	}
}
