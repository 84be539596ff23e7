package hollow

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/manul-net/manul/internal/live"
	"github.com/manul-net/manul/internal/render"
)

// Writer writes what a compiler says, as the leader does, without its limits.
type Writer struct {
	leader *live.World
	delay  time.Duration
	write  func(key render.Key, want runtime.Object) error
	wake   chan struct{}

	mu    sync.Mutex
	dirty map[render.Key]struct{}
	busy  bool
}

// NewWriter makes one that writes by a function, delay after something changed. What there must not be is nil.
func NewWriter(leader *live.World, delay time.Duration, write func(key render.Key, want runtime.Object) error) *Writer {
	w := &Writer{leader: leader, delay: delay, write: write, wake: make(chan struct{}, 1), dirty: map[render.Key]struct{}{}}
	leader.OnKeys(func(keys []render.Key) {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, key := range keys {
			w.dirty[key] = struct{}{}
		}
		select {
		case w.wake <- struct{}{}:
		default:
		}
	})
	return w
}

// Idle tells whether everything is written that has been compiled.
func (w *Writer) Idle() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.dirty) == 0 && !w.busy
}

// Run writes until ctx ends.
func (w *Writer) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.wake:
		}
		if w.delay > 0 {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(w.delay):
			}
		}
		w.mu.Lock()
		keys := slices.SortedFunc(maps.Keys(w.dirty), live.WritingOrder)
		w.dirty, w.busy = map[render.Key]struct{}{}, true
		w.mu.Unlock()
		for _, key := range keys {
			if ctx.Err() != nil {
				return nil //nolint:nilerr // told to end
			}
			if err := w.write(key, w.leader.Desired(key)); err != nil {
				return err
			}
			w.leader.Settled(key)
		}
		w.mu.Lock()
		w.busy = false
		w.mu.Unlock()
	}
}
