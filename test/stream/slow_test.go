package stream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/manul-net/manul/internal/wire"
	"github.com/manul-net/manul/test/hollow"
)

// bearer shows a token.
type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

func (bearer) RequireTransportSecurity() bool { return true }

// call opens a stream as anybody may, with a token and a first message.
func call(t *testing.T, address string, config *tls.Config, token string, first any, codec wireCodec) (grpc.ClientStream, error) {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(credentials.NewTLS(config)),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(codec), grpc.MaxCallSendMsgSize(64<<20), grpc.MaxCallRecvMsgSize(wire.MaxDown)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	var options []grpc.CallOption
	if token != "" {
		options = append(options, grpc.PerRPCCredentials(bearer(token)))
	}
	stream, err := conn.NewStream(t.Context(), wire.Desc(), wire.Follow, options...)
	if err != nil {
		return nil, err
	}
	return stream, stream.SendMsg(first)
}

// wireCodec is what messages are encoded by.
type wireCodec interface {
	Marshal(any) ([]byte, error)
	Unmarshal([]byte, any) error
	Name() string
}

// TestASlowAgentDelaysNobody: one agent does not read what it is told, and the others hear of every change all the same.
func TestASlowAgentDelaysNobody(t *testing.T) {
	n := newNetwork(t, 1)
	n.set(node("n1"), node("n2"), team("team"), pod(1, "n1", "green"), pod(2, "n2", "green"), letIn("p", `colour == "green"`, `colour == "red"`))
	r := n.replicas[0]
	slow, err := call(t, r.address, &tls.Config{RootCAs: n.trusted(), ServerName: wire.ServerName(namespace)}, "n2", &wire.Up{Hello: &wire.Hello{Node: "n2"}}, wire.Codec{})
	if err != nil {
		t.Fatal(err)
	}
	quick := n.agent("n1", nil, r)
	// More than a connection's buffers hold.
	for i := range 20 {
		for j := range 200 {
			p := letIn("p", `colour == "green"`, fmt.Sprintf(`colour == "red" || name in {%s}`, long(i*200+j)))
			p.Generation = int64(i*200 + j + 1)
			n.set(p)
		}
		n.set(pod(100+i, "n1", "red"))
		n.agree(quick)
	}
	if pending := r.board.Pending("n2"); pending > 200 {
		t.Errorf("%d items wait for the slow agent", pending)
	}
	if err := slow.CloseSend(); err != nil {
		t.Error(err)
	}
}

// TestAgentsThatGoAway: agents come and go at once under churn, over and over, and the replica goes on serving.
func TestAgentsThatGoAway(t *testing.T) {
	n := newNetwork(t, 1)
	n.set(node("n1"), node("n2"), team("team"), pod(1, "n1", "green"), letIn("p", `colour == "green"`, `colour == "red"`))
	r := n.replicas[0]
	fleet := &hollow.Fleet{
		Replicas:  func() []string { return []string{r.address} },
		TLS:       &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: n.trusted(), ServerName: wire.ServerName(namespace)},
		Token:     func(node string) string { return node },
		AddressOf: addressOf,
	}
	random := rand.New(rand.NewPCG(4, 4))
	for i := range 300 {
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			fleet.NewAgent("n2").Run(ctx)
		}()
		n.eventually("the agent follows", func() error {
			if fleet.Counts.Snapshots.Load()+fleet.Counts.Resumed.Load() <= int64(i) {
				return errors.New("it does not")
			}
			return nil
		})
		for range i % 20 {
			n.churn(random)
		}
		cancel()
		n.churn(random)
		<-gone
	}
	n.agree(n.agent("n1", nil, r))
}

// long is a list of names that makes a selector of some kilobytes.
func long(n int) string {
	out := ""
	for i := range 100 {
		out += fmt.Sprintf(`"%d-%d-of-a-name-that-nothing-has",`, n, i)
	}
	return out + `"x"`
}
