// Package stream serves the node agents: every replica of the operator tells each of them what concerns its node as soon as it is
// compiled, and hears what they have put into effect. The API's objects say the same a moment later.
package stream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/net/netutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/manul-net/manul/internal/board"
	"github.com/manul-net/manul/internal/live"
	"github.com/manul-net/manul/internal/wire"
)

const (
	// maxConnections bounds how many callers there are at a time, known or not.
	maxConnections = 16_384
	// maxAge of a connection: after that an agent has to show its token anew.
	maxAge = time.Hour
	// pingAfter a silence, and pingTimeout until the other end counts as gone.
	pingAfter, pingTimeout = 20 * time.Second, 10 * time.Second
	// fastestPing that agents may send.
	fastestPing = 5 * time.Second
	// Buffers of a connection, bytes: there are thousands of them, and they say little. What is read is in a buffer of crypto/tls already.
	readBuffer, writeBuffer = 0, 16 << 10
	// listenAgain is how soon an address that another program has is tried again.
	listenAgain = time.Second
)

// Options of the stream.
type Options struct {
	// Address to listen on, host:port; an empty host for all addresses.
	Address string
	// Account of the agents: "system:serviceaccount:<namespace>:<name>".
	Account string
	// GetCertificate is for tls.Config.
	GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// Namespace of the Service of all replicas.
	Namespace string
}

// Setup adds the stream to a manager: on every replica, whether it leads or not. It must be called before the informers start.
func Setup(mgr manager.Manager, world *live.World, opts Options) error {
	_, port, err := net.SplitHostPort(opts.Address)
	if err != nil {
		return fmt.Errorf("address of the stream %q: want host:port: %w", opts.Address, err)
	}
	metrics, err := newMetrics()
	if err != nil {
		return err
	}
	log := mgr.GetLogger().WithName("stream")
	b := board.New()
	pump := NewPump(world, b, log)
	access := NewAccess(mgr.GetClient(), opts.Account)
	certificate := func() (*tls.Certificate, error) { return opts.GetCertificate(nil) }
	relay := NewRelay()
	relay.Find, relay.Certificate, relay.ServerName = (&others{mgr.GetClient(), opts.Namespace, port}).find, certificate, wire.ServerName(opts.Namespace)
	relay.Elected, relay.Unwritten, relay.Log = mgr.Elected(), world.Unwritten, log
	server := &Server{
		Relay: relay, Certificate: certificate,
		World: world, Board: b, Filled: pump.Filled, Node: access.Node, Elected: mgr.Elected(), Metrics: metrics, Log: log,
	}
	l := &listening{server: server, opts: opts, log: log}
	return errors.Join(mgr.Add(pump), mgr.Add(l), mgr.Add(relay), mgr.AddReadyzCheck("stream", func(*http.Request) error {
		if !pump.Filled() {
			return errors.New("the stream does not have the whole cluster yet")
		}
		return nil
	}))
}

// NewGRPC makes the gRPC server with the limits of the stream.
func (s *Server) NewGRPC(config *tls.Config) *grpc.Server {
	options := []grpc.ServerOption{
		grpc.ForceServerCodec(wire.Codec{}),
		grpc.MaxRecvMsgSize(wire.MaxUp), grpc.MaxSendMsgSize(wire.MaxDown), grpc.MaxConcurrentStreams(2),
		grpc.ReadBufferSize(readBuffer), grpc.WriteBufferSize(writeBuffer),
		grpc.StaticStreamWindowSize(wire.WindowUp), grpc.StaticConnWindowSize(wire.WindowUp),
		grpc.ConnectionTimeout(helloWithin),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionIdle: helloWithin, MaxConnectionAge: maxAge, MaxConnectionAgeGrace: time.Second, Time: pingAfter, Timeout: pingTimeout,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: fastestPing, PermitWithoutStream: true}),
	}
	if config != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(config)))
	}
	server := grpc.NewServer(options...)
	server.RegisterService(wire.Service(s.follow, s.listenTo), s)
	return server
}

// listening is the server as a part of the manager.
type listening struct {
	server *Server
	opts   Options
	log    logr.Logger
}

// NeedLeaderElection is false: every replica serves.
func (*listening) NeedLeaderElection() bool { return false }

// Start serves until ctx ends. An address that is taken is no reason to end: agents go by the API's objects meanwhile.
func (l *listening) Start(ctx context.Context) error {
	for told := ""; ; {
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", l.opts.Address)
		if err == nil {
			return l.serve(ctx, netutil.LimitListener(listener, maxConnections))
		}
		if err.Error() != told {
			told = err.Error()
			l.log.Error(err, "The stream can't be served; trying again")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(listenAgain):
		}
	}
}

func (l *listening) serve(ctx context.Context, listener net.Listener) error {
	server := l.server.NewGRPC(&tls.Config{
		MinVersion: tls.VersionTLS13, GetCertificate: l.opts.GetCertificate,
		ClientAuth: tls.RequestClientCert, // other replicas show theirs; agents have none
	})
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	l.log.Info("Serving the stream", "address", listener.Addr().String())
	select {
	case err := <-ended:
		return fmt.Errorf("serving the stream: %w", err)
	case <-ctx.Done():
	}
	// Streams have no end of their own: agents are to go elsewhere at once.
	server.Stop()
	if err := <-ended; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serving the stream: %w", err)
	}
	return nil
}
