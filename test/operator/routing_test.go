package operator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
)

// TestBGP follows a BGPPeer to the node, and what the node reports back to the BGPPeer.
func TestBGP(t *testing.T) {
	k := newCluster(t)
	k.create(node("node1", "10.0.0.11"))
	k.operator(withPool())
	peer := &v3.BGPPeer{
		ObjectMeta: metav1.ObjectMeta{Name: "tor"},
		Spec:       v3.BGPPeerSpec{PeerIP: "192.0.2.9", ASNumber: 65001, Filters: []string{"f"}},
	}
	config := &v3.BGPConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "default"},
		Spec:       v3.BGPConfigurationSpec{ServiceClusterIPs: []v3.ServiceClusterIPBlock{{CIDR: "10.49.0.0/16"}}},
	}
	k.create(peer, config)
	state := &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: "node1"}}
	k.eventually("the node has the session and the prefix", func() error {
		if !k.get(state) || state.Spec.BGP == nil || len(state.Spec.BGP.Sessions) != 1 || len(state.Spec.BGP.Announce) != 1 {
			return fmt.Errorf("NodeState has BGP %+v", state.Spec.BGP)
		}
		return nil
	})
	network := &v1alpha1.NodeNetwork{ObjectMeta: metav1.ObjectMeta{Name: "node1"}}
	k.eventually("others know it as a member of the mesh", func() error {
		if !k.get(network) || network.Spec.BGP == nil || network.Spec.BGP.ASNumber != 64512 {
			return fmt.Errorf("NodeNetwork has BGP %+v", network.Spec.BGP)
		}
		return nil
	})
	k.condition(peer, &peer.Status, "Accepted", "False FilterMissing")
	k.condition(peer, &peer.Status, "Established", "False Pending")
	k.condition(config, &config.Status, "Accepted", "True Valid")

	filter := &v3.BGPFilter{ObjectMeta: metav1.ObjectMeta{Name: "f"}}
	k.create(filter)
	before := state.DeepCopy()
	state.Status.BGPSessions = []v1alpha1.BGPSessionStatus{{Name: "tor/192.0.2.9", Address: "192.0.2.9", State: "Established"}}
	if err := k.client.Status().Patch(t.Context(), state, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	k.condition(peer, &peer.Status, "Accepted", "True Valid")
	k.condition(peer, &peer.Status, "Established", "True Established")
	k.condition(filter, &filter.Status, "Accepted", "True Valid")

	asked := &v3.CalicoNodeStatus{
		ObjectMeta: metav1.ObjectMeta{Name: "node1"},
		Spec:       v3.CalicoNodeStatusSpec{Node: "node1", Classes: []v3.NodeStatusClass{"BGP"}, UpdatePeriodSeconds: new(uint32(1))},
	}
	k.create(asked)
	k.eventually("the node is asked", func() error {
		if !k.get(state) || state.Spec.Inquiry == nil || !state.Spec.Inquiry.Sessions {
			return fmt.Errorf("inquiry is %+v", state.Spec.Inquiry)
		}
		return nil
	})
	before = state.DeepCopy()
	state.Status.Report = &v1alpha1.Report{At: metav1.NewTime(time.Now().Truncate(time.Second)), Sessions: state.Status.BGPSessions}
	if err := k.client.Status().Patch(t.Context(), state, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	k.eventually("CalicoNodeStatus is answered", func() error {
		if !k.get(asked) || asked.Status.BGP.NumberEstablishedV4 != 1 || len(asked.Status.BGP.PeersV4) != 1 || asked.Status.LastUpdated.IsZero() {
			return fmt.Errorf("status is %+v", asked.Status)
		}
		return nil
	})
	k.delete(peer)
	k.eventually("the session is gone", func() error {
		if k.get(state); len(state.Spec.BGP.Sessions) != 0 {
			return fmt.Errorf("sessions are %+v", state.Spec.BGP.Sessions)
		}
		return nil
	})
}

// condition waits until an object has a condition of this status and reason.
func (k *cluster) condition(obj client.Object, status *v3.BGPStatus, kind, want string) {
	k.t.Helper()
	k.eventually(fmt.Sprintf("%T is %s: %s", obj, kind, want), func() error {
		if !k.get(obj) {
			return fmt.Errorf("it is not there")
		}
		c := meta.FindStatusCondition(status.Conditions, kind)
		if c == nil || fmt.Sprintf("%s %s", c.Status, c.Reason) != want {
			return fmt.Errorf("condition is %+v", c)
		}
		return nil
	})
}

// TestLoadBalancers follows a service to its address, and from there to the nodes that advertise it.
func TestLoadBalancers(t *testing.T) {
	k := newCluster(t)
	k.create(node("node1", "10.0.0.11"))
	k.operator(withPool())
	k.create(
		&v3.IPPool{
			ObjectMeta: metav1.ObjectMeta{Name: "services"},
			Spec:       v3.IPPoolSpec{CIDR: "10.51.0.0/24", AllowedUses: []v3.IPPoolAllowedUse{v3.IPPoolAllowedUseLoadBalancer}},
		},
		&v3.BGPConfiguration{
			ObjectMeta: metav1.ObjectMeta{Name: "default"},
			Spec:       v3.BGPConfigurationSpec{ServiceLoadBalancerIPs: []v3.ServiceLoadBalancerIPBlock{{CIDR: "10.51.0.0/24"}}},
		},
	)
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", Annotations: map[string]string{"projectcalico.org/loadBalancerIPs": `["10.51.0.7"]`}},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Ports: []corev1.ServicePort{{Port: 80}}},
	}
	k.create(service)
	k.eventually("the service has its address", func() error {
		if !k.get(service) || len(service.Status.LoadBalancer.Ingress) != 1 || service.Status.LoadBalancer.Ingress[0].IP != "10.51.0.7" {
			return fmt.Errorf("status is %+v", service.Status.LoadBalancer)
		}
		return nil
	})
	state := &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: "node1"}}
	k.eventually("the node advertises the range", func() error {
		if !k.get(state) || state.Spec.BGP == nil || fmt.Sprint(state.Spec.BGP.Announce) != "[10.51.0.0/24]" {
			return fmt.Errorf("NodeState has BGP %+v", state.Spec.BGP)
		}
		return nil
	})
	k.delete(service)
}

