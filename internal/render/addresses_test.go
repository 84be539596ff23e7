package render

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/manul-net/manul/api/v1alpha1"
)

// twoPools is a node with a block of each of two pools, and two pods: one that asks for a pool, one that does not.
const twoPools = `apiVersion: v1
kind: Node
metadata: {name: x, labels: {rack: a}}
---
apiVersion: v1
kind: Namespace
metadata: {name: a, labels: {team: a}}
---
apiVersion: projectcalico.org/v3
kind: IPAMBlock
metadata: {name: 10-1-0-0-26}
spec: {cidr: 10.1.0.0/26, affinity: "host:x", allocations: [], attributes: [], unallocated: [], strictAffinity: false}
---
apiVersion: projectcalico.org/v3
kind: IPAMBlock
metadata: {name: 10-2-0-0-26}
spec: {cidr: 10.2.0.0/26, affinity: "host:x", allocations: [], attributes: [], unallocated: [], strictAffinity: false}
---
apiVersion: v1
kind: Pod
metadata: {namespace: a, name: any}
---
apiVersion: v1
kind: Pod
metadata: {namespace: a, name: picky, annotations: {cni.projectcalico.org/ipv4pools: '["two"]'}}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: one}
spec: {cidr: 10.1.0.0/16}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: two}
`

func TestWhoGetsAddressesFromWhichPool(t *testing.T) {
	for _, test := range []struct {
		name, pool string
		// any and picky are the pools that the pods may take from; none: all blocks of the node.
		any, picky []string
		// reserved of the block of pool two.
		reserved []string
	}{
		{"automatic", "spec: {cidr: 10.2.0.0/16}", nil, []string{"10.2.0.0/16"}, nil},
		{"manual: only for pods that name it", "spec: {cidr: 10.2.0.0/16, assignmentMode: Manual}", []string{"10.1.0.0/16"}, []string{"10.2.0.0/16"}, nil},
		{"disabled: no new addresses", "spec: {cidr: 10.2.0.0/16, disabled: true}", []string{"10.1.0.0/16"}, nil, []string{"10.2.0.0/26"}},
		{"neither for pods nor for tunnels", "spec: {cidr: 10.2.0.0/16, allowedUses: [LoadBalancer]}", []string{"10.1.0.0/16"}, nil, []string{"10.2.0.0/26"}},
		{"for tunnels only, which the lease says", "spec: {cidr: 10.2.0.0/16, allowedUses: [Tunnel]}", []string{"10.1.0.0/16"}, nil, nil},
		{"for other nodes: who names it gets an address all the same", "spec: {cidr: 10.2.0.0/16, nodeSelector: rack == 'b'}", []string{"10.1.0.0/16"}, []string{"10.2.0.0/16"}, nil},
		{"for this node", "spec: {cidr: 10.2.0.0/16, nodeSelector: rack == 'a'}", nil, []string{"10.2.0.0/16"}, nil},
		{"for other namespaces", "spec: {cidr: 10.2.0.0/16, namespaceSelector: team == 'b'}", []string{"10.1.0.0/16"}, []string{"10.2.0.0/16"}, nil},
		{"for this namespace", "spec: {cidr: 10.2.0.0/16, namespaceSelector: team == 'a'}", []string{"10.1.0.0/16", "10.2.0.0/16"}, []string{"10.2.0.0/16"}, nil},
		{"for this namespace by name", "spec: {cidr: 10.2.0.0/16, namespaceSelector: projectcalico.org/name == 'a'}", []string{"10.1.0.0/16", "10.2.0.0/16"}, []string{"10.2.0.0/16"}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := New()
			give(t, c, parse(t, twoPools+test.pool)...)
			state, ok := c.Desired(Key{KindNodeState, "x"}).(*v1alpha1.NodeState)
			if !ok {
				t.Fatal("there is no NodeState x")
			}
			got := map[string][]string{"two reserved": state.Spec.Blocks[1].Reserved}
			for _, e := range state.Spec.Endpoints {
				got[e.ID] = e.Addresses.Pools
			}
			want := map[string][]string{"a/any": test.any, "a/picky": test.picky, "two reserved": test.reserved}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("pools (-want +got):\n%s", diff)
			}
		})
	}
}

