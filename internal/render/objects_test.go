package render

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/manul-net/manul/api/v1alpha1"
)

const district = `
apiVersion: v1
kind: Node
metadata: {name: x, annotations: {projectcalico.org/IPv4Address: 192.0.2.7/24}}
status: {addresses: [{type: Hostname, address: x}, {type: InternalIP, address: 198.51.100.1}, {type: InternalIP, address: "2001:db8::1"}, {type: ExternalIP, address: 203.0.113.1}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: a, annotations: {cni.projectcalico.org/ipv4pools: '["special", "10.70.0.0/16"]'}}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: default}
spec: {cidr: 10.48.0.0/16, natOutgoing: true}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: special}
spec: {cidr: 10.60.0.0/16}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: zone}
spec: {cidr: 10.70.0.0/16}
---
apiVersion: projectcalico.org/v3
kind: IPAMBlock
metadata: {name: 10-48-2-0-26}
spec: {cidr: 10.48.2.0/26, affinity: "host:x", allocations: [], attributes: [], strictAffinity: false, unallocated: [], sequenceNumber: 0}
---
apiVersion: projectcalico.org/v3
kind: IPAMBlock
metadata: {name: 10-48-10-0-26}
spec: {cidr: 10.48.10.0/26, affinity: "host:x", allocations: [], attributes: [], strictAffinity: false, unallocated: [], sequenceNumber: 0}
---
apiVersion: projectcalico.org/v3
kind: IPAMBlock
metadata: {name: 10-48-3-0-26}
spec: {cidr: 10.48.3.0/26, affinity: "host:other", allocations: [], attributes: [], strictAffinity: false, unallocated: [], sequenceNumber: 0}
---
apiVersion: projectcalico.org/v3
kind: FelixConfiguration
metadata: {name: default}
spec: {defaultEndpointToHostAction: accept, vxlanPort: 4790, allowIPIPPacketsFromWorkloads: true}
---
apiVersion: v1
kind: Pod
metadata: {namespace: a, name: plain, labels: {app: web}}
spec:
  initContainers:
  - {name: once, ports: [{name: never, containerPort: 1}]}
  - {name: sidecar, restartPolicy: Always, ports: [{name: metrics, containerPort: 9090}]}
  containers:
  - {name: c, ports: [{name: http, containerPort: 8080}, {containerPort: 5}, {name: dns, containerPort: 53, protocol: UDP}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: b, name: fixed, annotations: {cni.projectcalico.org/ipAddrs: '["10.48.2.9"]'}}
---
apiVersion: v1
kind: Pod
metadata: {namespace: b, name: unlucky, annotations: {cni.projectcalico.org/ipv4pools: '["no-such-pool"]'}}
---
apiVersion: manul.dev/v1alpha1
kind: NodeState
metadata: {name: x}
status:
  endpoints:
  - {id: a/plain, uid: plain, addresses: [10.48.2.1]}
  - {id: b/fixed, uid: another, addresses: [10.48.2.9]}`

