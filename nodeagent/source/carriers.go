package source

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"k8s.io/client-go/rest"
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
	lost     chan struct{} // the stream was lost
	found    chan struct{} // the stream is about to speak: the other carrier is silent when this has been taken
	gate     *gate
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
		lost: make(chan struct{}, 1), found: make(chan struct{}, 1),
	}
	c.stream.begin, c.stream.ended = c.streamBegins, c.streamEnds
	api.reporter.heard = c.stream.heard
	return c, nil
}

// Run implements Source.
func (c *Carriers) Run(ctx context.Context, sink Sink) error {
	var wg sync.WaitGroup
	wg.Go(func() { c.stream.run(ctx, sink) })
	wg.Go(func() { c.api.reporter.run(ctx) })
	wg.Go(func() { c.fallBack(ctx, sink) })
	wg.Wait()
	return nil
}

// Report implements Source.
func (c *Carriers) Report(r Report) {
	c.mu.Lock()
	c.sequence = max(c.sequence+1, time.Now().UnixMilli())
	r.Status.Sequence = c.sequence
	c.mu.Unlock()
	c.stream.tellStatus(r.Status.DeepCopy())
	c.api.reporter.report(r)
}

// streamBegins silences the API's objects.
func (c *Carriers) streamBegins() {
	c.mu.Lock()
	g := c.gate
	c.gate = nil
	c.mu.Unlock()
	if g != nil {
		g.close()
	}
	signal(c.found)
}

func (c *Carriers) streamEnds() {
	c.api.reporter.hasten()
	signal(c.lost)
}

func signal(to chan struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}

// fallBack follows the API's objects whenever there has been no stream for a while.
func (c *Carriers) fallBack(ctx context.Context, sink Sink) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.found: // in time
			select {
			case <-ctx.Done():
				return
			case <-c.lost:
			}
			continue
		case <-time.After(c.patience):
		}
		if !c.followAPI(ctx, sink) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-c.lost:
		}
	}
}

// followAPI follows the API's objects until there is a stream. It returns false when ctx ends.
func (c *Carriers) followAPI(ctx context.Context, sink Sink) bool {
	c.log.Info("following the API's objects: no replica of the operator serves the stream")
	following, stop := context.WithCancel(ctx)
	defer stop()
	g := newGate(sink, c.stream.forget)
	c.mu.Lock()
	c.gate = g
	c.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.api.followAll(following, g)
	}()
	defer func() {
		g.close()
		stop()
		<-ended
	}()
	select {
	case <-ctx.Done():
		return false
	case <-c.found:
		return true
	}
}

// gate lets through what the API's objects say once all kinds are there, all at once, and nothing any more after it was closed.
type gate struct {
	to   Sink
	open func() // called before the first is let through

	mu      sync.Mutex
	closed  bool
	all     bool
	listed  map[Kind]struct{}
	waiting []func(Sink)
}

func newGate(to Sink, open func()) *gate { return &gate{to: to, open: open, listed: map[Kind]struct{}{}} }

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
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
	g.pass(kind, true, func(s Sink) { s.Replace(kind, objects, version) })
}

// Set implements Sink.
func (g *gate) Set(kind Kind, o Object) { g.pass(kind, false, func(s Sink) { s.Set(kind, o) }) }

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
