package render

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/manul-net/manul/api/v1alpha1"
)

func settingsOf(t *testing.T, c *Cluster, node string) v1alpha1.AgentSettings {
	t.Helper()
	state, ok := c.Desired(Key{KindNodeState, node}).(*v1alpha1.NodeState)
	if !ok {
		t.Fatalf("there is no NodeState %s", node)
	}
	return state.Spec.Settings
}

// ports writes failsafe ports: "6/22 17/68@10.0.0.0/8".
func ports(list []v1alpha1.FailsafePort) string {
	var out []string
	for _, p := range list {
		text := fmt.Sprintf("%d/%d", p.Protocol, p.Port)
		if p.Net != "" {
			text += "@" + p.Net
		}
		out = append(out, text)
	}
	return strings.Join(out, " ")
}

func felixNamed(name, spec string) string {
	return "\n---\napiVersion: projectcalico.org/v3\nkind: FelixConfiguration\nmetadata: {name: " + name + "}\nspec: " + spec
}

func TestFailsafePorts(t *testing.T) {
	const (
		in  = "6/22 6/179 6/2379 6/2380 6/5473 6/6443 6/6666 6/6667 17/68"
		out = "6/179 6/2379 6/2380 6/5473 6/6443 6/6666 6/6667 17/53 17/67"
	)
	for name, tc := range map[string]struct{ felix, in, out string }{
		"without settings those of the documentation": {"", in, out},
		"an absent list means them":                   {felixNamed("default", "{failsafeInboundHostPorts: [{port: 2222}]}"), "6/2222", out},
		"an empty list opens none":                    {felixNamed("default", "{failsafeInboundHostPorts: [], failsafeOutboundHostPorts: []}"), "", ""},
		"protocols, and the other end": {
			felixNamed("default", "{failsafeInboundHostPorts: [{protocol: udp, port: 68}, {protocol: TCP, port: 22, net: 10.1.2.3/8}, {protocol: UDP, port: 68}, {protocol: SCTP, port: 1}]}"),
			"6/22@10.0.0.0/8 17/68 132/1", out,
		},
		"what can't be read opens nothing": {
			felixNamed("default", "{failsafeOutboundHostPorts: [{protocol: ICMP, port: 1}, {port: 0}, {port: 5, net: nonsense}, {port: 6}]}"), in, "6/6",
		},
		"a node's own list goes before that of all": {
			felixNamed("default", "{failsafeInboundHostPorts: [{port: 1}], failsafeOutboundHostPorts: [{port: 2}]}") + felixNamed("node.x", "{failsafeInboundHostPorts: []}"),
			"", "6/2",
		},
		"another node's does not count": {felixNamed("node.z", "{failsafeInboundHostPorts: []}"), in, out},
	} {
		t.Run(name, func(t *testing.T) {
			c := New()
			give(t, c, parse(t, town+"\n---\n"+gateway+tc.felix)...)
			s := settingsOf(t, c, "x")
			if diff := cmp.Diff([]string{tc.in, tc.out}, []string{ports(s.FailsafeInbound), ports(s.FailsafeOutbound)}); diff != "" {
				t.Errorf("in and out (-want +got):\n%s", diff)
			}
		})
	}
	c := New()
	give(t, c, parse(t, town)...)
	if s := settingsOf(t, c, "x"); len(s.FailsafeInbound)+len(s.FailsafeOutbound) > 0 {
		t.Errorf("a node without host endpoints has failsafe ports: %+v", s)
	}
}

