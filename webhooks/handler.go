package webhooks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	admissionv1 "k8s.io/api/admission/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/validate"
)

const (
	// patience bounds one answer; the API server waits for 5 s.
	patience = 4 * time.Second
	// maxProblems and maxWarnings bound what one answer tells. API servers pass on about 4 KB of warnings.
	maxProblems, maxWarnings = 10, 8
)

// verdict is what the checks found about one object.
type verdict struct {
	errs     field.ErrorList
	warnings []string
}

// check looks at an object that is written or deleted. An error means that it could not look.
type check func(ctx context.Context, in Cluster, obj client.Object) (verdict, error)

// kind is what admission knows of a kind.
type kind struct {
	empty  func() client.Object
	write  check // nil: nothing to check
	remove check
}

// kinds are the kinds that the webhook is asked about.
func kinds() map[string]kind {
	return map[string]kind{
		"NetworkPolicy":                 {empty: empty[v3.NetworkPolicy], write: writeNetworkPolicy},
		"GlobalNetworkPolicy":           {empty: empty[v3.GlobalNetworkPolicy], write: writeGlobalNetworkPolicy},
		"StagedNetworkPolicy":           {empty: empty[v3.StagedNetworkPolicy], write: writeStagedNetworkPolicy},
		"StagedGlobalNetworkPolicy":     {empty: empty[v3.StagedGlobalNetworkPolicy], write: writeStagedGlobalNetworkPolicy},
		"StagedKubernetesNetworkPolicy": {empty: empty[v3.StagedKubernetesNetworkPolicy], write: writeStagedKubernetesNetworkPolicy},
		"Tier":                          {empty: empty[v3.Tier], write: writeTier, remove: removeTier},
		"IPPool":                        {empty: empty[v3.IPPool], write: writePool, remove: removePool},
		"NetworkSet":                    {empty: empty[v3.NetworkSet], write: byItself(validate.NetworkSet)},
		"GlobalNetworkSet":              {empty: empty[v3.GlobalNetworkSet], write: byItself(validate.GlobalNetworkSet)},
		"HostEndpoint":                  {empty: empty[v3.HostEndpoint], write: writeHostEndpoint},
		"IPReservation":                 {empty: empty[v3.IPReservation], write: byItself(validate.IPReservation)},
		"IPAMConfiguration":             {empty: empty[v3.IPAMConfiguration], write: byItself(validate.IPAMConfiguration)},
		"FelixConfiguration":            {empty: empty[v3.FelixConfiguration], write: byItself(validate.FelixConfiguration)},
		"KubeControllersConfiguration":  {empty: empty[v3.KubeControllersConfiguration], write: byItself(validate.KubeControllersConfiguration)},
	}
}

// byItself checks an object of type T by itself.
func byItself[T any, P interface {
	*T
	client.Object
}](validate func(P) field.ErrorList) check {
	return func(_ context.Context, _ Cluster, obj client.Object) (verdict, error) {
		own, ok := obj.(P)
		if !ok {
			return verdict{}, unexpected(obj)
		}
		return verdict{errs: validate(own)}, nil
	}
}

// empty makes an object of type T.
func empty[T any, P interface {
	*T
	client.Object
}]() client.Object {
	return P(new(T))
}

// Handler answers the API server.
type Handler struct {
	Cluster Cluster
	// Ready says whether the operator knows the cluster.
	Ready func() bool
	Log   logr.Logger
}

// Handle answers one request.
func (h *Handler) Handle(ctx context.Context, req admission.Request) admission.Response {
	known, ok := kinds()[req.Kind.Kind]
	if !ok || req.Kind.Group != v3.GroupName || req.SubResource != "" {
		return admission.Allowed("")
	}
	look, raw := known.write, req.Object.Raw
	if req.Operation == admissionv1.Delete {
		look, raw = known.remove, req.OldObject.Raw
	}
	if look == nil {
		return admission.Allowed("")
	}
	obj := known.empty()
	if err := json.Unmarshal(raw, obj); err != nil {
		return admission.Denied(fmt.Sprintf("reading the %s: %v", req.Kind.Kind, err))
	}
	if req.Operation != admissionv1.Delete && obj.GetDeletionTimestamp() != nil {
		return admission.Allowed("") // whatever is in it, it can be finished
	}
	if !h.Ready() {
		return admission.Errored(http.StatusServiceUnavailable,
			errors.New("the operator of Manul has just started and does not know the cluster yet: try again in a few seconds"))
	}
	// The name of an object that is created may be in the request alone.
	if obj.GetName() == "" {
		obj.SetName(req.Name)
	}
	if obj.GetNamespace() == "" {
		obj.SetNamespace(req.Namespace)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	found, err := look(ctx, h.Cluster, obj)
	if err != nil {
		h.Log.Error(err, "Could not check an object", "kind", req.Kind.Kind, "namespace", req.Namespace, "name", req.Name)
		return admission.Errored(http.StatusServiceUnavailable, fmt.Errorf("checking the %s against the cluster: %w", req.Kind.Kind, err))
	}
	return answer(req, obj.GetName(), found)
}

func answer(req admission.Request, name string, found verdict) admission.Response {
	if len(found.errs) == 0 {
		return admission.Allowed("").WithWarnings(bounded(found.warnings)...)
	}
	errs := found.errs
	if len(errs) > maxProblems {
		more := field.InternalError(field.NewPath("spec"), fmt.Errorf("%d more mistakes", len(errs)-maxProblems))
		errs = append(errs[:maxProblems:maxProblems], more)
	}
	var status *apierrors.StatusError
	if req.Operation == admissionv1.Delete {
		status = apierrors.NewForbidden(schema.GroupResource{Group: req.Resource.Group, Resource: req.Resource.Resource}, name, errors.New(errs[0].Detail))
	} else {
		status = apierrors.NewInvalid(schema.GroupKind{Group: req.Kind.Group, Kind: req.Kind.Kind}, name, errs)
	}
	return admission.Response{AdmissionResponse: admissionv1.AdmissionResponse{Result: &status.ErrStatus}}
}

func bounded(warnings []string) []string {
	if len(warnings) > maxWarnings {
		return append(warnings[:maxWarnings-1:maxWarnings-1], fmt.Sprintf("and %d more warnings", len(warnings)-maxWarnings+1))
	}
	return warnings
}