func spec(t *testing.T, c *Cluster, kind Kind, name string) string {
	t.Helper()
	obj := c.Desired(Key{kind, name})
	var content any
	switch o := obj.(type) {
	case *v1alpha1.NodeState:
		content = o.Spec
	case *v1alpha1.NodeEndpoints:
		content = o.Spec
	case *v1alpha1.NodeNetwork:
		content = o.Spec
	case *v1alpha1.SetCatalog:
		content = o.Spec
	default:
		return "none"
	}
	text, err := yaml.Marshal(content)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

func TestWhatNodesAreTold(t *testing.T) {
	c := New()
	give(t, c, parse(t, district)...)
	identity := c.endpointIdentity("a/plain")
	for kind, want := range map[Kind]string{
		KindNodeNetwork: `
addresses:
- 192.0.2.7
- 2001:db8::1
bgp:
  asNumber: 64512
  port: 179
blocks:
- 10.48.2.0/26
- 10.48.10.0/26
subnets:
- 192.0.2.0/24`,
		KindNodeEndpoints: fmt.Sprintf(`
count: 1
endpoints:
- addresses:
  - 10.48.2.1
  id: a/plain
  identities:
  - %s
  ports:
  - name: dns
    port: 53
    protocol: 17
  - name: http
    port: 8080
    protocol: 6
  - name: metrics
    port: 9090
    protocol: 6`, identity),
		KindNodeState: fmt.Sprintf(`
bgp:
  addresses:
  - 192.0.2.7
  - 2001:db8::1
  asNumber: 64512
  listenPort: 179
  mesh: {}
  routerID: 192.0.2.7
blocks:
- cidr: 10.48.2.0/26
  pool: 10.48.0.0/16
- cidr: 10.48.10.0/26
  pool: 10.48.0.0/16
endpoints:
- addresses:
    namedIPv4: true
    pools:
    - 10.60.0.0/16
    - 10.70.0.0/16
  id: a/plain
  identity: %s
  ports:
  - name: dns
    port: 53
    protocol: 17
  - name: http
    port: 8080
    protocol: 6
  - name: metrics
    port: 9090
    protocol: 6
  uid: plain
- addresses:
    fixed:
    - 10.48.2.9
  id: b/fixed
  identity: %s
  uid: fixed
- addresses:
    impossible: 'annotation cni.projectcalico.org/ipv4pools: there is no IPPool no-such-pool:
      name one of kubectl get ippools'
  id: b/unlucky
  identity: %s
  uid: unlucky
pools:
- cidr: 10.48.0.0/16
  names:
  - default
  natOutgoing: true
- cidr: 10.60.0.0/16
  names:
  - special
- cidr: 10.70.0.0/16
  names:
  - zone
settings:
  allowIPIPFromPods: true
  endpointToHostAction: Accept
  vxlanPort: 4790`, identity, c.endpointIdentity("b/fixed"), c.endpointIdentity("b/unlucky")),
	} {
		if diff := cmp.Diff(strings.TrimSpace(want), spec(t, c, kind, "x")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", kind, diff)
		}
		if got := spec(t, c, kind, "other"); got != "none" {
			t.Errorf("%s of a node that does not exist: %s", kind, got)
		}
	}
	if diff := cmp.Diff(map[string]int{"x": 3}, c.Demand()); diff != "" {
		t.Errorf("demand (-want +got):\n%s", diff)
	}
	if c.DemandChanged() {
		t.Error("demand changed right after it was asked")
	}
}

func (c *Cluster) endpointIdentity(id string) string {
	c.flush()
	return c.endpoints[id].identity.id
}

func TestSetsHoldIdentitiesAndNets(t *testing.T) {
	c := New()
	give(t, c, parse(t, town+`
---
apiVersion: projectcalico.org/v3
kind: NetworkSet
metadata: {namespace: a, name: s, labels: {app: web}}
spec: {nets: [192.0.2.0/24, 10.0.0.1, 192.0.2.0/24, junk, 10.0.0.7/8]}
---
apiVersion: projectcalico.org/v3
kind: NetworkSet
metadata: {namespace: b, name: s, labels: {app: web}}
spec: {nets: [198.51.100.0/24]}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkSet
metadata: {name: s, labels: {app: web}}
spec: {nets: [203.0.113.0/24]}
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {namespace: a, name: p}
spec: {ingress: [{action: Allow, source: {selector: app == 'web'}}]}`)...)
	program, ok := c.Desired(Key{KindPolicyProgram, "np.a.p"}).(*v1alpha1.PolicyProgram)
	if !ok {
		t.Fatal("no program")
	}
	id := program.Spec.Ingress[0].Source.Sets[0]
	want := fmt.Sprintf(`
count: 1
sets:
- cidrs:
  - 10.0.0.0/8
  - 10.0.0.1/32
  - 192.0.2.0/24
  id: %s
  identities:
  - %s
  selector: app == 'web' && namespace//projectcalico.org/name == 'a'`, id, c.endpointIdentity("a/web"))
	if diff := cmp.Diff(strings.TrimSpace(want), spec(t, c, KindSetCatalog, shardOf(id))); diff != "" {
		t.Errorf("catalog (-want +got):\n%s", diff)
	}
}

func TestChangesTouchOnlyWhatTheyConcern(t *testing.T) {
	c := New()
	give(t, c, parse(t, twoNodes)...)
	shard := ""
	for _, key := range c.Dirty() {
		if key.Kind == KindSetCatalog {
			shard = key.Name
		}
	}
	c.DirtyPolicies()
	expect := func(what string, want ...Key) {
		t.Helper()
		if got := c.Dirty(); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}
	pod := func(name, app string) string {
		return "apiVersion: v1\nkind: Pod\nmetadata: {namespace: a, name: " + name + ", labels: {app: " + app + "}}"
	}
	give(t, c, parse(t, twoNodes)...)
	expect("the same again")

	give(t, c, parse(t, pod("web3", "web"))...)
	expect("a pod like others", Key{KindNodeEndpoints, "x"}, Key{KindNodeState, "x"})

	give(t, c, parse(t, pod("db2", "db"))...) // another service account than the first one's
	expect("a pod like no other", Key{KindSetCatalog, shard}, Key{KindNodeEndpoints, "x"}, Key{KindNodeState, "x"})

	take(t, c, parse(t, pod("db2", "db"))...)
	expect("the last of its kind goes", Key{KindSetCatalog, shard}, Key{KindNodeEndpoints, "x"}, Key{KindNodeState, "x"})

	give(t, c, parse(t, `
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {namespace: a, name: p, generation: 2}
spec: {selector: app == 'web', ingress: [{action: Deny, source: {selector: app == 'db'}}]}`)...)
	expect("a rule changes its action", Key{KindPolicyProgram, "np.a.p"})

	give(t, c, parse(t, `
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {namespace: b, name: q}
spec: {ingress: [{action: Allow, source: {nets: [10.0.0.0/8]}}]}`)...)
	expect("a policy for pods of one node", Key{KindPolicyProgram, "np.b.q"}, Key{KindNodeState, "x"})
}

func TestLeftoversAreFound(t *testing.T) {
	c := New()
	give(t, c, parse(t, town)...)
	c.Dirty()
	leftover := &v1alpha1.PolicyProgram{}
	leftover.Name = "np.a.gone"
	give(t, c, leftover)
	if got, want := c.Dirty(), []Key{{KindPolicyProgram, "np.a.gone"}}; !slices.Equal(got, want) {
		t.Errorf("dirty: got %v, want %v", got, want)
	}
	if obj := c.Desired(Key{KindPolicyProgram, "np.a.gone"}); obj != nil {
		t.Errorf("the leftover is desired: %v", obj)
	}
	changed, ok := c.Desired(Key{KindNodeState, "x"}).(*v1alpha1.NodeState)
	if !ok {
		t.Fatal("no NodeState")
	}
	changed.Spec.Endpoints = changed.Spec.Endpoints[1:]
	give(t, c, changed)
	if got, want := c.Dirty(), []Key{{KindNodeState, "x"}}; !slices.Equal(got, want) {
		t.Errorf("dirty: got %v, want %v", got, want)
	}
}

func TestVersionsCompareAsNumbers(t *testing.T) {
	ordered := []string{"", "1", "9", "10", "99", "100", "18446744073709551616", "18446744073709551617"}
	for i, a := range ordered {
		for j, b := range ordered {
			if got := versionLess(a, b); got != (i < j) {
				t.Errorf("%q < %q: %t", a, b, got)
			}
		}
	}
}
