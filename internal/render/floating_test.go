package render

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/manul-net/manul/api/v1alpha1"
)

const (
	floatingEnabled = `apiVersion: projectcalico.org/v3
kind: FelixConfiguration
metadata: {name: default}
spec: {floatingIPs: Enabled}`
	nodeZ = `apiVersion: v1
kind: Node
metadata: {name: z}`
)

// floats is a pod that asks for floating addresses.
func floats(node, name, addresses string) string {
	return "apiVersion: v1\nkind: Pod\nmetadata: {namespace: a, name: " + name + ", annotations: {cni.projectcalico.org/floatingIPs: '" + addresses +
		"'}}\nspec: {nodeName: " + node + "}"
}

// floatingLines says who has which floating address and who does not, and what others are told: a line each, in order.
func floatingLines(t *testing.T, c *Cluster) []string {
	t.Helper()
	var lines []string
	for _, node := range []string{"x", "z"} {
		state, ok := c.Desired(Key{KindNodeState, node}).(*v1alpha1.NodeState)
		if !ok {
			continue
		}
		for _, e := range state.Spec.Endpoints {
			for _, f := range e.Floating {
				line := e.ID + " " + f.Address
				if f.Problem != "" {
					line += ": " + strings.TrimPrefix(f.Problem, "annotation cni.projectcalico.org/floatingIPs: ")
				}
				lines = append(lines, line)
			}
			if e.Addresses.Impossible != "" {
				lines = append(lines, e.ID+" stops: "+e.Addresses.Impossible)
			}
		}
		network, ok := c.Desired(Key{KindNodeNetwork, node}).(*v1alpha1.NodeNetwork)
		if ok && len(network.Spec.Single) > 0 {
			lines = append(lines, "behind "+node+": "+strings.Join(network.Spec.Single, " "))
		}
	}
	return lines
}

func TestWhoseFloatingAddressItIs(t *testing.T) {
	one, two := floats("x", "one", `["10.2.0.7", "fd00:2::7"]`), floats("z", "two", `["10.2.0.7"]`)
	holder := `apiVersion: manul.dev/v1alpha1
kind: NodeState
metadata: {name: z}
status: {endpoints: [{id: a/three, uid: three, addresses: [10.2.0.7]}]}`
	for _, test := range []struct {
		name    string
		objects []string
		want    []string
	}{
		{"Disabled unless it is enabled", []string{one}, []string{
			"a/one 10.2.0.7: floating addresses are disabled: set floatingIPs: Enabled in FelixConfiguration default",
			"a/one fd00:2::7: floating addresses are disabled: set floatingIPs: Enabled in FelixConfiguration default",
		}},
		{"its pod's, and others route it to the node", []string{floatingEnabled, one}, []string{"a/one 10.2.0.7", "a/one fd00:2::7", "behind x: 10.2.0.7 fd00:2::7"}},
		{"of two pods the first by name has it", []string{floatingEnabled, one, two}, []string{
			"a/one 10.2.0.7", "a/one fd00:2::7", "behind x: 10.2.0.7 fd00:2::7",
			"a/two 10.2.0.7: address 10.2.0.7 is pod a/one's already: choose another, or wait until that pod is gone",
		}},
		{"a pod's own address is nobody's floating one", []string{floatingEnabled, one, holder}, []string{
			"a/one 10.2.0.7: address 10.2.0.7 is pod a/three's own: choose another, best from a pool with assignmentMode: Manual",
			"a/one fd00:2::7", "behind x: fd00:2::7",
		}},
		{"enabled for one node", []string{strings.Replace(floatingEnabled, "default", "node.z", 1), one, two}, []string{
			"a/one 10.2.0.7: floating addresses are disabled: set floatingIPs: Enabled in FelixConfiguration default",
			"a/one fd00:2::7: floating addresses are disabled: set floatingIPs: Enabled in FelixConfiguration default",
			"a/two 10.2.0.7", "behind z: 10.2.0.7",
		}},
		{"outside every pool", []string{floatingEnabled, floats("x", "one", `["192.0.2.1"]`)}, []string{
			"a/one 192.0.2.1: address 192.0.2.1 lies outside every IPPool: choose one inside a pool, see kubectl get ippools",
			"a/one stops: annotation cni.projectcalico.org/floatingIPs: address 192.0.2.1 lies outside every IPPool: choose one inside a pool, see kubectl get ippools",
		}},
		{"no list", []string{floatingEnabled, floats("x", "one", `10.2.0.7`)}, []string{
			`a/one stops: annotation cni.projectcalico.org/floatingIPs: "10.2.0.7" is no JSON list of addresses: write it like ["10.50.0.7"]`,
		}},
		{"no address", []string{floats("x", "one", `["10.2.0"]`)}, []string{
			`a/one stops: annotation cni.projectcalico.org/floatingIPs: "10.2.0" is no IP address that a pod can have: write it like ["10.50.0.7"]`,
		}},
	} {
		// In any order of arrival.
		for _, backwards := range []bool{false, true} {
			c := New()
			objects := append([]string{oneNode + "---\n" + nodeZ}, test.objects...)
			if backwards {
				slices.Reverse(objects)
			}
			for _, text := range objects {
				give(t, c, parse(t, text)...)
				c.Dirty()
			}
			if diff := cmp.Diff(test.want, floatingLines(t, c)); diff != "" {
				t.Errorf("%s, backwards: %v (-want +got):\n%s", test.name, backwards, diff)
			}
		}
	}
}

