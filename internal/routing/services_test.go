package routing

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWhichNodesAdvertiseServices(t *testing.T) {
	const ranges = `{serviceClusterIPs: [{cidr: 10.49.0.0/16}], serviceExternalIPs: [{cidr: 10.50.0.0/24}], serviceLoadBalancerIPs: [{cidr: 10.51.0.0/24}]}`
	const single = `{serviceLoadBalancerIPs: [{cidr: 10.51.0.0/24}], serviceLoadBalancerAggregation: Disabled}`
	for sentence, tc := range map[string]struct {
		given func(w *town)
		want  string
	}{
		"nothing is configured: nothing is advertised": {
			func(w *town) { w.service("s", "cluster=10.49.0.1", "external=10.50.0.1") }, "a:\nb:\nc:",
		},
		"the ranges as given, from every node, in order": {func(w *town) { w.config("default", ranges) }, `
a: 10.49.0.0/16 10.50.0.0/24 10.51.0.0/24
b: 10.49.0.0/16 10.50.0.0/24 10.51.0.0/24
c: 10.49.0.0/16 10.50.0.0/24 10.51.0.0/24`},
		"a service adds nothing to them": {func(w *town) {
			w.config("default", `{serviceClusterIPs: [{cidr: 10.49.0.0/16}]}`)
			w.service("s", "cluster=10.49.0.1")
			w.endpoints("s", "a")
		}, `
a: 10.49.0.0/16
b: 10.49.0.0/16
c: 10.49.0.0/16`},
		"externalTrafficPolicy Local: each of its addresses on nodes with a ready endpoint": {func(w *town) {
			w.config("default", ranges)
			w.service("s", "Local", "cluster=10.49.0.1", "external=10.50.0.1", "lb=10.51.0.1")
			w.endpoints("s", "b")
		}, `
a: 10.49.0.0/16 10.50.0.0/24 10.51.0.0/24
b: 10.49.0.0/16 10.49.0.1/32 10.50.0.0/24 10.50.0.1/32 10.51.0.0/24 10.51.0.1/32
c: 10.49.0.0/16 10.50.0.0/24 10.51.0.0/24`},
		"Local, but outside the configured ranges of its kind": {func(w *town) {
			w.config("default", `{serviceClusterIPs: [{cidr: 10.49.0.0/16}]}`)
			w.service("s", "Local", "cluster=10.40.0.1", "external=10.49.0.7", "lb=10.49.0.8")
			w.endpoints("s", "b")
		}, `
a: 10.49.0.0/16
b: 10.49.0.0/16
c: 10.49.0.0/16`},
		"Local with both families": {func(w *town) {
			w.config("default", `{serviceClusterIPs: [{cidr: 10.49.0.0/16}, {cidr: "2001:db8:49::/112"}]}`)
			w.service("s", "Local", "cluster=10.49.0.1", "cluster=2001:db8:49::1")
			w.endpoints("s", "c")
		}, `
a: 10.49.0.0/16 2001:db8:49::/112
b: 10.49.0.0/16 2001:db8:49::/112
c: 10.49.0.0/16 10.49.0.1/32 2001:db8:49::/112 2001:db8:49::1/128`},
		"the last ready endpoint of a node is gone, and so is the route": {func(w *town) {
			w.config("default", `{serviceClusterIPs: [{cidr: 10.49.0.0/16}]}`)
			w.service("s", "Local", "cluster=10.49.0.1")
			w.endpoints("s", "a", "b")
			w.endpoints("s", "a")
		}, `
a: 10.49.0.0/16 10.49.0.1/32
b: 10.49.0.0/16
c: 10.49.0.0/16`},
		"a service that is deleted, and one that is Local no longer": {func(w *town) {
			w.config("default", `{serviceClusterIPs: [{cidr: 10.49.0.0/16}]}`)
			w.service("s", "Local", "cluster=10.49.0.1")
			w.endpoints("s", "a")
			w.service("t", "Local", "cluster=10.49.0.2")
			w.endpoints("t", "a")
			w.plan.DeleteService(ServiceName{"default", "s"})
			w.service("t", "cluster=10.49.0.2")
		}, `
a: 10.49.0.0/16
b: 10.49.0.0/16
c: 10.49.0.0/16`},
		"one address in the configuration is advertised as that /32": {func(w *town) {
			w.config("default", `{serviceLoadBalancerIPs: [{cidr: 10.51.0.7/32}]}`)
			w.service("s", "lb=10.51.0.7")
			w.endpoints("s", "a")
		}, `
a: 10.51.0.7/32
b: 10.51.0.7/32
c: 10.51.0.7/32`},
		"and goes the way of its service when that is Local": {func(w *town) {
			w.config("default", `{serviceLoadBalancerIPs: [{cidr: 10.51.0.7/32}]}`)
			w.service("s", "Local", "lb=10.51.0.7")
			w.endpoints("s", "a")
		}, "a: 10.51.0.7/32\nb:\nc:"},
		"without aggregation each load-balancer address with a ready endpoint, from every node": {func(w *town) {
			w.config("default", single)
			w.service("s", "lb=10.51.0.7")
			w.endpoints("s", "a")
			w.service("idle", "lb=10.51.0.8")
			w.service("elsewhere", "lb=10.52.0.8")
			w.endpoints("elsewhere", "a")
		}, `
a: 10.51.0.7/32
b: 10.51.0.7/32
c: 10.51.0.7/32`},
		"without aggregation and Local, from nodes with an endpoint": {func(w *town) {
			w.config("default", single)
			w.service("s", "Local", "lb=10.51.0.7")
			w.endpoints("s", "a")
		}, "a: 10.51.0.7/32\nb:\nc:"},
		"aggregation comes back": {func(w *town) {
			w.config("default", single)
			w.service("s", "lb=10.51.0.7")
			w.endpoints("s", "a")
			w.config("default", `{serviceLoadBalancerIPs: [{cidr: 10.51.0.0/24}], serviceLoadBalancerAggregation: Enabled}`)
		}, "a: 10.51.0.0/24\nb: 10.51.0.0/24\nc: 10.51.0.0/24"},
		"a node that is excluded from load balancers advertises nothing": {func(w *town) {
			w.config("default", ranges)
			w.service("s", "Local", "cluster=10.49.0.1")
			w.endpoints("s", "b")
			w.node("b", "192.0.2.2", LabelExclude+"=")
			w.node("c", "192.0.2.2", LabelExclude+"=true")
		}, "a: 10.49.0.0/16 10.50.0.0/24 10.51.0.0/24\nb:\nc:"},
		"and does so again without the label": {func(w *town) {
			w.config("default", `{serviceClusterIPs: [{cidr: 10.49.0.0/16}]}`)
			w.node("b", "192.0.2.2", LabelExclude+"=")
			w.announced()
			w.node("b", "192.0.2.2")
		}, "a: 10.49.0.0/16\nb: 10.49.0.0/16\nc: 10.49.0.0/16"},
		"a headless service has no addresses": {func(w *town) {
			w.config("default", ranges)
			w.service("s", "Local")
			w.endpoints("s", "b")
		}, `
a: 10.49.0.0/16 10.50.0.0/24 10.51.0.0/24
b: 10.49.0.0/16 10.50.0.0/24 10.51.0.0/24
c: 10.49.0.0/16 10.50.0.0/24 10.51.0.0/24`},
		"the ranges of one node": {func(w *town) {
			w.config("default", `{serviceClusterIPs: [{cidr: 10.49.0.0/16}]}`)
			w.config("node.c", `{serviceClusterIPs: [{cidr: 10.49.8.0/24}]}`)
		}, "a: 10.49.0.0/16\nb: 10.49.0.0/16\nc: 10.49.8.0/24"},
		"a service advertised from one rack: its addresses from there, beside the ranges": {func(w *town) {
			w.config("default", ranges)
			w.service("s", "from=rack == '1'", "external=10.50.0.1")
			w.endpoints("s", "c")
		}, `
a: 10.49.0.0/16 10.50.0.0/24 10.50.0.1/32 10.51.0.0/24
b: 10.49.0.0/16 10.50.0.0/24 10.50.0.1/32 10.51.0.0/24
c: 10.49.0.0/16 10.50.0.0/24 10.51.0.0/24`},
		"from one rack and Local: both must hold": {func(w *town) {
			w.config("default", `{serviceExternalIPs: [{cidr: 10.50.0.1/32}]}`)
			w.service("s", "Local", "from=rack == '1'", "external=10.50.0.1")
			w.endpoints("s", "b", "c")
		}, "a:\nb: 10.50.0.1/32\nc:"},
		"a node moves to another rack": {func(w *town) {
			w.config("default", `{serviceExternalIPs: [{cidr: 10.50.0.1/32}]}`)
			w.service("s", "from=rack == '2'", "external=10.50.0.1")
			w.endpoints("s", "b")
			w.announced()
			w.node("a", "rack=2", "192.0.2.1")
		}, "a: 10.50.0.1/32\nb:\nc: 10.50.0.1/32"},
		"a selector that can't be read selects no node": {func(w *town) {
			w.config("default", `{serviceExternalIPs: [{cidr: 10.50.0.1/32}]}`)
			w.service("s", "from=rack ===", "external=10.50.0.1")
			w.endpoints("s", "b")
		}, "a:\nb:\nc:"},
	} {
		t.Run(sentence, func(t *testing.T) {
			w := newTown(t)
			tc.given(w)
			if diff := cmp.Diff(strings.TrimSpace(tc.want), w.announced()); diff != "" {
				t.Errorf("prefixes (-want +got):\n%s", diff)
			}
		})
	}
}

