package stream

import (
	"errors"
	"testing"

	"github.com/manul-net/manul/nodeagent/tables"
)

// TestPodsOutliveAnOperatorThatDidNotWriteThem: the only replica dies after it told a node of a new pod, and before it wrote that. The node falls
// back to the API's objects, which say nothing of the pod; it keeps the pod's network all the same, until an operator writes its state.
func TestPodsOutliveAnOperatorThatDidNotWriteThem(t *testing.T) {
	n := newNetwork(t, 1)
	n.falling(true)
	n.set(node("n1"), node("n2"), team("team"), pod(1, "n1", "green"), pod(2, "n2", "red"), letIn("p", `colour == "green"`, `colour == "red"`))
	m := n.agent("n1", nil, n.replicas...)
	n.agree(m)
	own := func() (pods int) {
		m.With(func(p *tables.Policy) { pods = p.Endpoints.Len() })
		return pods
	}
	n.resign() // what is told from now on is not written
	n.set(pod(3, "n1", "green"))
	n.eventually("the node is told of the pod", func() error {
		if own() != 2 {
			return errors.New("it is not")
		}
		return nil
	})
	_, told, _ := m.News()
	n.replicas[0].stop()
	n.eventually("the node follows the API's objects", func() error {
		if _, now, _ := m.News(); now == told {
			return errors.New("it does not")
		}
		return nil
	})
	if has := own(); has != 2 {
		t.Errorf("the node has %d pods, of 2", has)
	}
}
