package stream

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/manul-net/manul/internal/wire"
	"github.com/manul-net/manul/nodeagent/source"
	"github.com/manul-net/manul/test/hollow"
)

// line is the way from an agent to replicas, which can be cut.
type line struct {
	mu   sync.Mutex
	conn net.Conn
}

func (l *line) dial(ctx context.Context, address string) (net.Conn, error) {
	conn, err := source.Dial(ctx, address)
	if err == nil {
		l.mu.Lock()
		l.conn = conn
		l.mu.Unlock()
	}
	return conn, err
}

func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.conn.Close()
}

// TestWhoLosesItsConnectionIsToldWhatItMissed: an agent whose connection breaks calls the same replica with its cursor, and is told what it missed
// and nothing else, however often.
func TestWhoLosesItsConnectionIsToldWhatItMissed(t *testing.T) {
	n := newNetwork(t, 1)
	n.set(node("n1"), node("n2"), team("team"), pod(1, "n1", "green"), pod(2, "n2", "red"), letIn("p", `colour == "green"`, `colour == "red"`))
	r := n.replicas[0]
	l := &line{}
	m := n.agentBy(l.dial, "n1", nil, r)
	n.agree(m)
	_, told, _ := m.News()
	for i := range 5 {
		l.cut()
		n.set(pod(20+i, "n1", "red"))
		n.delete(pod(20+i-1, "n1", "red"))
		n.knows(m, 20+i)
		n.agree(m)
	}
	if _, again, _ := m.News(); again != told {
		t.Errorf("the agent was told everything %d times more", again-told)
	}
	if snapshots, resumed := testutil.ToFloat64(r.server.Metrics.Begun()), testutil.ToFloat64(r.server.Metrics.Resumed()); snapshots != 1 || resumed != 5 {
		t.Errorf("the replica told everything %v times, and what was missed %v times; want once, and 5 times", snapshots, resumed)
	}
}

// TestATokenIsRenewed: the kubelet writes a new token into the file, and the next call shows that.
func TestATokenIsRenewed(t *testing.T) {
	n := newNetwork(t, 1)
	n.set(node("n1"), team("team"), pod(1, "n1", "green"))
	r := n.replicas[0]
	shown := make(chan string, 100)
	r.server.Node = func(ctx context.Context) (string, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		shown <- strings.Join(md.Get("authorization"), ", ")
		return "n1", nil
	}
	l := &line{}
	token := n.tokenFile("first")
	m := hollow.NewMirror("n1", addressOf)
	n.follow(m, n.sourceWith(source.StreamOptions{Node: "n1", Token: token, Dial: l.dial}, r))
	n.agree(m)
	if got := <-shown; got != "Bearer first" {
		t.Errorf("showed %q", got)
	}
	if err := os.WriteFile(token, []byte("second\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l.cut()
	if got := <-shown; got != "Bearer second" {
		t.Errorf("showed %q after the token had been renewed", got)
	}
}

// TestWhoIsRefusedLater: what is refused of a first message is of any other, and so is who says twice who it is.
func TestWhoIsRefusedLater(t *testing.T) {
	n := newNetwork(t, 1)
	n.set(node("n1"), team("team"))
	r := n.replicas[0]
	var logged atomic.Value // the last line
	logged.Store("")
	r.server.Log = funcr.New(func(_, args string) { logged.Store(args) }, funcr.Options{})
	hello := &wire.Up{Hello: &wire.Hello{Node: "n1"}}
	for _, tc := range []struct {
		name   string
		says   any
		code   codes.Code
		reason string
	}{
		{"a message that is too large", &wire.Up{Hello: &wire.Hello{Version: strings.Repeat("x", wire.MaxUp+1)}}, codes.ResourceExhausted, "oversized"},
		{"a message that nobody can read", unreadable{}, codes.Internal, "malformed"},
		{"who it is, again", hello, codes.Internal, "malformed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			logged.Store("")
			before := testutil.ToFloat64(r.server.Metrics.Refused(tc.reason))
			s, err := call(t, r.address, &tls.Config{RootCAs: n.trusted(), ServerName: wire.ServerName(namespace)}, "n1", hello, sometimesNoise{})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.RecvMsg(&wire.Down{}); err != nil { // the replica has heard the first
				t.Fatal(err)
			}
			_ = s.SendMsg(tc.says) // what is wrong with it the end says
			for err == nil {
				err = s.RecvMsg(&wire.Down{})
			}
			if got := status.Code(err); got != tc.code {
				t.Errorf("the stream ended with %s: %v; want %s", got, err, tc.code)
			}
			n := &network{t: t}
			n.eventually("it is counted and logged", func() error {
				if counted := testutil.ToFloat64(r.server.Metrics.Refused(tc.reason)) - before; counted != 1 {
					return fmt.Errorf("counted %v times as %s", counted, tc.reason)
				}
				if line, _ := logged.Load().(string); !strings.Contains(line, "Refused on the stream") || !strings.Contains(line, tc.reason) || !strings.Contains(line, `"n1"`) {
					return fmt.Errorf("logged: %q", line)
				}
				return nil
			})
		})
	}
}

// unreadable is a message that sometimesNoise makes noise of.
type unreadable struct{}

type sometimesNoise struct{ wire.Codec }

// Marshal implements the codec of gRPC.
func (c sometimesNoise) Marshal(v any) ([]byte, error) {
	if _, is := v.(unreadable); is {
		return noise{}.Marshal(v)
	}
	return c.Codec.Marshal(v)
}
