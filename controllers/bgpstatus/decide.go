package bgpstatus

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/validate"
)

// ConditionEstablished of a BGPPeer: every node that should have a session has it.
const ConditionEstablished = "Established"

// Reasons of the condition Accepted.
const (
	// ReasonValid: nothing is wrong with the object itself.
	ReasonValid = "Valid"
	// ReasonInvalid: the object contradicts itself, and has no effect.
	ReasonInvalid = "Invalid"
	// ReasonFilterMissing: the peer names a BGPFilter that does not exist; until then no route passes.
	ReasonFilterMissing = "FilterMissing"
	// ReasonSecretMissing: a secret or its key does not exist.
	ReasonSecretMissing = "SecretMissing"
)

// Reasons of the condition Established, beside those that nodes report.
const (
	// ReasonEstablished: all sessions are up.
	ReasonEstablished = "Established"
	// ReasonNoSessions: no node is selected that has an address, or other BGPPeers have the same addresses.
	ReasonNoSessions = "NoSessions"
	// ReasonPending: nodes have yet to report.
	ReasonPending = "Pending"
)

// stateEstablished is the state of a session that is up (RFC 4271).
const stateEstablished = "Established"

const (
	// maxNamed is how many nodes a message names, maxText how long what one of them says may be.
	maxNamed, maxText = 3, 200
	// meshSession begins the names of sessions of the mesh.
	meshSession = v1alpha1.MeshGroup + "/"
)

// reasons are those that nodes report, the more telling first: the condition bears the first that any session has.
func reasons() []string {
	return []string{ReasonSecretMissing, "WrongPassword", "ASMismatch", "MaximumPrefixes", "Refused", "Unreachable", "Waiting"}
}

// summary is how the sessions of one BGPPeer stand, over all nodes.
type summary struct {
	nodes, up int
	// unlisted counts sessions of groups that are not up and that nodes did not list.
	unlisted int
	// troubles of sessions that are not up, in order of nodes.
	troubles []trouble
}

type trouble struct {
	node, address, reason, message string
}

// peerOf is the BGPPeer of a session; the mesh has none.
func peerOf(session string) string {
	name, _, _ := strings.Cut(session, "/")
	return name
}

// summarize looks at what every node should have and what it reports. The states are in order of their names.
func summarize(states []*v1alpha1.NodeState) (peers map[string]*summary, meshSecret string) {
	peers = map[string]*summary{}
	for _, state := range states {
		reported := map[string]*v1alpha1.BGPSessionStatus{}
		for i := range state.Status.BGPSessions {
			s := &state.Status.BGPSessions[i]
			if !strings.HasPrefix(s.Name, meshSession) {
				reported[s.Name] = s
			} else if s.Reason == ReasonSecretMissing && meshSecret == "" {
				meshSecret = s.Message
			}
		}
		if state.Spec.BGP == nil {
			continue
		}
		up := map[string]bool{}
		for i := range state.Spec.BGP.Sessions {
			want := &state.Spec.BGP.Sessions[i]
			name := peerOf(want.Name)
			sum := peers[name]
			if sum == nil {
				sum = &summary{}
				peers[name] = sum
			}
			if _, counted := up[name]; !counted {
				up[name] = true
				sum.nodes++
			}
			if s := reported[want.Name]; s == nil || s.State != stateEstablished {
				up[name] = false
				sum.troubles = append(sum.troubles, troubleOf(state.Name, want, s))
			}
		}
		summarizeGroups(peers, up, state)
		for name, all := range up {
			if all {
				peers[name].up++
			}
		}
	}
	return peers, meshSecret
}

// summarizeGroups looks at the sessions of a node that are counted. up tells of which peers it has sessions, and whether all of them are
// up.
func summarizeGroups(peers map[string]*summary, up map[string]bool, state *v1alpha1.NodeState) {
	want := map[string]int{}
	for i := range state.Spec.BGP.Groups {
		g := &state.Spec.BGP.Groups[i]
		want[g.Session.Name] += len(g.Members)
	}
	for name, sessions := range want {
		if peers[name] == nil {
			peers[name] = &summary{}
		}
		sum := peers[name]
		all, counted := up[name]
		if !counted {
			all = true
			sum.nodes++
		}
		reported, established := 0, 0
		for _, g := range state.Status.BGPGroups {
			if g.Name == name {
				reported += int(g.Sessions)
				established += int(g.Established)
			}
		}
		up[name] = all && reported == sessions && established == sessions
		if reported != sessions {
			sum.troubles = append(sum.troubles, trouble{
				node: state.Name, address: fmt.Sprintf("%d nodes", sessions), reason: ReasonPending, message: "the node has yet to report",
			})
			continue
		}
		listed := 0
		for i := range state.Status.BGPSessions {
			s := &state.Status.BGPSessions[i]
			if peerOf(s.Name) != name || s.State == stateEstablished || isListed(state.Spec.BGP, s.Name) {
				continue
			}
			listed++
			sum.troubles = append(sum.troubles, troubleOf(state.Name, &v1alpha1.BGPSession{Name: s.Name, Address: s.Address}, s))
		}
		sum.unlisted += max(0, sessions-established-listed)
	}
}

// isListed tells whether a session is none of a group's.
func isListed(b *v1alpha1.BGP, name string) bool {
	return slices.ContainsFunc(b.Sessions, func(s v1alpha1.BGPSession) bool { return s.Name == name })
}

