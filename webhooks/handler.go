package webhooks

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/go-logr/logr"
	admissionv1 "k8s.io/api/admission/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	kjson "sigs.k8s.io/json"
)

const (
	// patience bounds one answer; the API server waits for 5 s.
	patience = 4 * time.Second
	// maxProblems and maxWarnings bound what one answer tells. API servers pass on about 4 KB of warnings, and cut off those
	// of more than 256 characters.
	maxProblems, maxWarnings, maxWarning = 10, 8, 250
)

// Handler answers the API server.
type Handler struct {
	Cluster Cluster
	// Ready says whether the operator knows the cluster.
	Ready func() bool
	Log   logr.Logger
}

// Handle answers one request.
func (h *Handler) Handle(ctx context.Context, req admission.Request) admission.Response {
	known, ok := lookUp(req.Kind.Group, req.Kind.Kind)
	if !ok || req.SubResource != "" {
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
	// By the case of letters, as all who read stored objects go by it.
	if err := kjson.UnmarshalCaseSensitivePreserveInts(raw, obj); err != nil {
		return admission.Denied(fmt.Sprintf("reading the %s: %v", req.Kind.Kind, err))
	}
	if req.Operation != admissionv1.Delete && obj.GetDeletionTimestamp() != nil {
		return admission.Allowed("") // whatever is in it, it can be finished
	}
	if !h.Ready() {
		if known.others || known.setting {
			return admission.Allowed("").WithWarnings("the operator of Manul has just started, and did not check this")
		}
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
	log := h.Log.WithValues("kind", req.Kind.Kind, "namespace", req.Namespace, "name", req.Name)
	found, err := look(ctx, h.Cluster, obj)
	if err != nil {
		log.Error(err, "Could not check an object")
		return admission.Errored(http.StatusServiceUnavailable, fmt.Errorf("checking the %s against the cluster: %w", req.Kind.Kind, err))
	}
	if found.blind != nil {
		log.Error(found.blind, "Could not look for all that an object's author should be warned of")
	}
	if req.Operation != admissionv1.Delete {
		gone := dropped(&req, obj, known)
		found.errs, found.warnings = append(gone.errs, found.errs...), append(gone.warnings, found.warnings...)
	}
	return answer(&req, obj, found)
}

func answer(req *admission.Request, obj client.Object, found verdict) admission.Response {
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
		status = apierrors.NewForbidden(schema.GroupResource{Group: req.Resource.Group, Resource: req.Resource.Resource}, obj.GetName(), errors.New(errs[0].Detail))
	} else {
		status = apierrors.NewInvalid(schema.GroupKind{Group: req.Kind.Group, Kind: req.Kind.Kind}, obj.GetName(), errs)
	}
	return admission.Response{AdmissionResponse: admissionv1.AdmissionResponse{Result: &status.ErrStatus}}
}

// bounded leaves of warnings what API servers pass on.
func bounded(warnings []string) []string {
	if len(warnings) > maxWarnings {
		warnings = append(warnings[:maxWarnings-1:maxWarnings-1], fmt.Sprintf("and %d more warnings", len(warnings)-maxWarnings+1))
	}
	for i, text := range warnings {
		if utf8.RuneCountInString(text) > maxWarning {
			warnings[i] = string([]rune(text)[:maxWarning-1]) + "…"
		}
	}
	return warnings
}
