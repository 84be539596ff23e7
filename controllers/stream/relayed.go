package stream

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/manul-net/manul/internal/wire"
)

// listenTo takes what another replica heard of agents, if this one writes.
//
// What was heard so counts until the API says as much: agents write the same a moment later, and one that is gone has left its kernel as it
// said.
func (s *Server) listenTo(stream grpc.ServerStream) error {
	log := s.Log
	if p, ok := peer.FromContext(stream.Context()); ok {
		log = log.WithValues("from", p.Addr.String())
	}
	if err := s.isReplica(stream.Context()); err != nil {
		return s.refuse(log, codes.Unauthenticated, reasonReplica, err.Error())
	}
	if !s.isElected() {
		return status.Error(codes.FailedPrecondition, "this replica does not write")
	}
	if err := stream.SendMsg(&wire.Listening{}); err != nil {
		return err
	}
	log.Info("Another replica tells what agents say")
	for {
		m := &wire.Relayed{}
		if err := stream.RecvMsg(m); err != nil {
			return s.over(log, err)
		}
		if m.Node == "" || m.Report == nil {
			return s.refuse(log, codes.InvalidArgument, reasonMalformed, "a message without a node or its report")
		}
		s.Metrics.relayed.Inc()
		if err := s.World.Relayed(m.Node, m.Report); err != nil {
			log.Error(err, "What an agent said to another replica", "node", m.Node)
		}
	}
}

// isReplica tells whether a caller has the operator's key: TLS has had it prove that the certificate it shows is its own.
func (s *Server) isReplica(ctx context.Context) error {
	if s.Certificate == nil {
		return errNoReplica
	}
	own, err := s.Certificate()
	if err != nil {
		return err
	}
	p, ok := peer.FromContext(ctx)
	if !ok {
		return errNoReplica
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.PeerCertificates) != 1 || !info.State.PeerCertificates[0].Equal(own.Leaf) {
		return errNoReplica
	}
	return nil
}

// heard tells whether the replica that writes hears what agents say here, and what is closed when that changes.
func (s *Server) heard() (heard bool, turned <-chan struct{}) {
	if s.isElected() {
		return true, nil
	}
	return s.Relay.state()
}
