package source

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	corev1 "k8s.io/api/core/v1"
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
	secrets map[string]map[string][]byte // nil: not there, or not known yet
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
		secrets: map[string]map[string][]byte{},
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

// Password gives the value of a key of a Secret. The first time that it is asked for a Secret it begins to follow it.
func (s *Secrets) Password(name, key string) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, followed := s.secrets[name]
	if !followed && len(s.secrets) < maxSecrets {
		s.secrets[name] = nil
		s.followers.Go(func() { s.follow(name) })
	}
	value, ok := data[key]
	return string(value), ok && len(value) > 0
}

func (s *Secrets) follow(name string) {
	request := func(o *metav1.ListOptions) *rest.Request {
		o.FieldSelector = fields.OneTermEqualSelector("metadata.name", name).String()
		return s.client.Get().Namespace(s.namespace).Resource("secrets").VersionedParams(o, metav1.ParameterCodec)
	}
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			list := &corev1.SecretList{}
			err := request(&o).Do(ctx).Into(list)
			if err != nil {
				s.log.Warn("a Secret can't be read; give the agents' service account the right to get, list and watch it",
					"secret", s.namespace+"/"+name, "error", err)
			}
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.Watch = true
			return request(&o).Watch(ctx)
		},
	}
	into := &secretStore{secrets: s, name: name}
	r := cache.NewReflectorWithOptions(lw, &corev1.Secret{}, into, cache.ReflectorOptions{Name: "Secret " + name, Backoff: reconnect()})
	r.RunWithContext(s.ctx)
}

func (s *Secrets) set(name string, data map[string][]byte) {
	s.mu.Lock()
	s.secrets[name] = data
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// secretStore takes one Secret from a reflector.
type secretStore struct {
	secrets *Secrets
	name    string
}

func (s *secretStore) put(o any) error {
	if secret, ok := o.(*corev1.Secret); ok {
		s.secrets.set(s.name, secret.Data)
	}
	return nil
}

// Add implements cache.ReflectorStore.
func (s *secretStore) Add(o any) error { return s.put(o) }

// Update implements cache.ReflectorStore.
func (s *secretStore) Update(o any) error { return s.put(o) }

// Delete implements cache.ReflectorStore.
func (s *secretStore) Delete(any) error {
	s.secrets.set(s.name, nil)
	return nil
}

// Replace implements cache.ReflectorStore.
func (s *secretStore) Replace(list []any, _ string) error {
	if len(list) == 0 {
		s.secrets.set(s.name, nil)
	}
	for _, o := range list {
		_ = s.put(o)
	}
	return nil
}

// Resync implements cache.ReflectorStore.
func (s *secretStore) Resync() error { return nil }
