package stream

import (
	"context"
	"net"
	"sync/atomic"
	"testing"

	"github.com/manul-net/manul/nodeagent/source"
)

// counted counts what an agent says on its connection.
type counted struct {
	net.Conn

	writes *atomic.Int64
}

// Write implements net.Conn.
func (c counted) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(b)
}

// TestWhoOnlyListensSaysNothing: small messages that ask for no word are answered by none, not by gRPC either, which would measure the connection
// with a ping for each.
func TestWhoOnlyListensSaysNothing(t *testing.T) {
	n := newNetwork(t, 1)
	n.set(node("n1"), node("n2"), team("team"), letIn("let-in", "colour == 'blue'", "colour == 'red'"), pod(1, "n1", "blue"))
	var writes atomic.Int64
	listening := n.agentBy(func(ctx context.Context, address string) (net.Conn, error) {
		conn, err := source.Dial(ctx, address)
		return counted{conn, &writes}, err
	}, "n1", nil, n.replicas[0])
	other := n.agent("n2", nil, n.replicas[0])
	n.agree(listening, other)
	listening.Say(nil) // it has nothing more to say of its own

	const changes = 100
	before := writes.Load()
	for i := range changes {
		n.set(pod(100+i, "n2", "red"))
		n.knows(listening, 100+i)
	}
	if said := writes.Load() - before; said >= changes/4 {
		t.Errorf("%d small messages: the agent wrote %d times to its connection, want next to nothing", changes, said)
	}
}
