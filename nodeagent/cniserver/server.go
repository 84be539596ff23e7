// Package cniserver is the agent's end of the socket that the CNI plugin asks.
//
// It owns all that has to do with connections: the socket and its mode, bounds on time, size and number, one request at a
// time per attachment, DELs that were deferred while no agent ran, an end in good order. What the requests mean is the
// [Handler]'s.
package cniserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/manul-net/manul/cni/protocol"
)

// Handler answers the plugin. Methods are called concurrently, but never two at a time for one attachment. A method must
// return when its context ends: the plugin gave up or hung up, and an Add must then leave nothing behind that a Del
// would not clear. To choose the code that the runtime sees, return a [protocol.Error] (wrapped or not).
type Handler interface {
	// Add prepares an attachment: it returns once the addresses are durable and the endpoint's policy is in the kernel under the
	// name of the interface that the plugin is about to make.
	Add(ctx context.Context, r protocol.AddRequest) (protocol.AddResult, error)
	// Del releases an attachment. One that is not known is no error.
	Del(ctx context.Context, r protocol.DelRequest) error
	// Check gives what Add gave, or an error when the attachment is not known or its policy is not in the kernel.
	Check(ctx context.Context, r protocol.CheckRequest) (protocol.AddResult, error)
	// Status returns nil when an Add would be served now.
	Status(ctx context.Context) error
	// GC releases every attachment that is not listed.
	GC(ctx context.Context, r protocol.GCRequest) error
	// DescribeNode tells what IPAM plugins need to know of the node.
	DescribeNode(ctx context.Context) (protocol.NodeResult, error)
}

// Options of a server. The zero value of each means its default.
type Options struct {
	// Socket to listen on. Default: protocol.DefaultSocket.
	Socket string
	// Queue of deferred DELs. Default: in protocol.DefaultQueue.
	Queue protocol.Queue
	// ReplayEvery is how often the queue is looked at after the start. Default: a minute.
	ReplayEvery time.Duration
	// AddTimeout bounds Add, and the time an Add waits its turn. Default: 30 s.
	AddTimeout time.Duration
	// Timeout bounds every other operation. Default: 10 s.
	Timeout time.Duration
	// ExchangeTimeout bounds reading a request and, again, writing its answer. Default: 5 s.
	ExchangeTimeout time.Duration
	// ShutdownGrace is how long requests underway may go on after the end of Serve's context. Default: 10 s.
	ShutdownGrace time.Duration
	// MaxConnections bounds connections at a time; others wait in the socket's backlog. Default: 256.
	MaxConnections int
	// Observe, when set, is told of every request that was answered.
	Observe func(Observation)
}

// Observation is one request that was answered.
type Observation struct {
	// Operation is "add", "del", "check", "status", "gc" or "node".
	Operation string
	// Code of the error, 0 for success.
	Code uint
	// Took is the time from the request's arrival to its answer.
	Took time.Duration
}

func (o Options) withDefaults() Options {
	def := func(d *time.Duration, to time.Duration) {
		if *d <= 0 {
			*d = to
		}
	}
	if o.Socket == "" {
		o.Socket = protocol.DefaultSocket
	}
	if o.Queue.Dir == "" {
		o.Queue.Dir = protocol.DefaultQueue
	}
	def(&o.ReplayEvery, time.Minute)
	def(&o.AddTimeout, 30*time.Second)
	def(&o.Timeout, 10*time.Second)
	def(&o.ExchangeTimeout, 5*time.Second)
	def(&o.ShutdownGrace, 10*time.Second)
	if o.MaxConnections <= 0 {
		o.MaxConnections = 256
	}
	if o.Observe == nil {
		o.Observe = func(Observation) {}
	}
	return o
}

type server struct {
	Options
	handler Handler
	log     *slog.Logger
	turns   turns
}

