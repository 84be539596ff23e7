package stream

import (
	"errors"
	"fmt"
	"testing"
	"time"

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
	if took := becomes("the node follows the other replica", one.stop); took > time.Second {
		t.Errorf("the node followed the other replica after %s", took)
	}
	n.set(pod(20, "n1", "red"))
	n.knows(m, 20)
	becomes("the node follows the API's objects", other.stop)
	n.set(pod(21, "n1", "red"))
	n.knows(m, 21)
	if t.Failed() {
		return
	}
	becomes("the node follows a replica again", func() { n.start(other) })
	n.falling(false) // it is the stream that tells
	n.set(pod(22, "n1", "red"))
	n.knows(m, 22)
}
