package stream

import (
	"context"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"google.golang.org/grpc"

	"github.com/manul-net/manul/internal/board"
	"github.com/manul-net/manul/internal/live"
	"github.com/manul-net/manul/internal/wire"
)

// leaving is the stream of an agent that goes away while it is told something.
type leaving struct {
	grpc.ServerStream

	ctx    context.Context
	cancel func()
	said   bool
}

func (l *leaving) Context() context.Context { return l.ctx }

func (l *leaving) RecvMsg(m any) error {
	if up, ok := m.(*wire.Up); ok && !l.said {
		l.said, up.Hello = true, &wire.Hello{Node: "n1"}
		return nil
	}
	<-l.ctx.Done()
	return l.ctx.Err()
}

func (l *leaving) SendMsg(any) error {
	l.cancel()
	<-time.After(time.Millisecond) // whoever else serves the agent sees it too
	return nil
}

// TestAnAgentGoesAwayWhileItIsTold: whatever is noticed first, its stream ends, and nothing else does.
func TestAnAgentGoesAwayWhileItIsTold(t *testing.T) {
	s := &Server{
		World: live.New(), Board: board.New(), Filled: func() bool { return true }, Metrics: NewMetrics(), Log: logr.Discard(),
		Node: func(context.Context) (string, error) { return "n1", nil },
	}
	for range 100 {
		ctx, cancel := context.WithCancel(t.Context())
		if err := s.follow(&leaving{ctx: ctx, cancel: cancel}); err == nil {
			t.Fatal("the stream ended as if the agent had ended it in good order")
		}
	}
}