// Serve answers the plugin until ctx ends, lets requests underway finish, and returns nil. It returns an error when it
// cannot listen or can no longer accept. The first thing it does is to take the DELs that were deferred.
func Serve(ctx context.Context, h Handler, log *slog.Logger, o Options) error {
	s := &server{Options: o.withDefaults(), handler: h, log: log}
	l, err := listen(s.Socket)
	if err != nil {
		return err
	}
	// Requests outlive ctx by the grace at most.
	requests, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)

	// Connections wait in the backlog meanwhile: an ADD must not overtake a deferred DEL of the same attachment.
	s.replay(ctx)

	var underway sync.WaitGroup
	underway.Go(func() { s.replayNowAndThen(ctx) })
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	err = s.accept(ctx, requests, l, &underway)
	_ = l.Close()
	grace := time.AfterFunc(s.ShutdownGrace, func() { cancel(errors.New("the node agent is stopping")) })
	defer grace.Stop()
	if ctx.Err() == nil {
		cancel(err) // not stopping in good order: nobody should wait for us
	} else {
		err = nil
	}
	underway.Wait()
	return err
}

// accept serves connections until the listener closes or fails.
func (s *server) accept(ctx, requests context.Context, l net.Listener, underway *sync.WaitGroup) error {
	slots := make(chan struct{}, s.MaxConnections)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		conn, err := l.Accept()
		if err != nil {
			return fmt.Errorf("accepting on %s: %w", s.Socket, err)
		}
		underway.Go(func() {
			defer func() { <-slots }()
			s.serve(requests, conn)
		})
	}
}

// serve answers the one request of a connection.
func (s *server) serve(ctx context.Context, conn net.Conn) {
	defer conn.Close() // the answer is written, or the peer gone
	_ = conn.SetDeadline(time.Now().Add(s.ExchangeTimeout))
	req, err := protocol.ReadRequest(conn)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return // the plugin looked whether anyone listens, or died
	}
	began := time.Now()
	resp := &protocol.Response{Version: protocol.Version}
	if err != nil {
		s.log.Warn("refusing request", "error", err)
		resp.Error = protocol.AsError(err)
	} else {
		_ = conn.SetDeadline(time.Time{})
		err = s.untilHangup(ctx, conn, req, resp)
		resp.Error = protocol.AsError(err)
		o := Observation{Operation: operation(req), Took: time.Since(began)}
		if resp.Error != nil {
			o.Code = resp.Error.Code
		}
		s.Observe(o)
		s.record(ctx, req, o, err)
	}
	_ = conn.SetDeadline(time.Now().Add(s.ExchangeTimeout))
	if err := protocol.WriteResponse(conn, resp); err != nil {
		// The runtime follows an ADD that brought no answer with a DEL: nothing is lost.
		s.log.Warn("writing answer", "error", err)
	}
}

// untilHangup answers req, with a context that ends when the plugin hangs up.
func (s *server) untilHangup(ctx context.Context, conn net.Conn, req *protocol.Request, resp *protocol.Response) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watcher := make(chan struct{})
	go func() {
		defer close(watcher)
		// The plugin sends nothing more, so that Read returns when it hangs up or when the deadline below passes.
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			cancel(errors.New("the plugin hung up"))
		}
	}()
	err := s.answer(ctx, req, resp)
	_ = conn.SetReadDeadline(time.Unix(1, 0))
	<-watcher
	return err
}

func (s *server) record(ctx context.Context, req *protocol.Request, o Observation, err error) {
	level := slog.LevelDebug
	attrs := []any{"operation", o.Operation, "took", o.Took}
	switch {
	case req.Add != nil:
		level = slog.LevelInfo
		attrs = append(attrs, "pod", req.Add.PodNamespace+"/"+req.Add.PodName, "container", req.Add.ContainerID)
	case req.Del != nil:
		level = slog.LevelInfo
		attrs = append(attrs, "pod", req.Del.PodNamespace+"/"+req.Del.PodName, "container", req.Del.ContainerID)
	}
	if err != nil {
		level = slog.LevelWarn
		attrs = append(attrs, "code", o.Code, "error", err)
	}
	s.log.Log(ctx, level, "CNI request", attrs...)
}
