package hollow

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"k8s.io/apimachinery/pkg/types"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/render"
	"github.com/manul-net/manul/internal/wire"
)

const (
	// receiptWithin is when it is told at the latest what was received.
	receiptWithin = 10 * time.Second
	// Pauses between calls of replicas.
	callAgainFirst, callAgainLast = 50 * time.Millisecond, 2 * time.Second
	// Buffers of a connection, bytes.
	agentReadBuffer, agentWriteBuffer = 16 << 10, 4 << 10
)

// Fleet is what agents have in common. Its functions are called by many of them at once.
type Fleet struct {
	// Replicas gives the addresses of those that serve.
	Replicas func() []string
	TLS      *tls.Config
	// Token of a node's agent.
	Token func(node string) string
	// AddressOf is the address that an agent gives a pod, by its ID.
	AddressOf func(id string) string
	// Told is called with each message.
	Told func(node string, m *Message)
	// Said is called with each status that an agent gives.
	Said func(node string, status *v1alpha1.NodeStateStatus)

	Counts Counts
}

// Counts are what agents counted.
type Counts struct {
	// Following are agents that have been told everything, and whose stream is there.
	Following atomic.Int64
	// Snapshots, Resumed and Lost count streams: begun with everything, begun where another ended, and ended.
	Snapshots, Resumed, Lost atomic.Int64
	Messages, Bytes, Reports atomic.Int64
}

// Message is one that an agent was told: of Size bytes, at a time.
type Message struct {
	wire.Down

	Size int
	At   time.Time
}

// codec counts what it decodes.
type codec struct{ wire.Codec }

// Unmarshal implements encoding.Codec.
func (codec) Unmarshal(data []byte, v any) error {
	if m, ok := v.(*Message); ok {
		m.Size, m.At = len(data), time.Now()
		v = &m.Down
	}
	return wire.Codec{}.Unmarshal(data, v)
}

// Agent is a node agent without a kernel: what it is told it forgets, but for its own pods; all is in effect at once, and it says so.
type Agent struct {
	fleet *Fleet
	node  string
	wake  chan struct{}

	mu        sync.Mutex
	epoch     string
	cursor    uint64
	told      uint64 // the cursor of which the operator knows
	begins    bool   // nothing has come on this stream yet
	endpoints map[string]types.UID
	observed  int64
	applied   map[string]uint64
	report    bool
	sequence  int64
	timer     *time.Timer
}

// NewAgent makes the agent of a node.
func (f *Fleet) NewAgent(node string) *Agent {
	return &Agent{fleet: f, node: node, wake: make(chan struct{}, 1), endpoints: map[string]types.UID{}, applied: map[string]uint64{}}
}

// Run follows one replica after another until ctx ends.
func (a *Agent) Run(ctx context.Context) {
	pause := callAgainFirst
	for ctx.Err() == nil {
		replicas := a.fleet.Replicas()
		lived := false
		if len(replicas) > 0 {
			lived = a.follow(ctx, replicas[rand.IntN(len(replicas))])
		}
		if lived {
			pause = callAgainFirst
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause/2 + rand.N(pause)):
		}
		pause = min(2*pause, callAgainLast)
	}
}

