package render

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/manul-net/manul/api/v1alpha1"
)

func TestPacketLimitsOfPods(t *testing.T) {
	const qos = "qos.projectcalico.org/"
	limit := func(rate, burst, connections int64) *v1alpha1.PacketLimit {
		return &v1alpha1.PacketLimit{PacketsPerSecond: rate, Burst: burst, Connections: connections}
	}
	for _, test := range []struct {
		annotations string
		want        *v1alpha1.PacketLimits
		problem     string
	}{
		{"", nil, ""},
		{"ingressPacketRate: '500'", &v1alpha1.PacketLimits{Ingress: limit(500, 5, 0)}, ""},
		{"egressPacketRate: 2k, qos.projectcalico.org/egressPacketBurst: '40'", &v1alpha1.PacketLimits{Egress: limit(2000, 40, 0)}, ""},
		{"ingressMaxConnections: '100', qos.projectcalico.org/egressMaxConnections: '7'", &v1alpha1.PacketLimits{Ingress: limit(0, 0, 100), Egress: limit(0, 0, 7)}, ""},
		{"ingressPacketRate: fast", nil, "ingressPacketRate: got \"fast\": write it like 500, packets per second, from 1 to 1M"},
		{"egressPacketRate: '0'", nil, "egressPacketRate: got \"0\": write it like 500, packets per second, from 1 to 1M"},
		{"ingressPacketRate: '10', qos.projectcalico.org/ingressPacketBurst: 2M", nil, "ingressPacketBurst: got \"2M\": write it like 50, packets, from 1 to 1M"},
		{"egressPacketBurst: '5'", nil, "egressPacketBurst: a burst needs a rate: set qos.projectcalico.org/egressPacketRate too"},
		{"egressMaxConnections: '-1'", nil, "egressMaxConnections: got \"-1\": write it like 100, connections, from 1 to 4294967295"},
		{"ingressMaxConnections: 5G", nil, "ingressMaxConnections: got \"5G\": write it like 100, connections, from 1 to 4294967295"},
	} {
		annotations := ""
		if test.annotations != "" {
			annotations = qos + test.annotations
		}
		c := New()
		give(t, c, parse(t, strings.ReplaceAll(`apiVersion: v1
kind: Node
metadata: {name: x}
---
apiVersion: v1
kind: Pod
metadata: {namespace: a, name: p, annotations: {ANNOTATIONS}}
`, "ANNOTATIONS", annotations))...)
		state, ok := c.Desired(Key{KindNodeState, "x"}).(*v1alpha1.NodeState)
		if !ok || len(state.Spec.Endpoints) != 1 {
			t.Fatalf("NodeState x has no endpoint: %+v", state)
		}
		problem := ""
		if test.problem != "" {
			problem = "annotation " + qos + test.problem
		}
		e := &state.Spec.Endpoints[0]
		if diff := cmp.Diff(test.want, e.Packets) + cmp.Diff(problem, e.Addresses.Impossible); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.annotations, diff)
		}
	}
}

// The guide's example is understood as a whole.
func TestLimitsOfTheGuide(t *testing.T) {
	manifest, err := os.ReadFile("../../docs/guide/manifests/limits.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(manifest), "name: limited", "name: limited\n  namespace: a", 1)
	text = strings.Replace(text, "spec:", "spec:\n  nodeName: x", 1)
	c := New()
	give(t, c, parse(t, "apiVersion: v1\nkind: Node\nmetadata: {name: x}\n---\n"+text)...)
	state, ok := c.Desired(Key{KindNodeState, "x"}).(*v1alpha1.NodeState)
	if !ok || len(state.Spec.Endpoints) != 1 {
		t.Fatalf("NodeState x has no endpoint: %+v", state)
	}
	e := &state.Spec.Endpoints[0]
	bandwidth := &v1alpha1.Bandwidth{
		Ingress: &v1alpha1.BandwidthLimit{BitsPerSecond: 50_000_000, BurstBits: defaultBurst}, Egress: &v1alpha1.BandwidthLimit{BitsPerSecond: 20_000_000, BurstBits: 4_000_000},
	}
	packets := &v1alpha1.PacketLimits{
		Ingress: &v1alpha1.PacketLimit{PacketsPerSecond: 5000, Burst: 200, Connections: 100}, Egress: &v1alpha1.PacketLimit{Connections: 50},
	}
	if diff := cmp.Diff(bandwidth, e.Bandwidth) + cmp.Diff(packets, e.Packets) + cmp.Diff("", e.Addresses.Impossible); diff != "" {
		t.Errorf("limits (-want +got):\n%s", diff)
	}
}
