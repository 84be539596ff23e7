package stream

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/board"
	"github.com/manul-net/manul/internal/live"
	"github.com/manul-net/manul/internal/render"
	"github.com/manul-net/manul/internal/wire"
)

// reading is the stream of an agent that reads as its test lets it.
type reading struct {
	grpc.ServerStream

	node string
	ctx  context.Context
	said bool
	down chan *wire.Down
	// ended is closed when the stream has ended, with err.
	ended chan struct{}
	err   error
}

func (r *reading) Context() context.Context { return r.ctx }

func (r *reading) RecvMsg(m any) error {
	if up, ok := m.(*wire.Up); ok && !r.said {
		r.said, up.Hello = true, &wire.Hello{Node: r.node}
		return nil
	}
	<-r.ctx.Done()
	return r.ctx.Err()
}

func (r *reading) SendMsg(m any) error {
	raw, err := wire.Codec{}.Marshal(m)
	if err != nil {
		return err
	}
	d := &wire.Down{}
	if err := (wire.Codec{}).Unmarshal(raw, d); err != nil {
		return err
	}
	select {
	case r.down <- d:
		return nil
	case <-r.ctx.Done():
		return r.ctx.Err()
	}
}

// read reads one message.
func (r *reading) read(t *testing.T) *wire.Down {
	t.Helper()
	select {
	case d := <-r.down:
		return d
	case <-time.After(time.Minute):
		t.Fatal("the agent is told nothing")
		return nil
	}
}

// everything reads a whole batch: what is in it by kind.
func (r *reading) everything(t *testing.T) map[string]int {
	t.Helper()
	kinds := map[string]int{}
	for {
		d := r.read(t)
		for i := range d.Changes {
			kinds[d.Changes[i].Kind]++
		}
		if !d.Reset {
			t.Fatalf("node %s: what it is told first is no beginning: %+v", r.node, d)
		}
		if !d.More {
			return kinds
		}
	}
}

// serving is a server without a network, and its agents.
func serving(t *testing.T, networks int) (*Server, func(node string) *reading) {
	t.Helper()
	b := board.New()
	var changes []board.Change
	for i := range networks {
		key := render.Key{Kind: render.KindNodeNetwork, Name: fmt.Sprintf("n%d", i)}
		changes = append(changes, board.Change{Key: key, Object: &v1alpha1.NodeNetwork{
			ObjectMeta: metav1.ObjectMeta{Name: key.Name}, Spec: v1alpha1.NodeNetworkSpec{Addresses: []string{"192.0.2.1"}},
		}})
	}
	if err := b.Put(changes, time.Now()); err != nil {
		t.Fatal(err)
	}
	s := &Server{
		World: live.New(), Board: b, Filled: func() bool { return true }, Metrics: NewMetrics(), Log: logr.Discard(),
		Node: func(ctx context.Context) (string, error) {
			md, _ := metadata.FromIncomingContext(ctx)
			return md.Get("node")[0], nil
		},
	}
	return s, func(node string) *reading {
		ctx, cancel := context.WithCancel(metadata.NewIncomingContext(t.Context(), metadata.Pairs("node", node)))
		r := &reading{node: node, ctx: ctx, down: make(chan *wire.Down), ended: make(chan struct{})}
		go func() {
			defer close(r.ended)
			r.err = s.follow(r)
		}()
		t.Cleanup(func() {
			cancel()
			if <-r.ended; r.err == nil {
				t.Errorf("node %s: its stream ended in good order", node)
			}
		})
		return r
	}
}

func TestWhoBeginsIsToldAllNetworks(t *testing.T) {
	const networks = 5000 // more than go into one message
	s, agent := serving(t, networks)
	for _, node := range []string{"n1", "n2"} {
		if got := agent(node).everything(t); got[string(render.KindNodeNetwork)] != networks {
			t.Errorf("node %s is told %v", node, got)
		}
	}
	// One that changed since others began comes after, and counts.
	key := render.Key{Kind: render.KindNodeNetwork, Name: "n7"}
	changed := &v1alpha1.NodeNetwork{ObjectMeta: metav1.ObjectMeta{Name: "n7"}, Spec: v1alpha1.NodeNetworkSpec{Addresses: []string{"192.0.2.7"}}}
	if err := s.Board.Put([]board.Change{{Key: key, Object: changed}}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if got := agent("n3").everything(t); got[string(render.KindNodeNetwork)] != networks+1 {
		t.Errorf("node n3 is told %v, want the changed network once more", got)
	}
}

// TestOnlySoManyAreToldEverythingAtOnce: others wait, and are told so at once; and nobody waits for those who do not read.
func TestOnlySoManyAreToldEverythingAtOnce(t *testing.T) {
	_, agent := serving(t, 10)
	var slow []*reading
	for i := range joiners {
		r := agent(fmt.Sprintf("slow%d", i))
		r.read(t) // it has begun, and reads no further
		slow = append(slow, r)
	}
	waiting := agent("n1")
	if d := waiting.read(t); !d.Reset || !d.More || len(d.Changes) > 0 {
		t.Errorf("who has to wait is told %+v", d)
	}
	if got := waiting.everything(t); got[string(render.KindNodeNetwork)] != 10 {
		t.Errorf("once others have had their time it is told %v", got)
	}
	for _, r := range slow {
		r.everything(t)
	}
	agent("n2").everything(t)
}

// TestANodeTakesOnePlace: however often one node calls, it keeps nobody else from being told everything, and its newest call is the one that is
// served.
func TestANodeTakesOnePlace(t *testing.T) {
	_, agent := serving(t, 10)
	for range 2 * joiners {
		agent("greedy").read(t) // it has begun, and reads no further
	}
	if d := agent("n1").read(t); len(d.Changes) == 0 {
		t.Fatal("another node has to wait")
	}
	superseded := agent("greedy")
	superseded.read(t)
	agent("greedy").everything(t)
	superseded.refused(t)

	// The same while it waits.
	for i := range joiners {
		agent(fmt.Sprintf("slow%d", i)).read(t)
	}
	superseded = agent("n2")
	superseded.read(t)
	newest := agent("n2")
	newest.read(t)
	superseded.refused(t)
	newest.everything(t)

	// One that is being told ends before its next message.
	j := &joining{}
	earlier, err := j.begin(t.Context(), "n3", nil)
	if err != nil {
		t.Fatal(err)
	}
	later, err := j.begin(t.Context(), "n3", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := earlier.goesOn(); status.Code(err) != codes.Aborted {
		t.Errorf("the earlier call goes on: %v", err)
	}
	earlier.end()
	if err := later.goesOn(); err != nil {
		t.Errorf("the later call does not go on: %v", err)
	}
	later.end()
	if len(j.newest)+len(j.slots) > 0 {
		t.Error("a node that has been told everything is remembered")
	}
}

// refused reads on until the stream ends, because there is a newer one.
func (r *reading) refused(t *testing.T) {
	t.Helper()
	for deadline := time.After(time.Minute); ; {
		select {
		case <-r.down:
		case <-r.ended:
			if status.Code(r.err) != codes.Aborted {
				t.Errorf("node %s: the stream ended: %v", r.node, r.err)
			}
			return
		case <-deadline:
			t.Fatal("the earlier stream goes on")
		}
	}
}
