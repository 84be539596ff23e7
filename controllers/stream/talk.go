package stream

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/go-logr/logr"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/manul-net/manul/internal/board"
	"github.com/manul-net/manul/internal/wire"
)

// talk is what is said to one agent.
type talk struct {
	*Server

	stream     grpc.ServerStream
	sub        *board.Subscription
	attachment uint64
	first      bool
	// joins is the agent's place among those that are told everything, until it has been.
	joins *slot
	// heard: the replica that writes hears what the agent says; writes is what the agent was told of that.
	heard, writes bool
	// versions are due even if there is no other news.
	versions bool

	// due is when versions are; rested when the node may be asked again for the word that can wait; gathered when news that is gathered
	// goes out.
	due, rested, gathered *time.Timer
	restsUntil            time.Time
	// sent is when the node was last told something, notBefore when the next is to go out at the soonest.
	sent, notBefore time.Time
}

func (t *talk) begin() {
	t.due, t.rested, t.gathered = time.NewTimer(t.quiet()), time.NewTimer(0), time.NewTimer(0)
	t.rested.Stop()
	t.gathered.Stop()
}

func (t *talk) end() {
	t.due.Stop()
	t.rested.Stop()
	t.gathered.Stop()
}

// talk tells the node what there is to tell until ctx or the stream ends.
func (t *talk) talk(ctx context.Context, log logr.Logger, ended <-chan error) error {
	t.begin()
	defer t.end()
	elected := t.Elected
	for wake := t.sub.Wake(); ; {
		var turned <-chan struct{}
		t.heard, turned = t.Server.heard()
		if wake != nil { // else news is gathered
			if err := t.send(); err != nil && ctx.Err() == nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return t.over(log, <-ended) // gRPC ends a stream by itself when a message is not in order, and then tells
		case err := <-ended:
			return t.over(log, err)
		case <-wake:
			if t.gathers() {
				wake = nil
				continue
			}
		case <-t.sub.Hurry():
		case <-t.gathered.C:
		case <-t.rested.C:
		case <-t.due.C:
			t.versions = true
			t.due.Reset(t.quiet())
		case <-elected:
			elected = nil // once is enough
		case <-turned:
		}
		wake = t.sub.Wake()
	}
}

// gathers tells whether there is news that has to wait for more: the operator is busy, and the node has just been told something.
func (t *talk) gathers() bool {
	now := time.Now()
	spacing := t.load.spacing(now)
	if spacing == 0 {
		return false
	}
	// Not all nodes at once.
	t.notBefore = t.sent.Add(spacing/2 + rand.N(spacing)) //nolint:gosec // jitter
	wait := t.notBefore.Sub(now)
	if wait <= 0 {
		return false
	}
	t.gathered.Reset(wait)
	return true
}

// rest is how long a node is not asked for its word again when that can wait.
func (s *Server) rest() time.Duration {
	return min(time.Duration(s.Board.Nodes())*restShare, restLongest)
}

// quiet is how long versions may wait for other news.
func (s *Server) quiet() time.Duration {
	wait := min(max(time.Duration(s.Board.Nodes())*share, soonest), latest)
	return wait/2 + rand.N(wait) //nolint:gosec // jitter
}

// send says all that there is to say.
func (t *talk) send() error {
	now := time.Now()
	defer t.joined()
	batch, current := t.turns.take(t.sub, t.attachment, board.Also{Versions: t.versions || t.first, Leisurely: !now.Before(t.restsUntil)})
	if !current {
		return errCalledAgain
	}
	if batch.Rests {
		rest := t.rest()
		t.restsUntil = now.Add(rest)
		t.rested.Reset(rest)
	}
	if t.versions {
		// So that no acknowledgement is missing for long, whatever it was that nobody thought to ask for.
		for kind := range batch.Versions {
			if !slices.Contains(batch.Asked, kind) {
				batch.Asked = append(batch.Asked, kind)
			}
		}
	}
	t.versions = false
	head := &wire.Down{Cursor: batch.Cursor, Reset: batch.Reset}
	if t.first {
		head.Epoch = t.Board.Epoch()
	}
	if t.first || t.heard != t.writes {
		heard := t.heard
		head.Writes, t.writes = &heard, heard
	}
	if batch.Empty() && len(batch.Versions) == 0 && head.Writes == nil {
		return nil
	}
	t.first = false
	for kind, v := range batch.Versions {
		if head.Versions == nil {
			head.Versions = map[string]uint64{}
		}
		head.Versions[string(kind)] = v
	}
	for _, kind := range batch.Asked {
		head.Asked = append(head.Asked, string(kind))
	}
	if m := batch.State; m != nil {
		head.State = &wire.State{UID: m.UID, Generation: m.Generation, Version: m.Version}
		if batch.Reset {
			head.State.Status = m.Status
		}
	}
	if err := t.parts(head, &batch); err != nil {
		return err
	}
	t.measure(&batch, now)
	return nil
}

