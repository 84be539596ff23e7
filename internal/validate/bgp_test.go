package validate

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	v3 "github.com/manul-net/manul/api/v3"
)

func parseBGP[T any](t *testing.T, text string) *T {
	t.Helper()
	out := new(T)
	if err := yaml.UnmarshalStrict([]byte(text), out); err != nil {
		t.Fatalf("reading %s: %v", text, err)
	}
	return out
}

// expectBGP wants each part in the text of the errors; no part: no error.
func expectBGP(t *testing.T, text string, errs field.ErrorList, parts []string) {
	t.Helper()
	got := ""
	if err := errs.ToAggregate(); err != nil {
		got = err.Error()
	}
	if (got == "") != (len(parts) == 0) {
		t.Errorf("%s: errors %q, want %q", text, got, parts)
	}
	for _, part := range parts {
		if !strings.Contains(got, part) {
			t.Errorf("%s: errors %q lack %q", text, got, part)
		}
	}
}

func TestBGPPeer(t *testing.T) {
	for _, tc := range []struct {
		spec string
		want []string
	}{
		{`{peerIP: 192.0.2.1, asNumber: 65001}`, nil},
		{`{peerIP: "192.0.2.1:1790", asNumber: 4200000000, node: worker1}`, nil},
		{`{peerIP: "[2001:db8::1]:1790", asNumber: 65001, nodeSelector: has(rack)}`, nil},
		{`{peerSelector: has(rr)}`, nil},
		{`{localWorkloadSelector: app == 'router', asNumber: 65001}`, nil},
		{`{peerIP: 192.0.2.1, asNumber: 65001, reachableBy: 198.51.100.1, keepaliveTime: 10s, maxRestartTime: 2m, ttlSecurity: 255}`, nil},
		{`{}`, []string{"spec.peerIP: Required value: the peer is missing: give peerIP, peerSelector or localWorkloadSelector"}},
		{`{peerIP: 192.0.2.1, asNumber: 1, node: a, nodeSelector: all()}`, []string{"spec.nodeSelector", "exclude each other: remove one"}},
		{`{peerIP: 192.0.2.1, asNumber: 1, peerSelector: all()}`, []string{"peerIP and peerSelector exclude each other"}},
		{`{peerIP: 192.0.2.1}`, []string{"spec.asNumber: Required value: a peer by peerIP needs its AS number"}},
		{`{localWorkloadSelector: all()}`, []string{"spec.asNumber: Required value"}},
		{`{peerSelector: all(), asNumber: 65001}`, []string{"spec.asNumber: Forbidden: nodes have their own AS numbers"}},
		{`{peerSelector: "a =="}`, []string{"spec.peerSelector"}},
		{`{peerIP: 192.0.2.0/24, asNumber: 1}`, []string{`write an IP address, with a port if it is not 179`}},
		{`{peerIP: "192.0.2.1:0", asNumber: 1}`, []string{"spec.peerIP"}},
		{`{peerIP: 224.0.0.5, asNumber: 1}`, []string{"no router can have this address"}},
		{`{peerIP: "fe80::1", asNumber: 1}`, []string{"write a global address"}},
		{`{peerIP: 192.0.2.1, asNumber: 1, localASNumber: 0}`, []string{"spec.localASNumber", "RFC 7607"}},
		{`{peerSelector: all(), reachableBy: 192.0.2.1}`, []string{"reachableBy is the gateway to peerIP: remove it, or give peerIP"}},
		{`{peerIP: 192.0.2.1, asNumber: 1, reachableBy: "2001:db8::1"}`, []string{"of the other family"}},
		{`{peerIP: 192.0.2.1, asNumber: 1, reachableBy: 192.0.2.1}`, []string{"the gateway is the peer itself: remove reachableBy"}},
		{`{peerIP: 192.0.2.1, asNumber: 1, keepOriginalNextHop: true, nextHopMode: Self}`, []string{"write nextHopMode: Keep alone"}},
		{`{peerIP: 192.0.2.1, asNumber: 1, keepaliveTime: 7h}`, []string{"spec.keepaliveTime", "from 1s to 21845s"}},
		{`{peerIP: 192.0.2.1, asNumber: 1, maxRestartTime: 2h}`, []string{"from 0s to 4095s"}},
		{`{peerIP: 192.0.2.1, asNumber: 1, password: {}}`, []string{"spec.password.secretKeyRef: Required value"}},
		{`{peerIP: 192.0.2.1, asNumber: 1, password: {secretKeyRef: {key: a}}}`, []string{"spec.password.secretKeyRef.name"}},
		{`{peerIP: 192.0.2.1, asNumber: 1, filters: [a, a]}`, []string{"spec.filters[1]: Duplicate value"}},
		{`{localWorkloadSelector: all(), asNumber: 1, reversePeering: Manual}`, []string{"spec.reversePeering"}},
	} {
		expectBGP(t, tc.spec, BGPPeer(&v3.BGPPeer{Spec: *parseBGP[v3.BGPPeerSpec](t, tc.spec)}), tc.want)
	}
}