// guided creates the objects of a manifest of the guide.
func (k *cluster) guided(name string) {
	k.t.Helper()
	raw, err := os.ReadFile(filepath.Join("../../docs/guide/manifests", name))
	k.must(err, "reading the guide")
	decoder := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(raw), 4096)
	for {
		obj := &unstructured.Unstructured{}
		if err := decoder.Decode(obj); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			k.t.Fatalf("%s: %v", name, err)
		}
		k.must(k.client.Create(k.t.Context(), obj), "creating "+obj.GetName()+" of the guide")
	}
}

// TestGuideOfServices applies what the guide says of addresses for load balancers, and of a service that one zone advertises.
func TestGuideOfServices(t *testing.T) {
	k := newCluster(t)
	for name, zone := range map[string]string{"node1": "a", "node2": "b"} {
		n := node(name, "10.0.0.1"+name[4:])
		n.Labels = map[string]string{"topology.kubernetes.io/zone": zone}
		k.create(n)
	}
	yaobank := namespace("yaobank")
	k.must(client.IgnoreAlreadyExists(k.client.Create(t.Context(), yaobank)), "creating yaobank")
	t.Cleanup(func() { // nobody else clears services
		_ = k.client.DeleteAllOf(context.WithoutCancel(t.Context()), &corev1.Service{}, client.InNamespace("yaobank"))
	})
	k.operator(withPool())
	k.guided("bgp-load-balancers.yaml")
	k.guided("bgp-zone.yaml")
	k.create(&discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "yaobank", Name: "customer-zone-b", Labels: map[string]string{discoveryv1.LabelServiceName: "customer-zone-b"},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"10.48.0.9"}, NodeName: new("node1")}},
	})
	pool := netip.MustParsePrefix("10.51.0.0/24")
	for name, right := range map[string]func(netip.Addr) bool{
		"customer-any": pool.Contains, "customer-fixed": func(a netip.Addr) bool { return a.String() == "10.51.0.7" },
	} {
		service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "yaobank", Name: name}}
		k.eventually(name+" has its address", func() error {
			if !k.get(service) || len(service.Status.LoadBalancer.Ingress) != 1 || !right(netip.MustParseAddr(service.Status.LoadBalancer.Ingress[0].IP)) {
				return fmt.Errorf("status is %+v", service.Status.LoadBalancer)
			}
			return nil
		})
	}
	const ranges = "10.49.0.0/16 10.50.0.0/24"
	for name, want := range map[string]string{"node1": ranges + " 10.51.0.0/24; no session", "node2": ranges + " 10.50.0.30/32 10.51.0.0/24; zone-b/10.0.0.21 [zone-b]"} {
		state := &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: name}}
		k.eventually(name+" advertises what the guide says", func() error {
			if !k.get(state) || state.Spec.BGP == nil {
				return errors.New("there is no BGP")
			}
			got := strings.Join(state.Spec.BGP.Announce, " ") + "; no session"
			if sessions := state.Spec.BGP.Sessions; len(sessions) == 1 {
				got = fmt.Sprint(strings.Join(state.Spec.BGP.Announce, " "), "; ", sessions[0].Name, " ", sessions[0].Filters)
			}
			if got != want {
				return fmt.Errorf("it is %q, want %q", got, want)
			}
			return nil
		})
	}
}
