package report

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/manul-net/manul/api/v1alpha1"
)

// Node is what a node has in effect.
type Node struct {
	Name string `json:"name"`
	// Ready is the agent's word: True, False, or Unknown when it has not reported.
	Ready string `json:"ready"`
	// Reason and Message of Ready, unless all is well.
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	// UpToDate: the newest state of the node is in effect.
	UpToDate  bool   `json:"upToDate"`
	Dataplane string `json:"dataplane,omitempty"`
	Version   string `json:"agentVersion,omitempty"`
	// Counts of what is in effect.
	Endpoints int `json:"endpoints"`
	Policies  int `json:"policies"`
	Routes    int `json:"routes"`
	// Blocks are the CIDRs of the node's blocks, Addresses counts those that its pods hold.
	Blocks    []string `json:"blocks,omitempty"`
	Addresses int      `json:"addresses"`
	// Sessions of BGP: how many there should be, and how many are Established.
	Sessions    int                `json:"sessions"`
	Established int                `json:"established"`
	Failures    []v1alpha1.Failure `json:"failures,omitempty"`
}

// Nodes is the report on all nodes.
type Nodes struct {
	Nodes []Node `json:"nodes"`
	// Details has the text name each failure, and the addresses of blocks.
	Details bool `json:"-"`
}

// NodesOf reports on nodes, in order of their name. A Node without a NodeState, and the other way round, is there as well.
func NodesOf(states []v1alpha1.NodeState, nodes []corev1.Node) *Nodes {
	out := &Nodes{}
	seen := map[string]bool{}
	for i := range states {
		seen[states[i].Name] = true
		out.Nodes = append(out.Nodes, nodeOf(&states[i]))
	}
	for i := range nodes {
		if !seen[nodes[i].Name] {
			out.Nodes = append(out.Nodes, Node{
				Name: nodes[i].Name, Ready: string(metav1.ConditionUnknown), Reason: "NotRendered", Message: "the operator has rendered nothing for the node: see whether it runs",
			})
		}
	}
	slices.SortFunc(out.Nodes, func(a, b Node) int { return strings.Compare(a.Name, b.Name) })
	return out
}

const (
	conditionReady   = "Ready"
	stateEstablished = "Established"
)

func nodeOf(s *v1alpha1.NodeState) Node {
	n := Node{
		Name: s.Name, Ready: string(metav1.ConditionUnknown), UpToDate: s.Status.ObservedGeneration == s.Generation,
		Dataplane: s.Status.Dataplane, Version: s.Status.AgentVersion, Failures: s.Status.Failures,
		Endpoints: int(s.Status.Summary.Endpoints), Policies: int(s.Status.Summary.Policies), Routes: int(s.Status.Summary.Routes),
	}
	if c := meta.FindStatusCondition(s.Status.Conditions, conditionReady); c != nil {
		n.Ready = string(c.Status)
		if c.Status != metav1.ConditionTrue || len(n.Failures) > 0 {
			n.Reason, n.Message = c.Reason, c.Message
		}
	} else {
		n.Reason, n.Message = "NoReport", "no agent has reported: see the pods of daemonset manul-node"
	}
	for i := range s.Spec.Blocks {
		n.Blocks = append(n.Blocks, s.Spec.Blocks[i].CIDR)
	}
	for i := range s.Status.Endpoints {
		n.Addresses += len(s.Status.Endpoints[i].Addresses)
	}
	for _, p := range SessionsOf(s) {
		all, established := p.count()
		n.Sessions += all
		n.Established += established
	}
	return n
}

// Text is a line for each node; with details, what is wrong with it below.
func (r *Nodes) Text(w io.Writer) error {
	var rows [][]string
	for i := range r.Nodes {
		n := &r.Nodes[i]
		sessions := ""
		if n.Sessions > 0 {
			sessions = fmt.Sprintf("%d/%d", n.Established, n.Sessions)
		}
		current := "yes"
		if !n.UpToDate {
			current = "no"
		}
		rows = append(rows, []string{
			n.Name, n.Ready, current, n.Dataplane, strconv.Itoa(n.Endpoints), strconv.Itoa(n.Policies), strconv.Itoa(n.Routes),
			strconv.Itoa(len(n.Blocks)), strconv.Itoa(n.Addresses), sessions, strconv.Itoa(len(n.Failures)), n.Version,
		})
	}
	header := []string{"NODE", "READY", "CURRENT", "DATAPLANE", "ENDPOINTS", "POLICIES", "ROUTES", "BLOCKS", "ADDRESSES", "SESSIONS", "FAILURES", "AGENT"}
	if err := table(w, header, rows); err != nil {
		return err
	}
	for i := range r.Nodes {
		if err := r.Nodes[i].trouble(w, r.Details); err != nil {
			return err
		}
	}
	return nil
}

// trouble is what is wrong with a node: the reason, and with details every failure.
func (n *Node) trouble(w io.Writer, details bool) error {
	var lines []string
	if n.Reason != "" {
		lines = append(lines, fmt.Sprintf("%s: %s", n.Reason, n.Message))
	}
	if details {
		for _, b := range n.Blocks {
			lines = append(lines, "block "+b)
		}
		for _, f := range n.Failures {
			lines = append(lines, fmt.Sprintf("%s %s: %s", f.Kind, f.Name, f.Message))
		}
	}
	if len(lines) == 0 {
		return nil
	}
	_, err := fmt.Fprintf(w, "\n%s\n  %s\n", n.Name, strings.Join(lines, "\n  "))
	return err
}
