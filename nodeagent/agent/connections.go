package agent

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/cni/protocol"
	"github.com/manul-net/manul/nodeagent/connections"
	"github.com/manul-net/manul/nodeagent/verdict"
)

// Connections are those that the kernel tracks. Only one goroutine uses them.
type Connections interface {
	// Each calls f for every connection that has one of the addresses, and perhaps for others, or for all connections when no
	// address is given; until f says false.
	Each(ctx context.Context, involving []netip.Addr, f func(*connections.Flow) bool) error
	// End makes the kernel forget a connection, and tells whether it was still there.
	End(f *connections.Flow) (bool, error)
	// Abort ends a TCP connection at the node's own socket, whose end is the tuple's source, and tells whether there was one.
	Abort(own connections.Tuple) (bool, error)
	// Towards finds the place of an address by the node's routes.
	Towards(a netip.Addr) (connections.Place, error)
}

const (
	// askAtMost is for how many addresses the kernel is asked one by one, which costs three walks over its table for each, and
	// one altogether where there are few connections. For more addresses it is asked for everything, which costs with many connections about as
	// much as a dozen walks (BenchmarkList).
	askAtMost = 4
	// judgeAtOnce is how many connections the loop judges between two pieces of news: about half a millisecond's work when
	// each has to go through a hundred rules.
	judgeAtOnce = 64
	// After a pass there is a rest, so that passes take a tenth of one processor at most, and a change waits no longer than
	// restMost for its pass.
	restShare = 9
	restMost  = 10 * time.Second
	// rememberedPlaces bounds how many routes a pass remembers.
	rememberedPlaces = 4096
)

// enforcement is what the loop knows of connections that policy may have come to deny.
type enforcement struct {
	tracker *connections.Tracker
	verdict *verdict.Evaluator
	// denied is what the changes that are in effect may have come to deny, and was not looked at yet.
	denied connections.Scope
	keeps  bool
	wake   chan struct{} // of one element: there is something in denied
	asks   chan func()   // into the loop; unlike calls, they change nothing
}

// noteChanges has to be called before the tables' changes are put into effect.
func (a *Agent) noteChanges() {
	if a.Connections == nil {
		return
	}
	a.enforcement.tracker.Note(a.state.Policy())
	a.enforcement.verdict.Update()
}

// endDenied has connections looked at that the policy in effect may have come to deny.
func (a *Agent) endDenied() {
	e := &a.enforcement
	if a.Connections == nil || !a.policyInEffect || a.nodeState == nil {
		return
	}
	kept := e.keeps
	e.keeps = a.nodeState.Spec.Settings.KeepDeniedConnections
	if kept && !e.keeps {
		e.tracker.All()
	}
	e.denied.Merge(e.tracker.Take())
	if e.keeps {
		e.denied = connections.Scope{}
	}
	a.wakeEnforcer()
}

func (a *Agent) wakeEnforcer() {
	if a.enforcement.denied.Empty() {
		return
	}
	select {
	case a.enforcement.wake <- struct{}{}:
	default:
	}
}

// enforce ends connections that policy has come to deny, beside the loop. What changes during a pass is for the next one.
func (a *Agent) enforce(ctx context.Context) {
	attempts := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.enforcement.wake:
		}
		var p *pass
		if !a.ask(ctx, func() { p = a.beginPass() }) {
			return
		}
		if p == nil {
			continue
		}
		began := time.Now()
		err := p.run(ctx)
		took := time.Since(began)
		if ctx.Err() != nil {
			return
		}
		a.Metrics.enforced(took, p.listed, p.ended, err)
		if p.ended > 0 {
			a.Log.Info("ended connections that policy has come to deny", "ended", p.ended, "listed", p.listed, "took", took)
		}
		rest := min(restShare*took, restMost)
		if err != nil {
			attempts++
			rest = max(rest, backoff(attempts, true, took))
			a.Log.Warn("connections that policy has come to deny may go on", "error", err, "trying_again_in", rest)
			again := p.scope
			a.ask(ctx, func() { a.enforcement.denied.Merge(again); a.wakeEnforcer() })
		} else {
			attempts = 0
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(rest):
		}
	}
}

// ask has the loop do something that changes nothing it acts on. It is false when ctx ended first.
func (a *Agent) ask(ctx context.Context, f func()) bool {
	done := make(chan struct{})
	select {
	case a.enforcement.asks <- func() { f(); close(done) }:
		<-done
		return true
	case <-ctx.Done():
		return false
	}
}

