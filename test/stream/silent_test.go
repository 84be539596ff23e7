package stream

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"github.com/manul-net/manul/nodeagent/source"
	"github.com/manul-net/manul/test/netns"
)

const (
	// noticed is how soon after a replica's machine has disappeared a node hears of a change from another: the machine counts as gone after 2 s.
	noticed = 4 * time.Second
	// latest is how long it may take when this machine does much else. The kernel and gRPC would take longer by default.
	latest = 12 * time.Second
)

// TestMachineThatDisappears: replicas on machines of their own, whose packets are dropped from one moment to the other: nobody closes a
// connection.
func TestMachineThatDisappears(t *testing.T) {
	n := newNetwork(t, 2)
	worker := netns.New(t)
	machines := make([]*netns.NS, 2)
	for i, r := range n.replicas {
		m := netns.New(t)
		machines[i] = m
		link := fmt.Sprintf("to%d", i)
		worker.Veth(link, m, "eth0")
		worker.Address(link, fmt.Sprintf("192.0.2.%d/31", 2*i))
		m.Address("eth0", fmt.Sprintf("192.0.2.%d/31", 2*i+1))
		r.stop()
		r.address = fmt.Sprintf("192.0.2.%d:5473", 2*i+1)
		r.listen = func(address string) (listener net.Listener, err error) {
			m.Do(func() { listener, err = new(net.ListenConfig).Listen(context.Background(), "tcp", address) })
			return listener, err
		}
		n.start(r)
	}
	n.set(node("n1"), node("n2"), team("team"), pod(1, "n1", "green"), pod(2, "n2", "red"), letIn("p", `colour == "green"`, `colour == "red"`))
	var called atomic.Value // the address that was called last
	dial := func(ctx context.Context, address string) (conn net.Conn, err error) {
		worker.Do(func() { conn, err = source.Dial(ctx, address) })
		if err == nil {
			called.Store(address)
		}
		return conn, err
	}
	m := n.agentBy(dial, "n1", nil, n.replicas...)
	n.agree(m)
	best := latest
	for i := range 4 {
		victim := 0
		if called.Load() == n.replicas[1].address {
			victim = 1
		}
		shell(machines[victim], "nft add table inet gone; nft add chain inet gone in '{ type filter hook input priority 0; policy drop; }'; "+
			"nft add chain inet gone out '{ type filter hook output priority 0; policy drop; }'")
		n.set(pod(20+i, "n1", "red"))
		start := time.Now()
		n.knows(m, 20+i)
		took := time.Since(start)
		t.Logf("a change reached the node after %s", took)
		if best = min(best, took); took > latest {
			t.Errorf("a change reached the node %s after the machine had disappeared", took)
		}
		n.agree(m)
		shell(machines[victim], "nft delete table inet gone")
		n.replicas[victim].stop()
		n.start(n.replicas[victim])
	}
	if best > noticed {
		t.Errorf("a change reached the node never sooner than %s after the machine had disappeared", best)
	}
}

func shell(ns *netns.NS, command string) {
	ns.Must(command, func() error {
		out, err := exec.Command("sh", "-c", command).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}