// measure notes how long a change took until it was sent, and how late it was taken.
func (t *talk) measure(batch *board.Batch, taken time.Time) {
	before := t.sent
	t.sent = time.Now()
	if !batch.Since.IsZero() && len(batch.Items)+len(batch.Gone) > 0 && !batch.Reset {
		t.Metrics.push.Observe(t.sent.Sub(batch.Since).Seconds())
		t.load.note(lateness(taken, batch.Since, before, t.notBefore), t.sent)
	}
}

// fewChanges is how many changes a message has room for at first.
const fewChanges = 1024

// parts sends a batch in messages of bounded size. What is said beside items is in the last one.
func (t *talk) parts(last *wire.Down, batch *board.Batch) error {
	if err := t.collection(batch.All); err != nil {
		return err
	}
	// Most batches are one message.
	changes := make([]wire.Change, 0, min(len(batch.Gone)+len(batch.Items), fewChanges))
	size := 0
	add := func(c wire.Change) error {
		changes = append(changes, c)
		if size += sizeOf(&c); size < partSize {
			return nil
		}
		err := t.put(&wire.Down{Cursor: last.Cursor, Epoch: last.Epoch, Reset: last.Reset, More: true, Changes: changes})
		changes, size = nil, 0
		return err
	}
	for _, key := range batch.Gone {
		if err := add(changeOf(key)); err != nil {
			return err
		}
	}
	for _, item := range batch.Items {
		c, err := changeOfItem(item)
		if err != nil {
			return err
		}
		if err := add(c); err != nil {
			return err
		}
	}
	last.Changes = changes
	return t.put(last)
}

// collection sends what every node is told when it begins.
func (t *talk) collection(all *board.Collection) error {
	if all == nil {
		return nil
	}
	messages, err := all.Encoded(encodeCollection)
	if err != nil {
		return err
	}
	for _, m := range messages {
		t.Metrics.messages.Inc()
		t.Metrics.bytes.Add(float64(len(m)))
		if err := t.joins.goesOn(); err != nil {
			return err
		}
		if err := t.stream.SendMsg(wire.Encoded(m)); err != nil {
			return err
		}
	}
	return nil
}

func changeOf(key board.ItemKey) wire.Change {
	return wire.Change{Kind: string(key.Kind), Name: key.Name, ID: key.ID}
}

func changeOfItem(item *board.Item) (wire.Change, error) {
	c := changeOf(item.ItemKey)
	raw, err := item.Raw()
	if err != nil {
		return c, status.Error(codes.Internal, "encoding "+string(item.Kind)+" "+item.Name+": "+err.Error())
	}
	if len(raw) > wire.MaxDown/2 {
		return c, status.Error(codes.Internal, string(item.Kind)+" "+item.Name+" is too large for the stream")
	}
	c.Item = raw
	return c, nil
}

// sizeOf is about what a change takes of a message, bytes.
func sizeOf(c *wire.Change) int {
	const fields = 16
	return len(c.Item) + len(c.Name) + len(c.ID) + fields
}

func (t *talk) put(d *wire.Down) error {
	t.Metrics.messages.Inc()
	for i := range d.Changes {
		t.Metrics.bytes.Add(float64(len(d.Changes[i].Item)))
	}
	if err := t.joins.goesOn(); err != nil {
		return err
	}
	return t.stream.SendMsg(d)
}

// joined gives the agent's place to another.
func (t *talk) joined() {
	t.joins.end()
	t.joins = nil
}

func (s *Server) isElected() bool {
	select {
	case <-s.Elected:
		return true
	default:
		return false
	}
}