// beginPass takes what is to be looked at; nil: nothing.
func (a *Agent) beginPass() *pass {
	e := &a.enforcement
	if e.denied.Empty() {
		return nil
	}
	p := &pass{Agent: a, scope: e.denied, locator: connections.Locator{
		Workloads: connections.Workloads(a.state.Policy()), Own: map[netip.Addr]struct{}{},
	}}
	e.denied = connections.Scope{}
	for _, addrs := range a.Interfaces.Addresses() {
		for _, addr := range addrs {
			p.locator.Own[addr] = struct{}{}
		}
	}
	if a.state.Policy().HostEndpoints.Len() > 0 {
		p.locator.Towards = remembering(a.Connections.Towards)
	}
	return p
}

// remembering keeps what was found, as far as there is room.
func remembering(towards func(netip.Addr) (connections.Place, error)) func(netip.Addr) (connections.Place, error) {
	type found struct {
		connections.Place
		err error
	}
	known := map[netip.Addr]found{}
	return func(addr netip.Addr) (connections.Place, error) {
		f, ok := known[addr]
		if !ok {
			f.Place, f.err = towards(addr)
			if len(known) >= rememberedPlaces {
				clear(known)
			}
			known[addr] = f
		}
		return f.Place, f.err
	}
}

// pass over the connections of a scope.
type pass struct {
	*Agent
	scope   connections.Scope
	locator connections.Locator
	batch   []candidate
	// broken: some connections could not be ended; the first of the reasons.
	broken        error
	listed, ended int
}

// candidate is a connection of which some policy may decide.
type candidate struct {
	flow   *connections.Flow
	packet verdict.Packet
	// other is what would have begun it from the other side; nil when it is known that this one did.
	other  *verdict.Packet
	denied bool
	why    verdict.Decision
}

func (p *pass) run(ctx context.Context) error {
	err := p.Connections.Each(ctx, p.scope.Addresses(askAtMost), func(f *connections.Flow) bool {
		p.listed++
		if !p.scope.Covers(f) {
			return true
		}
		packet, ok := p.locator.Packet(f)
		if !ok {
			return true
		}
		c := candidate{flow: f, packet: packet}
		if f.PickedUp {
			if other, ok := p.locator.Packet(f.Reversed()); ok {
				c.other = &other
			}
		}
		p.batch = append(p.batch, c)
		return len(p.batch) < judgeAtOnce || p.endBatch(ctx)
	})
	p.endBatch(ctx)
	return errors.Join(err, p.broken)
}

// endBatch has the loop judge what was gathered, by the tables as they are now, and ends what is denied.
func (p *pass) endBatch(ctx context.Context) bool {
	if len(p.batch) == 0 {
		return true
	}
	judged := p.ask(ctx, func() {
		for i := range p.batch {
			c := &p.batch[i]
			c.denied, c.why = p.denies(c.packet)
			if c.denied && c.other != nil {
				c.denied, _ = p.denies(*c.other)
			}
		}
	})
	for i := range p.batch {
		if c := &p.batch[i]; c.denied {
			p.end(c)
		}
	}
	p.batch = p.batch[:0]
	return judged
}

// denies tells whether policy denies a packet, and not only because something is not known yet.
func (a *Agent) denies(packet verdict.Packet) (bool, verdict.Decision) {
	v := a.enforcement.verdict.Evaluate(packet)
	return !v.Allowed && !v.Unknown, v.Last()
}

func (p *pass) end(c *candidate) {
	// The node's own socket first: what it has to say to the other end passes while the connection is known.
	aborted, abortErr := false, error(nil)
	if own, ok := ownEnd(c); ok {
		aborted, abortErr = p.Connections.Abort(own)
	}
	ended, err := p.Connections.End(c.flow)
	if p.broken == nil {
		p.broken = errors.Join(abortErr, err)
	}
	if aborted || ended {
		p.ended++
		p.Log.Debug("ended a connection", "source", c.packet.Source, "destination", c.packet.Destination, "protocol", c.packet.Protocol,
			"port", c.packet.DestinationPort, "why", c.why.String())
	}
}

// ownEnd is a TCP connection as the node's own socket has it. It is false when the node has none.
func ownEnd(c *candidate) (connections.Tuple, bool) {
	switch {
	case c.packet.Protocol != unix.IPPROTO_TCP:
	case c.packet.In == "":
		return c.flow.Original, true
	case c.packet.Out == "":
		return c.flow.Reply, true
	}
	return connections.Tuple{}, false
}

func (a *Agent) newEnforcement() enforcement {
	e := enforcement{tracker: connections.NewTracker(), wake: make(chan struct{}, 1), asks: make(chan func())}
	if a.Connections != nil {
		e.verdict = verdict.New(a.state.Policy(), protocol.InterfacePrefix)
	}
	return e
}
