package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/test/hollow"
)

// hub holds all objects of the cluster, and brings what changes to the operators, as the API server's watches would.
type hub struct {
	mu      sync.Mutex
	objects map[string]runtime.Object
	feeds   map[*feed]struct{}
}

func newHub() *hub { return &hub{objects: map[string]runtime.Object{}, feeds: map[*feed]struct{}{}} }

// Set implements hollow.Replica.
func (h *hub) Set(obj runtime.Object) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.objects[nameOf(obj)] = obj
	for f := range h.feeds {
		f.put(news{obj: obj})
	}
	return nil
}

// Delete implements hollow.Replica.
func (h *hub) Delete(obj runtime.Object) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.objects, nameOf(obj))
	for f := range h.feeds {
		f.put(news{obj: obj, gone: true})
	}
	return nil
}

// join has a feed bring all that there is, and what changes from then on.
func (h *hub) join(f *feed) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(h.objects)) { // as lists are
		f.put(news{obj: h.objects[name], listed: true})
	}
	h.feeds[f] = struct{}{}
}

func (h *hub) leave(f *feed) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.feeds, f)
}

// all calls each with all objects of now.
func (h *hub) all(each func(runtime.Object)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, obj := range h.objects {
		each(obj)
	}
}

// news is an object that changed.
type news struct {
	obj  runtime.Object
	gone bool
	// listed: it was there before the operator, which is not behind because of it.
	listed bool
}

// feed brings news to one operator, in a lane for each type, as each watch has a connection of its own: what is of one type comes in order, and
// waits for no other. What the operator is too slow for waits here.
type feed struct {
	to    *process
	lanes map[string]*lane

	mu sync.Mutex
	// waiting counts changes of which the operator has not been told: in queues, and in what is being brought.
	waiting int
	begun   bool
	err     error
}

// lane is what an operator has yet to be told of one type. The feed's lock guards it.
type lane struct {
	queue []news
	busy  bool
	wake  chan struct{}
}

func newFeed(to *process) *feed {
	f := &feed{to: to, lanes: map[string]*lane{}}
	for _, o := range types() {
		f.lanes[typeOf(o)] = &lane{wake: make(chan struct{}, 1)}
	}
	return f
}

func (f *feed) put(n news) {
	l := f.lanes[typeOf(n.obj)]
	f.mu.Lock()
	l.queue = append(l.queue, n)
	if !n.listed {
		f.waiting++
	}
	f.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// waiting is how much the operator that is furthest behind has not been told of.
func (h *hub) waiting() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	most := 0
	for f := range h.feeds {
		f.mu.Lock()
		most = max(most, f.waiting)
		f.mu.Unlock()
	}
	return most
}

// brought notes that the operator has been told of so much.
func (f *feed) brought(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waiting -= n
}

// fed tells whether the operator has been told everything.
func (f *feed) fed() (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range f.lanes {
		if len(l.queue) > 0 || l.busy {
			return false, f.err
		}
	}
	return f.begun, f.err
}

// together is how many objects go in one call.
const together = 256

// run brings what there is, has the operator begin with that, and then brings what comes.
func (f *feed) run(ctx context.Context, begin func() error) {
	all := func(do func(l *lane)) {
		var wg sync.WaitGroup
		for _, l := range f.lanes {
			wg.Go(func() { do(l) })
		}
		wg.Wait()
	}
	all(func(l *lane) { f.next(ctx, l) })
	f.failed(begin())
	f.mu.Lock()
	f.begun = true
	f.mu.Unlock()
	all(func(l *lane) {
		for f.next(ctx, l) {
			select {
			case <-ctx.Done():
				return
			case <-f.to.exited:
				return
			case <-l.wake:
			}
		}
	})
}

// next brings what a lane has, and tells whether that went well.
func (f *feed) next(ctx context.Context, l *lane) bool {
	f.mu.Lock()
	queue := l.queue
	l.queue, l.busy = nil, len(queue) > 0
	f.mu.Unlock()
	err := f.bring(ctx, queue)
	f.failed(err)
	f.mu.Lock()
	defer f.mu.Unlock()
	l.busy = false
	return err == nil
}

func (f *feed) failed(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = errors.Join(f.err, err)
}

func (f *feed) bring(ctx context.Context, queue []news) error {
	for some := range slices.Chunk(queue, together) {
		batch, changes := make([]Object, len(some)), 0
		for i, n := range some {
			var err error
			if batch[i], err = encode(n.obj, n.gone); err != nil {
				return err
			}
			if !n.listed {
				changes++
			}
		}
		if err := f.to.call(ctx, "Feed", batch, &None{}); err != nil {
			return err
		}
		f.brought(changes)
	}
	return nil
}

// parent is what children call.
type parent struct{ api *hollow.API }

// Write takes what the leader writes.
func (p *parent) Write(w Write, _ *None) error {
	if w.Object.JSON == nil {
		return p.api.Write(w.Key, nil)
	}
	obj, err := w.Object.decode()
	if err != nil {
		return err
	}
	return p.api.Write(w.Key, obj)
}

// Status takes what agents say of their nodes.
func (p *parent) Status(all []Status, _ *None) error {
	for _, s := range all {
		status := &v1alpha1.NodeStateStatus{}
		if err := json.Unmarshal(s.JSON, status); err != nil {
			return fmt.Errorf("reading what node %s says: %w", s.Node, err)
		}
		if err := p.api.Status(s.Node, status); err != nil {
			return err
		}
	}
	return nil
}

// eventually waits for a condition.
func eventually(ctx context.Context, patience time.Duration, what string, ask func() (bool, error)) error {
	deadline := time.Now().Add(patience)
	for {
		is, err := ask()
		switch {
		case err != nil:
			return fmt.Errorf("waiting until %s: %w", what, err)
		case is:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("not within %s: %s", patience, what)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(askEvery):
		}
	}
}

// askEvery is how often a condition is looked at.
const askEvery = 20 * time.Millisecond