// TestAChangeTouchesOnlyTheNodesConcerned holds what a change of one service, or of its endpoints, costs.
func TestAChangeTouchesOnlyTheNodesConcerned(t *testing.T) {
	w := newTown(t)
	w.config("default", `{serviceClusterIPs: [{cidr: 10.49.0.0/16}], serviceLoadBalancerIPs: [{cidr: 10.51.0.0/24}]}`)
	w.service("s", "Local", "cluster=10.49.0.1")
	w.endpoints("s", "a")
	w.plan.Changed()
	for _, step := range []struct {
		what   string
		change func()
		want   string
	}{
		{"an endpoint on another node", func() { w.endpoints("s", "a", "b") }, "b"},
		{"the same again", func() { w.endpoints("s", "b", "a") }, ""},
		{"an endpoint moves", func() { w.endpoints("s", "b", "c") }, "a c"},
		{"a service of all nodes", func() { w.service("t", "cluster=10.49.0.2", "lb=10.51.0.2") }, ""},
		{"its endpoints", func() { w.endpoints("t", "a", "b", "c") }, ""},
		{"a Local service without endpoints", func() { w.service("u", "Local", "cluster=10.49.0.3") }, ""},
		{"another address", func() { w.service("s", "Local", "cluster=10.49.0.9") }, "b c"},
		{"another label of a node", func() { w.node("a", "192.0.2.1", "rack=1", "colour=red") }, ""},
		{"a new node", func() { w.node("d", "192.0.2.4") }, "d"},
		{"a peer of one node", func() { w.peer("p", `{node: c, peerIP: 192.0.2.9, asNumber: 65001}`) }, "c"},
	} {
		step.change()
		if got := strings.Join(w.plan.Changed(), " "); got != step.want {
			t.Errorf("%s: changed %q, want %q", step.what, got, step.want)
		}
	}
}
