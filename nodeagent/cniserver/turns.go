package cniserver

import (
	"context"
	"sync"

	"github.com/manul-net/manul/cni/protocol"
)

// turns lets one request at a time have an attachment. It holds nothing for attachments that nobody asks about.
type turns struct {
	mu sync.Mutex
	of map[protocol.Attachment]*turn
}

// turn is one attachment's: the channel holds a value while a request has it.
type turn struct {
	busy    chan struct{}
	waiting int // requests that have it or wait for it
}

// take waits for the attachment until ctx ends. The caller calls done when it needs the attachment no more.
func (t *turns) take(ctx context.Context, a protocol.Attachment) (done func(), err error) {
	t.mu.Lock()
	if t.of == nil {
		t.of = make(map[protocol.Attachment]*turn)
	}
	mine := t.of[a]
	if mine == nil {
		mine = &turn{busy: make(chan struct{}, 1)}
		t.of[a] = mine
	}
	mine.waiting++
	t.mu.Unlock()

	leave := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if mine.waiting--; mine.waiting == 0 {
			delete(t.of, a)
		}
	}
	select {
	case mine.busy <- struct{}{}:
		return func() { <-mine.busy; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, protocol.Errorf(protocol.CodeTryAgainLater, "waiting for another request of container %s, interface %s: %v", a.ContainerID, a.IfName, context.Cause(ctx))
	}
}
