package cniserver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/manul-net/manul/cni/protocol"
)

func operation(r *protocol.Request) string {
	switch {
	case r.Add != nil:
		return "add"
	case r.Del != nil:
		return "del"
	case r.Check != nil:
		return "check"
	case r.GC != nil:
		return "gc"
	case r.Node != nil:
		return "node"
	default:
		return "status"
	}
}

// answer brings a valid request to the handler, within its time and in its turn, and puts into resp what it says.
func (s *server) answer(ctx context.Context, r *protocol.Request, resp *protocol.Response) error {
	bound, late := s.Timeout, fmt.Errorf("the node agent was not done within %v", s.Timeout)
	if r.Add != nil {
		bound, late = s.AddTimeout, fmt.Errorf("the pod's addresses and policy were not ready on the node within %v", s.AddTimeout)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, bound, late)
	defer cancel()
	var err error
	switch {
	case r.Add != nil:
		resp.Result, err = s.add(ctx, *r.Add)
	case r.Del != nil:
		err = s.del(ctx, *r.Del)
	case r.Check != nil:
		resp.Result, err = s.check(ctx, *r.Check)
	case r.GC != nil:
		err = s.handler.GC(ctx, *r.GC)
	case r.Node != nil:
		resp.Node, err = s.node(ctx)
	default:
		err = s.handler.Status(ctx)
	}
	return timely(ctx, err)
}

func (s *server) node(ctx context.Context) (*protocol.NodeResult, error) {
	result, err := s.handler.DescribeNode(ctx)
	if err != nil {
		return nil, err
	}
	return &result, nil
}

// timely gives an error that came of the end of ctx the code of a passing condition.
func timely(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	if e := (*protocol.Error)(nil); errors.As(err, &e) {
		return err
	}
	cause := context.Cause(ctx)
	if errors.Is(err, ctx.Err()) || errors.Is(err, cause) {
		return protocol.Errorf(protocol.CodeTryAgainLater, "%v", cause)
	}
	return protocol.Errorf(protocol.CodeTryAgainLater, "%v: %v", cause, err)
}

func (s *server) add(ctx context.Context, r protocol.AddRequest) (*protocol.AddResult, error) {
	done, err := s.turns.take(ctx, r.Attachment)
	if err != nil {
		return nil, err
	}
	defer done()
	// A DEL that waits on disk was meant for what came before this ADD.
	if s.Queue.Has(r.Attachment) {
		if err := s.Queue.ReplayOne(ctx, r.Attachment, s.handler.Del); err != nil {
			return nil, err
		}
	}
	result, err := s.handler.Add(ctx, r)
	return checked(result, err)
}

func (s *server) check(ctx context.Context, r protocol.CheckRequest) (*protocol.AddResult, error) {
	done, err := s.turns.take(ctx, r.Attachment)
	if err != nil {
		return nil, err
	}
	defer done()
	result, err := s.handler.Check(ctx, r)
	return checked(result, err)
}

func checked(result protocol.AddResult, err error) (*protocol.AddResult, error) {
	if err != nil {
		return nil, err
	}
	if err := result.Validate(); err != nil {
		return nil, protocol.Errorf(protocol.CodeInternal, "the node agent's own answer is not usable: %v", err)
	}
	return &result, nil
}

func (s *server) del(ctx context.Context, r protocol.DelRequest) error {
	done, err := s.turns.take(ctx, r.Attachment)
	if err != nil {
		return err
	}
	defer done()
	return s.handler.Del(ctx, r)
}

// replay brings the deferred DELs to the handler. What fails stays in the queue.
func (s *server) replay(ctx context.Context) {
	n := 0
	err := s.Queue.Replay(ctx, func(ctx context.Context, r protocol.DelRequest) error {
		ctx, cancel := context.WithTimeout(ctx, s.Timeout)
		defer cancel()
		done, err := s.turns.take(ctx, r.Attachment)
		if err != nil {
			return err
		}
		defer done()
		if !s.Queue.Has(r.Attachment) {
			return nil // an ADD replayed it meanwhile
		}
		n++
		return s.handler.Del(ctx, r)
	})
	if n > 0 {
		s.log.Info("replayed deferred DELs", "count", n)
	}
	if err != nil && ctx.Err() == nil {
		s.log.Warn("replaying deferred DELs", "error", err)
	}
}

// replayNowAndThen takes the DELs that were deferred because the agent, though running, did not answer in time.
func (s *server) replayNowAndThen(ctx context.Context) {
	tick := time.NewTicker(s.ReplayEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.replay(ctx)
		case <-ctx.Done():
			return
		}
	}
}