// Every change tells exactly the nodes that it concerns.
func TestFloatingAddressesFollowChanges(t *testing.T) {
	c := New()
	give(t, c, parse(t, oneNode+"---\n"+nodeZ+"\n---\n"+floatingEnabled)...)
	c.Dirty()
	expect := func(what string, touched []string, lines ...string) {
		t.Helper()
		var got []string
		for _, key := range c.Dirty() {
			if key.Kind == KindNodeState || key.Kind == KindNodeNetwork {
				got = append(got, string(key.Kind)+" "+key.Name)
			}
		}
		if diff := cmp.Diff(touched, got); diff != "" {
			t.Errorf("%s: touched (-want +got):\n%s", what, diff)
		}
		if diff := cmp.Diff(lines, floatingLines(t, c)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	two, one := parse(t, floats("z", "two", `["10.1.0.7"]`)), parse(t, floats("x", "one", `["10.1.0.7"]`))
	give(t, c, two...)
	expect("a pod comes", []string{"NodeNetwork z", "NodeState x", "NodeState z"}, "a/two 10.1.0.7", "behind z: 10.1.0.7")
	state, _ := c.Desired(Key{KindNodeState, "x"}).(*v1alpha1.NodeState)
	if diff := cmp.Diff([]string{"10.1.0.7/32"}, state.Spec.Blocks[0].Reserved); diff != "" {
		t.Errorf("reserved in the block of node x (-want +got):\n%s", diff)
	}
	give(t, c, one...)
	expect("another asks for it", []string{"NodeNetwork x", "NodeNetwork z", "NodeState x", "NodeState z"},
		"a/one 10.1.0.7", "behind x: 10.1.0.7", "a/two 10.1.0.7: address 10.1.0.7 is pod a/one's already: choose another, or wait until that pod is gone")
	give(t, c, parse(t, floats("x", "one", `[]`))...)
	expect("and lets go of it", []string{"NodeNetwork x", "NodeNetwork z", "NodeState x", "NodeState z"}, "a/two 10.1.0.7", "behind z: 10.1.0.7")
	take(t, c, two...)
	expect("the pod goes", []string{"NodeNetwork z", "NodeState x", "NodeState z"})
	if len(c.floating) != 0 {
		t.Errorf("left behind: %v", c.floating)
	}
}
