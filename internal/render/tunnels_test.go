package render

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/manul-net/manul/api/v1alpha1"
)

const dualStackNode = `apiVersion: v1
kind: Node
metadata: {name: x, labels: {rack: a}}
status: {addresses: [{type: InternalIP, address: 192.0.2.1}, {type: InternalIP, address: "2001:db8::1"}]}`

func poolOfTunnel(name, cidr, more string) string {
	return "\n---\napiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: " + name + "}\nspec: {cidr: '" + cidr + "'" + more + "}"
}

func felixWith(spec string) string {
	return "\n---\napiVersion: projectcalico.org/v3\nkind: FelixConfiguration\nmetadata: {name: default}\nspec: " + spec
}

func TestTunnelsOfANode(t *testing.T) {
	vxlan := poolOfTunnel("v", "10.48.0.0/16", ", vxlanMode: Always")
	for _, test := range []struct {
		name, manifests string
		// tunnels of the node, and the encapsulation of its first pool.
		tunnels []v1alpha1.Tunnel
		pool    v1alpha1.Pool
	}{
		{"none", poolOfTunnel("p", "10.48.0.0/16", ""), nil, v1alpha1.Pool{CIDR: "10.48.0.0/16"}},
		{
			"VXLAN", vxlan,
			[]v1alpha1.Tunnel{{Kind: v1alpha1.TunnelVXLAN, Pools: []string{"10.48.0.0/16"}}},
			v1alpha1.Pool{CIDR: "10.48.0.0/16", Encapsulation: v1alpha1.TunnelVXLAN},
		},
		{
			"IPIP between subnets", poolOfTunnel("i", "10.48.0.0/16", ", ipipMode: CrossSubnet"),
			[]v1alpha1.Tunnel{{Kind: v1alpha1.TunnelIPIP, Pools: []string{"10.48.0.0/16"}}},
			v1alpha1.Pool{CIDR: "10.48.0.0/16", Encapsulation: v1alpha1.TunnelIPIP, CrossSubnet: true},
		},
		{
			"IPv6", poolOfTunnel("v", "fd00:48::/64", ", vxlanMode: Always"),
			[]v1alpha1.Tunnel{{Kind: v1alpha1.TunnelVXLANv6, Pools: []string{"fd00:48::/64"}}},
			v1alpha1.Pool{CIDR: "fd00:48::/64", Encapsulation: v1alpha1.TunnelVXLANv6},
		},
		{
			"settings", vxlan + felixWith("{vxlanPort: 8472, vxlanVNI: 7, vxlanMTU: 1400}"),
			[]v1alpha1.Tunnel{{Kind: v1alpha1.TunnelVXLAN, MTU: 1400, VNI: 7, Port: 8472, Pools: []string{"10.48.0.0/16"}}},
			v1alpha1.Pool{CIDR: "10.48.0.0/16", Encapsulation: v1alpha1.TunnelVXLAN},
		},
		{"switched off", vxlan + felixWith("{vxlanEnabled: false}"), nil, v1alpha1.Pool{CIDR: "10.48.0.0/16"}},
		{
			"switched on without a pool that wants it", poolOfTunnel("p", "10.48.0.0/16", "") + felixWith("{ipipEnabled: true, ipipMTU: 1300}"),
			[]v1alpha1.Tunnel{{Kind: v1alpha1.TunnelIPIP, MTU: 1300}},
			v1alpha1.Pool{CIDR: "10.48.0.0/16"},
		},
		{
			"a pool for tunnels alone gives the address", poolOfTunnel("v", "10.48.0.0/16", ", vxlanMode: Always") + poolOfTunnel("t", "10.49.0.0/16", ", vxlanMode: Always, allowedUses: [Tunnel]"),
			[]v1alpha1.Tunnel{{Kind: v1alpha1.TunnelVXLAN, Pools: []string{"10.49.0.0/16"}}},
			v1alpha1.Pool{CIDR: "10.48.0.0/16", Encapsulation: v1alpha1.TunnelVXLAN},
		},
		{
			"but not one for other nodes, or of another kind", vxlan + poolOfTunnel("t", "10.49.0.0/16", ", vxlanMode: Always, allowedUses: [Tunnel], nodeSelector: rack == 'b'") +
				poolOfTunnel("u", "10.50.0.0/16", ", allowedUses: [Tunnel]"),
			[]v1alpha1.Tunnel{{Kind: v1alpha1.TunnelVXLAN, Pools: []string{"10.48.0.0/16"}}},
			v1alpha1.Pool{CIDR: "10.48.0.0/16", Encapsulation: v1alpha1.TunnelVXLAN},
		},
		{
			"a pool that says Workload alone serves where there is no other", poolOfTunnel("v", "10.48.0.0/16", ", vxlanMode: Always, allowedUses: [Workload]"),
			[]v1alpha1.Tunnel{{Kind: v1alpha1.TunnelVXLAN, Pools: []string{"10.48.0.0/16"}}},
			v1alpha1.Pool{CIDR: "10.48.0.0/16", Encapsulation: v1alpha1.TunnelVXLAN},
		},
		{
			"a disabled pool gives no address, and what has one of it is reached", poolOfTunnel("v", "10.48.0.0/16", ", vxlanMode: Always, disabled: true"),
			[]v1alpha1.Tunnel{{Kind: v1alpha1.TunnelVXLAN}},
			v1alpha1.Pool{CIDR: "10.48.0.0/16", Encapsulation: v1alpha1.TunnelVXLAN},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := New()
			give(t, c, parse(t, dualStackNode+test.manifests)...)
			state, ok := c.Desired(Key{KindNodeState, "x"}).(*v1alpha1.NodeState)
			if !ok {
				t.Fatal("there is no NodeState x")
			}
			if diff := cmp.Diff(test.tunnels, state.Spec.Tunnels); diff != "" {
				t.Errorf("tunnels (-want +got):\n%s", diff)
			}
			pool := state.Spec.Pools[0]
			pool.Names, pool.NotForPods = nil, ""
			if diff := cmp.Diff(test.pool, pool); diff != "" {
				t.Errorf("pool (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNodeWithoutAFamilyHasNoTunnelOfIt(t *testing.T) {
	c := New()
	give(t, c, parse(t, "apiVersion: v1\nkind: Node\nmetadata: {name: x}\nstatus: {addresses: [{type: InternalIP, address: \"2001:db8::1\"}]}"+
		poolOfTunnel("v", "10.48.0.0/16", ", vxlanMode: Always"))...)
	if state, ok := c.Desired(Key{KindNodeState, "x"}).(*v1alpha1.NodeState); !ok || len(state.Spec.Tunnels) > 0 {
		t.Errorf("tunnels of %v", state)
	}
}

func TestSettingsOfTunnels(t *testing.T) {
	c := New()
	give(t, c, parse(t, dualStackNode+felixWith("{mtuIfacePattern: '^bond', externalNodesList: [203.0.113.9, '2001:db8:9::/64', 203.0.113.9, nonsense]}"))...)
	state, ok := c.Desired(Key{KindNodeState, "x"}).(*v1alpha1.NodeState)
	if !ok {
		t.Fatal("there is no NodeState x")
	}
	if got := state.Spec.Settings; got.MTUInterfaces != "^bond" || !cmp.Equal(got.ExternalNodes, []string{"203.0.113.9/32", "2001:db8:9::/64"}) {
		t.Errorf("settings: %+v", got)
	}
}

// What other nodes learn: subnets by annotation before what the agent finds, and the ends of tunnels as the agent has them.
func TestSubnetsAndEndsOfTunnels(t *testing.T) {
	c := New()
	give(t, c, parse(t, dualStackNode)...)
	network := func() v1alpha1.NodeNetworkSpec {
		t.Helper()
		o, ok := c.Desired(Key{KindNodeNetwork, "x"}).(*v1alpha1.NodeNetwork)
		if !ok {
			t.Fatal("there is no NodeNetwork x")
		}
		return o.Spec
	}
	if got := network().Subnets; len(got) > 0 {
		t.Errorf("subnets %v though nobody knows them", got)
	}
	c.Dirty()
	state := &v1alpha1.NodeState{Status: v1alpha1.NodeStateStatus{
		NodeAddresses: []string{"192.0.2.1/24", "2001:db8::1/64"}, Tunnels: []v1alpha1.TunnelEnd{{Kind: v1alpha1.TunnelVXLAN, Address: "10.48.1.0"}},
	}}
	state.Name = "x"
	give(t, c, state)
	if got := network(); !cmp.Equal(got.Subnets, []string{"192.0.2.0/24", "2001:db8::/64"}) || len(got.Tunnels) != 1 {
		t.Errorf("network with the agent's word: %+v", got)
	}
	found := false
	for _, key := range c.Dirty() {
		found = found || key == Key{KindNodeNetwork, "x"}
	}
	if !found {
		t.Error("the NodeNetwork is not looked at again when the agent reports")
	}
	give(t, c, parse(t, `apiVersion: v1
kind: Node
metadata: {name: x, annotations: {projectcalico.org/IPv4Address: 192.0.2.1/25}}
status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}`)...)
	if got := network().Subnets; !cmp.Equal(got, []string{"192.0.2.0/25"}) {
		t.Errorf("subnets %v, want that of the annotation", got)
	}
}
