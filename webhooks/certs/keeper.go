package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
)

const (
	// look is how often the Secret is read, and by the leader the webhook's configuration: a caBundle that somebody
	// removed is back after that long.
	look = 10 * time.Second
	// retry is how soon a failure is tried again, and how soon a replica looks again for a certificate that is still to be made.
	retry = time.Second
	// spread is how long API servers have to learn of a new certificate before it is used.
	spread = 10 * time.Second
	// stepTimeout bounds the requests of one step.
	stepTimeout = 10 * time.Second
)

// Store is where the certificate is kept, and where the API server learns of it.
type Store interface {
	// Load returns what is kept: an empty pair if nothing is.
	Load(ctx context.Context) (*Pair, error)
	// Save keeps a pair, unless what is kept has changed since Load.
	Save(ctx context.Context, p *Pair) error
	// Trust has the API server trust exactly these certificates (PEM).
	Trust(ctx context.Context, trusted []byte) error
}

// Keeper has a certificate ready for a server: the webhook's, or that of the stream. It runs on every replica; the elected one makes certificates.
type Keeper struct {
	Store Store
	// Names of the server, by which it is called.
	Names []string
	// Elected is closed when this replica is the one that writes.
	Elected <-chan struct{}
	Log     logr.Logger

	// next is a certificate that is already trusted and not used yet.
	next    *Pair
	serving atomic.Pointer[tls.Certificate]
	trusted atomic.Bool
}

// NeedLeaderElection is false: every replica serves the webhook.
func (k *Keeper) NeedLeaderElection() bool { return false }

// GetCertificate is for tls.Config.
func (k *Keeper) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if cert := k.serving.Load(); cert != nil {
		return cert, nil
	}
	return nil, errors.New("the operator has no certificate yet")
}

// Ready is a health check: whether the API server can call this replica.
func (k *Keeper) Ready(*http.Request) error {
	if _, err := k.GetCertificate(nil); err != nil {
		return err
	}
	if k.elected() && !k.trusted.Load() {
		return errors.New("those who call do not know the certificate yet")
	}
	return nil
}

// Start keeps the certificate until ctx ends.
func (k *Keeper) Start(ctx context.Context) error {
	told := ""
	for elected := k.Elected; ; {
		wait, err := k.step(ctx, time.Now())
		switch {
		case err == nil:
			told = ""
		case ctx.Err() == nil && err.Error() != told: // not the same line each second
			told = err.Error()
			k.Log.Error(err, "Keeping the certificate; trying again")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-elected:
			elected = nil // once is enough
		case <-time.After(wait):
		}
	}
}

// step looks after the certificate once, and says after how long to look again.
func (k *Keeper) step(ctx context.Context, now time.Time) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	kept, err := k.Store.Load(ctx)
	if err != nil {
		return retry, err
	}
	cert, unusable := kept.Check(now, k.Names)
	if !k.elected() {
		if unusable != nil {
			return retry, fmt.Errorf("waiting for the elected replica to make a certificate: %w", unusable)
		}
		k.serve(cert)
		return look, nil
	}
	if unusable != nil {
		k.Log.Info("Making a certificate", "because", unusable.Error())
		if kept, err = Make(now, k.Names, nil); err == nil {
			err = k.Store.Save(ctx, kept)
		}
		if err != nil {
			return retry, err
		}
		if cert, err = kept.Check(now, k.Names); err != nil {
			return retry, fmt.Errorf("checking the certificate just made: %w", err)
		}
	}
	k.serve(cert)
	if due(now, cert) {
		return k.renew(ctx, now, kept)
	}
	return look, k.trust(ctx, kept.Trusted)
}

// renew has a new certificate trusted first, and keeps and uses it one step later.
func (k *Keeper) renew(ctx context.Context, now time.Time, kept *Pair) (time.Duration, error) {
	if k.next != nil {
		next := k.next
		k.next = nil
		if err := k.Store.Save(ctx, next); err != nil {
			return retry, err
		}
		return 0, nil // the next step takes it into use
	}
	k.Log.Info("Renewing the certificate")
	next, err := Make(now, k.Names, kept)
	if err != nil {
		return retry, err
	}
	if err := k.trust(ctx, next.Trusted); err != nil {
		return retry, err
	}
	k.next = next
	return spread, nil
}

func (k *Keeper) trust(ctx context.Context, trusted []byte) error {
	if err := k.Store.Trust(ctx, trusted); err != nil {
		return err
	}
	k.trusted.Store(true)
	return nil
}

func (k *Keeper) serve(cert *tls.Certificate) {
	if before := k.serving.Swap(cert); before == nil || !before.Leaf.Equal(cert.Leaf) {
		k.Log.Info("Serving with a certificate", "validUntil", cert.Leaf.NotAfter)
	}
}

func (k *Keeper) elected() bool {
	select {
	case <-k.Elected:
		return true
	default:
		return false
	}
}
