// Package stream tests both ends of the stream together: the operator's compiler and server, and the agents' carriers.
package stream

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/manul-net/manul/internal/render"
	"github.com/manul-net/manul/test/hollow"
)

func TestAgentsKnowWhatTheAPIsObjectsSay(t *testing.T) {
	n := newNetwork(t, 1)
	n.set(node("n1"), node("n2"), team("team"))
	one, two := n.agent("n1", nil, n.replicas...), n.agent("n2", nil, n.replicas...)
	for _, step := range []struct {
		what string
		do   func()
	}{
		{"pods", func() { n.set(pod(1, "n1", "red"), pod(2, "n2", "blue"), pod(3, "n2", "red")) }},
		{"a policy", func() { n.set(letIn("p", `colour == "red"`, `colour == "blue"`)) }},
		{"a pod that changes its colour", func() { n.set(pod(3, "n2", "blue")) }},
		{"a policy that brings a label into use", func() { n.set(letIn("q", `colour == "red"`, `name == "pod-2"`)) }},
		{"a pod that goes", func() { n.delete(pod(2, "n2", "blue")) }},
		{"a policy that goes", func() { n.delete(letIn("p", "", "")) }},
		{"a policy that changes", func() {
			p := letIn("q", `all()`, `colour != "red"`)
			p.Generation = 2
			n.set(p)
		}},
		{"a node that comes", func() { n.set(node("n3"), pod(5, "n3", "red")) }},
	} {
		step.do()
		t.Log(step.what)
		n.agree(one, two)
	}
}

// TestAcknowledgementsMakeAPolicyEnforced: what agents say on the stream counts as what they say through the API.
func TestAcknowledgementsMakeAPolicyEnforced(t *testing.T) {
	n := newNetwork(t, 1)
	n.set(node("n1"), node("n2"), team("team"), pod(1, "n1", "red"), pod(2, "n2", "red"), pod(3, "n2", "blue"))
	n.agree(n.agent("n1", nil, n.replicas...), n.agent("n2", nil, n.replicas...))
	for i := range 5 {
		name := fmt.Sprintf("p%d", i)
		n.set(letIn(name, `colour == "red"`, fmt.Sprintf(`name == "pod-3" && colour != "x%d"`, i)))
		n.eventually("the policy is in force", func() error {
			report, ok := n.replicas[0].world.Policy(render.PolicyRef{Kind: "NetworkPolicy", Namespace: "team", Name: name})
			if !ok || report.Enforcing != 2 || report.Required != 2 {
				return fmt.Errorf("%d of %d nodes enforce it; lagging %v", report.Enforcing, report.Required, report.Lagging)
			}
			return nil
		})
	}
}

// churn changes pods and policies at random; pods are those from 100 on.
func (n *network) churn(r *rand.Rand) {
	number := 100 + r.IntN(40)
	on := fmt.Sprintf("n%d", 1+r.IntN(3))
	switch r.IntN(6) {
	case 0:
		n.delete(pod(number, on, ""))
	case 1:
		n.set(letIn(fmt.Sprintf("c%d", r.IntN(5)), `colour == "green"`, fmt.Sprintf(`colour == "red" && name != "pod-%d"`, number)))
	case 2:
		n.delete(letIn(fmt.Sprintf("c%d", r.IntN(5)), "", ""))
	default:
		n.delete(pod(number, on, "")) // it moves to another node, as a new pod
		n.set(pod(number, on, []string{"red", "blue", "green"}[r.IntN(3)]))
	}
}

