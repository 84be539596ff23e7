package routing

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	v3 "github.com/manul-net/manul/api/v3"
)

func TestFilters(t *testing.T) {
	const closedRules = `export:
- family: 4
- family: 6
import:
- family: 4
- family: 6
name: f
`
	for sentence, tc := range map[string]struct{ filter, want string }{
		"a filter that does not exist lets nothing pass":         {"", closedRules},
		"a filter that contradicts itself lets nothing pass":     {"{exportV4: [{action: Accept, cidr: 10.0.0.0/8}]}", closedRules},
		"an empty filter says nothing, and all routes pass":      {"{}", "name: f\n"},
		"a rule without a match decides every route of a family": {"{importV6: [{action: Reject}]}", "import:\n- family: 6\nname: f\n"},
		"all that a rule can say": {`
exportV4:
- {action: Accept, cidr: 10.0.0.0/8, matchOperator: In, prefixLength: {min: 24, max: 26}, source: RemotePeers, interface: eth*, peerType: eBGP,
  communities: {values: ["65001:1"]}, asPathPrefix: [65001, 65002], priority: 7,
  operations: [{addCommunity: {value: "65001:2"}}, {prependASPath: {prefix: [65003]}}, {setPriority: {value: 9}}]}`, `export:
- accept: true
  asPathPrefix:
  - 65001
  - 65002
  cidr: 10.0.0.0/8
  communities:
  - "65001:1"
  family: 4
  interface: eth*
  maxLength: 26
  minLength: 24
  operations:
  - addCommunity: "65001:2"
  - prependASPath:
    - 65003
  - setPriority: 9
  operator: In
  peerType: eBGP
  priority: 7
  remotePeers: true
name: f
`},
		"NotIn with a length: outside, or of another length": {
			"{exportV4: [{action: Reject, cidr: 10.0.0.0/8, matchOperator: NotIn, prefixLength: {min: 24, max: 26}}]}", `export:
- cidr: 10.0.0.0/8
  family: 4
  operator: NotIn
- family: 4
  maxLength: 23
- family: 4
  minLength: 27
name: f
`,
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			w := newTown(t)
			w.peer("p", `{node: a, peerIP: 192.0.2.9, asNumber: 65001, filters: [f]}`)
			if tc.filter != "" {
				w.plan.SetFilter("f", read[v3.BGPFilterSpec](t, tc.filter))
			}
			filters := w.plan.BGP("a").Filters
			if len(filters) != 1 {
				t.Fatalf("filters are %v", filters)
			}
			text, err := yaml.Marshal(filters[0])
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, string(text)); diff != "" {
				t.Errorf("filter (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSettingsOfNodes(t *testing.T) {
	w := newTown(t)
	w.config("default", `
listenPort: 1179
bindMode: NodeIP
ignoredInterfaces: [eth1, docker*]
ipv4NormalRoutePriority: 512
nodeMeshPassword: {secretKeyRef: {name: bgp, key: mesh}}
nodeMeshMaxRestartTime: 90s
communities: [{name: rack, value: "65001:1"}]
prefixAdvertisements: [{cidr: 10.49.0.0/16, communities: [rack, "65001:2:3", unknown]}, {cidr: 10.48.0.0/16, communities: [rack]}]`)
	w.config("node.b", `{asNumber: 65010, bindMode: None, communities: [{name: rack, value: "65001:9"}]}`)
	w.node("c", "2001:db8::3")
	for name, want := range map[string]string{
		"a": "AS 64512 192.0.2.1 port 1179 at [192.0.2.1] mesh bgp/mesh 90 ignored [docker* eth1] metric 512 communities [{10.48.0.0/16 [65001:1]} {10.49.0.0/16 [65001:1 65001:2:3]}]",
		"b": "AS 65010 192.0.2.2 port 1179 at [] mesh bgp/mesh 90 ignored [docker* eth1] metric 512 communities [{10.48.0.0/16 [65001:9]} {10.49.0.0/16 [65001:2:3 65001:9]}]",
		"c": "AS 64512 47.125.44.3 port 1179 at [2001:db8::3] mesh bgp/mesh 90 ignored [docker* eth1] metric 512 communities [{10.48.0.0/16 [65001:1]} {10.49.0.0/16 [65001:1 65001:2:3]}]",
	} {
		p := w.plan.BGP(name)
		got := fmt.Sprintf("AS %d %s port %d at %v mesh %s/%s %d ignored %v metric %d communities %v", p.ASNumber, p.RouterID, p.ListenPort, p.ListenAddresses,
			p.Mesh.Password.Name, p.Mesh.Password.Key, p.Mesh.RestartSeconds, p.IgnoredInterfaces, p.MetricIPv4, p.Communities)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("node %s (-want +got):\n%s", name, diff)
		}
	}
}

func TestWhoWritesRoutesToPools(t *testing.T) {
	for program, want := range map[string][3]bool{ // without encapsulation, IPIP, VXLAN
		"": {}, "Disabled": {}, "Enabled": {true, true, false}, "EnabledIPIPOnly": {false, true, false}, "EnabledNoEncapOnly": {true, false, false},
	} {
		w := newTown(t)
		if program != "" {
			w.config("default", "programClusterRoutes: "+program)
		}
		got := [3]bool{w.plan.RoutesByBGP(false, false), w.plan.RoutesByBGP(true, false), w.plan.RoutesByBGP(false, true)}
		if got != want {
			t.Errorf("programClusterRoutes %q: %v, want %v", program, got, want)
		}
	}
}
