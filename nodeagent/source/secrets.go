package source

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// maxSecrets bounds how many Secrets are followed.
const maxSecrets = 256

// Secrets follows those Secrets of one namespace that it was asked for, each by its name: the agent needs no right to others.
type Secrets struct {
	namespace string
	client    rest.Interface
	log       *slog.Logger
	changed   chan struct{}
	ctx       context.Context //nolint:containedctx // of the followers, which begin when they are asked for
	stop      context.CancelFunc
	followers sync.WaitGroup

	mu      sync.Mutex
	secrets map[string]*secret
}

// secret is one that is followed.
type secret struct {
	name string
	stop context.CancelFunc
	// data is nil when there is no such Secret, or nothing is known yet.
	data map[string][]byte
	// known: the API server has answered.
	known bool
	// forbidden: the agent may not read it.
	forbidden bool
}

// NewSecrets makes one that follows nothing yet.
func NewSecrets(config *rest.Config, namespace string, log *slog.Logger) (*Secrets, error) {
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("registering Secrets: %w", err)
	}
	config = rest.CopyConfig(config)
	config.GroupVersion = &corev1.SchemeGroupVersion
	config.APIPath = "/api"
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	client, err := rest.RESTClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("making a client of Secrets: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	return &Secrets{
		namespace: namespace, client: client, log: log, changed: make(chan struct{}, 1), ctx: ctx, stop: stop,
		secrets: map[string]*secret{},
	}, nil
}

// Close ends all following.
func (s *Secrets) Close() error {
	s.stop()
	s.followers.Wait()
	return nil
}

// Changed yields a value when Password may give something else.
func (s *Secrets) Changed() <-chan struct{} { return s.changed }

// Password gives the value of a key of a Secret, or says why there is none and what to do. The first time that it is asked for a Secret it
// begins to follow it.
func (s *Secrets) Password(name, key string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	it, followed := s.secrets[name]
	if !followed {
		if len(s.secrets) >= maxSecrets {
			return "", fmt.Errorf("more than %[2]d Secrets are named by sessions of the node, and %[1]s is not read: put passwords into the same one, under several keys", name, maxSecrets)
		}
		ctx, stop := context.WithCancel(s.ctx)
		it = &secret{name: name, stop: stop}
		s.secrets[name] = it
		s.followers.Go(func() { s.follow(ctx, it) })
	}
	value := it.data[key]
	switch {
	case len(value) > 0:
		return string(value), nil
	case it.forbidden:
		return "", fmt.Errorf("the agents may not read Secret %s/%s: give their service account the right to get, list and watch it", s.namespace, name)
	case !it.known:
		return "", fmt.Errorf("the Secret %s/%s has not been read yet", s.namespace, name)
	case it.data == nil:
		return "", fmt.Errorf("there is no Secret %s in the agents' namespace %s", name, s.namespace)
	}
	return "", fmt.Errorf("there is no key %s in Secret %s of the agents' namespace %s", key, name, s.namespace)
}

// Keep ends the following of all Secrets but these.
func (s *Secrets) Keep(names map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, it := range s.secrets {
		if !names[name] {
			it.stop()
			delete(s.secrets, name)
		}
	}
}

func (s *Secrets) follow(ctx context.Context, it *secret) {
	name := it.name
	request := func(o *metav1.ListOptions) *rest.Request {
		o.FieldSelector = fields.OneTermEqualSelector("metadata.name", name).String()
		return s.client.Get().Namespace(s.namespace).Resource("secrets").VersionedParams(o, metav1.ParameterCodec)
	}
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			list := &corev1.SecretList{}
			err := request(&o).Do(ctx).Into(list)
			if apierrors.IsForbidden(err) {
				s.forbid(it, err)
			}
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.Watch = true
			return request(&o).Watch(ctx)
		},
	}
	into := &secretStore{secrets: s, secret: it}
	r := cache.NewReflectorWithOptions(lw, &corev1.Secret{}, into, cache.ReflectorOptions{Name: "Secret " + name, Backoff: reconnect()})
	r.RunWithContext(ctx)
}

// set takes in what a Secret holds; nil when there is none.
func (s *Secrets) set(it *secret, data map[string][]byte) {
	s.mu.Lock()
	it.data, it.known, it.forbidden = data, true, false
	s.mu.Unlock()
	s.tell()
}

// forbid takes in that a Secret may not be read. What was read before stays. It is told once, however often the API server says so.
func (s *Secrets) forbid(it *secret, err error) {
	s.mu.Lock()
	before := it.forbidden
	it.known, it.forbidden = true, true
	s.mu.Unlock()
	if before {
		return
	}
	s.log.Warn("a Secret can't be read; give the agents' service account the right to get, list and watch it", "secret", s.namespace+"/"+it.name, "error", err)
	s.tell()
}

func (s *Secrets) tell() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// secretStore takes one Secret from a reflector.
type secretStore struct {
	secrets *Secrets
	secret  *secret
}

func (s *secretStore) put(o any) error {
	if read, ok := o.(*corev1.Secret); ok {
		data := read.Data
		if data == nil {
			data = map[string][]byte{} // it is there, and empty
		}
		s.secrets.set(s.secret, data)
	}
	return nil
}

// Add implements cache.ReflectorStore.
func (s *secretStore) Add(o any) error { return s.put(o) }

// Update implements cache.ReflectorStore.
func (s *secretStore) Update(o any) error { return s.put(o) }

// Delete implements cache.ReflectorStore.
func (s *secretStore) Delete(any) error {
	s.secrets.set(s.secret, nil)
	return nil
}

// Replace implements cache.ReflectorStore.
func (s *secretStore) Replace(list []any, _ string) error {
	if len(list) == 0 {
		s.secrets.set(s.secret, nil)
	}
	for _, o := range list {
		_ = s.put(o)
	}
	return nil
}

// Resync implements cache.ReflectorStore.
func (s *secretStore) Resync() error { return nil }
