package bgpstatus

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
)

// state is a node with sessions of the form "tor/192.0.2.9 Established" or "tor/192.0.2.9 Idle Reason what it says"; a session without
// more than its name is not reported.
func state(node string, sessions ...string) *v1alpha1.NodeState {
	s := &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: node}, Spec: v1alpha1.NodeStateSpec{BGP: &v1alpha1.BGP{}}}
	for _, text := range sessions {
		words := strings.SplitN(text, " ", 4)
		_, address, _ := strings.Cut(words[0], "/")
		if words[0][:4] != "mesh" {
			s.Spec.BGP.Sessions = append(s.Spec.BGP.Sessions, v1alpha1.BGPSession{Name: words[0], Address: address})
		}
		if len(words) == 1 {
			continue
		}
		words = append(words, "", "")
		s.Status.BGPSessions = append(s.Status.BGPSessions, v1alpha1.BGPSessionStatus{
			Name: words[0], Address: address[strings.LastIndex(address, "/")+1:], State: words[1], Reason: words[2], Message: words[3],
		})
	}
	return s
}

// reflector is a node with a group of sessions "rr", of which it reports so many, established or not.
func reflector(node string, members, reported, established int, listed ...string) *v1alpha1.NodeState {
	s := state(node)
	group := v1alpha1.BGPGroup{Session: v1alpha1.BGPSession{Name: "rr"}}
	for i := range members {
		group.Members = append(group.Members, fmt.Sprint("192.0.2.", i))
	}
	s.Spec.BGP.Groups = []v1alpha1.BGPGroup{group}
	s.Status.BGPGroups = []v1alpha1.BGPGroupStatus{{Name: "rr", Family: 4, Sessions: int32(reported), Established: int32(established)}}
	for _, address := range listed {
		s.Status.BGPSessions = append(s.Status.BGPSessions, v1alpha1.BGPSessionStatus{
			Name: "rr/" + address, Address: address, State: "Active", Reason: "Unreachable", Message: "no route to host",
		})
	}
	return s
}

func TestEstablishedInGroups(t *testing.T) {
	for sentence, tc := range map[string]struct {
		states []*v1alpha1.NodeState
		want   string
	}{
		"all are up":               {[]*v1alpha1.NodeState{reflector("a", 20, 20, 20), state("b", "rr/192.0.2.9 Established")}, "True Established: 2 of 2 nodes"},
		"the node has yet to know": {[]*v1alpha1.NodeState{reflector("a", 20, 19, 19)}, "False Pending: 0 of 1 nodes; a to 20 nodes: the node has yet to report"},
		"one is not up": {
			[]*v1alpha1.NodeState{reflector("a", 20, 20, 19, "192.0.2.7")}, "False Unreachable: 0 of 1 nodes; a to 192.0.2.7: no route to host",
		},
		"more than the node lists": {
			[]*v1alpha1.NodeState{reflector("a", 20, 20, 3, "192.0.2.7")}, "no route to host; and 16 more sessions",
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			sums, _ := summarize(tc.states)
			c := established(7, &v3.BGPPeerSpec{}, sums["rr"])
			if got := fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message); !strings.HasSuffix(got, tc.want) {
				t.Errorf("condition is %q, want %q", got, tc.want)
			}
		})
	}
}

