package stream

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/manul-net/manul/internal/board"
	"github.com/manul-net/manul/internal/live"
	"github.com/manul-net/manul/internal/wire"
)

const (
	// helloWithin is how long a caller may take to say who it is.
	helloWithin = 10 * time.Second
	// reportRate and reportBurst bound how often one agent is listened to, messages a second. What is beyond waits at the agent.
	reportRate, reportBurst = 50, 100
	// partSize is about how large one message to an agent is, bytes. One item may be larger.
	partSize = 128 << 10
	// Versions of news that concerns no pod of the node go along with other news, or alone after a time that grows with the number of
	// nodes: share for each of them, within the bounds.
	share, soonest, latest = 60 * time.Millisecond, 10 * time.Second, 10 * time.Minute
	// A node's word that no policy waits for is asked for at once, and then not again for a time that grows with the number of nodes.
	restShare, restLongest = 20 * time.Millisecond, 20 * time.Second
)

// Server speaks to the agents.
type Server struct {
	World *live.World
	Board *board.Board
	// Filled tells whether the board has the whole cluster.
	Filled func() bool
	// Node tells for which node a caller speaks.
	Node func(context.Context) (string, error)
	// Elected is closed once this replica writes the API's objects.
	Elected <-chan struct{}
	// Relay tells the replica that writes what agents say while this one does not; nil: nobody does.
	Relay *Relay
	// Certificate of the operator, by which other replicas are known; nil: none is.
	Certificate func() (*tls.Certificate, error)
	Metrics     *Metrics
	Log         logr.Logger

	load    load
	joining joining
	turns   turns
}

// follow serves one agent until either side ends the call.
func (s *Server) follow(stream grpc.ServerStream) error {
	ctx := stream.Context()
	if !s.Filled() {
		return status.Error(codes.Unavailable, "the cluster is not known yet")
	}
	log := s.Log
	if p, ok := peer.FromContext(ctx); ok {
		log = log.WithValues("from", p.Addr.String())
	}
	node, err := s.Node(ctx)
	if err != nil {
		if isRefused(err) {
			return s.refuse(log, codes.Unauthenticated, reasonToken, err.Error())
		}
		log.Error(err, "An agent was sent away: who it is could not be found out")
		return status.Error(codes.Unavailable, "the token could not be looked at")
	}
	log = log.WithValues("node", node)
	heard, known, ended := make(chan *wire.Hello, 1), make(chan *board.Subscription, 1), make(chan error, 1)
	go func() { ended <- s.receive(stream, node, heard, known) }()
	var hello *wire.Hello
	select {
	case hello = <-heard:
	case err := <-ended:
		return s.over(log, err)
	case <-time.After(helloWithin):
	}
	switch {
	case hello == nil:
		return s.refuse(log, codes.InvalidArgument, reasonMalformed, "the first message does not say who calls")
	case hello.Node != node:
		return s.refuse(log, codes.PermissionDenied, reasonForeign, "the token is bound to node "+node+", not to "+hello.Node)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var joins *slot
	if !s.Board.Resumes(node, hello.Epoch, hello.Cursor) {
		// A word at once, so that the agent waits and calls nobody else.
		joins, err = s.joining.begin(ctx, node, func() error { return stream.SendMsg(&wire.Down{Reset: true, More: true}) })
		switch {
		case err != nil && ctx.Err() != nil:
			return s.over(log, <-ended)
		case err != nil:
			return err
		}
		defer joins.end()
	}
	sub, attachment, resumed := s.Board.Subscribe(node, hello.Epoch, hello.Cursor)
	defer sub.Leave(attachment, func() {
		if s.Relay != nil {
			s.Relay.forget(node)
		}
		if err := s.World.ForgetReport(node); err != nil {
			log.Error(err, "Taking the API's word on a node")
		}
	})
	s.Metrics.begin(resumed)
	defer s.Metrics.end()
	log.V(1).Info("An agent follows", "resumed", resumed, "agent", hello.Version)
	known <- sub
	t := &talk{Server: s, stream: stream, sub: sub, attachment: attachment, first: true, joins: joins}
	return t.talk(ctx, log, ended)
}

// wrongError is of an agent that says what it must not.
type wrongError struct{ error }

// receive takes what the agent says until the stream ends: who it is, and once its subscription is known its acknowledgements and reports. One
// goroutine does both, for there are thousands of these.
func (s *Server) receive(stream grpc.ServerStream, node string, heard chan<- *wire.Hello, known <-chan *board.Subscription) error {
	limit := rate.NewLimiter(reportRate, reportBurst)
	var sub *board.Subscription
	for first := true; ; first = false {
		up := &wire.Up{}
		if err := stream.RecvMsg(up); err != nil {
			return err
		}
		if err := limit.Wait(stream.Context()); err != nil {
			return err
		}
		if first {
			heard <- up.Hello
			select {
			case sub = <-known:
			case <-stream.Context().Done():
				return stream.Context().Err()
			}
			continue
		}
		if err := s.listen(node, sub, up); err != nil {
			return wrongError{err}
		}
	}
}

// listen takes an acknowledgement or report.
func (s *Server) listen(node string, sub *board.Subscription, up *wire.Up) error {
	if up.Hello != nil {
		return errors.New("an agent says once who it is")
	}
	if up.Received > 0 {
		sub.Acknowledge(up.Received)
	}
	if up.Report == nil {
		return nil
	}
	s.Metrics.reports.Inc()
	if s.Relay != nil && !s.isElected() {
		s.Relay.tell(node, up.Report)
	}
	return s.hear(node, up.Report)
}

// over tells how a stream ended, and counts what was not in order.
func (s *Server) over(log logr.Logger, err error) error {
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case errors.As(err, new(wrongError)):
		return s.refuse(log, codes.Internal, reasonMalformed, err.Error())
	case status.Code(err) == codes.ResourceExhausted:
		return s.refuse(log, codes.ResourceExhausted, reasonOversized, err.Error())
	case status.Code(err) == codes.Internal, status.Code(err) == codes.InvalidArgument:
		return s.refuse(log, codes.InvalidArgument, reasonMalformed, err.Error())
	}
	return err
}

func (s *Server) refuse(log logr.Logger, code codes.Code, reason, why string) error {
	s.Metrics.refused.WithLabelValues(reason).Inc()
	log.Info("Refused on the stream", "reason", reason, "because", why)
	return status.Error(code, why)
}
