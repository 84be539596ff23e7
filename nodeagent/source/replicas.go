package source

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"

	"github.com/manul-net/manul/internal/wire"
)

// lookTimeout bounds the questions to the API server before a replica is called.
const lookTimeout = 5 * time.Second

// Replicas are those of the operator that serve the stream, and the certificates to trust them by.
type Replicas struct {
	// Addresses in the form host:port.
	Addresses []string
	Trusted   *x509.CertPool
}

// finder asks the API server for the replicas, and goes by what it knows while there is no answer.
type finder struct {
	namespace string
	core      rest.Interface
	slices    rest.Interface

	mu    sync.Mutex
	known Replicas
}

func newFinder(config *rest.Config, namespace string) (*finder, error) {
	scheme := runtime.NewScheme()
	if err := errors.Join(corev1.AddToScheme(scheme), discoveryv1.AddToScheme(scheme)); err != nil {
		return nil, fmt.Errorf("registering the kinds that tell of the stream: %w", err)
	}
	client := func(gv schema.GroupVersion, path string) (rest.Interface, error) {
		c := rest.CopyConfig(config)
		c.GroupVersion, c.APIPath = &gv, path
		c.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
		client, err := rest.RESTClientFor(c)
		if err != nil {
			return nil, fmt.Errorf("making a client of %s: %w", gv, err)
		}
		return client, nil
	}
	core, err := client(corev1.SchemeGroupVersion, "/api")
	if err != nil {
		return nil, err
	}
	slices, err := client(discoveryv1.SchemeGroupVersion, "/apis")
	if err != nil {
		return nil, err
	}
	return &finder{namespace: namespace, core: core, slices: slices}, nil
}

// find gives the replicas in random order.
func (f *finder) find(ctx context.Context) (Replicas, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	found, err := f.ask(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		f.known = found
	}
	if len(f.known.Addresses) == 0 && err == nil {
		err = fmt.Errorf("no replica of the operator serves the stream: EndpointSlices of Service %s/%s", f.namespace, wire.ServiceName)
	}
	if len(f.known.Addresses) == 0 {
		return Replicas{}, err
	}
	found = f.known
	rand.Shuffle(len(found.Addresses), func(i, j int) { //nolint:gosec // agents are to spread, that is all
		found.Addresses[i], found.Addresses[j] = found.Addresses[j], found.Addresses[i]
	})
	return found, nil
}

func (f *finder) ask(ctx context.Context) (Replicas, error) {
	trust := &corev1.ConfigMap{}
	if err := f.core.Get().Namespace(f.namespace).Resource("configmaps").Name(wire.ServiceName).Do(ctx).Into(trust); err != nil {
		return Replicas{}, fmt.Errorf("reading which certificates to trust: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(trust.Data[wire.Trusted])) {
		return Replicas{}, fmt.Errorf("ConfigMap %s/%s has no certificate in %s yet", f.namespace, wire.ServiceName, wire.Trusted)
	}
	list := &discoveryv1.EndpointSliceList{}
	options := metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + wire.ServiceName}
	err := f.slices.Get().Namespace(f.namespace).Resource("endpointslices").VersionedParams(&options, metav1.ParameterCodec).Do(ctx).Into(list)
	if err != nil {
		return Replicas{}, fmt.Errorf("reading which replicas serve the stream: %w", err)
	}
	return Replicas{Addresses: wire.Addresses(list), Trusted: pool}, nil
}
