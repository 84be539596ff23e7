package inputs

import (
	"context"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"

	"github.com/manul-net/manul/api/v1alpha1"
)

// States reads NodeStates as the API server sends them. Most of what comes are new statuses, beside a spec of all pods of the node that the
// operator has written itself and that came before. The API server counts its changes, so a spec of a known generation is not read again:
// of what the operator took of memory while pods change, that was a fifth.
type States struct {
	// Known gives a node's state as it came last; nil for none. It is shared: read only.
	Known func(node string) *v1alpha1.NodeState
}

// errUnusual is of what is to be read as everywhere.
var errUnusual = errors.New("it is no NodeState, or has a part twice")

// Read reads one. What it gives may share its spec with what was known: read only. It has no managed fields, which nobody asks for.
func (s *States) Read(text []byte) (*v1alpha1.NodeState, error) {
	var in struct {
		metav1.TypeMeta `json:",inline"`

		Metadata struct {
			metav1.ObjectMeta `json:",inline"`

			ManagedFields unread `json:"managedFields,omitempty"`
		} `json:"metadata"`
		Spec   unread `json:"spec"`
		Status unread `json:"status"`
	}
	if err := json.Unmarshal(text, &in); err != nil {
		return nil, fmt.Errorf("reading a NodeState: %w", err)
	}
	if in.Kind != "" && in.Kind != "NodeState" {
		return nil, fmt.Errorf("reading a %s: %w", in.Kind, errUnusual)
	}
	out := &v1alpha1.NodeState{ObjectMeta: in.Metadata.ObjectMeta}
	known := s.Known(out.Name)
	if known != nil && known.UID == out.UID && known.Generation == out.Generation && out.Generation > 0 {
		out.Spec = known.Spec
	} else if err := readSpec(in.Spec, known, &out.Spec); err != nil {
		return nil, fmt.Errorf("reading the spec of NodeState %q: %w", out.Name, err)
	}
	if err := readStatus(in.Status, known, &out.Status); err != nil {
		return nil, fmt.Errorf("reading the status of NodeState %q: %w", out.Name, err)
	}
	return out, nil
}

// unread is a part of what is being read, in the memory of that.
type unread []byte

// UnmarshalJSON notes where it is.
func (u *unread) UnmarshalJSON(text []byte) error {
	if *u != nil {
		return errUnusual
	}
	*u = text
	return nil
}

// some more pods than before have room in a list at once.
const some = 2

// readSpec reads into a list of about the length that it had: growing it would take as much memory again.
func readSpec(text unread, known *v1alpha1.NodeState, into *v1alpha1.NodeStateSpec) error {
	if len(text) == 0 {
		return nil
	}
	if known != nil && len(known.Spec.Endpoints) > 0 {
		into.Endpoints = make([]v1alpha1.Endpoint, 0, len(known.Spec.Endpoints)+some)
	}
	err := json.Unmarshal(text, into)
	if len(into.Endpoints) == 0 {
		into.Endpoints = nil
	}
	return err //nolint:wrapcheck // the caller does
}

func readStatus(text unread, known *v1alpha1.NodeState, into *v1alpha1.NodeStateStatus) error {
	if len(text) == 0 {
		return nil
	}
	if known != nil && len(known.Status.Endpoints) > 0 {
		into.Endpoints = make([]v1alpha1.EndpointStatus, 0, len(known.Status.Endpoints)+some)
	}
	err := json.Unmarshal(text, into)
	if len(into.Endpoints) == 0 {
		into.Endpoints = nil
	}
	return err //nolint:wrapcheck // the caller does
}

// Informers makes informers for a cache. That of NodeStates has its watch read by States.
func (s *States) Informers(cfg *rest.Config, scheme *runtime.Scheme) (
	func(toolscache.ListerWatcher, runtime.Object, time.Duration, toolscache.Indexers) toolscache.SharedIndexInformer, error,
) {
	own := rest.CopyConfig(cfg)
	version := v1alpha1.SchemeGroupVersion()
	own.GroupVersion, own.APIPath = &version, "/apis"
	own.ContentType = runtime.ContentTypeJSON
	own.NegotiatedSerializer = stateSerializer{serializer.WithoutConversionCodecFactory{CodecFactory: serializer.NewCodecFactory(scheme)}, s}
	client, err := rest.RESTClientFor(own)
	if err != nil {
		return nil, fmt.Errorf("making the client that watches NodeStates: %w", err)
	}
	return func(lw toolscache.ListerWatcher, kind runtime.Object, resync time.Duration, indexers toolscache.Indexers) toolscache.SharedIndexInformer {
		if _, ok := kind.(*v1alpha1.NodeState); ok {
			lw = &toolscache.ListWatch{
				ListWithContextFunc: toolscache.ToListerWithContext(lw).ListWithContext,
				WatchFuncWithContext: func(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
					opts.Watch, opts.AllowWatchBookmarks = true, true
					return client.Get().Resource("nodestates").VersionedParams(&opts, metav1.ParameterCodec).Watch(ctx)
				},
			}
		}
		return toolscache.NewSharedIndexInformer(lw, kind, resync, indexers)
	}, nil
}

// stateSerializer is what a client goes by that reads NodeStates.
type stateSerializer struct {
	serializer.WithoutConversionCodecFactory

	states *States
}

// DecoderToVersion gives what reads objects.
func (s stateSerializer) DecoderToVersion(from runtime.Decoder, version runtime.GroupVersioner) runtime.Decoder {
	return stateDecoder{s.WithoutConversionCodecFactory.DecoderToVersion(from, version), s.states}
}

type stateDecoder struct {
	runtime.Decoder

	states *States
}

// Decode reads a NodeState; anything else that comes, such as an error, is read as everywhere, and so is what can't be read.
func (d stateDecoder) Decode(text []byte, defaults *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	if into == nil {
		state, err := d.states.Read(text)
		if err == nil {
			kind := v1alpha1.SchemeGroupVersion().WithKind("NodeState")
			return state, &kind, nil
		}
	}
	return d.Decoder.Decode(text, defaults, into)
}
