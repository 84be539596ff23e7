package stream

import (
	"context"
	"fmt"
	"sync"
	"time"

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
}

// slot is the place of one agent among those that are told everything. nil: of one that needs none.
type slot struct {
	free func()
	late *time.Timer
}

// goesOn notes that a message is sent. Unless another is, or the end comes, within readWithin, the slot is free.
func (s *slot) goesOn() {
	switch {
	case s == nil:
	case s.late == nil:
		s.late = time.AfterFunc(readWithin, s.free)
	default:
		s.late.Reset(readWithin)
	}
}

// end frees the slot.
func (s *slot) end() {
	if s == nil {
		return
	}
	if s.late != nil {
		s.late.Stop()
	}
	s.free()
}

// begin waits for a slot. waits is called when that does not come at once.
func (j *joining) begin(ctx context.Context, waits func() error) (*slot, error) {
	j.once.Do(func() { j.slots = make(chan struct{}, joiners) })
	select {
	case j.slots <- struct{}{}:
	default:
		if err := waits(); err != nil {
			return nil, err
		}
		select {
		case j.slots <- struct{}{}:
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting until other agents have been told everything: %w", ctx.Err())
		}
	}
	return &slot{free: sync.OnceFunc(func() { <-j.slots })}, nil
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
