package operator

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/cmd/kubectl-manul/command"
)

// manul runs kubectl manul, and returns what it printed. Spaces between columns are one.
func (k *cluster) manul(args ...string) (string, error) {
	k.t.Helper()
	var out strings.Builder
	cmd := command.New("test")
	cmd.SetArgs(append(args, "--kubeconfig", k.server.Kubeconfig))
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	err := cmd.ExecuteContext(k.t.Context())
	return regexp.MustCompile(` {2,}`).ReplaceAllString(out.String(), " "), err
}

// says has a command print each of some texts, sooner or later.
func (k *cluster) says(args string, want ...string) {
	k.t.Helper()
	k.eventually("kubectl manul "+args, func() error {
		got, err := k.manul(strings.Fields(args)...)
		if err != nil {
			return err
		}
		for _, text := range want {
			if !strings.Contains(got, text) {
				return fmt.Errorf("it does not say %q:\n%s", text, got)
			}
		}
		return nil
	})
}

// TestPlugin runs the commands of kubectl manul on a cluster with an operator and the agents of two nodes.
func TestPlugin(t *testing.T) {
	k := newCluster(t)
	a := k.agents()
	k.create(node("node1", "10.0.0.11"), node("node2", "10.0.0.12"), namespace("plugin"))
	k.operator(withPool())
	k.create(pod("plugin", "database", "node1", nil))
	k.addressed("node1", "plugin/database")
	k.create(&v3.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: "tor"}, Spec: v3.BGPPeerSpec{PeerIP: "192.0.2.9", ASNumber: 65001}})
	database := k.addressOf("node1", "plugin/database")

	t.Run("nodes", func(t *testing.T) {
		k.says("nodes", "NODE READY CURRENT DATAPLANE", "node1 Unknown yes nftables 1 0 0 1 1 0/1 0", "node2 Unknown yes nftables 0 0 0 1 0 0/1 0")
		a.fail("node1", v1alpha1.Failure{Kind: "Address", Name: "plugin/late", Message: "no free address"})
		k.says("nodes node1", "Address plugin/late: no free address", "block 10.48.")
		a.fail("node1")
		k.says("nodes -o json", `"name": "node2"`)
		if _, err := k.manul("nodes", "node9"); err == nil || !strings.Contains(err.Error(), `no node "node9"`) {
			t.Errorf("a node that there is not: %v", err)
		}
	})
	t.Run("ipam show", func(t *testing.T) {
		k.says("ipam show", "default-ipv4-ippool 10.48.0.0/16 65536 1 0% 2 2 True", "default-ipv4-ippool node1 64 1 1%", "default-ipv4-ippool node2 64 0 0%")
		k.says("ipam show --ip "+database, database+" is in use by pod plugin/database on node node1", "which node node1 has leased")
		if _, err := k.manul("ipam", "show", "--ip", "10.48.0"); err == nil || !strings.Contains(err.Error(), "want an IP address") {
			t.Errorf("what is no address: %v", err)
		}
	})
	t.Run("bgp peers", func(t *testing.T) {
		k.says("bgp peers", "node1 tor 192.0.2.9 65001 Unknown - 0 0 Pending: the node has yet to report", "node2 tor 192.0.2.9")
		k.says("bgp peers --node node2 -o yaml", "node: node2")
		if got, err := k.manul("bgp", "peers", "--node", "node2"); err != nil || strings.Contains(got, "node1 tor") {
			t.Errorf("sessions of one node: %v\n%s", err, got)
		}
		if _, err := k.manul("bgp", "peers", "--node", "node9"); err == nil || !strings.Contains(err.Error(), `no node "node9"`) {
			t.Errorf("a node that there is not: %v", err)
		}
	})
	t.Run("bgp routes", func(t *testing.T) {
		go k.answer(v1alpha1.RouteStatus{Destination: "10.49.0.0/16", Gateway: "192.0.2.9", Interface: "eth0", Installed: true, Source: "BGPPeer", Peer: "192.0.2.9"})
		got, err := k.manul("bgp", "routes", "--node", "node1", "--peer", "192.0.2.9")
		if err != nil || !strings.Contains(got, "10.49.0.0/16 192.0.2.9 eth0 kernel BGPPeer 192.0.2.9") {
			t.Errorf("routes: %v\n%s", err, got)
		}
		left := &v3.CalicoNodeStatusList{}
		if k.must(k.client.List(t.Context(), left), "listing what was asked"); len(left.Items) > 0 {
			t.Errorf("the question is left behind: %+v", left.Items)
		}
		if _, err := k.manul("bgp", "routes", "--node", "node2", "--within", "50ms"); err == nil || !strings.Contains(err.Error(), "has not answered within 50ms") {
			t.Errorf("a node that does not answer: %v", err)
		}
	})
	t.Run("bgp explain", func(t *testing.T) {
		k.create(
			&v3.BGPConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "default"}, Spec: v3.BGPConfigurationSpec{ServiceExternalIPs: []v3.ServiceExternalIPBlock{{CIDR: "10.50.0.0/24"}}}},
			&corev1.Service{
				ObjectMeta: metav1.ObjectMeta{Namespace: "plugin", Name: "web"},
				Spec:       corev1.ServiceSpec{ExternalIPs: []string{"10.50.0.7"}, Ports: []corev1.ServicePort{{Port: 80}}},
			},
		)
		k.says("bgp explain plugin/web",
			"10.50.0.7 from node1: advertised as 10.50.0.0/24: every node advertises the ranges of serviceExternalIPs\n to tor (192.0.2.9): not sent: the session is Unknown: Pending",
			"not advertised: the address is in no CIDR of the BGPConfiguration's serviceClusterIPs")
		k.says("bgp explain 10.48.0.0/16", "from node1: advertised as 10.48.", "it is a block of the node")
		for _, subject := range []string{"plugin/nothing", "web"} {
			if _, err := k.manul("bgp", "explain", subject); err == nil {
				t.Errorf("%s is explained", subject)
			}
		}
		k.delete(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "plugin", Name: "web"}})
	})
	if _, err := k.manul("nodes", "-o", "xml"); err == nil || !strings.Contains(err.Error(), "want json or yaml") {
		t.Errorf("a format that there is not: %v", err)
	}
}

