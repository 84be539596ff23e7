package stream

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/render"
	"github.com/manul-net/manul/test/hollow"
)

// knows waits until an agent has a pod in one of its sets.
func (n *network) knows(m *hollow.Mirror, number int) {
	n.t.Helper()
	n.eventually(fmt.Sprintf("%s knows pod %d", m.Node, number), func() error {
		for member := range m.Members() {
			if isOf(member, fmt.Sprintf("team/pod-%d", number)) {
				return nil
			}
		}
		return errors.New("it is in no set")
	})
}

// TestCarriersInTurn: a node loses its replica and follows another; loses that one and follows the API's objects; and goes back to the
// stream when there is a replica again. Where they say the same, its tables do not change with the carrier.
func TestCarriersInTurn(t *testing.T) {
	n := newNetwork(t, 2)
	n.falling(true)
	n.set(node("n1"), node("n2"), team("team"), pod(1, "n1", "green"), pod(2, "n1", "red"), letIn("p", `colour == "green"`, `colour == "red"`))
	one, other := n.replicas[0], n.replicas[1]
	m := n.agent("n1", nil, one, other)
	n.agree(m)
	if one.board.Nodes() == 0 {
		one, other = other, one
	}
	// says waits until the node has said by what it hears of news, and the leader knows whether it must write at once.
	says := func(carrier v1alpha1.Carrier) {
		t.Helper()
		n.eventually(fmt.Sprintf("the node says that its carrier is %s", carrier), func() error {
			state, ok := n.api.Get(render.Key{Kind: render.KindNodeState, Name: "n1"}).(*v1alpha1.NodeState)
			if !ok || state.Status.Carrier != carrier {
				return errors.New("it does not")
			}
			if streamed := n.replicas[0].world.Streamed(); streamed != (carrier == v1alpha1.CarrierStream) {
				return fmt.Errorf("for the leader all agents follow the stream: %t", streamed)
			}
			return nil
		})
	}
	everything := func() int { _, all, _ := m.News(); return all }
	changes := func() int { _, _, changed := m.News(); return changed }
	// becomes does something after which the node is told everything by another carrier, and nothing of it is new.
	becomes := func(what string, do func()) time.Duration {
		t.Helper()
		n.agree(m)
		before, told := changes(), everything()
		start := time.Now()
		do()
		n.eventually(what, func() error {
			if everything() == told {
				return errors.New("it has not been told everything again")
			}
			return nil
		})
		took := time.Since(start)
		n.agree(m)
		if after := changes(); after != before {
			t.Errorf("%s: the tables changed %d times", what, after-before)
		}
		return took
	}
	// It takes a second at most. A machine that does much else may need several attempts to show it.
	const attempts = 5
	for i := range attempts {
		took := becomes("the node follows the other replica", one.stop)
		if took <= time.Second {
			break
		}
		if i == attempts-1 {
			t.Errorf("the node followed the other replica after %s", took)
			break
		}
		n.start(one)
		one, other = other, one
	}
	n.set(pod(20, "n1", "red"))
	n.knows(m, 20)
	says(v1alpha1.CarrierStream)
	becomes("the node follows the API's objects", other.stop)
	n.set(pod(21, "n1", "red"))
	n.knows(m, 21)
	says(v1alpha1.CarrierAPI)
	becomes("the node follows a replica again", func() { n.start(other) })
	n.falling(false) // it is the stream that tells
	n.set(pod(22, "n1", "red"))
	n.knows(m, 22)
	says(v1alpha1.CarrierStream)
}

// TestTheLeaderDiesBetweenPushAndWrite: what the leader has told nodes, and has not written, is told by the next one and written by it.
// Then it counts as in force; not before, for nobody can say yet of which version of the API's objects it is.
func TestTheLeaderDiesBetweenPushAndWrite(t *testing.T) {
	n := newNetwork(t, 2)
	one, other := n.replicas[0], n.replicas[1]
	n.set(node("n1"), node("n2"), team("team"), pod(1, "n1", "green"), pod(2, "n2", "green"), pod(3, "n2", "red"), letIn("p", `colour == "green"`, `colour == "red"`))
	agents := []*hollow.Mirror{n.agent("n1", nil, one, other), n.agent("n2", nil, one, other)}
	n.agree(agents...)
	n.resign() // the leader gets to write nothing more
	n.set(letIn("q", `colour == "green"`, `name == "pod-4"`), pod(4, "n1", "blue"))
	for _, m := range agents {
		n.knows(m, 4)
	}
	ref := render.PolicyRef{Kind: "NetworkPolicy", Namespace: "team", Name: "q"}
	for _, r := range n.replicas {
		if report, ok := r.world.Policy(ref); !ok || report.Enforcing != 0 {
			t.Errorf("a policy that is not in the API is in force on %d nodes", report.Enforcing)
		}
	}
	one.stop()
	n.lead(other)
	n.eventually("the policy is in force", func() error {
		report, ok := other.world.Policy(ref)
		if !ok || report.Enforcing != 2 || report.Required != 2 {
			return fmt.Errorf("%d of %d nodes enforce it; lagging %v", report.Enforcing, report.Required, report.Lagging)
		}
		return nil
	})
	n.agree(agents...)
}