func TestEstablished(t *testing.T) {
	for sentence, tc := range map[string]struct {
		states []*v1alpha1.NodeState
		want   string
	}{
		"all sessions are up": {
			[]*v1alpha1.NodeState{state("a", "tor/192.0.2.9 Established"), state("b", "tor/192.0.2.9 Established"), state("c")},
			"True Established: 2 of 2 nodes",
		},
		"nobody peers": {[]*v1alpha1.NodeState{state("a", "other/192.0.2.9 Established")}, "False NoSessions: no node has a session"},
		"nodes have yet to report": {
			[]*v1alpha1.NodeState{state("a", "tor/192.0.2.9 Established"), state("b", "tor/192.0.2.9")},
			"False Pending: 1 of 2 nodes; b to 192.0.2.9: the node has yet to report",
		},
		"a node with several sessions counts when all are up": {
			[]*v1alpha1.NodeState{state("a", "tor/192.0.2.8 Established", "tor/192.0.2.9 Active Unreachable no route to host")},
			"False Unreachable: 0 of 1 nodes; a to 192.0.2.9: no route to host",
		},
		"the most telling reason comes first": {
			[]*v1alpha1.NodeState{
				state("a", "tor/192.0.2.9 Active Unreachable no route to host"), state("b", "tor/192.0.2.9 Idle SecretMissing secret bgp has no key tor"),
			},
			"False SecretMissing: 0 of 2 nodes; b to 192.0.2.9: secret bgp has no key tor; a to 192.0.2.9: no route to host",
		},
		"wrong password":   {[]*v1alpha1.NodeState{state("a", "tor/192.0.2.9 Active WrongPassword x")}, "False WrongPassword: 0 of 1 nodes; a to 192.0.2.9: x"},
		"another AS":       {[]*v1alpha1.NodeState{state("a", "tor/192.0.2.9 Idle ASMismatch x")}, "False ASMismatch: 0 of 1 nodes; a to 192.0.2.9: x"},
		"too many routes":  {[]*v1alpha1.NodeState{state("a", "tor/192.0.2.9 Idle MaximumPrefixes x")}, "False MaximumPrefixes: 0 of 1 nodes; a to 192.0.2.9: x"},
		"a state in words": {[]*v1alpha1.NodeState{state("a", "tor/192.0.2.9 Connect")}, "False Pending: 0 of 1 nodes; a to 192.0.2.9: state Connect"},
		"many nodes are counted": {
			[]*v1alpha1.NodeState{state("a", "tor/1"), state("b", "tor/1"), state("c", "tor/1"), state("d", "tor/1"), state("e", "tor/1")},
			"and 2 more sessions",
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			sums, _ := summarize(tc.states)
			c := established(7, &v3.BGPPeerSpec{}, sums["tor"])
			got := fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message)
			if !strings.Contains(got, tc.want) || c.ObservedGeneration != 7 {
				t.Errorf("condition is %q, want %q", got, tc.want)
			}
		})
	}
}

func TestAccepted(t *testing.T) {
	peer := &v3.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: "tor"}, Spec: v3.BGPPeerSpec{PeerIP: "192.0.2.9", ASNumber: 65001, Filters: []string{"f", "g"}}}
	contradiction := peer.DeepCopy()
	contradiction.Spec.PeerSelector = "all()"
	mesh := &v3.BGPConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "default"}, Spec: v3.BGPConfigurationSpec{NodeMeshPassword: &v3.BGPPassword{}}}
	mesh.Spec.NodeMeshPassword.SecretKeyRef = secret("bgp", "mesh")
	_, missing := summarize([]*v1alpha1.NodeState{state("a", "mesh/b/192.0.2.2 Idle SecretMissing there is no secret bgp")})
	for sentence, tc := range map[string]struct {
		conditions []metav1.Condition
		want       string
	}{
		"all filters exist":   {peerConditions(peer, map[string]bool{"f": true, "g": true}, nil), "True Valid: valid"},
		"a filter is missing": {peerConditions(peer, map[string]bool{"f": true}, nil), "False FilterMissing: spec.filters: there is no BGPFilter g, and no route passes until there is"},
		"a contradiction":     {peerConditions(contradiction, nil, nil), "False Invalid: [spec.peerSelector: Forbidden: peerIP and peerSelector exclude each other"},
		"a filter":            {filterConditions(&v3.BGPFilter{}), "True Valid"},
		"a configuration":     {configurationConditions(mesh, ""), "True Valid"},
		"the mesh's secret":   {configurationConditions(mesh, missing), "False SecretMissing: spec.nodeMeshPassword: there is no secret bgp"},
		"a name that says nothing": {
			configurationConditions(&v3.BGPConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "x"}}, ""), "False Invalid: metadata.name",
		},
	} {
		c := meta.FindStatusCondition(tc.conditions, v3.ConditionAccepted)
		if got := fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message); !strings.Contains(got, tc.want) {
			t.Errorf("%s: condition is %q, want %q", sentence, got, tc.want)
		}
	}
}

