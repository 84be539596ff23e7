package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
)

func names() []string { return []string{"manul-webhook.manul-system.svc", "192.0.2.1"} }

func TestCheck(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	good, err := Make(now, names(), nil)
	if err != nil {
		t.Fatal(err)
	}
	other, err := Make(now, names(), good)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		pair  *Pair
		at    time.Time
		names []string
		want  string
	}{
		"good":                       {good, now, names(), ""},
		"good, with one before it":   {other, now, names(), ""},
		"clock of an hour ago":       {good, now.Add(-skew), names(), ""},
		"its last moment":            {good, now.Add(lifetime), names(), ""},
		"ended":                      {good, now.Add(lifetime + time.Second), names(), "valid from"},
		"not begun":                  {good, now.Add(-2 * skew), names(), "valid from"},
		"other name":                 {good, now, []string{"x.y.svc"}, "names"},
		"none":                       {nil, now, names(), "none yet"},
		"empty":                      {&Pair{}, now, names(), "none yet"},
		"no PEM":                     {&Pair{Cert: []byte("x"), Key: good.Key, Trusted: []byte("x")}, now, names(), "reading it"},
		"another's key":              {&Pair{Cert: good.Cert, Key: other.Key, Trusted: good.Cert}, now, names(), "reading it"},
		"what is trusted, lost":      {&Pair{Cert: good.Cert, Key: good.Key}, now, names(), "trusted"},
		"what is trusted, another's": {&Pair{Cert: good.Cert, Key: good.Key, Trusted: other.Cert}, now, names(), "trusted"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tc.pair.Check(tc.at, tc.names)
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

// shared is a Store in memory, of several replicas.
type shared struct {
	mu      sync.Mutex
	kept    Pair
	trusted []byte
	fail    error
}

func (s *shared) Load(context.Context) (*Pair, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.kept
	return &p, s.fail
}

func (s *shared) Save(_ context.Context, p *Pair) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = *p
	return s.fail
}

func (s *shared) Trust(_ context.Context, trusted []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trusted = trusted
	return s.fail
}

// call tells whether an API server that trusts what it was told accepts the certificate of a replica.
func (s *shared) call(k *Keeper, now time.Time) error {
	cert, err := k.GetCertificate(nil)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.trusted)
	_, err = cert.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: names()[0], CurrentTime: now})
	return err
}

// TestThreeYears runs two replicas on a clock of their own. At no time is one of them not trusted.
func TestThreeYears(t *testing.T) {
	store, elected := &shared{}, make(chan struct{})
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	replicas := []*replica{
		{name: "leader", next: start, keeper: &Keeper{Store: store, Names: names(), Elected: elected, Log: logr.Discard()}},
		{name: "other", next: start, keeper: &Keeper{Store: store, Names: names(), Elected: make(chan struct{}), Log: logr.Discard()}},
	}
	for _, r := range replicas {
		r.step(t, start)
	}
	close(elected)
	used := map[string]bool{}
	for now := start; now.Before(start.Add(3 * lifetime)); {
		for _, r := range replicas {
			if !r.next.After(now) {
				r.step(t, now)
			}
			if now.Before(start.Add(2 * retry)) {
				continue // the first certificate is still to be made
			}
			if err := errors.Join(r.keeper.Ready(nil), store.call(r.keeper, now)); err != nil {
				t.Fatalf("%s, %s: %v", now, r.name, err)
			}
			used[string(r.keeper.serving.Load().Leaf.Raw)] = true
		}
		step := time.Second
		for _, far := range []time.Duration{12 * time.Hour, 10 * time.Minute} {
			// Nothing happens within that time.
			if kept, err := store.kept.Check(now, names()); err == nil && !due(now.Add(far), kept) &&
				replicas[1].keeper.serving.Load().Leaf.Equal(kept.Leaf) {
				step = far
				break
			}
		}
		now = now.Add(step)
	}
	if len(used) < 4 || len(used) > 6 {
		t.Errorf("used %d certificates in three years", len(used))
	}
}

// replica is a Keeper and when it looks next.
type replica struct {
	name   string
	keeper *Keeper
	next   time.Time
}

func (r *replica) step(t *testing.T, now time.Time) {
	t.Helper()
	wait, err := r.keeper.step(t.Context(), now)
	if err != nil && r.keeper.serving.Load() != nil {
		t.Fatalf("%s, %s: %v", now, r.name, err)
	}
	r.next = now.Add(wait)
}