// The kubelet starts a static pod, and asks for its network, under another UID than that of its mirror in the API.
func TestStaticPodsGoByTheUIDOfTheirSandbox(t *testing.T) {
	c := New()
	give(t, c, parse(t, `apiVersion: v1
kind: Node
metadata: {name: x}
---
apiVersion: v1
kind: Namespace
metadata: {name: a}
---
apiVersion: v1
kind: Pod
metadata: {namespace: a, name: web-x, annotations: {kubernetes.io/config.mirror: 0a1b2c}}`)...)
	state, ok := c.Desired(Key{KindNodeState, "x"}).(*v1alpha1.NodeState)
	if !ok || len(state.Spec.Endpoints) != 1 {
		t.Fatalf("NodeState x has no endpoint: %+v", state)
	}
	if uid := state.Spec.Endpoints[0].UID; uid != "0a1b2c" {
		t.Errorf("UID %q, want that of the sandbox", uid)
	}
}

// oneNode is a node with a block of each family, and a namespace.
const oneNode = `apiVersion: v1
kind: Node
metadata: {name: x}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: main}
spec: {cidr: 10.1.0.0/16}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: main6}
spec: {cidr: "fd00::/112"}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: zone}
spec: {cidr: 10.2.0.0/16, assignmentMode: Manual}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: zone6}
spec: {cidr: "fd00:2::/112", assignmentMode: Manual}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: idle}
spec: {cidr: 10.3.0.0/16, disabled: true}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: tunnels}
spec: {cidr: 10.4.0.0/16, allowedUses: [Tunnel]}
---
apiVersion: projectcalico.org/v3
kind: IPAMBlock
metadata: {name: 10-1-0-0-26}
spec: {cidr: 10.1.0.0/26, affinity: "host:x", allocations: [], attributes: [], unallocated: [], strictAffinity: false}
`

// requestOf is what a pod with some annotations, in a namespace with some, may get.
func requestOf(t *testing.T, pod, namespace string) v1alpha1.AddressRequest {
	t.Helper()
	c := New()
	give(t, c, parse(t, oneNode+"---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a, annotations: {"+namespace+
		"}}\n---\napiVersion: v1\nkind: Pod\nmetadata: {namespace: a, name: p, annotations: {"+pod+"}}\n")...)
	state, ok := c.Desired(Key{KindNodeState, "x"}).(*v1alpha1.NodeState)
	if !ok || len(state.Spec.Endpoints) != 1 {
		t.Fatalf("NodeState x has no endpoint: %+v", state)
	}
	return state.Spec.Endpoints[0].Addresses
}

