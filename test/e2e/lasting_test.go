package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is how long a lasting connection waits for an echo before it is taken for ended. It comes within a millisecond, but on a machine that
// does much else.
const patience = 10 * time.Second

// lasting is a connection that exists when a policy comes that lets in client1 only.
type lasting struct {
	from, protocol, to string
	ends               bool
}

// established checks that connections which exist end when a policy comes to deny them, and that no others do.
func (p *pathProbes) established(t *testing.T) {
	connections := []lasting{
		{"client1", "TCP", "server:80", false},
		{"client1", "TCP", serviceAddress, false},
		{"client2", "TCP", "server:80", true},
		{"client2", "TCP", serviceAddress, true},
		{"server", "TCP", serviceAddress, true}, // with itself, through its own service
		{"host1", "TCP", "10.0.0.12:30280", true},
		{"host1", "UDP", "10.0.0.12:30280", true},
		{"host1", "TCP", "10.0.0.11:30290", true},
		{"worker2", "TCP", "server:80", true},
		{"worker1", "TCP", "server:80", false}, // the server's own node
		{"worker1", "UDP", "server:80", false},
	}
	p.stage(t, stage{ways: []way{{"client2", "TCP", serviceAddress, true}, {"host1", "TCP", "10.0.0.12:30280", true}}})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make([]chan error, len(connections))
	begun := make([]chan struct{}, len(connections))
	var all sync.WaitGroup
	for i, l := range connections {
		ended[i], begun[i] = make(chan error, 1), make(chan struct{})
		begin := sync.OnceFunc(func() { close(begun[i]) })
		all.Go(func() { ended[i] <- p.last(ctx, l, begin) })
	}
	for i, l := range connections {
		select {
		case <-begun[i]:
		case err := <-ended[i]:
			t.Fatalf("%+v: no connection: %v", l, err)
		case <-time.After(time.Minute):
			t.Fatalf("%+v: no connection", l)
		}
	}
	if err := p.cluster.Apply(ctx, `
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: paths, namespace: paths}
spec: {selector: app == 'server', types: [Ingress], ingress: [{action: Allow, source: {selector: name == 'client1'}}]}
`); err != nil {
		t.Fatal(err)
	}
	for i, l := range connections {
		if !l.ends {
			continue
		}
		select {
		case err := <-ended[i]:
			t.Logf("%+v: %v", l, err)
		case <-time.After(time.Minute):
			t.Errorf("%+v: goes on", l)
		}
	}
	// Those that stay are given the time in which the others ended once more.
	still := time.After(patience)
	for i, l := range connections {
		if l.ends {
			continue
		}
		select {
		case err := <-ended[i]:
			t.Errorf("%+v: ended: %v", l, err)
		case <-still:
			still = closedTime()
		}
	}
	cancel()
	all.Wait()
}

// closedTime is a time that has come.
func closedTime() <-chan time.Time {
	c := make(chan time.Time)
	close(c)
	return c
}

// last makes a connection, calls begun when it has come about, and returns why it ended. When ctx ends it returns that.
func (p *pathProbes) last(ctx context.Context, l lasting, begun func()) error {
	to := p.resolve(l.to)
	if from, ok := p.places[l.from]; ok {
		return p.lastInPod(ctx, from.host, l.from, to, begun)
	}
	conn, err := p.cluster.Dialer(l.from)(ctx, strings.ToLower(l.protocol), to)
	if err != nil {
		return err
	}
	defer conn.Close()
	for {
		if err := echo(ctx, conn); err != nil {
			return err
		}
		begun()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// echo waits for an echo; datagrams are sent more than once.
func echo(ctx context.Context, conn net.Conn) error {
	const again = 200 * time.Millisecond
	buffer := make([]byte, 16)
	for deadline := time.Now().Add(patience); ; {
		if _, err := conn.Write([]byte("ping")); err != nil {
			return fmt.Errorf("sending: %w", err)
		}
		wait := time.Now().Add(again)
		if conn.RemoteAddr().Network() == "tcp" {
			wait = deadline
		}
		if err := conn.SetReadDeadline(wait); err != nil {
			return err
		}
		_, err := conn.Read(buffer)
		netErr, ok := errors.AsType[net.Error](err)
		if err == nil || !ok || !netErr.Timeout() || time.Now().After(deadline) || ctx.Err() != nil {
			return err
		}
	}
}

// lastInPod is last from within a pod.
func (p *pathProbes) lastInPod(ctx context.Context, host, pod, to string, begun func()) error {
	cmd := p.cluster.InPod(ctx, host, pod, "stream", "-every", "20ms", "-timeout", patience.String(), "-for", "10m", to) // should it outlive its caller
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() { _ = cmd.Wait() }()
	go func() {
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			if lines.Text() == "prober: first echo" {
				begun()
			}
		}
	}()
	text, err := io.ReadAll(stdout)
	if err != nil {
		return err
	}
	var result struct {
		Problem string `json:"problem"`
	}
	if err := json.Unmarshal(text, &result); err != nil {
		return fmt.Errorf("reading the stream's result %q: %w", text, err)
	}
	return errors.New(result.Problem)
}
