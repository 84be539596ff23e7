package operator

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/controllers"
)

func hostEndpoint(name, node string, labels map[string]string) *v3.HostEndpoint {
	return &v3.HostEndpoint{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
		Spec:       v3.HostEndpointSpec{Node: node, InterfaceName: "eth0", ExpectedIPs: []string{"192.0.2.1"}},
	}
}

// hosts waits until the state of a node has these host endpoints, written as "name: policies for local ingress".
func (k *cluster) hosts(node string, want ...string) {
	k.t.Helper()
	k.eventually("NodeState "+node+" has its host endpoints", func() error {
		state := &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: node}}
		if !k.get(state) {
			return fmt.Errorf("there is no NodeState %s", node)
		}
		var got []string
		for _, h := range state.Spec.HostEndpoints {
			line := h.Name + ":"
			for _, tier := range h.Local.Ingress {
				line += " " + strings.Join(tier.Policies, " ")
			}
			got = append(got, line)
		}
		if !slices.Equal(got, want) {
			return fmt.Errorf("got %q, want %q", got, want)
		}
		return nil
	})
}

// TestHostEndpoints follows host endpoints of a node, and of a host that is none, to the enforcement of a policy.
func TestHostEndpoints(t *testing.T) {
	k := newCluster(t)
	a := k.agents()
	k.create(node("node1", "10.0.0.11"))
	k.operator(withPool())
	gateway := map[string]string{"role": "gateway"}
	a.hold("outside", true)
	k.create(hostEndpoint("inner", "node1", gateway), hostEndpoint("outer", "outside", gateway), hostEndpoint("other", "node1", nil))
	k.hosts("node1", "inner:", "other:")
	k.hosts("outside", "outer:")

	gnp := globalPolicy("gateways", "role == 'gateway'")
	k.create(gnp)
	k.hosts("node1", "inner: gnp.gateways", "other:")
	k.hosts("outside", "outer: gnp.gateways")
	k.eventually("the policy waits for the host that is no node", func() error {
		k.get(gnp)
		if gnp.Status.Enforced != "1/2" {
			return fmt.Errorf("enforced %q", gnp.Status.Enforced)
		}
		return nil
	})
	a.hold("outside", false)
	k.enforced(gnp, "2/2")

	endpoints := &v1alpha1.NodeEndpoints{ObjectMeta: metav1.ObjectMeta{Name: "outside"}}
	k.eventually("others know the host's address", func() error {
		if !k.get(endpoints) || len(endpoints.Spec.Endpoints) != 1 || endpoints.Spec.Endpoints[0].ID != "outer" {
			return fmt.Errorf("NodeEndpoints are %+v", endpoints.Spec)
		}
		return nil
	})
	if k.get(&v1alpha1.NodeNetwork{ObjectMeta: metav1.ObjectMeta{Name: "outside"}}) {
		t.Error("a host that is no node has a NodeNetwork")
	}
	k.delete(hostEndpoint("outer", "outside", nil))
	k.eventually("nothing of the host remains", func() error {
		if k.get(&v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: "outside"}}) || k.get(endpoints) {
			return fmt.Errorf("its NodeState or NodeEndpoints are there")
		}
		return nil
	})
	k.enforced(gnp, "1/1")
}

func automatic(autoCreate string) *v3.KubeControllersConfiguration {
	return &v3.KubeControllersConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "default"},
		Spec: v3.KubeControllersConfigurationSpec{Controllers: v3.ControllersConfig{Node: &v3.NodeControllerConfig{
			HostEndpoint: &v3.AutoHostEndpointConfig{AutoCreate: autoCreate},
		}}},
	}
}