func TestAnnotationsAskForPools(t *testing.T) {
	const v4, v6 = "cni.projectcalico.org/ipv4pools: ", "cni.projectcalico.org/ipv6pools: "
	for _, test := range []struct {
		name, pod, namespace string
		want                 []string
	}{
		{"nothing asked", "", "", nil},
		{"by name; the other family comes from the pools that serve all", v4 + `'["zone"]'`, "", []string{"10.2.0.0/16", "fd00::/112"}},
		{"by CIDR", v4 + `'["10.2.0.0/16"]'`, "", []string{"10.2.0.0/16", "fd00::/112"}},
		{"both families", v4 + `'["zone"]', ` + v6 + `'["zone6"]'`, "", []string{"10.2.0.0/16", "fd00:2::/112"}},
		{"several", v4 + `'["zone", "main"]'`, "", []string{"10.2.0.0/16", "10.1.0.0/16", "fd00::/112"}},
		{"by the namespace", "", v4 + `'["zone"]'`, []string{"10.2.0.0/16", "fd00::/112"}},
		{"the pod counts before its namespace", v4 + `'["main"]'`, v4 + `'["zone"]'`, []string{"10.1.0.0/16", "fd00::/112"}},
		{"for each family on its own", v6 + `'["zone6"]'`, v4 + `'["zone"]'`, []string{"10.2.0.0/16", "fd00:2::/112"}},
	} {
		got := requestOf(t, test.pod, test.namespace)
		asked := test.pod + test.namespace
		want := v1alpha1.AddressRequest{Pools: test.want, NamedIPv4: strings.Contains(asked, v4), NamedIPv6: strings.Contains(asked, v6)}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

// Exact addresses count before pools, the pod's word before its namespace's, and only a pod has exact ones.
func TestWhichAnnotationCounts(t *testing.T) {
	const v4, fixed = "cni.projectcalico.org/ipv4pools: ", "cni.projectcalico.org/ipAddrs: "
	for _, test := range []struct {
		name, pod, namespace string
		want                 v1alpha1.AddressRequest
	}{
		{"exact addresses", fixed + `'["10.1.0.7", "fd00::7"]'`, "", v1alpha1.AddressRequest{Fixed: []string{"10.1.0.7", "fd00::7"}}},
		{"they count before the pod's pools", fixed + `'["10.1.0.7"]', ` + v4 + `'["zone"]'`, "", v1alpha1.AddressRequest{Fixed: []string{"10.1.0.7"}}},
		{"and before its namespace's", fixed + `'["10.1.0.7"]'`, v4 + `'["zone"]'`, v1alpha1.AddressRequest{Fixed: []string{"10.1.0.7"}}},
		{"a namespace has no exact ones", "", fixed + `'["10.1.0.7"]'`, v1alpha1.AddressRequest{}},
		{"a pod mends what its namespace got wrong", v4 + `'["zone"]'`, v4 + `'zone'`, v1alpha1.AddressRequest{Pools: []string{"10.2.0.0/16", "fd00::/112"}, NamedIPv4: true}},
		{"what a namespace got wrong stops its pods", "", v4 + `'zone'`, v1alpha1.AddressRequest{
			Impossible: `annotation cni.projectcalico.org/ipv4pools of namespace a: "zone" is no JSON list of pools: write it like ["default-ipv4-ippool"]`,
		}},
	} {
		if diff := cmp.Diff(test.want, requestOf(t, test.pod, test.namespace)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

func TestAnnotationMistakesNameTheAnnotationAndTheFix(t *testing.T) {
	const v4, v6, fixed = "cni.projectcalico.org/ipv4pools", "cni.projectcalico.org/ipv6pools", "cni.projectcalico.org/ipAddrs"
	for _, test := range []struct{ annotation, value, problem string }{
		{v4, `zone`, `"zone" is no JSON list of pools: write it like ["default-ipv4-ippool"]`},
		{v4, `[]`, `"[]" is no JSON list of pools: write it like ["default-ipv4-ippool"]`},
		{v4, `["zone", "nowhere"]`, `there is no IPPool nowhere: name one of kubectl get ippools`},
		{v4, `["10.2.0.0/24"]`, `there is no IPPool 10.2.0.0/24: name one of kubectl get ippools`},
		{v4, `["zone6"]`, `IPPool zone6 (fd00:2::/112) is of the other family: name it in cni.projectcalico.org/ipv6pools`},
		{v6, `["zone"]`, `IPPool zone (10.2.0.0/16) is of the other family: name it in cni.projectcalico.org/ipv4pools`},
		{v4, `["idle"]`, `IPPool idle is disabled: name another, or set disabled: false`},
		{v4, `["tunnels"]`, `the allowedUses of IPPool tunnels leave out Workload: name another`},
		{fixed, `10.1.0.7`, `"10.1.0.7" is no JSON list of addresses: write it like ["10.48.0.7"]`},
		{fixed, `["10.1.0"]`, `"10.1.0" is no IP address: write it like ["10.48.0.7"]`},
		{fixed, `["192.0.2.1"]`, `address 192.0.2.1 lies outside every IPPool: choose one inside a pool, see kubectl get ippools`},
		{fixed, `["10.3.0.1"]`, `address 10.3.0.1 lies in IPPool idle, which is disabled: choose another, or set disabled: false`},
		{fixed, `["10.4.0.1"]`, `address 10.4.0.1 lies in IPPool tunnels, whose allowedUses leave out Workload: choose another`},
	} {
		got := requestOf(t, test.annotation+": '"+test.value+"'", "")
		want := v1alpha1.AddressRequest{Impossible: "annotation " + test.annotation + ": " + test.problem}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s (-want +got):\n%s", test.annotation, test.value, diff)
		}
	}
	if got := requestOf(t, fixed+`: '["10.2.9.9"]'`, ""); got.Impossible != "" || len(got.Fixed) != 1 {
		t.Errorf("an address of a Manual pool may be asked for by name: %+v", got)
	}
}

func TestAddressesWithoutManagementAndHardwareAddresses(t *testing.T) {
	const unmanaged, mac = "cni.projectcalico.org/ipAddrsNoIpam", "cni.projectcalico.org/hwAddr"
	for _, test := range []struct {
		annotations string
		allowed     bool
		want        string // addresses behind the node, MAC address, or what is wrong
	}{
		{unmanaged + `: '["192.0.2.7"]'`, false, "annotation " + unmanaged + ": addresses without address management are not allowed in this cluster: use cni.projectcalico.org/ipAddrs, or start the operator with --allow-unmanaged-addresses"},
		{unmanaged + `: '["192.0.2.7", "2001:db8::7"]'`, true, "192.0.2.7 2001:db8::7 []"},
		{unmanaged + `: '["192.0.2.7", "192.0.2.8"]'`, true, "annotation " + unmanaged + ": has two addresses of one family: name one of each at most"},
		{unmanaged + `: '[]'`, true, "annotation " + unmanaged + ": is empty: name an address, or remove it"},
		{unmanaged + `: '["192.0.2.7", "192.0.2.8", "192.0.2.9"]'`, true, "annotation " + unmanaged + ": has 3 addresses: name 2 at most"},
		{unmanaged + `: '192.0.2.7'`, true, "annotation " + unmanaged + `: "192.0.2.7" is no JSON list of addresses: write it like ["10.50.0.7"]`},
		{unmanaged + `: '["127.0.0.1"]'`, true, "annotation " + unmanaged + `: "127.0.0.1" is no IP address that a pod can have: write it like ["10.50.0.7"]`},
		{unmanaged + `: '["192.0.2.7"]', cni.projectcalico.org/ipAddrs: '["10.1.0.7"]'`, true, "annotation " + unmanaged + ": cni.projectcalico.org/ipAddrs is there too: keep one of them"},
		{mac + `: '1C:0C:0A:C0:FF:EE'`, false, "[1c:0c:0a:c0:ff:ee]"},
		{mac + `: '1c:0c:0a'`, false, "annotation " + mac + `: "1c:0c:0a" is no MAC address: write it like 1c:0c:0a:c0:ff:ee`},
		{mac + `: '01:00:5e:00:00:01'`, false, "annotation " + mac + ": 01:00:5e:00:00:01 is no address of a single interface: its first byte must be even, and not all of it zero"},
	} {
		c := New()
		c.AllowUnmanagedAddresses(test.allowed)
		give(t, c, parse(t, oneNode+"---\napiVersion: v1\nkind: Pod\nmetadata: {namespace: a, name: p, annotations: {"+test.annotations+"}}\n")...)
		state, ok := c.Desired(Key{KindNodeState, "x"}).(*v1alpha1.NodeState)
		if !ok || len(state.Spec.Endpoints) != 1 {
			t.Fatalf("NodeState x has no endpoint: %+v", state)
		}
		e := state.Spec.Endpoints[0]
		got := e.Addresses.Impossible
		network, _ := c.Desired(Key{KindNodeNetwork, "x"}).(*v1alpha1.NodeNetwork)
		if got == "" {
			got = strings.Join(append(slices.Clone(network.Spec.Single), "["+e.HardwareAddress+"]"), " ")
			if diff := cmp.Diff(network.Spec.Single, e.Addresses.Fixed); diff != "" || e.Addresses.Unmanaged != (len(network.Spec.Single) > 0) {
				t.Errorf("%s: what the pod gets is not what lies behind the node: %+v (-behind +gets):\n%s", test.annotations, e.Addresses, diff)
			}
		} else if len(network.Spec.Single) > 0 {
			t.Errorf("%s: behind the node: %v", test.annotations, network.Spec.Single)
		}
		if got != test.want {
			t.Errorf("%s:\ngot  %s\nwant %s", test.annotations, got, test.want)
		}
	}
}

func TestReservationsAndCooldownReachTheNode(t *testing.T) {
	c := New()
	give(t, c, parse(t, oneNode+`---
apiVersion: projectcalico.org/v3
kind: IPReservation
metadata: {name: some}
spec: {reservedCIDRs: [10.1.0.5/32, 10.1.0.16/30, 10.1.0.18/31, 10.9.0.0/16]}
---
apiVersion: projectcalico.org/v3
kind: IPAMConfiguration
metadata: {name: default}
spec: {strictAffinity: false, autoAllocateBlocks: true, ipCooldownSeconds: 90}
`)...)
	look := func(reserved []string, cooldown int32) {
		t.Helper()
		state, ok := c.Desired(Key{KindNodeState, "x"}).(*v1alpha1.NodeState)
		if !ok {
			t.Fatal("there is no NodeState x")
		}
		if diff := cmp.Diff(reserved, state.Spec.Blocks[0].Reserved); diff != "" {
			t.Errorf("reserved (-want +got):\n%s", diff)
		}
		if got := state.Spec.Settings.IPAMCooldownSeconds; got != cooldown {
			t.Errorf("cooldown is %d s, want %d", got, cooldown)
		}
	}
	look([]string{"10.1.0.5/32", "10.1.0.16/30"}, 90)
	all := parse(t, "apiVersion: projectcalico.org/v3\nkind: IPReservation\nmetadata: {name: all}\nspec: {reservedCIDRs: [10.1.0.0/24]}")
	give(t, c, all...)
	look([]string{"10.1.0.0/26"}, 90)
	take(t, c, append(all, parse(t, `apiVersion: projectcalico.org/v3
kind: IPReservation
metadata: {name: some}
---
apiVersion: projectcalico.org/v3
kind: IPAMConfiguration
metadata: {name: default}`)...)...)
	look(nil, 0)
}
