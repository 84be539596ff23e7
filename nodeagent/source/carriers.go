package source

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"k8s.io/client-go/rest"

	"github.com/manul-net/manul/api/v1alpha1"
)

// patience is how long no replica may answer before the API's objects tell what the node has to do.
const patience = 3 * time.Second

// Carriers is the Source that follows the operator's stream, and the API's objects while there is none. Each carrier begins with
// all that there is, at once, so that the change from one to the other is no change where they say the same.
type Carriers struct {
	api    *API
	stream *stream
	log    *slog.Logger
	// patience until the API's objects are followed.
	patience time.Duration

	mu       sync.Mutex
	sequence int64
	// live: the stream speaks; since then, or since it does not.
	live    bool
	since   time.Time
	changed chan struct{}
	// carrier that brought news last; none at first.
	carrier v1alpha1.Carrier
	// spoke: a carrier has brought everything once.
	spoke bool
	// gate of the API's objects; nil: they are not followed.
	gate *gate
}

// NewCarriers makes the Source of a node.
func NewCarriers(config *rest.Config, o StreamOptions) (*Carriers, error) {
	api, err := NewAPI(config, o.Node, o.Log)
	if err != nil {
		return nil, err
	}
	if o.Find == nil {
		f, err := newFinder(config, o.Namespace)
		if err != nil {
			return nil, err
		}
		o.Find = f.find
	}
	c := &Carriers{
		api: api, stream: newStream(o), log: o.Log, patience: patience,
		changed: make(chan struct{}, 1),
	}
	c.stream.begin, c.stream.ended = c.streamBegins, c.streamEnds
	c.stream.nobody, c.stream.unheard = c.nobody, api.reporter.hasten
	api.reporter.heard = c.stream.heard
	return c, nil
}

// Run implements Source.
func (c *Carriers) Run(ctx context.Context, sink Sink) error {
	var wg sync.WaitGroup
	c.since = time.Now()
	wg.Go(func() { c.stream.run(ctx, sink) })
	wg.Go(func() { c.api.reporter.run(ctx) })
	wg.Go(func() { c.fallBack(ctx, sink) })
	wg.Wait()
	return nil
}

// Report implements Source.
func (c *Carriers) Report(r Report) {
	c.mu.Lock()
	c.sequence = max(c.sequence+1, r.After+1, time.Now().UnixMilli())
	r.Status.Sequence, r.Status.Carrier = c.sequence, c.carrier
	c.mu.Unlock()
	c.stream.tellStatus(r.Status.DeepCopy())
	c.api.reporter.report(r)
}

// streamBegins silences the API's objects.
func (c *Carriers) streamBegins() {
	c.mu.Lock()
	g := c.gate
	c.gate = nil
	c.live, c.since, c.spoke, c.carrier = true, time.Now(), true, v1alpha1.CarrierStream
	c.mu.Unlock()
	if g != nil {
		g.close()
	}
	c.signal()
}

func (c *Carriers) streamEnds() {
	c.mu.Lock()
	c.live, c.since = false, time.Now()
	c.mu.Unlock()
	c.api.reporter.hasten()
	c.signal()
}

// nobody has a node that knows nothing yet follow the API's objects at once, when no replica answers.
func (c *Carriers) nobody() {
	c.mu.Lock()
	if !c.spoke {
		c.since = time.Time{}
	}
	c.mu.Unlock()
	c.signal()
}

func (c *Carriers) signal() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// fallBack follows the API's objects whenever there has been no stream for a while.
func (c *Carriers) fallBack(ctx context.Context, sink Sink) {
	for {
		g, wait := c.openGate(sink)
		if g != nil {
			c.followAPI(ctx, g)
		}
		select {
		case <-ctx.Done():
			return
		case <-c.changed:
		case <-time.After(wait):
		}
	}
}

// openGate makes a gate for the API's objects when it is time, and otherwise tells how long it is until then at the least.
func (c *Carriers) openGate(sink Sink) (*gate, time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.live {
		return nil, time.Hour // until it is told that there is no stream
	}
	if wait := c.patience - time.Since(c.since); wait > 0 {
		return nil, wait
	}
	c.spoke, c.carrier = true, v1alpha1.CarrierAPI
	c.gate = newGate(sink, c.stream.forget, c.stream.assembled.withUnwritten)
	return c.gate, 0
}

// followAPI follows the API's objects until their gate is closed or ctx ends.
func (c *Carriers) followAPI(ctx context.Context, g *gate) {
	c.log.Info("following the API's objects: no replica of the operator serves the stream")
	following, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.api.followAll(following, g)
	}()
	select {
	case <-ctx.Done():
	case <-g.done:
	}
	g.close()
	stop()
	<-ended
}

// gate lets through what the API's objects say once all kinds are there, all at once, and nothing any more after it was closed.
type gate struct {
	to   Sink
	open func() // called before the first is let through
	// complete gives the node's own state what the stream told and the API does not say yet. The stream is silent meanwhile: what it told
	// changes only after the gate is closed.
	complete func(*v1alpha1.NodeState)

	done chan struct{} // closed with the gate

	mu      sync.Mutex
	closed  bool
	all     bool
	listed  map[Kind]struct{}
	waiting []func(Sink)
}

func newGate(to Sink, open func(), complete func(*v1alpha1.NodeState)) *gate {
	return &gate{to: to, open: open, complete: complete, done: make(chan struct{}), listed: map[Kind]struct{}{}}
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		close(g.done)
	}
	g.closed, g.waiting = true, nil
}

func (g *gate) pass(kind Kind, list bool, give func(Sink)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.closed:
	case g.all:
		give(g.to)
	default:
		if list {
			g.listed[kind] = struct{}{}
		}
		g.waiting = append(g.waiting, give)
		if len(g.listed) < len(Kinds()) {
			return
		}
		g.all = true
		g.open()
		waiting := g.waiting
		g.waiting = nil
		g.to.Together(func(s Sink) {
			for _, give := range waiting {
				give(s)
			}
		})
	}
}

// Replace implements Sink.
func (g *gate) Replace(kind Kind, objects []Object, version string) {
	g.pass(kind, true, func(s Sink) {
		for _, o := range objects {
			g.completed(o)
		}
		s.Replace(kind, objects, version)
	})
}

// Set implements Sink.
func (g *gate) Set(kind Kind, o Object) {
	g.pass(kind, false, func(s Sink) {
		g.completed(o)
		s.Set(kind, o)
	})
}

func (g *gate) completed(o Object) {
	if state, ok := o.(*v1alpha1.NodeState); ok {
		g.complete(state)
	}
}

// Delete implements Sink.
func (g *gate) Delete(kind Kind, name, version string) {
	g.pass(kind, false, func(s Sink) { s.Delete(kind, name, version) })
}

// Reached implements Sink.
func (g *gate) Reached(kind Kind, version string) {
	g.pass(kind, false, func(s Sink) { s.Reached(kind, version) })
}

// Awaited implements Sink.
func (g *gate) Awaited(kind Kind, version string) {
	g.pass(kind, false, func(s Sink) { s.Awaited(kind, version) })
}

// Together implements Sink.
func (g *gate) Together(give func(Sink)) { give(g) }