func TestBGPFilter(t *testing.T) {
	for _, tc := range []struct {
		spec string
		want []string
	}{
		{`{}`, nil},
		{`{exportV4: [{action: Accept, cidr: 10.0.0.0/8, matchOperator: In, prefixLength: {min: 24, max: 32}}, {action: Reject}]}`, nil},
		{`{importV6: [{action: Accept, operations: [{addCommunity: {value: "65001:1"}}, {prependASPath: {prefix: [65001]}}, {setPriority: {value: 100}}]}]}`, nil},
		{`{exportV4: [{action: Accept, cidr: 10.0.0.0/8}]}`, []string{"spec.exportV4[0].matchOperator: Required value"}},
		{`{exportV4: [{action: Accept, matchOperator: In}]}`, []string{"give both or neither"}},
		{`{exportV4: [{action: Accept, prefixLength: {min: 8}}]}`, []string{"prefixLength needs cidr"}},
		{`{exportV4: [{action: Accept, matchOperator: In, cidr: "2001:db8::/32"}]}`, []string{"move it to the rules whose name ends in V6"}},
		{`{exportV6: [{action: Accept, matchOperator: In, cidr: 10.0.0.0/8}]}`, []string{"move it to the rules whose name ends in V4"}},
		{`{exportV4: [{action: Accept, matchOperator: In, cidr: 10.0.0.1/8}]}`, []string{"write 10.0.0.0/8"}},
		{`{exportV4: [{action: Accept, matchOperator: In, cidr: 10.0.0.0/8, prefixLength: {min: 28, max: 24}}]}`, []string{"min is above max: exchange them"}},
		{`{exportV4: [{action: Accept, matchOperator: In, cidr: 10.0.0.0/16, prefixLength: {max: 8}}]}`, []string{"write at least 16"}},
		{`{exportV4: [{action: Accept, matchOperator: Equal, cidr: 10.0.0.0/16, prefixLength: {max: 24}}]}`, []string{"Equal compares the length too"}},
		{`{exportV4: [{action: Reject, operations: [{setPriority: {value: 1}}]}]}`, []string{"a route that is rejected can't be changed"}},
		{`{exportV4: [{action: Accept, operations: [{}]}]}`, []string{"give exactly one of"}},
		{`{exportV4: [{action: Accept, operations: [{addCommunity: {value: "70000:1"}}]}]}`, []string{"70000 is above 65535: write a large community"}},
		{`{exportV4: [{action: Accept, communities: {values: ["a:b"]}}]}`, []string{"write a community in numbers"}},
		{`{exportV4: [{action: Accept, asPathPrefix: [0]}]}`, []string{"asPathPrefix[0]"}},
	} {
		expectBGP(t, tc.spec, BGPFilter(&v3.BGPFilter{Spec: *parseBGP[v3.BGPFilterSpec](t, tc.spec)}), tc.want)
	}
}