func TestSettings(t *testing.T) {
	for name, tc := range map[string]struct {
		felix string
		want  v1alpha1.AgentSettings
	}{
		"none": {"", v1alpha1.AgentSettings{}},
		"all of them": {
			felixNamed("default", "{defaultEndpointToHostAction: accept, vxlanPort: 8472, allowVXLANPacketsFromWorkloads: true, allowIPIPPacketsFromWorkloads: true, nftablesMode: Enabled}"),
			v1alpha1.AgentSettings{EndpointToHostAction: "Accept", VXLANPort: 8472, AllowVXLANFromPods: true, AllowIPIPFromPods: true, Dataplane: "nftables"},
		},
		"no nftables means iptables":                                 {felixNamed("default", "{nftablesMode: Disabled}"), v1alpha1.AgentSettings{Dataplane: "iptables"}},
		"Auto leaves it to the agent":                                {felixNamed("default", "{nftablesMode: Auto}"), v1alpha1.AgentSettings{}},
		"packets that would bounce are dropped, which needs no word": {felixNamed("default", "{serviceLoopPrevention: drop}"), v1alpha1.AgentSettings{}},
		"or rejected, or left alone": {
			felixNamed("default", "{serviceLoopPrevention: disabled}") + felixNamed("node.x", "{serviceLoopPrevention: reject}"), v1alpha1.AgentSettings{ServiceLoops: "Reject"},
		},
		"objects of other names don't count": {felixNamed("other", "{vxlanPort: 1}") + felixNamed("node.z", "{vxlanPort: 1}"), v1alpha1.AgentSettings{}},
		"a node's own go before those of all, one by one": {
			felixNamed("default", "{vxlanPort: 1, allowIPIPPacketsFromWorkloads: true, allowVXLANPacketsFromWorkloads: true, nftablesMode: Disabled, defaultEndpointToHostAction: Return}") +
				felixNamed("node.x", "{vxlanPort: 2, allowIPIPPacketsFromWorkloads: false, nftablesMode: Enabled}"),
			v1alpha1.AgentSettings{EndpointToHostAction: "Return", VXLANPort: 2, AllowVXLANFromPods: true, Dataplane: "nftables"},
		},
		"but Auto, which the API server writes into every object, says nothing": {
			felixNamed("default", "{nftablesMode: Disabled}") + felixNamed("node.x", "{nftablesMode: Auto}"), v1alpha1.AgentSettings{Dataplane: "iptables"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := New()
			give(t, c, parse(t, town+tc.felix)...)
			if diff := cmp.Diff(tc.want, settingsOf(t, c, "x")); diff != "" {
				t.Errorf("settings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSettingsFollowChanges(t *testing.T) {
	c := New()
	give(t, c, parse(t, town+"\n---\n"+gateway+"\n---\napiVersion: v1\nkind: Node\nmetadata: {name: z}")...)
	c.Dirty()
	expect := func(want string) {
		t.Helper()
		var dirty []string
		for _, key := range c.Dirty() {
			dirty = append(dirty, string(key.Kind)+" "+key.Name)
		}
		if got := strings.Join(dirty, ", "); got != want {
			t.Errorf("dirty: got %q, want %q", got, want)
		}
	}
	one := func(text string) string { return strings.TrimPrefix(text, "\n---\n") }
	give(t, c, parse(t, one(felixNamed("default", "{failsafeInboundHostPorts: []}")))...)
	expect("NodeState x, NodeState z")
	give(t, c, parse(t, one(felixNamed("default", "{logSeverityScreen: Debug, failsafeInboundHostPorts: []}")))...)
	expect("")
	give(t, c, parse(t, one(felixNamed("default", "{}")))...) // an absent list is not an empty one
	expect("NodeState x, NodeState z")
	give(t, c, parse(t, one(felixNamed("node.x", "{vxlanPort: 1}")))...)
	expect("NodeState x")
	give(t, c, parse(t, one(felixNamed("node.unknown", "{vxlanPort: 1}")))...)
	expect("")
	take(t, c, parse(t, one(felixNamed("node.x", "{}")))...)
	expect("NodeState x")

	c.KeepDeniedConnections(true)
	expect("NodeState x, NodeState z")
	if !settingsOf(t, c, "z").KeepDeniedConnections {
		t.Error("denied connections are not kept")
	}
}

func TestPodsSendFromOtherPrefixesWhereThatIsPermitted(t *testing.T) {
	const any = "{workloadSourceSpoofing: Any}"
	for _, tc := range []struct{ what, annotation, felix, want string }{
		{"two prefixes", `["192.0.2.7/24", "2001:db8::/32", "192.0.2.0/24"]`, felixNamed("default", any), "192.0.2.0/24 2001:db8::/32"},
		{"an address", `["192.0.2.7"]`, felixNamed("default", any), "192.0.2.7/32"},
		{"not permitted", `["192.0.2.0/24"]`, felixNamed("default", "{workloadSourceSpoofing: Disabled}"), ""},
		{"no word on it", `["192.0.2.0/24"]`, "", ""},
		{"permitted on another node", `["192.0.2.0/24"]`, felixNamed("node.z", any), ""},
		{"permitted on this node", `["192.0.2.0/24"]`, felixNamed("default", "{workloadSourceSpoofing: Disabled}") + felixNamed("node.x", any), "192.0.2.0/24"},
		{"no list", `192.0.2.0/24`, felixNamed("default", any), ""},
		{"one that can't be read in part", `["192.0.2.0/24", "nonsense"]`, felixNamed("default", any), ""},
	} {
		c := New()
		give(t, c, parse(t, town+tc.felix)...)
		c.Dirty()
		give(t, c, parse(t, "apiVersion: v1\nkind: Pod\nmetadata: {namespace: a, name: web, labels: {app: web}, annotations: {cni.projectcalico.org/allowedSourcePrefixes: '"+tc.annotation+"'}}")...)
		if dirty := c.Dirty(); len(dirty) != 1 {
			t.Errorf("%s: dirty %v, want the NodeState", tc.what, dirty)
		}
		for _, e := range c.Desired(Key{KindNodeState, "x"}).(*v1alpha1.NodeState).Spec.Endpoints {
			want := ""
			if e.ID == "a/web" {
				want = tc.want
			}
			if got := strings.Join(e.SourcePrefixes, " "); got != want {
				t.Errorf("%s: %s may send from %q, want %q", tc.what, e.ID, got, want)
			}
		}
	}
}