// answer has node1's agent answer when it is asked for its routes.
func (k *cluster) answer(route v1alpha1.RouteStatus) {
	k.eventually("node1 is asked, and answers", func() error {
		state := &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: "node1"}}
		if !k.get(state) || state.Spec.Inquiry == nil || !state.Spec.Inquiry.Routes {
			return fmt.Errorf("it is asked for %+v", state.Spec.Inquiry)
		}
		before := state.DeepCopy()
		state.Status.Report = &v1alpha1.Report{At: metav1.Now(), Routes: []v1alpha1.RouteStatus{route}, RoutesTotal: 1}
		return k.client.Status().Patch(k.t.Context(), state, client.MergeFrom(before))
	})
}

// addressOf is the address that a pod holds.
func (k *cluster) addressOf(node, id string) string {
	k.t.Helper()
	state := &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: node}}
	k.get(state)
	for _, e := range state.Status.Endpoints {
		if e.ID == id && len(e.Addresses) > 0 {
			return e.Addresses[0]
		}
	}
	k.t.Fatalf("%s has no address: %+v", id, state.Status.Endpoints)
	return ""
}

// TestPluginMends: ipam check finds what does not fit together, and mends what it can, while no operator runs.
func TestPluginMends(t *testing.T) {
	k := newCluster(t)
	stop := k.operator(withPool())
	k.agents()
	k.create(node("node1", "10.0.0.11"), node("node2", "10.0.0.12"), node("node3", "10.0.0.13"), namespace("mend"))
	k.create(pod("mend", "database", "node1", nil))
	k.addressed("node1", "mend/database")
	k.says("ipam check --settle 5s", "Everything fits together.")
	stop()

	// An affinity is lost, another is left over, and a node is gone.
	affinities := &v3.BlockAffinityList{}
	k.must(k.client.List(t.Context(), affinities), "listing affinities")
	for i := range affinities.Items {
		if affinities.Items[i].Spec.Node == "node1" {
			k.delete(&affinities.Items[i])
		}
	}
	// One says something else than its block.
	for i := range affinities.Items {
		if wrong := &affinities.Items[i]; wrong.Spec.Node == "node3" {
			wrong.Spec.State = v3.StatePendingDeletion
			k.must(k.client.Update(t.Context(), wrong), "changing an affinity")
		}
	}
	left := &v3.BlockAffinity{ObjectMeta: metav1.ObjectMeta{Name: "node1-10-48-9-0-26"}, Spec: v3.BlockAffinitySpec{State: v3.StateConfirmed, Node: "node1", Type: "host", CIDR: "10.48.9.0/26"}}
	k.create(left)
	k.delete(node("node2", "10.0.0.12"))
	k.delete(&v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: "node2"}})

	got, err := k.manul("ipam", "check", "--settle", "10ms")
	if !errors.Is(err, command.ErrFound) {
		t.Errorf("the check ends with %v", err)
	}
	for _, want := range []string{"AffinityMissing, IPAMBlock", "AffinityLeft, BlockAffinity node1-10-48-9-0-26", "AffinityWrong, BlockAffinity node3-", "BlockOfNoNode, IPAMBlock", "--fix mends it"} {
		if !strings.Contains(got, want) {
			t.Errorf("the check does not say %q:\n%s", want, got)
		}
	}
	if got, err = k.manul("ipam", "check", "--settle", "0", "--fix"); !errors.Is(err, command.ErrFound) || strings.Count(got, "\n mended") != 4 {
		t.Errorf("mending ends with %v:\n%s", err, got)
	}
	k.says("ipam check --settle 0", "Everything fits together.")
	blocks := &v3.IPAMBlockList{}
	k.must(k.client.List(t.Context(), blocks), "listing blocks")
	if len(blocks.Items) != 2 || k.get(left) {
		t.Errorf("blocks are %+v", blocks.Items)
	}

	// What a person has to decide is not touched.
	second := &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: "node1"}}
	k.get(second)
	held := second.Status.Endpoints[0].Addresses[0]
	before := second.DeepCopy()
	second.Status.Endpoints = append(second.Status.Endpoints, v1alpha1.EndpointStatus{ID: "mend/twin", UID: "x", Addresses: []string{held}})
	k.must(k.client.Status().Patch(t.Context(), second, client.MergeFrom(before)), "having a second pod report the address")
	if got, err = k.manul("ipam", "check", "--settle", "0", "--fix"); !errors.Is(err, command.ErrFound) || !strings.Contains(got, "AddressTwice, "+held) || strings.Contains(got, "mended") {
		t.Errorf("an address twice: %v\n%s", err, got)
	}
}
