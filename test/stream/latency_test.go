package stream

import (
	"testing"

	"github.com/manul-net/manul/nodeagent/tables"
)

// BenchmarkPolicyToTables is the way of a policy but for the API server and the kernel: compiled, put on the board, told on the stream over TLS, and
// in the node's tables. In turn a policy comes and goes.
func BenchmarkPolicyToTables(b *testing.B) {
	n := newNetwork(b, 1)
	n.set(node("n1"), node("n2"), team("team"), pod(1, "n1", "green"), pod(2, "n2", "red"), letIn("p", `colour == "green"`, `colour == "red"`))
	m := n.agent("n1", nil, n.replicas...)
	n.agree(m)
	told := make(chan int, 1024)
	m.Apply(func(p *tables.Policy) { told <- p.Programs.Len() })
	policy := letIn("q", `colour == "green"`, `colour == "red" && name != "pod-9"`)
	n.set(policy)
	for want := 2; <-told != want; {
	}
	world := n.replicas[0].world
	present := true
	b.ReportAllocs()
	for b.Loop() {
		want := 1
		if present = !present; present {
			want = 2
		}
		var err error
		if present {
			err = world.Set(policy.DeepCopy())
		} else {
			err = world.Delete(policy)
		}
		if err != nil {
			b.Fatal(err)
		}
		for <-told != want {
		}
	}
}