func TestCalicoNodeStatus(t *testing.T) {
	s := state("a", "mesh/b/192.0.2.2 Active", "tor/192.0.2.9 Active", "rack/2001:db8::9 Established")
	s.Status.BGPGroups = []v1alpha1.BGPGroupStatus{{Name: "mesh", Family: 4, Sessions: 3, Established: 2}}
	s.Spec.BGP.RouterID, s.Spec.BGP.Addresses = "192.0.2.1", []string{"192.0.2.1"}
	s.Status.AgentVersion = "v1"
	s.Status.Conditions = []metav1.Condition{{Type: "Ready", Status: metav1.ConditionTrue}}
	at := metav1.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s.Status.Report = &v1alpha1.Report{
		At: at, Started: at, Sessions: s.Status.BGPSessions,
		Routes: []v1alpha1.RouteStatus{
			{Destination: "0.0.0.0/0", Gateway: "192.0.2.254", Interface: "eth0", Installed: true, Source: "Kernel"},
			{Destination: "10.48.2.0/26", Gateway: "192.0.2.2", Source: "NodeMesh", Peer: "192.0.2.2"},
			{Destination: "2001:db8::/64", Interface: "eth0", Installed: true, Source: "Direct"},
		},
	}
	got := answer([]v3.NodeStatusClass{"Agent", "BGP", "Routes"}, s, map[string]bool{"tor": true})
	want := v3.CalicoNodeStatusStatus{
		Agent: v3.NodeAgentStatus{BIRDV4: v3.BGPDaemonStatus{State: "Ready", Version: "v1", RouterID: "192.0.2.1", LastBootTime: "2026-01-02T03:04:05Z"}},
		Routes: v3.NodeRouteStatus{
			RoutesV4: []v3.NodeRoute{
				{Type: "FIB", Destination: "0.0.0.0/0", Gateway: "192.0.2.254", Interface: "eth0", LearnedFrom: v3.NodeRouteSource{SourceType: "Kernel"}},
				{Type: "RIB", Destination: "10.48.2.0/26", Gateway: "192.0.2.2", LearnedFrom: v3.NodeRouteSource{SourceType: "NodeMesh", PeerIP: "192.0.2.2"}},
			},
			RoutesV6: []v3.NodeRoute{{Type: "FIB", Destination: "2001:db8::/64", Interface: "eth0", LearnedFrom: v3.NodeRouteSource{SourceType: "Direct"}}},
		},
		BGP: v3.NodeBGPStatus{
			NumberEstablishedV4: 2, NumberNotEstablishedV4: 2, NumberEstablishedV6: 1,
			PeersV4: []v3.NodePeer{{PeerIP: "192.0.2.2", Type: "NodeMesh", State: "Active"}, {PeerIP: "192.0.2.9", Type: "GlobalPeer", State: "Active"}},
			PeersV6: []v3.NodePeer{{PeerIP: "2001:db8::9", Type: "NodePeer", State: "Established"}},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(v3.CalicoNodeStatusStatus{}, answer(nil, s, nil)); diff != "" {
		t.Errorf("status although nothing is asked for:\n%s", diff)
	}
}

func secret(name, key string) *corev1.SecretKeySelector {
	return &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: name}, Key: key}
}

// TestPeersThatNobodyHas: a node's name or a label that is written wrong is the usual reason why no node has a session.
func TestPeersThatNobodyHas(t *testing.T) {
	for want, spec := range map[string]v3.BGPPeerSpec{
		"has the same address":                                                                                   {PeerIP: "192.0.2.1"},
		`is "workerx", of spec.node, among kubectl get nodes?`:                                                   {Node: "workerx"},
		"compare spec.nodeSelector, rack == 'one', with kubectl get nodes --show-labels":                         {NodeSelector: "rack == 'one'"},
		"compare spec.nodeSelector, " + strings.Repeat("x", maxText) + "…, with kubectl get nodes --show-labels": {NodeSelector: strings.Repeat("x", 1000)},
	} {
		c := established(1, &spec, nil)
		if c.Reason != ReasonNoSessions || !strings.HasSuffix(c.Message, want) {
			t.Errorf("%+v: %s: %q, want %q at its end", spec, c.Reason, c.Message, want)
		}
	}
}
