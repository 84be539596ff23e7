package source

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/manul-net/manul/internal/wire"
)

const (
	// pingAfter a silence, and pingTimeout until the replica counts as gone: one whose machine answers and whose process does not. (The
	// machine itself: Dial.)
	pingAfter, pingTimeout = 10 * time.Second, 5 * time.Second
	// Between rounds over all replicas the pause grows from callAgainFirst to callAgainLast, half of it at random.
	callAgainFirst, callAgainLast = 100 * time.Millisecond, 10 * time.Second
	// shortLived is a stream that ended sooner: the others are called at once, but not round and round.
	shortLived = 2 * time.Second
	// endOfAge is what gRPC says when a connection ends because of its age.
	endOfAge = "max_age"
	// Buffers of the connection, bytes.
	streamReadBuffer, streamWriteBuffer = 16 << 10, 4 << 10
)

// run follows until ctx ends.
func (s *stream) run(ctx context.Context, sink Sink) {
	failed, brief := 0, 0 // rounds in vain, and streams that did not last
	for ctx.Err() == nil {
		replicas, err := s.Find(ctx)
		all := slices.Clone(replicas.Addresses)
		for untried := all; len(untried) > 0; {
			address := untried[0]
			untried = untried[1:]
			var lived bool
			called := time.Now()
			lived, err = s.follow(ctx, address, &replicas, sink)
			if ctx.Err() != nil {
				return
			}
			if !lived {
				s.tell(address, err)
				continue
			}
			s.Log.Info("the stream was lost", "replica", address, "error", err)
			if time.Since(called) < shortLived {
				brief++
				failed = min(failed, brief)
				continue
			}
			failed, brief = 0, 0
			untried = next(all, address, err)
		}
		if err != nil {
			s.tell("", err)
		}
		s.nobody()
		pause := min(callAgainLast, callAgainFirst<<min(failed, 10)) //nolint:mnd // doublings
		if failed++; failed > 1 {
			pause = pause/2 + rand.N(pause/2) //nolint:gosec // jitter
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
		}
	}
}

// next says which replicas to call after the stream to one of them has ended: the others, at once, for the API server, which tells who
// serves, may be gone together with that one. When its end was one of those that come with age, the same one goes first: it tells what was
// missed, and another would tell everything.
func next(all []string, lost string, err error) []string {
	others := slices.DeleteFunc(slices.Clone(all), func(a string) bool { return a == lost })
	if err != nil && strings.Contains(err.Error(), endOfAge) {
		return append([]string{lost}, others...)
	}
	return others
}

// tell logs why there is no stream, once for each reason.
func (s *stream) tell(address string, err error) {
	if err == nil || err.Error() == s.told {
		return
	}
	s.told = err.Error()
	s.Log.Info("no stream; trying again", "replica", address, "error", err)
}

// dial makes what a stream to a replica begins on. It connects when that does.
func (s *stream) dial(address string, replicas *Replicas) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithDefaultCallOptions(grpc.ForceCodec(wire.Codec{}), grpc.MaxCallRecvMsgSize(wire.MaxDown), grpc.MaxCallSendMsgSize(wire.MaxUp)),
		grpc.WithReadBufferSize(streamReadBuffer), grpc.WithWriteBufferSize(streamWriteBuffer),
		grpc.WithStaticStreamWindowSize(wire.WindowDown), grpc.WithStaticConnWindowSize(wire.WindowDown),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingAfter, Timeout: pingTimeout, PermitWithoutStream: true}),
		grpc.WithContextDialer(s.Dial),
		grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(), grpc.WithNoProxy(),
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
			MinVersion: tls.VersionTLS13, RootCAs: replicas.Trusted, ServerName: wire.ServerName(s.Namespace),
		})),
		grpc.WithPerRPCCredentials(tokenFile(s.Token)))
	if err != nil {
		return nil, fmt.Errorf("calling %s: %w", address, err)
	}
	return conn, nil
}

// tokenFile is the file with a token. The kubelet renews it.
type tokenFile string

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (f tokenFile) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	raw, err := os.ReadFile(string(f))
	if err != nil {
		return nil, status.Error(codes.Unauthenticated, "reading the token: "+err.Error())
	}
	return map[string]string{"authorization": "Bearer " + strings.TrimSpace(string(raw))}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (tokenFile) RequireTransportSecurity() bool { return true }
