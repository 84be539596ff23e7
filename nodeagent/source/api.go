package source

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/manul-net/manul/api/v1alpha1"
)

// API is the Source that follows the rendered objects on the API server. It keeps no copy of them.
type API struct {
	node     string
	client   rest.Interface
	reporter *reporter
}

// NewAPI makes the Source of a node from a client configuration.
func NewAPI(config *rest.Config, node string, log *slog.Logger) (*API, error) {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("registering rendered kinds: %w", err)
	}
	gv := v1alpha1.SchemeGroupVersion()
	config = rest.CopyConfig(config)
	config.GroupVersion = &gv
	config.APIPath = "/apis"
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	config.QPS = -1 // five watches, and a status that has its own limit
	client, err := rest.RESTClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("making a client of %s: %w", gv, err)
	}
	a := &API{node: node, client: client}
	a.reporter = newReporter(a.writeStatus, log)
	return a, nil
}

// Run implements Source.
func (a *API) Run(ctx context.Context, sink Sink) error {
	var wg sync.WaitGroup
	wg.Go(func() { a.followAll(ctx, sink) })
	wg.Go(func() { a.reporter.run(ctx) })
	wg.Wait()
	return nil
}

func (a *API) followAll(ctx context.Context, sink Sink) {
	var wg sync.WaitGroup
	for _, kind := range Kinds() {
		wg.Go(func() { a.follow(ctx, kind, sink) })
	}
	wg.Wait()
}

// Report implements Source.
func (a *API) Report(r Report) {
	r.Status.Carrier = v1alpha1.CarrierAPI
	a.reporter.report(r)
}

// writeStatus replaces the status as a whole. Without a resource version there is nothing to conflict with, and nobody
// else writes it.
func (a *API) writeStatus(ctx context.Context, status *v1alpha1.NodeStateStatus) error {
	patch, err := json.Marshal([]map[string]any{{"op": "add", "path": "/status", "value": status}})
	if err != nil {
		return fmt.Errorf("encoding status: %w", err)
	}
	err = a.client.Patch(types.JSONPatchType).Resource(resource(NodeState)).Name(a.node).SubResource("status").
		Body(patch).Do(ctx).Error()
	if apierrors.IsNotFound(err) {
		return nil // it was deleted; a new one gets a status of its own
	}
	if err != nil {
		return fmt.Errorf("writing status of NodeState %s: %w", a.node, err)
	}
	return nil
}

// follow lists and watches one kind. The reflector reconnects, with backoff and jitter, and logs through klog.
func (a *API) follow(ctx context.Context, kind Kind, sink Sink) {
	object, _ := newObject(kind)
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			_, list := newObject(kind)
			err := a.request(kind, &o).Do(ctx).Into(list)
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.Watch = true
			return a.request(kind, &o).Watch(ctx)
		},
	}
	r := cache.NewReflectorWithOptions(lw, object, &store{kind: kind, sink: sink}, cache.ReflectorOptions{Name: string(kind), Backoff: reconnect()})
	r.RunWithContext(ctx)
}

// reconnect is how long the agent waits before it asks an API server that does not answer again: a second at first, five to
// ten at the most. The default of the library, up to a minute, would keep policies from coming into force long after the API
// server is back; the jitter spreads the nodes of a large cluster over the time that is left.
func reconnect() *wait.Backoff {
	return &wait.Backoff{Duration: time.Second, Cap: 5 * time.Second, Steps: 100, Factor: 1.5, Jitter: 1}
}

func (a *API) request(kind Kind, o *metav1.ListOptions) *rest.Request {
	if kind == NodeState {
		o.FieldSelector = fields.OneTermEqualSelector("metadata.name", a.node).String()
	}
	return a.client.Get().Resource(resource(kind)).VersionedParams(o, metav1.ParameterCodec)
}

func resource(kind Kind) string {
	switch kind {
	case NodeState:
		return "nodestates"
	case NodeEndpoints:
		return "nodeendpoints"
	case NodeNetwork:
		return "nodenetworks"
	case PolicyProgram:
		return "policyprograms"
	case SetCatalog:
		return "setcatalogs"
	}
	return ""
}

func newObject(kind Kind) (Object, runtime.Object) {
	switch kind {
	case NodeState:
		return &v1alpha1.NodeState{}, &v1alpha1.NodeStateList{}
	case NodeEndpoints:
		return &v1alpha1.NodeEndpoints{}, &v1alpha1.NodeEndpointsList{}
	case NodeNetwork:
		return &v1alpha1.NodeNetwork{}, &v1alpha1.NodeNetworkList{}
	case PolicyProgram:
		return &v1alpha1.PolicyProgram{}, &v1alpha1.PolicyProgramList{}
	case SetCatalog:
		return &v1alpha1.SetCatalog{}, &v1alpha1.SetCatalogList{}
	}
	return nil, nil
}

// NewObject makes an empty object of a kind; nil for a kind that there is not.
func NewObject(kind Kind) Object {
	object, _ := newObject(kind)
	return object
}
