package report

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/manul-net/manul/api/v1alpha1"
)

// Session is a BGP session of a node.
type Session struct {
	Node string `json:"node"`
	// Peer is the BGPPeer that asks for the session, or "mesh".
	Peer string `json:"peer"`
	// Address of the peer, or the pod that peers; of a group in words.
	Address string `json:"address"`
	// PeerNode is the peer when it is a node of the cluster.
	PeerNode string    `json:"peerNode,omitempty"`
	ASNumber int64     `json:"asNumber,omitempty"`
	State    string    `json:"state"`
	Since    time.Time `json:"since,omitzero"`
	// Received and Advertised count prefixes.
	Received   int32 `json:"received"`
	Advertised int32 `json:"advertised"`
	// Reason why the session is not Established, and the last error.
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`

	// Sessions and Established count those of a group, which the node does not list one by one: of the mesh, of route reflectors. Then
	// there is no address.
	Sessions    int32 `json:"sessions,omitempty"`
	Established int32 `json:"established,omitempty"`
}

// count says how many sessions it stands for, and how many of them are Established.
func (s *Session) count() (all, established int) {
	switch {
	case s.Sessions > 0:
		return int(s.Sessions), int(s.Established)
	case s.State == stateEstablished:
		return 1, 1
	}
	return 1, 0
}

// Sessions is the report on BGP sessions.
type Sessions struct {
	Sessions []Session `json:"sessions"`

	now time.Time
}

// mesh is the peer of sessions that no BGPPeer asks for; their names begin with it.
const mesh = "mesh"

// SessionsOf are the sessions of a node: those that it reports one by one, those that it should have and does not report yet, and groups.
func SessionsOf(s *v1alpha1.NodeState) []Session {
	wanted := map[string]*v1alpha1.BGPSession{}
	if s.Spec.BGP != nil {
		for i := range s.Spec.BGP.Sessions {
			wanted[s.Spec.BGP.Sessions[i].Name] = &s.Spec.BGP.Sessions[i]
		}
	}
	var out []Session
	reported := map[string]bool{}
	for i := range s.Status.BGPSessions {
		b := &s.Status.BGPSessions[i]
		reported[b.Name] = true
		session := Session{
			Node: s.Name, Address: b.Address, ASNumber: b.ASNumber, State: b.State, Since: b.Since.Time,
			Received: b.Received, Advertised: b.Advertised, Reason: b.Reason, Message: b.Message,
		}
		parts := strings.SplitN(b.Name, "/", 3)
		if session.Peer = parts[0]; session.Peer == mesh && len(parts) == 3 {
			session.PeerNode = parts[1]
		}
		if w := wanted[b.Name]; w != nil {
			session.PeerNode = w.Node
			session.Address = cmp.Or(session.Address, w.Address, w.Endpoint)
		}
		out = append(out, session)
	}
	for name, w := range wanted {
		if reported[name] {
			continue
		}
		peer, _, _ := strings.Cut(name, "/")
		out = append(out, Session{
			Node: s.Name, Peer: peer, Address: cmp.Or(w.Address, w.Endpoint), PeerNode: w.Node, ASNumber: w.ASNumber,
			State: "Unknown", Reason: "Pending", Message: "the node has yet to report",
		})
	}
	for _, g := range s.Status.BGPGroups {
		out = append(out, Session{
			Node: s.Name, Peer: g.Name, Address: fmt.Sprintf("all %d over IPv%d", g.Sessions, g.Family), Sessions: g.Sessions, Established: g.Established,
			State: fmt.Sprintf("%d of %d %s", g.Established, g.Sessions, stateEstablished),
		})
	}
	slices.SortFunc(out, func(a, b Session) int {
		return cmp.Or(strings.Compare(a.Peer, b.Peer), strings.Compare(a.PeerNode, b.PeerNode), strings.Compare(a.Address, b.Address))
	})
	return out
}

// AllSessions reports on the sessions of nodes.
func AllSessions(states []v1alpha1.NodeState, now time.Time) *Sessions {
	out := &Sessions{Sessions: []Session{}, now: now}
	for i := range states {
		out.Sessions = append(out.Sessions, SessionsOf(&states[i])...)
	}
	slices.SortStableFunc(out.Sessions, func(a, b Session) int { return strings.Compare(a.Node, b.Node) })
	return out
}

// Text is a line for each session.
func (r *Sessions) Text(w io.Writer) error {
	var rows [][]string
	for i := range r.Sessions {
		s := &r.Sessions[i]
		address := s.Address
		if s.PeerNode != "" {
			address += " (" + s.PeerNode + ")"
		}
		as := ""
		if s.ASNumber != 0 {
			as = strconv.FormatInt(s.ASNumber, 10)
		}
		why := s.Reason
		if s.Message != "" {
			why = strings.TrimPrefix(why+": "+s.Message, ": ")
		}
		rows = append(rows, []string{
			s.Node, s.Peer, address, as, s.State, age(r.now, s.Since), strconv.Itoa(int(s.Received)), strconv.Itoa(int(s.Advertised)), why,
		})
	}
	return table(w, []string{"NODE", "PEER", "ADDRESS", "AS", "STATE", "SINCE", "RECEIVED", "ADVERTISED", "WHY"}, rows)
}
