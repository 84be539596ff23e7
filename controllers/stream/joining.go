package stream

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/manul-net/manul/internal/board"
	"github.com/manul-net/manul/internal/wire"
)

const (
	// joiners is how many agents are told everything at a time: after a replica has gone all come at once, and what is under way to them
	// takes memory.
	joiners = 64
	// readWithin: an agent that takes longer to read a message holds up nobody else. What the operator itself takes does not count: with fewer
	// processors than work more and more would be under way.
	readWithin = 3 * time.Second
)

// joining bounds how many agents are told everything at a time.
type joining struct {
	once  sync.Once
	slots chan struct{}

	mu sync.Mutex
	// newest is the newest call of each node that is told everything, or waits for that.
	newest map[string]*slot
}

// slot is the place of one agent among those that are told everything. nil: of one that needs none.
type slot struct {
	*joining

	node string
	late *time.Timer
	// over is closed when the node has been told everything, or has called again.
	over chan struct{}

	held bool // it is one of slots; joining.mu is held
}

// errCalledAgain ends a call of a node of which there is a newer one: one node takes one place, however often it calls.
var errCalledAgain = status.Error(codes.Aborted, "the node has come on another stream")

// goesOn notes that a message is sent. Unless another is, or the end comes, within readWithin, the slot is free.
func (s *slot) goesOn() error {
	switch {
	case s == nil:
		return nil
	case s.isOver():
		return errCalledAgain
	case s.late == nil:
		s.late = time.AfterFunc(readWithin, s.free)
	default:
		s.late.Reset(readWithin)
	}
	return nil
}

// end frees the slot.
func (s *slot) end() {
	if s == nil {
		return
	}
	if s.late != nil {
		s.late.Stop()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leave()
}

func (s *slot) isOver() bool {
	select {
	case <-s.over:
		return true
	default:
		return false
	}
}

// free gives the slot to another. What is under way to the agent goes on.
func (s *slot) free() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.release()
}

// release gives back the slot, if there is one. The lock is held.
func (s *slot) release() {
	if s.held {
		s.held = false
		<-s.slots
	}
}

// leave ends it. The lock is held.
func (s *slot) leave() {
	s.release()
	if !s.isOver() {
		close(s.over)
	}
	if s.newest[s.node] == s {
		delete(s.newest, s.node)
	}
}

// call notes a call of a node, which ends the one before.
func (j *joining) call(node string) *slot {
	j.once.Do(func() { j.slots, j.newest = make(chan struct{}, joiners), map[string]*slot{} })
	s := &slot{joining: j, node: node, over: make(chan struct{})}
	j.mu.Lock()
	defer j.mu.Unlock()
	if before := j.newest[node]; before != nil {
		before.leave()
	}
	j.newest[node] = s
	return s
}

// begin waits for a slot. waits is called when that does not come at once.
func (j *joining) begin(ctx context.Context, node string, waits func() error) (*slot, error) {
	s := j.call(node)
	if err := s.wait(ctx, waits); err != nil {
		s.end()
		return nil, err
	}
	return s, nil
}

func (s *slot) wait(ctx context.Context, waits func() error) error {
	select {
	case s.slots <- struct{}{}:
	default:
		if err := waits(); err != nil {
			return err
		}
		select {
		case s.slots <- struct{}{}:
		case <-s.over:
			return errCalledAgain
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = true
	if s.isOver() {
		s.release()
		return errCalledAgain
	}
	return nil
}

// encodeCollection makes messages of what every node is told when it begins. They are parts of a batch, and not the last.
func encodeCollection(items []*board.Item) ([][]byte, error) {
	var messages [][]byte
	var changes []wire.Change
	size := 0
	flush := func() error {
		if len(changes) == 0 {
			return nil
		}
		raw, err := wire.Codec{}.Marshal(&wire.Down{Reset: true, More: true, Changes: changes})
		messages, changes, size = append(messages, raw), nil, 0
		return err
	}
	for _, item := range items {
		c, err := changeOfItem(item)
		if err != nil {
			return nil, err
		}
		changes = append(changes, c)
		if size += sizeOf(&c); size >= partSize {
			if err := flush(); err != nil {
				return nil, err
			}
		}
	}
	return messages, flush()
}