// follow follows one replica until the stream ends, and tells whether it brought everything.
func (a *Agent) follow(ctx context.Context, address string) (lived bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithDefaultCallOptions(grpc.ForceCodec(codec{}), grpc.MaxCallRecvMsgSize(wire.MaxDown)),
		grpc.WithReadBufferSize(agentReadBuffer), grpc.WithWriteBufferSize(agentWriteBuffer),
		grpc.WithStaticStreamWindowSize(wire.WindowDown), grpc.WithStaticConnWindowSize(wire.WindowDown),
		grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(), grpc.WithNoProxy(),
		grpc.WithTransportCredentials(credentials.NewTLS(a.fleet.TLS)), grpc.WithPerRPCCredentials(bearer(a.fleet.Token(a.node))))
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	call, err := conn.NewStream(ctx, wire.Desc(), wire.Follow)
	if err != nil {
		return false
	}
	a.mu.Lock()
	hello := &wire.Hello{Node: a.node, Epoch: a.epoch, Cursor: a.cursor, Version: "hollow"}
	a.told, a.begins = 0, true
	a.mu.Unlock()
	if err := call.SendMsg(&wire.Up{Hello: hello}); err != nil {
		return false
	}
	var speaking sync.WaitGroup
	defer speaking.Wait()
	defer cancel()
	for {
		m := &Message{}
		if err := call.RecvMsg(m); err != nil {
			if lived {
				a.fleet.Counts.Following.Add(-1)
				a.fleet.Counts.Lost.Add(1)
			}
			return lived
		}
		a.fleet.Counts.Messages.Add(1)
		a.fleet.Counts.Bytes.Add(int64(m.Size))
		if a.fleet.Told != nil {
			a.fleet.Told(a.node, m)
		}
		if err := a.take(&m.Down, !lived); err != nil {
			return lived
		}
		if m.More || lived {
			continue
		}
		lived = true
		a.fleet.Counts.Following.Add(1)
		if m.Reset {
			a.fleet.Counts.Snapshots.Add(1)
		} else {
			a.fleet.Counts.Resumed.Add(1)
		}
		speaking.Go(func() { a.speak(ctx, cancel, call) })
	}
}

// take takes in a message.
func (a *Agent) take(d *wire.Down, first bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if d.Reset && a.begins {
		clear(a.endpoints)
	}
	a.begins = false
	for i := range d.Changes {
		c := &d.Changes[i]
		if c.Kind != string(render.KindNodeState) || c.ID == "" {
			continue
		}
		a.report = true
		if c.Item == nil {
			delete(a.endpoints, c.ID)
			continue
		}
		var e struct {
			UID types.UID `json:"uid"`
		}
		if err := (wire.Codec{}).Unmarshal(c.Item, &e); err != nil {
			return fmt.Errorf("reading pod %s: %w", c.ID, err)
		}
		a.endpoints[c.ID] = e.UID
	}
	if d.More {
		return nil
	}
	if d.Epoch != "" {
		a.epoch = d.Epoch
	}
	a.cursor = d.Cursor
	for kind, v := range d.Versions {
		a.applied[kind] = max(a.applied[kind], v)
	}
	if d.State != nil {
		a.observed, a.report = d.State.Generation, true
	}
	a.report = a.report || first || len(d.Asked) > 0
	switch {
	case a.report:
		a.signal()
	case a.timer == nil:
		a.timer = time.AfterFunc(receiptWithin, func() {
			a.mu.Lock()
			a.timer = nil
			a.mu.Unlock()
			a.signal()
		})
	}
	return nil
}

func (a *Agent) signal() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// speak says what was received and what is in effect until ctx ends.
func (a *Agent) speak(ctx context.Context, cancel func(), call grpc.ClientStream) {
	defer cancel()
	a.signal()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.wake:
		}
		up := a.next()
		if up == nil {
			continue
		}
		if err := call.SendMsg(up); err != nil {
			return
		}
		if up.Report != nil {
			a.fleet.Counts.Reports.Add(1)
			if a.fleet.Said != nil {
				a.fleet.Said(a.node, up.Report)
			}
		}
	}
}

// next is what there is to say; nil: nothing.
func (a *Agent) next() *wire.Up {
	a.mu.Lock()
	defer a.mu.Unlock()
	up := &wire.Up{}
	if a.cursor > a.told {
		up.Received, a.told = a.cursor, a.cursor
	}
	if a.report {
		a.report = false
		a.sequence = max(a.sequence+1, time.Now().UnixMilli())
		s := &v1alpha1.NodeStateStatus{Sequence: a.sequence, Carrier: v1alpha1.CarrierStream, ObservedGeneration: a.observed, Applied: map[string]string{}}
		for kind, v := range a.applied {
			s.Applied[kind] = fmt.Sprint(v)
		}
		for id, uid := range a.endpoints {
			s.Endpoints = append(s.Endpoints, v1alpha1.EndpointStatus{ID: id, UID: uid, Addresses: []string{a.fleet.AddressOf(id)}})
		}
		up.Report = s
	}
	if up.Report == nil && up.Received == 0 {
		return nil
	}
	return up
}

// bearer shows a token.
type bearer string

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (bearer) RequireTransportSecurity() bool { return true }