func TestBGPConfiguration(t *testing.T) {
	for _, tc := range []struct {
		object string
		want   []string
	}{
		{`{metadata: {name: default}, spec: {}}`, nil},
		{`{metadata: {name: node.worker1}, spec: {listenPort: 1790}}`, nil},
		{`{metadata: {name: default}, spec: {serviceClusterIPs: [{cidr: 10.49.0.0/16}], communities: [{name: rack, value: "65001:1"}], prefixAdvertisements: [{cidr: 10.49.0.0/16, communities: [rack, "65001:1:2"]}]}}`, nil},
		{`{metadata: {name: other}, spec: {}}`, []string{"call it default, for all nodes, or node.<name>"}},
		{`{metadata: {name: node.a}, spec: {nodeMeshPassword: {secretKeyRef: {name: a, key: b}}, programClusterRoutes: Enabled}}`, []string{"spec.nodeMeshPassword: Forbidden", "spec.programClusterRoutes: Forbidden: all nodes must agree"}},
		{`{metadata: {name: default}, spec: {nodeToNodeMeshEnabled: false, nodeMeshMaxRestartTime: 60s}}`, []string{"it has no effect without the mesh"}},
		{`{metadata: {name: default}, spec: {asNumber: 0}}`, []string{"spec.asNumber"}},
		{`{metadata: {name: default}, spec: {serviceClusterIPs: [{cidr: 10.49.0.1}]}}`, []string{"write 10.49.0.1/32 for this address alone"}},
		{`{metadata: {name: default}, spec: {serviceExternalIPs: [{cidr: 10.49.0.1/16}]}}`, []string{"write 10.49.0.0/16"}},
		{`{metadata: {name: default}, spec: {serviceLoadBalancerIPs: [{}]}}`, []string{"spec.serviceLoadBalancerIPs[0].cidr: Required value"}},
		{`{metadata: {name: default}, spec: {serviceLoadBalancerIPs: [{cidr: 10.51.0.0/24}, {cidr: 10.51.0.0/24}]}}`, []string{"[1].cidr: Duplicate value"}},
		{`{metadata: {name: default}, spec: {prefixAdvertisements: [{cidr: 10.0.0.0/8, communities: [rack]}]}}`, []string{"no entry of communities has this name"}},
		{`{metadata: {name: default}, spec: {communities: [{name: a, value: "1:1"}, {name: a, value: "1:2"}]}}`, []string{"spec.communities[1].name: Duplicate value"}},
		{`{metadata: {name: default}, spec: {communities: [{name: "1:2", value: "1:1"}]}}`, []string{"could be taken for a value"}},
		{`{metadata: {name: default}, spec: {ignoredInterfaces: ["docker*", "a/b"]}}`, []string{"spec.ignoredInterfaces[1]"}},
		{`{metadata: {name: default}, spec: {localWorkloadPeeringIPV4: "fe80::1"}}`, []string{"of the other family"}},
		{`{metadata: {name: default}, spec: {localWorkloadPeeringIPV6: "fe80::1"}}`, []string{"choose an address such as fd00::179"}},
	} {
		expectBGP(t, tc.object, BGPConfiguration(parseBGP[v3.BGPConfiguration](t, tc.object)), tc.want)
	}
}

// TestPeerCalledMesh: the sessions of a BGPPeer bear its name, and the mesh has sessions of its own.
func TestPeerCalledMesh(t *testing.T) {
	p := parseBGP[v3.BGPPeer](t, "metadata: {name: mesh}\nspec: {peerIP: 192.0.2.1, asNumber: 65001}")
	expectBGP(t, "a peer called mesh", BGPPeer(p), []string{"metadata.name", "choose another"})
	p.Name = "mesh-1"
	expectBGP(t, "a peer called mesh-1", BGPPeer(p), nil)
}
