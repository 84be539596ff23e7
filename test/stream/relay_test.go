package stream

import (
	"context"
	"crypto/tls"
	"fmt"
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
	"github.com/manul-net/manul/test/hollow"
	"github.com/manul-net/manul/webhooks/certs"
)

// enforced waits until a policy is in force on all of so many nodes, as a replica sees it.
func (n *network) enforced(r *replica, name string, nodes int) {
	n.t.Helper()
	n.eventually(name+" is in force", func() error {
		report, ok := r.world.Policy(render.PolicyRef{Kind: "NetworkPolicy", Namespace: "team", Name: name})
		if !ok || report.Enforcing != nodes || report.Required != nodes {
			return fmt.Errorf("%d of %d nodes enforce it; lagging %v", report.Enforcing, report.Required, report.Lagging)
		}
		return nil
	})
}

// TestTheWriterHearsWhatOthersHear: agents that follow a replica that does not write are heard by the one that does, without a write of theirs to
// the API, which refuses all here. It is so for whichever replica writes, and for agents that change from one to the other.
func TestTheWriterHearsWhatOthersHear(t *testing.T) {
	n := newNetwork(t, 3)
	n.set(node("n1"), node("n2"), team("team"), pod(1, "n1", "red"), pod(2, "n2", "red"), pod(3, "n2", "blue"))
	one, two, three := n.replicas[0], n.replicas[1], n.replicas[2]
	agents := []*hollow.Mirror{n.agent("n1", nil, two, three), n.agent("n2", nil, three, two)}
	n.agree(agents...)
	n.silence()
	n.set(letIn("p", `colour == "red"`, `colour == "blue"`))
	n.enforced(one, "p", 2)
	two.stop()
	n.set(letIn("q", `colour == "red"`, `name == "pod-3"`))
	n.enforced(one, "q", 2)
	n.start(two)

	n.resign()
	one.stop()
	n.lead(two)
	n.set(letIn("r", `colour == "red"`, `name != "pod-3"`))
	n.enforced(two, "r", 2)
	n.agree(agents...)
}

// TestTheNextWriterHearsWhatTheLastHasHeard: what one replica was told is not lost with it. The next that writes is told by who heard it, although
// the agent says nothing again and the API does not know it.
func TestTheNextWriterHearsWhatTheLastHasHeard(t *testing.T) {
	n := newNetwork(t, 3)
	n.set(node("n1"), team("team"))
	one, two, three := n.replicas[0], n.replicas[1], n.replicas[2]
	call, err := call(t, three.address, &tls.Config{RootCAs: n.trusted(), ServerName: wire.ServerName(namespace)}, "n1", &wire.Up{Hello: &wire.Hello{Node: "n1"}}, wire.Codec{})
	if err != nil {
		t.Fatal(err)
	}
	if err := call.SendMsg(&wire.Up{Report: &v1alpha1.NodeStateStatus{Sequence: 1}}); err != nil {
		t.Fatal(err)
	}
	hears := func(r *replica) {
		t.Helper()
		n.eventually("the replica that writes hears it", func() error {
			if testutil.ToFloat64(r.server.Metrics.Relayed()) == 0 {
				return fmt.Errorf("it does not")
			}
			return nil
		})
	}
	hears(one)
	n.resign()
	one.stop()
	n.lead(two)
	hears(two)
}

// TestAgentsKnowWhetherTheWriterHears: an agent is told whether what it says is heard by the replica that writes, for then it need not write it to
// the API at once.
func TestAgentsKnowWhetherTheWriterHears(t *testing.T) {
	n := newNetwork(t, 2)
	n.set(node("n1"), team("team"))
	one, two := n.replicas[0], n.replicas[1]
	token := "n1"
	call, err := call(t, two.address, &tls.Config{RootCAs: n.trusted(), ServerName: wire.ServerName(namespace)}, token, &wire.Up{Hello: &wire.Hello{Node: "n1"}}, wire.Codec{})
	if err != nil {
		t.Fatal(err)
	}
	hears := func(want bool) {
		t.Helper()
		deadline := time.Now().Add(patience)
		for time.Now().Before(deadline) {
			d := &wire.Down{}
			if err := call.RecvMsg(d); err != nil {
				t.Fatal(err)
			}
			if d.Writes != nil && *d.Writes == want {
				return
			}
		}
		t.Fatalf("the agent was not told within %s that the writer hears it: %t", patience, want)
	}
	hears(true) // by way of this one
	one.stop()
	hears(false)
	n.start(one)
	hears(true)
	one.stop()
	hears(false)
	n.resign()
	n.lead(two)
	hears(true)
}

