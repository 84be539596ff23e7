package stream

import (
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/render"
	"github.com/manul-net/manul/internal/wire"
	"github.com/manul-net/manul/nodeagent/source"
	"github.com/manul-net/manul/test/hollow"
)

// TestWhoIsSentAwayCallsLessAndLess: a stream that begins and is ended at once, over and over again, costs fewer and fewer calls: each has a token
// looked at and everything told. Two replicas of that kind are no reason to go round.
func TestWhoIsSentAwayCallsLessAndLess(t *testing.T) {
	n := newNetwork(t, 1)
	calls := make(chan time.Time, 100)
	follow := func(stream grpc.ServerStream) error {
		if err := stream.RecvMsg(&wire.Up{}); err != nil {
			return err
		}
		if err := stream.SendMsg(&wire.Down{Epoch: "e", Cursor: 1, Reset: true}); err != nil {
			return err
		}
		select {
		case calls <- time.Now():
		default:
		}
		return status.Error(codes.Internal, "what was said can't be read")
	}
	var replicas []*replica
	for range 2 {
		server := grpc.NewServer(grpc.ForceServerCodec(wire.Codec{}), grpc.Creds(credentials.NewTLS(&tls.Config{
			MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{*n.cert},
		})))
		server.RegisterService(wire.Service(follow, follow), nil)
		listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() { _ = server.Serve(listener) }()
		t.Cleanup(server.Stop)
		replicas = append(replicas, &replica{address: listener.Addr().String()})
	}
	n.agent("n1", nil, replicas...)
	const many = 12 // six rounds, with five pauses of which the first may be none, and the others are half of 0.2, 0.4, 0.8 and 1.6 s at the least
	var first, last time.Time
	for i := range many {
		select {
		case at := <-calls:
			if i == 0 {
				first = at
			}
			last = at
		case <-time.After(patience):
			t.Fatalf("it did not call again after %d times", i)
		}
	}
	if took, want := last.Sub(first), 1500*time.Millisecond; took < want {
		t.Errorf("it called %d times within %s, want %s at the least", many, took, want)
	}
}

// verbose is an agent whose status is larger than the operator takes on the stream.
type verbose struct{ source.Source }

func (v verbose) Report(r source.Report) {
	r.Status.Failures = []v1alpha1.Failure{{Kind: "NodeNetwork", Name: "x", Message: strings.Repeat("x", wire.MaxUp)}}
	v.Source.Report(r)
}

// TestWhoHasTooMuchToSay: a status that is larger than a message to the operator may be reaches it by the API, and costs nobody the stream.
func TestWhoHasTooMuchToSay(t *testing.T) {
	n := newNetwork(t, 1)
	one := n.replicas[0]
	n.set(node("n1"), team("team"), pod(1, "n1", "red"), pod(2, "n2", "blue"), letIn("p", `colour == "red"`, `colour == "blue"`))
	m := hollow.NewMirror("n1", addressOf)
	src := n.source(nil, "n1", one)
	m.Say(verbose{src})
	n.follow(m, src)
	n.agree(m)
	n.enforced(one, "p", 1)
	n.eventually("the API says so", func() error {
		state, ok := n.api.Get(render.Key{Kind: render.KindNodeState, Name: "n1"}).(*v1alpha1.NodeState)
		if !ok || len(state.Status.Failures) != 1 {
			return fmt.Errorf("it does not")
		}
		return nil
	})
	n.set(letIn("q", `colour == "red"`, `name == "pod-2"`))
	n.enforced(one, "q", 1)
	if got := testutil.ToFloat64(one.server.Metrics.Begun()); got != 1 {
		t.Errorf("the stream began %v times", got)
	}
	if got := testutil.ToFloat64(one.server.Metrics.Reports()); got != 0 {
		t.Errorf("%v reports came on the stream", got)
	}
}