// TestLeaderAndFollowerRenderTheSame: whichever replica an agent follows, it knows the same.
func TestLeaderAndFollowerRenderTheSame(t *testing.T) {
	n := newNetwork(t, 2)
	n.set(node("n1"), node("n2"), node("n3"), team("team"), letIn("p", `colour == "red"`, `colour == "blue"`))
	leader, follower := n.replicas[0], n.replicas[1]
	var agents []*hollow.Mirror
	for _, name := range []string{"n1", "n2", "n3"} {
		agents = append(agents, n.agent(name, nil, leader, follower))
	}
	r := rand.New(rand.NewPCG(1, 1))
	for range 20 {
		for range 30 {
			n.churn(r)
		}
		n.agree(agents...)
		n.eventually("both replicas say the same", func() error { return sameObjects(leader, follower, n) })
	}
}

func sameObjects(a, b *replica, n *network) error {
	for kind, list := range n.api.All() {
		for _, o := range list {
			key := keyOf(kind, o)
			x, y := encoded(a.world.ContentOf([]render.Key{key})[0]), encoded(b.world.ContentOf([]render.Key{key})[0])
			if x != y {
				return fmt.Errorf("%v:\n%s\n%s", key, x, y)
			}
		}
	}
	return nil
}

// TestNothingIsLostWhenReplicasGo kills replicas at random under churn. At no time is a pod in a set that it was never to be in, nor is one out
// of a set that it has always been in; and in the end everybody knows everything.
func TestNothingIsLostWhenReplicasGo(t *testing.T) {
	n := newNetwork(t, 2)
	n.set(node("n1"), node("n2"), node("n3"), team("team"), pod(1, "n1", "green"), pod(2, "n2", "green"), pod(3, "n3", "green"),
		pod(10, "n1", "friend"), pod(11, "n2", "stranger"), letIn("p", `colour == "green"`, `colour in {"friend", "red"}`))
	var agents []*hollow.Mirror
	for _, name := range []string{"n1", "n2", "n3"} {
		agents = append(agents, n.agent(name, nil, n.replicas...))
	}
	for _, m := range agents {
		n.eventually(m.Node+" lets in the friend", func() error {
			for member := range m.Members() {
				if isOf(member, "team/pod-10") {
					return nil
				}
			}
			return errors.New("the friend is in no set")
		})
		m.Check(func(members map[string]bool, own int) {
			friend := false
			for member := range members {
				if isOf(member, "team/pod-11") {
					t.Errorf("%s lets in a stranger", m.Node)
				}
				friend = friend || isOf(member, "team/pod-10")
			}
			if !friend && own > 0 {
				t.Errorf("%s does not let in a friend", m.Node)
			}
		})
	}
	r := rand.New(rand.NewPCG(2, 2))
	for range 25 {
		victim := n.replicas[r.IntN(2)]
		victim.stop()
		for range 10 + r.IntN(20) {
			n.churn(r)
		}
		n.start(victim)
		for range r.IntN(20) {
			n.churn(r)
		}
	}
	n.agree(agents...)
}

// TestAnotherReplicaWithinASecond: a node that loses its replica hears of the next change from another. A machine that does much else may need
// longer now and then, but never as long as anything is waited for.
func TestAnotherReplicaWithinASecond(t *testing.T) {
	n := newNetwork(t, 2)
	n.set(node("n1"), team("team"), pod(1, "n1", "green"), letIn("p", `colour == "green"`, `colour == "red"`))
	m := n.agent("n1", nil, n.replicas...)
	n.agree(m)
	var all []time.Duration
	for i := range 6 {
		victim := n.replicas[0]
		if victim.board.Nodes() == 0 || i%2 == 1 {
			victim = n.replicas[1]
		}
		_, _, before := m.News()
		victim.stop()
		n.set(pod(20+i, "n1", "red"))
		start := time.Now()
		n.agree(m)
		all = append(all, time.Since(start))
		if _, _, changed := m.News(); changed-before > 5 {
			t.Errorf("%d changes of the tables for one pod", changed-before)
		}
		n.start(victim)
	}
	slices.Sort(all)
	if all[len(all)/2] > time.Second || all[len(all)-1] > latest {
		t.Errorf("changes took %s after the replica had gone", all)
	}
}