// TestAReportThatIsTooLargeForTheRelay: what one agent says at the limit of a message does not keep the writer from hearing the others.
func TestAReportThatIsTooLargeForTheRelay(t *testing.T) {
	n := newNetwork(t, 2)
	n.set(node("n1"), node("n2"), team("team"))
	one, two := n.replicas[0], n.replicas[1]
	var calls []grpc.ClientStream
	for _, name := range []string{"n1", "n2"} {
		s, err := call(t, two.address, &tls.Config{RootCAs: n.trusted(), ServerName: wire.ServerName(namespace)}, name, &wire.Up{Hello: &wire.Hello{Node: name}}, wire.Codec{})
		if err != nil {
			t.Fatal(err)
		}
		calls = append(calls, s)
	}
	hears, mute := make(chan struct{}, 1), make(chan struct{}, 1)
	go func() {
		for heard := false; ; {
			d := &wire.Down{}
			if calls[1].RecvMsg(d) != nil {
				return
			}
			switch {
			case d.Writes == nil:
			case *d.Writes && !heard:
				heard = true
				hears <- struct{}{}
			case !*d.Writes && heard:
				mute <- struct{}{}
				return
			}
		}
	}()
	select {
	case <-hears:
	case <-time.After(patience):
		t.Fatal("the writer does not hear")
	}
	// As large as an agent may say it, and larger with the name of the node.
	large := &wire.Up{Report: &v1alpha1.NodeStateStatus{Sequence: time.Now().UnixMilli(), Endpoints: []v1alpha1.EndpointStatus{{ID: strings.Repeat("x", wire.MaxUp/2)}}}}
	raw, err := wire.Codec{}.Marshal(large)
	if err != nil {
		t.Fatal(err)
	}
	large.Report.Endpoints[0].ID += strings.Repeat("x", wire.MaxUp-len(raw))
	for _, say := range []struct {
		call  grpc.ClientStream
		up    *wire.Up
		heard float64
	}{
		{calls[1], &wire.Up{Report: &v1alpha1.NodeStateStatus{Sequence: 1}}, 1},
		{calls[0], large, 0},
		{calls[1], &wire.Up{Report: &v1alpha1.NodeStateStatus{Sequence: 2}}, 1},
	} {
		before := testutil.ToFloat64(one.server.Metrics.Relayed())
		taken := testutil.ToFloat64(two.server.Metrics.Reports())
		if err := say.call.SendMsg(say.up); err != nil {
			t.Fatal(err)
		}
		n.eventually("it is taken", func() error {
			if testutil.ToFloat64(two.server.Metrics.Reports()) == taken {
				return fmt.Errorf("it is not")
			}
			if got := testutil.ToFloat64(one.server.Metrics.Relayed()) - before; got != say.heard {
				return fmt.Errorf("the writer heard %v", got)
			}
			return nil
		})
	}
	select {
	case <-mute:
		t.Error("the writer did not hear anybody any more")
	default:
	}
}

// TestWhoMayTellOfOthers: only who has the operator's certificate and its key tells of nodes that are not its own, and only to the replica that
// writes.
func TestWhoMayTellOfOthers(t *testing.T) {
	n := newNetwork(t, 2)
	n.set(node("n1"), team("team"))
	stranger, err := certs.Make(time.Now(), []string{wire.ServerName(namespace)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	other, err := stranger.Check(time.Now(), []string{wire.ServerName(namespace)})
	if err != nil {
		t.Fatal(err)
	}
	stolen := *n.cert // the certificate is public; the key is not
	stolen.PrivateKey = other.PrivateKey
	report := &wire.Relayed{Node: "n1", Report: &v1alpha1.NodeStateStatus{Sequence: 1}}
	for _, tc := range []struct {
		name  string
		to    *replica
		shows []tls.Certificate
		says  *wire.Relayed
		code  codes.Code
		// reason under which it is counted; empty: it is not refused, or TLS itself refuses it.
		reason string
	}{
		{"an agent, which has no certificate", n.replicas[0], nil, report, codes.Unauthenticated, "no_replica"},
		{"somebody with a certificate of the same name", n.replicas[0], []tls.Certificate{*other}, report, codes.Unauthenticated, "no_replica"},
		{"somebody with the certificate and another key", n.replicas[0], []tls.Certificate{stolen}, report, codes.Unavailable, ""},
		{"a replica, to one that does not write", n.replicas[1], []tls.Certificate{*n.cert}, report, codes.FailedPrecondition, ""},
		{"a replica", n.replicas[0], []tls.Certificate{*n.cert}, report, codes.OK, ""},
		{"a replica that says nothing of a node", n.replicas[0], []tls.Certificate{*n.cert}, &wire.Relayed{Node: "n1"}, codes.InvalidArgument, "malformed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := 0.0
			if tc.reason != "" {
				before = testutil.ToFloat64(tc.to.server.Metrics.Refused(tc.reason))
			}
			heard := testutil.ToFloat64(tc.to.server.Metrics.Relayed())
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			conn, err := grpc.NewClient("passthrough:///"+tc.to.address, grpc.WithDefaultCallOptions(grpc.ForceCodec(wire.Codec{})),
				grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
					MinVersion: tls.VersionTLS13, RootCAs: n.trusted(), ServerName: wire.ServerName(namespace), Certificates: tc.shows,
				})))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			s, err := conn.NewStream(ctx, wire.RelayDesc(), wire.Relay)
			if err == nil {
				_ = s.SendMsg(tc.says) // what is wrong with it the answer says
				if err = s.RecvMsg(&wire.Listening{}); err == nil && tc.code != codes.OK {
					err = s.RecvMsg(&wire.Listening{})
				}
			}
			if got := status.Code(err); got != tc.code {
				t.Errorf("got %s: %v; want %s", got, err, tc.code)
			}
			if tc.reason != "" {
				if counted := testutil.ToFloat64(tc.to.server.Metrics.Refused(tc.reason)) - before; counted != 1 {
					t.Errorf("counted %v times as %s", counted, tc.reason)
				}
			}
			if tc.code == codes.OK {
				n.eventually("what it says is heard", func() error {
					if testutil.ToFloat64(tc.to.server.Metrics.Relayed()) == heard {
						return fmt.Errorf("it is not")
					}
					return nil
				})
			} else if testutil.ToFloat64(tc.to.server.Metrics.Relayed()) != heard {
				t.Error("it was heard")
			}
		})
	}
}
