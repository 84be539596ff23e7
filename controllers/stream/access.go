package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/metadata"
	authenticationv1 "k8s.io/api/authentication/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/manul-net/manul/internal/wire"
)

const (
	// reviews is how many tokens are looked at together: when a replica has gone, all its agents come at once.
	reviews       = 32
	reviewTimeout = 10 * time.Second
	// nodeOfToken is where the API server says to which node a token is bound: that of the pod for which it was issued.
	nodeOfToken = "authentication.kubernetes.io/node-name"
)

// Access finds out who calls.
type Access struct {
	Client client.Client
	// Account of the agents: "system:serviceaccount:<namespace>:<name>".
	Account string

	slots chan struct{}
}

// NewAccess makes one that asks the API server.
func NewAccess(c client.Client, account string) *Access {
	return &Access{Client: c, Account: account, slots: make(chan struct{}, reviews)}
}

// Node returns the node for which the caller speaks. An error that is refused means that the caller is no agent; any other that
// this could not be found out.
func (a *Access) Node(ctx context.Context) (string, error) {
	token, err := tokenOf(ctx)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, reviewTimeout)
	defer cancel()
	select {
	case a.slots <- struct{}{}:
		defer func() { <-a.slots }()
	case <-ctx.Done():
		return "", fmt.Errorf("waiting to look at a token: %w", ctx.Err())
	}
	review := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{wire.Audience}}}
	if err := a.Client.Create(ctx, review); err != nil {
		return "", fmt.Errorf("asking the API server about a token: %w", err)
	}
	return a.nodeOf(&review.Status)
}

func (a *Access) nodeOf(s *authenticationv1.TokenReviewStatus) (string, error) {
	switch {
	case !s.Authenticated:
		return "", refused{"the token is not valid: " + s.Error}
	case !slices.Contains(s.Audiences, wire.Audience):
		return "", refused{"the token is not meant for the stream"}
	case s.User.Username != a.Account:
		return "", refused{s.User.Username + " is not the account of the agents, " + a.Account}
	}
	nodes := s.User.Extra[nodeOfToken]
	if len(nodes) != 1 || nodes[0] == "" {
		return "", refused{"the token is bound to no node: it must be that of a pod"}
	}
	return nodes[0], nil
}

func tokenOf(ctx context.Context) (string, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	values := md.Get("authorization")
	if len(values) != 1 {
		return "", refused{"there is no token"}
	}
	token, ok := strings.CutPrefix(values[0], "Bearer ")
	if !ok || token == "" {
		return "", refused{"there is no bearer token"}
	}
	return token, nil
}

// refused says why a caller is none of the agents.
type refused struct{ why string }

func (r refused) Error() string { return r.why }

func isRefused(err error) bool {
	var r refused
	return errors.As(err, &r)
}
