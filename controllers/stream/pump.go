package stream

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/manul-net/manul/internal/board"
	"github.com/manul-net/manul/internal/live"
	"github.com/manul-net/manul/internal/render"
)

// together is how many objects are compiled at one moment. Changes are few; only the first filling of the board has more.
const together = 1024

// Pump brings what the compiler says, and what the API has of it, to the board. It runs on every replica.
type Pump struct {
	World *live.World
	Board *board.Board
	Log   logr.Logger

	wake   chan struct{}
	filled chan struct{} // closed once the board has the whole cluster

	mu      sync.Mutex
	keys    map[render.Key]struct{}
	written map[render.Key]news
	since   time.Time
}

// news is what the API has of an object: the last that was heard.
type news struct {
	object runtime.Object
	gone   bool
}

// NewPump listens to the World from now on.
func NewPump(world *live.World, b *board.Board, log logr.Logger) *Pump {
	p := &Pump{
		World: world, Board: b, Log: log, wake: make(chan struct{}, 1), filled: make(chan struct{}),
		keys: map[render.Key]struct{}{}, written: map[render.Key]news{},
	}
	world.OnKeys(p.noteKeys)
	world.OnWritten(p.noteWritten)
	world.OnArrival(b.Share)
	return p
}

// NeedLeaderElection is false: every replica serves.
func (p *Pump) NeedLeaderElection() bool { return false }

func (p *Pump) noteKeys(keys []render.Key) {
	p.mu.Lock()
	for _, key := range keys {
		p.keys[key] = struct{}{}
	}
	if p.since.IsZero() {
		p.since = time.Now()
	}
	p.mu.Unlock()
	p.signal()
}

func (p *Pump) noteWritten(obj runtime.Object, gone bool) {
	key, ok := board.KeyOf(obj)
	if !ok {
		return
	}
	p.mu.Lock()
	p.written[key] = news{obj, gone}
	p.mu.Unlock()
	p.signal()
}

func (p *Pump) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Start works until ctx ends.
func (p *Pump) Start(ctx context.Context) error {
	if err := p.World.Wait(ctx); err != nil {
		return nil //nolint:nilerr // ctx ended
	}
	for first := true; ; {
		p.once()
		if first {
			close(p.filled)
			first = false
		}
		select {
		case <-ctx.Done():
			return nil
		case <-p.wake:
		}
	}
}

// once takes what has gathered.
func (p *Pump) once() {
	p.mu.Lock()
	keys, written, since := p.keys, p.written, p.since
	p.keys, p.written, p.since = map[render.Key]struct{}{}, map[render.Key]news{}, time.Time{}
	p.mu.Unlock()
	ordered := make([]render.Key, 0, len(keys))
	for key := range keys {
		ordered = append(ordered, key)
	}
	slices.SortFunc(ordered, live.WritingOrder)
	for some := range slices.Chunk(ordered, together) {
		changes := make([]board.Change, len(some))
		for i, obj := range p.World.ContentOf(some) {
			if n, ok := written[some[i]]; ok && !n.gone && obj != nil && board.Same(n.object, obj) {
				obj = n.object // one of the two is enough
			}
			changes[i] = board.Change{Key: some[i], Object: obj}
		}
		if err := p.Board.Put(changes, since); err != nil {
			p.Log.Error(err, "Not streamed")
		}
	}
	for _, n := range written {
		p.Board.Written(n.object, n.gone)
	}
}

// Filled tells whether the board has the whole cluster.
func (p *Pump) Filled() bool {
	select {
	case <-p.filled:
		return true
	default:
		return false
	}
}
