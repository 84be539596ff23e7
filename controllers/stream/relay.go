package stream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/wire"
)

const (
	// acceptWithin is how long a replica may take to say that it writes, and writerAgain the pause between two rounds over the others. While nobody
	// writes, or this one cannot reach who does, that is a call a second for each of the others, of which there are few; it is never longer, because
	// as long as the writer does not hear them all agents here write to the API at once.
	acceptWithin, writerAgain = time.Second, time.Second
	// relayPing after a silence, and relayTimeout until the other replica counts as gone.
	relayPing, relayTimeout = 10 * time.Second, 5 * time.Second
)

// Relay tells the replica that writes what agents say to one that does not. That replica knows them so without a write of the API: a policy counts
// as in force as soon as if all agents followed it. One connection does for all of them, and of what an agent said only the newest
// waits.
type Relay struct {
	// Find gives the addresses of the other replicas, host:port.
	Find func(context.Context) ([]string, error)
	// Certificate is that of the operator. All replicas have it and nobody else, so it tells each of them from others at either end.
	Certificate func() (*tls.Certificate, error)
	// ServerName is the name in the certificate.
	ServerName string
	// Unwritten gives what agents have said here that the API does not say yet, by node: a replica that begins to write has not heard it,
	// even if the one before has been told.
	Unwritten func() map[string]*v1alpha1.NodeStateStatus
	// Elected is closed once this replica writes itself.
	Elected <-chan struct{}
	Log     logr.Logger

	wake chan struct{}

	mu sync.Mutex
	// pending is what the writer has yet to be told, by node.
	pending map[string]*v1alpha1.NodeStateStatus
	// heard: the writer listens; turned is closed when that changes.
	heard  bool
	turned chan struct{}
}

// NewRelay makes one that has told nothing yet.
func NewRelay() *Relay {
	return &Relay{wake: make(chan struct{}, 1), pending: map[string]*v1alpha1.NodeStateStatus{}, turned: make(chan struct{})}
}

// NeedLeaderElection is false: it is for the replicas that do not lead.
func (*Relay) NeedLeaderElection() bool { return false }

// Start looks for the replica that writes and tells it what there is to tell, until this one is elected or ctx ends.
func (r *Relay) Start(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-r.Elected:
			cancel()
		case <-ctx.Done():
		}
	}()
	defer r.take() // who is elected needs none of it
	defer r.turn(false)
	for told := ""; ; {
		if err := r.round(ctx); err != nil && ctx.Err() == nil && err.Error() != told {
			told = err.Error()
			r.Log.V(1).Info("No replica that writes is told what agents say; they write it themselves", "because", told)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(writerAgain):
		}
	}
}

// round calls one replica after the other, of which one at the most writes.
func (r *Relay) round(ctx context.Context) error {
	addresses, err := r.Find(ctx)
	for _, address := range addresses {
		if ctx.Err() != nil {
			break
		}
		err = r.call(ctx, address)
	}
	return err
}

// call tells a replica what there is to tell as long as it listens.
func (r *Relay) call(ctx context.Context, address string) error {
	certificate, err := r.Certificate()
	if err != nil {
		return err
	}
	trusted := x509.NewCertPool()
	trusted.AddCert(certificate.Leaf)
	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithDefaultCallOptions(grpc.ForceCodec(wire.Codec{}), grpc.MaxCallSendMsgSize(wire.MaxUp)),
		grpc.WithStaticStreamWindowSize(wire.WindowUp), grpc.WithStaticConnWindowSize(wire.WindowUp),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: relayPing, Timeout: relayTimeout}),
		grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(), grpc.WithNoProxy(),
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
			MinVersion: tls.VersionTLS13, RootCAs: trusted, ServerName: r.ServerName, Certificates: []tls.Certificate{*certificate},
		})))
	if err != nil {
		return fmt.Errorf("calling replica %s: %w", address, err)
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	late := time.AfterFunc(acceptWithin, cancel)
	defer late.Stop()
	stream, err := conn.NewStream(ctx, wire.RelayDesc(), wire.Relay)
	if err != nil {
		return fmt.Errorf("calling replica %s: %w", address, err)
	}
	if err := stream.RecvMsg(&wire.Listening{}); err != nil {
		return fmt.Errorf("calling replica %s: %w", address, err)
	}
	late.Stop()
	ended := make(chan error, 1)
	go func() { ended <- stream.RecvMsg(&wire.Listening{}) }()
	r.Log.Info("The replica that writes is told what agents say", "replica", address)
	r.turn(true)
	defer r.turn(false)
	r.putBack(r.Unwritten())
	for {
		pending := r.take()
		for node, status := range pending {
			message, err := wire.EncodeUp(&wire.Relayed{Node: node, Report: status})
			if err != nil { // the others are told all the same
				r.Log.Error(err, "What an agent says reaches the replica that writes by the API alone", "node", node)
				delete(pending, node)
				continue
			}
			if err := stream.SendMsg(message); err != nil {
				r.putBack(pending)
				return fmt.Errorf("telling replica %s: %w", address, err)
			}
			delete(pending, node)
		}
		select {
		case err := <-ended:
			return fmt.Errorf("telling replica %s: %w", address, err)
		case <-ctx.Done():
			return ctx.Err()
		case <-r.wake:
		}
	}
}

// tell notes what an agent says. It does not wait. The status is only read from now on.
func (r *Relay) tell(node string, status *v1alpha1.NodeStateStatus) {
	r.mu.Lock()
	if before := r.pending[node]; before == nil || before.Sequence <= status.Sequence { // two streams of one agent may end and begin together
		r.pending[node] = status
	}
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// forget what has not been told of a node whose agent went away: the API has it.
func (r *Relay) forget(node string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.pending, node)
}

func (r *Relay) take() map[string]*v1alpha1.NodeStateStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	pending := r.pending
	r.pending = map[string]*v1alpha1.NodeStateStatus{}
	return pending
}

// putBack has the replica that listens, or the next that does, told again, unless there is newer.
func (r *Relay) putBack(pending map[string]*v1alpha1.NodeStateStatus) {
	for node, status := range pending {
		r.tell(node, status)
	}
}

func (r *Relay) turn(heard bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.heard != heard {
		r.heard = heard
		close(r.turned)
		r.turned = make(chan struct{})
	}
}

// state tells whether the replica that writes hears what agents say here, and what is closed when that changes.
func (r *Relay) state() (heard bool, turned <-chan struct{}) {
	if r == nil {
		return false, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.heard, r.turned
}

var errNoReplica = errors.New("the certificate that was shown is not the operator's")