func troubleOf(node string, want *v1alpha1.BGPSession, s *v1alpha1.BGPSessionStatus) trouble {
	t := trouble{node: node, address: want.Address, reason: ReasonPending, message: "the node has yet to report"}
	if t.address == "" {
		t.address = "pod " + want.Endpoint
	}
	if s == nil {
		return t
	}
	t.reason, t.message = s.Reason, s.Message
	if !slices.Contains(reasons(), t.reason) {
		t.reason = ReasonPending
	}
	if t.message == "" {
		t.message = "state " + s.State
	}
	t.message = shortened(t.message)
	return t
}

// shortened bounds a text that is part of a message.
func shortened(text string) string {
	if len(text) > maxText {
		return strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return text
}

// established is the condition of a BGPPeer.
func established(generation int64, spec *v3.BGPPeerSpec, sum *summary) metav1.Condition {
	c := metav1.Condition{Type: ConditionEstablished, Status: metav1.ConditionFalse, ObservedGeneration: generation}
	if sum == nil || sum.nodes == 0 {
		c.Reason = ReasonNoSessions
		c.Message = "no node has a session: no node with an address of the peer's family is selected, or a BGPPeer that comes first by name has the same address"
		switch {
		case spec.Node != "":
			c.Message += fmt.Sprintf("; is %q, of spec.node, among kubectl get nodes?", spec.Node)
		case spec.NodeSelector != "":
			c.Message += fmt.Sprintf("; compare spec.nodeSelector, %s, with kubectl get nodes --show-labels", shortened(spec.NodeSelector))
		}
		return c
	}
	c.Message = fmt.Sprintf("%d of %d nodes", sum.up, sum.nodes)
	if sum.up == sum.nodes {
		c.Status, c.Reason = metav1.ConditionTrue, ReasonEstablished
		return c
	}
	c.Reason = ReasonPending
	for _, reason := range reasons() {
		if slices.ContainsFunc(sum.troubles, func(t trouble) bool { return t.reason == reason }) {
			c.Reason = reason
			break
		}
	}
	// Those of the reason first: they are what the condition is about.
	troubles := slices.Clone(sum.troubles)
	slices.SortStableFunc(troubles, func(a, b trouble) int { return rank(a.reason, c.Reason) - rank(b.reason, c.Reason) })
	for _, t := range troubles[:min(maxNamed, len(troubles))] {
		c.Message += fmt.Sprintf("; %s to %s: %s", t.node, t.address, t.message)
	}
	if more := max(0, len(troubles)-maxNamed) + sum.unlisted; more > 0 {
		c.Message += fmt.Sprintf("; and %d more sessions", more)
	}
	return c
}

func rank(reason, first string) int {
	if reason == first {
		return 0
	}
	return 1
}

// accepted is the condition of an object in which mistakes were found, or none.
func accepted(generation int64, errs field.ErrorList) metav1.Condition {
	c := metav1.Condition{
		Type: v3.ConditionAccepted, Status: metav1.ConditionTrue, Reason: ReasonValid, Message: "valid", ObservedGeneration: generation,
	}
	if err := errs.ToAggregate(); err != nil {
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, ReasonInvalid, err.Error()
	}
	return c
}

// peerConditions are those of a BGPPeer.
func peerConditions(p *v3.BGPPeer, filters map[string]bool, sum *summary) []metav1.Condition {
	conditions := slices.Clone(p.Status.Conditions)
	ok := accepted(p.Generation, validate.BGPPeer(p))
	if ok.Status == metav1.ConditionTrue {
		var missing []string
		for _, name := range p.Spec.Filters {
			if !filters[name] {
				missing = append(missing, name)
			}
		}
		if len(missing) > 0 {
			ok.Status, ok.Reason = metav1.ConditionFalse, ReasonFilterMissing
			ok.Message = fmt.Sprintf("spec.filters: there is no BGPFilter %s, and no route passes until there is: create it, or remove the name", strings.Join(missing, ", "))
		}
	}
	meta.SetStatusCondition(&conditions, ok)
	meta.SetStatusCondition(&conditions, established(p.Generation, &p.Spec, sum))
	return conditions
}

// filterConditions are those of a BGPFilter.
func filterConditions(f *v3.BGPFilter) []metav1.Condition {
	conditions := slices.Clone(f.Status.Conditions)
	ok := accepted(f.Generation, validate.BGPFilter(f))
	if ok.Status == metav1.ConditionFalse {
		ok.Message += "; sessions with this filter pass no route"
	}
	meta.SetStatusCondition(&conditions, ok)
	return conditions
}

// configurationConditions are those of a BGPConfiguration. meshSecret is what nodes say of the mesh's password, if it is missing.
func configurationConditions(c *v3.BGPConfiguration, meshSecret string) []metav1.Condition {
	conditions := slices.Clone(c.Status.Conditions)
	ok := accepted(c.Generation, validate.BGPConfiguration(c))
	if ok.Status == metav1.ConditionTrue && c.Spec.NodeMeshPassword != nil && meshSecret != "" {
		ok.Status, ok.Reason, ok.Message = metav1.ConditionFalse, ReasonSecretMissing, "spec.nodeMeshPassword: "+meshSecret
	}
	meta.SetStatusCondition(&conditions, ok)
	return conditions
}
