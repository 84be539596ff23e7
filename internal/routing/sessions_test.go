package routing

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWhoPeersWithWhom(t *testing.T) {
	const meshes = "a: mesh\nb: mesh\nc: mesh"
	for sentence, tc := range map[string]struct {
		given func(w *town)
		want  string
	}{
		"nothing configured: all nodes are in the mesh": {func(*town) {}, meshes},
		"the mesh can be turned off":                    {func(w *town) { w.config("default", `{nodeToNodeMeshEnabled: false}`) }, ""},
		"the mesh can be turned off for one node": {
			func(w *town) { w.config("node.b", `{nodeToNodeMeshEnabled: false}`) }, "a: mesh\nc: mesh",
		},
		"a BGPConfiguration of another name says nothing": {func(w *town) { w.config("other", `{nodeToNodeMeshEnabled: false}`) }, meshes},
		"a node without an address is not in the mesh":    {func(w *town) { w.node("b") }, "a: mesh\nc: mesh"},
		"a route reflector is not in the mesh":            {func(w *town) { w.node("b", "192.0.2.2", "clusterID=1.0.0.1") }, "a: mesh\nc: mesh"},
		"a global peer is everybody's": {
			func(w *town) { w.peer("tor", `{peerIP: 192.0.2.9, asNumber: 65001}`) }, `
a: mesh
a: tor/192.0.2.9, AS 65001, from 192.0.2.1
b: mesh
b: tor/192.0.2.9, AS 65001, from 192.0.2.2
c: mesh
c: tor/192.0.2.9, AS 65001, from 192.0.2.3`,
		},
		"a peer of one node": {
			func(w *town) { w.peer("tor", `{node: b, peerIP: "192.0.2.9:1790", asNumber: 65001}`) }, `
a: mesh
b: mesh
b: tor/192.0.2.9, AS 65001, port 1790, from 192.0.2.2
c: mesh`,
		},
		"a peer of the nodes that it selects": {
			func(w *town) { w.peer("tor", `{nodeSelector: rack == '2', peerIP: 192.0.2.9, asNumber: 65001}`) }, `
a: mesh
b: mesh
c: mesh
c: tor/192.0.2.9, AS 65001, from 192.0.2.3`,
		},
		"a peer of another family has no source address on a node without one": {
			func(w *town) { w.peer("tor", `{node: b, peerIP: "2001:db8::9", asNumber: 65001}`) }, `
a: mesh
b: mesh
b: tor/2001:db8::9, AS 65001
c: mesh`,
		},
		"what a session may say": {
			func(w *town) {
				w.peer("tor", `
node: b
peerIP: 192.0.2.9
asNumber: 65001
localASNumber: 65100
reachableBy: 192.0.2.254
nextHopMode: Self
sourceAddress: None
ttlSecurity: 2
keepaliveTime: 10s
maxRestartTime: 1m30s
numAllowedLocalASNumbers: 1
password: {secretKeyRef: {name: bgp, key: tor}}
filters: [in, out]`)
			}, `
a: mesh
b: mesh
b: tor/192.0.2.9, AS 65001, as AS 65100, by 192.0.2.254, next hop Self, password, 2 hops, keepalive 10, restart 90, own AS 1 times, filters in out
c: mesh`,
		},
		"keepOriginalNextHop is next hop Keep, and Auto needs no word": {
			func(w *town) {
				w.peer("auto", `{node: b, peerIP: 192.0.2.8, asNumber: 65001, nextHopMode: Auto}`)
				w.peer("keep", `{node: b, peerIP: 192.0.2.9, asNumber: 65001, keepOriginalNextHop: true}`)
			}, `
a: mesh
b: mesh
b: auto/192.0.2.8, AS 65001, from 192.0.2.2
b: keep/192.0.2.9, AS 65001, from 192.0.2.2, next hop Keep
c: mesh`,
		},
		"of two peers with one address the first by name counts": {
			func(w *town) {
				w.peer("two", `{node: b, peerIP: 192.0.2.9, asNumber: 65002}`)
				w.peer("one", `{node: b, peerIP: 192.0.2.9, asNumber: 65001}`)
			}, `
a: mesh
b: mesh
b: one/192.0.2.9, AS 65001, from 192.0.2.2
c: mesh`,
		},
		"route reflector: clients and reflector peer with each other, and the higher address waits": {
			func(w *town) {
				w.config("default", `{nodeToNodeMeshEnabled: false}`)
				w.node("b", "192.0.2.2", "clusterID=1.0.0.1", "reflector=yes")
				w.peer("rr", `{nodeSelector: "!has(reflector)", peerSelector: has(reflector)}`)
			}, `
a: rr/192.0.2.2, AS 64512, node b, from 192.0.2.1
b: rr/192.0.2.1, AS 64512, node a, from 192.0.2.2, client, passive
b: rr/192.0.2.3, AS 64512, node c, from 192.0.2.2, client
c: rr/192.0.2.2, AS 64512, node b, from 192.0.2.3, passive`,
		},
		"two reflectors of one cluster are not each other's clients": {
			func(w *town) {
				w.config("default", `{nodeToNodeMeshEnabled: false}`)
				w.node("a", "192.0.2.1", "clusterID=1.0.0.1", "reflector=yes")
				w.node("b", "192.0.2.2", "clusterID=1.0.0.1", "reflector=yes")
				w.peer("rr", `{nodeSelector: all(), peerSelector: has(reflector)}`)
			}, `
a: rr/192.0.2.2, AS 64512, node b, from 192.0.2.1
a: rr/192.0.2.3, AS 64512, node c, from 192.0.2.1, client
b: rr/192.0.2.1, AS 64512, node a, from 192.0.2.2, passive
b: rr/192.0.2.3, AS 64512, node c, from 192.0.2.2, client
c: rr/192.0.2.1, AS 64512, node a, from 192.0.2.3, passive
c: rr/192.0.2.2, AS 64512, node b, from 192.0.2.3, passive`,
		},
		"reversePeering Manual leaves the other end to another BGPPeer": {
			func(w *town) {
				w.config("default", `{nodeToNodeMeshEnabled: false}`)
				w.peer("up", `{node: c, peerSelector: name == 'a', reversePeering: Manual}`)
			}, `
c: up/192.0.2.1, AS 64512, node a, from 192.0.2.3`,
		},
		"with both ends configured by hand one waits": {
			func(w *town) {
				w.config("default", `{nodeToNodeMeshEnabled: false}`)
				w.peer("up", `{node: c, peerSelector: name == 'a', reversePeering: Manual}`)
				w.peer("down", `{node: a, peerSelector: name == 'c', reversePeering: Manual}`)
			}, `
a: down/192.0.2.3, AS 64512, node c, from 192.0.2.1
c: up/192.0.2.1, AS 64512, node a, from 192.0.2.3, passive`,
		},
		"a peer by the address of a node is that node, which peers back": {
			func(w *town) {
				w.config("default", `{nodeToNodeMeshEnabled: false}`)
				w.peer("p", `{node: c, peerIP: 192.0.2.1, asNumber: 64512}`)
			}, `
a: p/192.0.2.3, AS 64512, node c, from 192.0.2.1
c: p/192.0.2.1, AS 64512, node a, from 192.0.2.3, passive`,
		},
		"but not when its AS number is another": {
			func(w *town) {
				w.config("default", `{nodeToNodeMeshEnabled: false}`)
				w.peer("p", `{node: c, peerIP: 192.0.2.1, asNumber: 65001}`)
			}, `
c: p/192.0.2.1, AS 65001, node a, from 192.0.2.3`,
		},
		"a node does not peer with itself": {
			func(w *town) {
				w.config("default", `{nodeToNodeMeshEnabled: false}`)
				w.peer("p", `{nodeSelector: name == 'a', peerSelector: name == 'a'}`)
				w.peer("q", `{nodeSelector: name == 'a', peerIP: 192.0.2.1, asNumber: 64512}`)
			}, "",
		},
		"AS numbers and ports of nodes, and a local AS number seen from the other end": {
			func(w *town) {
				w.config("default", `{nodeToNodeMeshEnabled: false, asNumber: 65000}`)
				w.config("node.a", `{listenPort: 1790}`)
				w.config("node.c", `{asNumber: 65003}`)
				w.node("a", "192.0.2.1", "asNumber=1.1")
				w.peer("p", `{node: c, peerSelector: name == 'a', localASNumber: 65009}`)
			}, `
a: p/192.0.2.3, AS 65009, node c, from 192.0.2.1
c: p/192.0.2.1, AS 65537, node a, port 1790, as AS 65009, from 192.0.2.3, passive`,
		},
		"a session for each family that both nodes have": {
			func(w *town) {
				w.config("default", `{nodeToNodeMeshEnabled: false}`)
				w.node("a", "192.0.2.1", "2001:db8::1")
				w.node("c", "192.0.2.3", "2001:db8::3")
				w.peer("p", `{nodeSelector: name == 'a', peerSelector: "name in {'b', 'c'}"}`)
			}, `
a: p/192.0.2.2, AS 64512, node b, from 192.0.2.1
a: p/192.0.2.3, AS 64512, node c, from 192.0.2.1
a: p/2001:db8::3, AS 64512, node c, from 2001:db8::1
b: p/192.0.2.1, AS 64512, node a, from 192.0.2.2, passive
c: p/192.0.2.1, AS 64512, node a, from 192.0.2.3, passive
c: p/2001:db8::1, AS 64512, node a, from 2001:db8::3, passive`,
		},
		"pods of the node open sessions with it": {
			func(w *town) {
				w.config("default", `{nodeToNodeMeshEnabled: false}`)
				w.pod("a", "red/router", "router")
				w.pod("b", "red/web", "web")
				w.peer("pods", `{localWorkloadSelector: app == 'router', asNumber: 65200}`)
			}, `
a: pods/red/router, AS 65200, pod red/router, passive`,
		},
		"a peer that contradicts itself has no sessions": {
			func(w *town) { w.peer("p", `{node: a, nodeSelector: all(), peerIP: 192.0.2.9, asNumber: 65001}`) }, meshes,
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			w := newTown(t)
			tc.given(w)
			if diff := cmp.Diff(strings.TrimSpace(tc.want), w.sessions()); diff != "" {
				t.Errorf("sessions (-want +got):\n%s", diff)
			}
		})
	}
}