// TestStart: the loop takes the certificate into use when it is there, and ends when told to.
func TestStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		elected := make(chan struct{})
		k := &Keeper{Store: &shared{}, Names: names(), Elected: elected, Log: logr.Discard()}
		ended := make(chan error)
		go func() { ended <- k.Start(ctx) }()
		<-time.After(time.Minute)
		if k.Ready(nil) == nil {
			t.Error("ready without a certificate")
		}
		close(elected)
		synctest.Wait()
		if err := k.Ready(nil); err != nil {
			t.Error(err)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestFailuresAreTriedAgain(t *testing.T) {
	elected := make(chan struct{})
	close(elected)
	store := &shared{fail: errors.New("no")}
	k := &Keeper{Store: store, Names: names(), Elected: elected, Log: logr.Discard()}
	if wait, err := k.step(t.Context(), time.Now()); err == nil || wait != retry {
		t.Errorf("got %v, %v", wait, err)
	}
	store.fail = nil
	if wait, err := k.step(t.Context(), time.Now()); err != nil || wait != look || k.Ready(nil) != nil {
		t.Errorf("got %v, %v, ready %v", wait, err, k.Ready(nil))
	}
	// The certificate in use is not given up because the API server does not answer.
	store.fail = errors.New("no")
	if _, err := k.step(t.Context(), time.Now()); err == nil || k.Ready(nil) != nil {
		t.Errorf("got %v, ready %v", err, k.Ready(nil))
	}
}

func TestCluster(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s", Namespace: "n"}}
	config := &admissionregistrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "w"},
		Webhooks:   []admissionregistrationv1.ValidatingWebhook{{Name: "a.b.c"}, {Name: "d.e.f"}},
	}
	c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(secret, config).Build()
	one := &Cluster{Kept: Kept{Client: c, Secret: types.NamespacedName{Namespace: "n", Name: "s"}}, Configuration: "w"}
	two := &Cluster{Kept: Kept{Client: c, Secret: types.NamespacedName{Namespace: "n", Name: "s"}}, Configuration: "w"}
	for _, s := range []*Cluster{one, two} {
		if p, err := s.Load(t.Context()); err != nil || len(p.Cert) > 0 {
			t.Fatalf("got %v, %v", p, err)
		}
	}
	pair, err := Make(time.Now(), names(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := one.Save(t.Context(), pair); err != nil {
		t.Fatal(err)
	}
	if err := two.Save(t.Context(), pair); err == nil {
		t.Error("what another replica wrote meanwhile was overwritten")
	}
	if p, err := two.Load(t.Context()); err != nil || !bytes.Equal(p.Cert, pair.Cert) || !bytes.Equal(p.Key, pair.Key) || !bytes.Equal(p.Trusted, pair.Trusted) {
		t.Errorf("got %v, %v", p, err)
	}
	for range 2 { // the second time there is nothing to do
		if err := one.Trust(t.Context(), pair.Trusted); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Get(t.Context(), types.NamespacedName{Name: "w"}, config); err != nil {
		t.Fatal(err)
	}
	for _, hook := range config.Webhooks {
		if !bytes.Equal(hook.ClientConfig.CABundle, pair.Trusted) {
			t.Errorf("webhook %s has caBundle %q", hook.Name, hook.ClientConfig.CABundle)
		}
	}
	if patch := trustPatch(config, pair.Trusted); len(patch) != 0 {
		t.Errorf("patch is %v", patch)
	}
	one.Configuration = "other"
	if err := one.Trust(t.Context(), pair.Trusted); err == nil || !strings.Contains(err.Error(), "install manifest") {
		t.Errorf("got %v", err)
	}
}

func TestNoCertificateNoHandshake(t *testing.T) {
	k := &Keeper{}
	if _, err := k.GetCertificate(&tls.ClientHelloInfo{}); err == nil {
		t.Error("got a certificate from nowhere")
	}
}

func TestPublished(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	name := types.NamespacedName{Namespace: "n", Name: "trust"}
	c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "trust", Namespace: "n"}}).Build()
	store := &Published{Kept: Kept{Client: c}, ConfigMap: name, Key: "ca.crt"}
	for _, trusted := range []string{"one", "one", "two and one"} {
		if err := store.Trust(t.Context(), []byte(trusted)); err != nil {
			t.Fatal(err)
		}
		got := &corev1.ConfigMap{}
		if err := c.Get(t.Context(), name, got); err != nil {
			t.Fatal(err)
		}
		if got.Data["ca.crt"] != trusted {
			t.Errorf("published is %q, want %q", got.Data, trusted)
		}
	}
	store.ConfigMap.Name = "other"
	if err := store.Trust(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "install manifest") {
		t.Errorf("got %v", err)
	}
}
