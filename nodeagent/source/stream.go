package source

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/wire"
)

const (
	// answerWithin is how long a replica may take until its first message; then another is tried.
	answerWithin = time.Second
	// receiptEvery is how often it is told what was received, when there is nothing else to say: the replica remembers so long which items it
	// sent, and nobody waits for it. reportEvery is the least pause between reports.
	receiptEvery, reportEvery = 10 * time.Second, 20 * time.Millisecond
)

// StreamOptions say how to follow the operator's stream.
type StreamOptions struct {
	Node    string
	Version string // of the agent
	// Namespace of the operator.
	Namespace string
	// Token is the file with the agent's token.
	Token string
	// Find gives the replicas. Default: the API server tells.
	Find func(context.Context) (Replicas, error)
	// Dial connects to a replica, host:port. Default: Dial.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	Log  *slog.Logger
}

// stream is what comes from one replica of the operator after another, and what is said to it. How they are called is in calling.go.
type stream struct {
	StreamOptions

	// begin is called before the first news of a stream: other carriers are silent from then on. ended is called when the stream is
	// lost.
	begin, ended func()
	// unheard is called when what was reported is more than the operator takes on the stream: the API alone can tell it.
	unheard func()
	// nobody is called when all replicas that there are have been tried in vain.
	nobody func()

	assembled *assembler

	mu sync.Mutex
	// epoch and cursor: all up to there is in the sink. No epoch: nothing counts.
	epoch  string
	cursor uint64
	// report that the operator has not been told on this stream.
	report *v1alpha1.NodeStateStatus
	last   *v1alpha1.NodeStateStatus
	live   bool
	writes bool
	large  bool // the last report was too large for the stream
	wake   chan struct{}
	told   string
}

func newStream(o StreamOptions) *stream {
	if o.Dial == nil {
		o.Dial = Dial
	}
	return &stream{StreamOptions: o, begin: func() {}, ended: func() {}, unheard: func() {}, nobody: func() {}, assembled: newAssembler(o.Node), wake: make(chan struct{}, 1)}
}

// follow follows one replica until the stream ends. lived: it brought news.
func (s *stream) follow(ctx context.Context, address string, replicas *Replicas, sink Sink) (lived bool, err error) {
	conn, err := s.dial(address, replicas)
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.Close() }()
	var speaking sync.WaitGroup
	defer speaking.Wait() // or it would take what is to be told on the next stream
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	late := time.AfterFunc(answerWithin, cancel)
	defer late.Stop()
	call, err := conn.NewStream(ctx, wire.Desc(), wire.Follow)
	if err != nil {
		return false, fmt.Errorf("calling %s: %w", address, err)
	}
	epoch, cursor := s.position()
	hello := &wire.Hello{Node: s.Node, Epoch: epoch, Cursor: cursor, Version: s.Version}
	if err := call.SendMsg(&wire.Up{Hello: hello}); err != nil {
		return false, fmt.Errorf("calling %s: %w", address, err)
	}
	begun := false
	defer func() {
		if begun {
			s.setLive(false)
			s.ended()
		}
	}()
	s.assembled.parts, s.assembled.size = nil, 0
	for {
		d := &wire.Down{}
		if err := call.RecvMsg(d); err != nil {
			return lived, fmt.Errorf("following %s: %w", address, err)
		}
		late.Stop()
		first := !lived && !d.More
		if first {
			// From here on only the stream speaks. What another carrier said meanwhile is replaced as a whole, or there was none.
			s.begin()
			begun = true
			if known, _ := s.position(); known != epoch && !d.Reset {
				return lived, errors.New("another carrier has spoken: beginning anew")
			}
		}
		if last := s.lastReport(); last != nil {
			s.assembled.status = last
		}
		whole, err := s.assembled.take(d, sink)
		if err != nil {
			s.forget()
			return lived, fmt.Errorf("following %s: %w", address, err)
		}
		if s.assembled.renewed {
			s.assembled.renewed = false
			s.dropReport()
		}
		if !whole {
			continue
		}
		s.received(d)
		if first {
			lived, s.told = true, ""
			s.setLive(true)
			s.Log.Info("following the stream", "replica", address, "resumed", !d.Reset)
			speaking.Go(func() { s.speak(ctx, cancel, call) })
		}
	}
}

// speak tells what was received, and the node's status, until ctx ends.
func (s *stream) speak(ctx context.Context, cancel func(), call grpc.ClientStream) {
	receipt := time.NewTicker(receiptEvery)
	defer receipt.Stop()
	acknowledged := uint64(0)
	s.mu.Lock()
	s.report = s.last // this replica may not have heard it
	s.mu.Unlock()
	for {
		s.mu.Lock()
		up := &wire.Up{Report: s.report}
		if s.cursor > acknowledged {
			up.Received, acknowledged = s.cursor, s.cursor
		}
		s.report = nil
		s.mu.Unlock()
		if up.Report != nil || up.Received > 0 {
			if err := s.say(call, up); err != nil {
				cancel()
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-receipt.C:
			continue
		case <-s.wake:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(reportEvery):
		}
	}
}

// say sends a message. Of a report that the operator would refuse, and end the stream with it, only the rest is sent.
func (s *stream) say(call grpc.ClientStream, up *wire.Up) error {
	message, err := wire.EncodeUp(up)
	large := errors.Is(err, wire.ErrTooLarge)
	if up.Report != nil && s.setLarge(large) && large {
		s.Log.Error("what the node reports is told through the API alone", "error", err)
		s.unheard()
	}
	if large {
		if up.Received == 0 {
			return nil
		}
		message, err = wire.EncodeUp(&wire.Up{Received: up.Received})
	}
	if err != nil {
		return err
	}
	return call.SendMsg(message)
}

// setLarge notes whether the last report was too large, and tells whether that is new.
func (s *stream) setLarge(large bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	changed := s.large != large
	s.large = large
	return changed
}

// tellStatus has the operator told of a status, now or when there is a stream.
func (s *stream) tellStatus(status *v1alpha1.NodeStateStatus) {
	s.mu.Lock()
	s.report, s.last = status, status
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *stream) lastReport() *v1alpha1.NodeStateStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// dropReport forgets what was reported: it was about an object that is gone.
func (s *stream) dropReport() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last, s.report = nil, nil
}

func (s *stream) position() (epoch string, cursor uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.epoch, s.cursor
}

// forget has the next stream begin with everything.
func (s *stream) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch, s.cursor = "", 0
}

func (s *stream) received(d *wire.Down) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cursor = d.Cursor
	if d.Epoch != "" {
		s.epoch = d.Epoch
	}
	if d.Writes != nil {
		s.writes = *d.Writes
	}
}

func (s *stream) setLive(live bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live = live
	if !live {
		s.writes = false
	}
}

// heard tells whether the replica that writes hears what the node says.
func (s *stream) heard() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.live && s.writes && !s.large
}