// TestAutomaticHostEndpoints has the operator make host endpoints and keep them up to date.
func TestAutomaticHostEndpoints(t *testing.T) {
	k := newCluster(t)
	k.agents()
	first := node("node1", "10.0.0.11")
	first.Labels = map[string]string{"role": "worker"}
	k.create(first, hostEndpoint("mine", "node1", nil))
	stop := k.operator(withPool())
	k.hosts("node1", "mine:")

	config := automatic("Enabled")
	k.create(config)
	k.hosts("node1", "mine:", "node1-auto-hep:")
	k.create(node("node2", "10.0.0.12"))
	k.hosts("node2", "node2-auto-hep:")
	made := &v3.HostEndpoint{ObjectMeta: metav1.ObjectMeta{Name: "node1-auto-hep"}}
	expected := []string(nil) // of its ends of tunnels
	like := func(what string, address, role string) {
		t.Helper()
		k.eventually(what, func() error {
			labels := map[string]string{"role": role, "projectcalico.org/created-by": "calico-kube-controllers"}
			if role == "" {
				delete(labels, "role")
			}
			if !k.get(made) || made.Spec.Node != "node1" || made.Spec.InterfaceName != "*" || !maps.Equal(made.Labels, labels) ||
				!slices.Equal(made.Spec.ExpectedIPs, append([]string{address}, expected...)) || !slices.Equal(made.Spec.Profiles, []string{"projectcalico-default-allow"}) {
				return fmt.Errorf("it has labels %v and is %+v", made.Labels, made.Spec)
			}
			return nil
		})
	}
	like("the host endpoint is as the node", "10.0.0.11", "worker")

	k.edit(first, func() { first.Labels["role"] = "gateway" })
	like("the host endpoint follows the labels", "10.0.0.11", "gateway")
	first.Status.Addresses[0].Address = "10.0.0.111"
	k.must(k.client.Status().Update(t.Context(), first), "moving node1")
	like("the host endpoint follows the addresses", "10.0.0.111", "gateway")
	k.edit(made, func() {
		made.Labels = map[string]string{"projectcalico.org/created-by": "calico-kube-controllers", "x": "y"}
		made.Spec.Profiles = nil
	})
	like("what somebody edits is put right", "10.0.0.111", "gateway")
	k.delete(made)
	like("what somebody deletes is made again", "10.0.0.111", "gateway")
	k.edit(first, func() { first.Labels = nil })
	like("labels that the node loses go", "10.0.0.111", "")
	state := &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: "node1"}}
	tunnels := func(ends ...v1alpha1.TunnelEnd) {
		t.Helper()
		k.eventually("the agent tells of its tunnels", func() error {
			if !k.get(state) {
				return fmt.Errorf("no NodeState")
			}
			state.Status.Tunnels = ends
			return k.client.Status().Update(t.Context(), state)
		})
	}
	tunnels(v1alpha1.TunnelEnd{Kind: v1alpha1.TunnelVXLAN, Address: "10.48.0.1"})
	expected = []string{"10.48.0.1"}
	like("the address of the node's end of the tunnel is expected", "10.0.0.111", "")
	tunnels()
	expected = nil
	like("and no longer without a tunnel", "10.0.0.111", "")

	k.delete(node("node2", ""))
	gone := func(name string) {
		t.Helper()
		k.eventually(name+" is gone", func() error {
			if k.get(&v3.HostEndpoint{ObjectMeta: metav1.ObjectMeta{Name: name}}) {
				return fmt.Errorf("it is there")
			}
			return nil
		})
	}
	gone("node2-auto-hep")

	// What was switched off while no operator was there goes when one is there again.
	stop()
	k.edit(config, func() { config.Spec.Controllers.Node.HostEndpoint.AutoCreate = "Disabled" })
	k.operator(withPool())
	gone("node1-auto-hep")
	k.hosts("node1", "mine:")

	k.edit(config, func() {
		config.Spec.Controllers.Node.HostEndpoint = &v3.AutoHostEndpointConfig{
			AutoCreate: "Enabled", CreateDefaultHostEndpoint: "Disabled",
			Templates: []v3.HostEndpointTemplate{{GenerateName: "wrong", InterfacePattern: "eth.*"}, {GenerateName: "lan", InterfaceCIDRs: []string{"10.0.0.0/24"}}},
		}
	})
	k.hosts("node1", "mine:", "node1-lan-auto-hep:")
	k.eventually("there is an event about what is not supported", func() error { return k.warned("default") })
}

// TestAHostSpeaksForItself reads and writes as the agents of hosts that are no nodes.
func TestAHostSpeaksForItself(t *testing.T) {
	k := newCluster(t)
	k.create(
		&v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: "outside"}}, &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: "node1"}},
	)
	scheme, err := controllers.Scheme()
	k.must(err, "making a scheme")
	as := func(user string) client.Client {
		c, err := client.New(k.asHost(user), client.Options{Scheme: scheme})
		k.must(err, "making a client")
		return c
	}
	write := func(user, to string) error {
		state := &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: to}}
		return as(user).Status().Patch(t.Context(), state, client.RawPatch(types.MergePatchType, []byte(`{"status":{"dataplane":"nftables"}}`)))
	}
	k.eventually("a host can't write another's status", func() error {
		if err := write("manul:host:outside", "node1"); !apierrors.IsForbidden(err) {
			return fmt.Errorf("want it to be forbidden, got: %w", err)
		}
		return nil
	})
	k.must(write("manul:host:outside", "outside"), "writing the host's own status")
	for _, user := range []string{"manul:host:", "manul:host:outsider", "outside", "somebody"} {
		if err := write(user, "outside"); !apierrors.IsForbidden(err) {
			t.Errorf("%s of the group writes the status of host outside: %v, want it to be forbidden", user, err)
		}
	}
	for _, list := range []client.ObjectList{
		&v1alpha1.NodeStateList{}, &v1alpha1.NodeEndpointsList{}, &v1alpha1.NodeNetworkList{}, &v1alpha1.PolicyProgramList{}, &v1alpha1.SetCatalogList{},
	} {
		k.must(as("manul:host:outside").List(t.Context(), list), fmt.Sprintf("listing %T as a host", list))
	}
	if err := as("manul:host:outside").List(t.Context(), &v3.HostEndpointList{}); !apierrors.IsForbidden(err) {
		t.Errorf("listing what users wrote: %v, want it to be forbidden", err)
	}
}
