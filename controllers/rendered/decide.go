package rendered

import (
	"encoding/json"
	"fmt"
	"strings"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/manul-net/manul/internal/render"
)

// The label that every rendered object bears.
const (
	LabelManagedBy = "app.kubernetes.io/managed-by"
	ManagedBy      = "manul"
)

// action is what must be done to an object in the API.
type action int

const (
	nothing action = iota
	create
	update
	remove
)

// decide compares an object as it is with what it must be; nil stands for absent. Only what the operator owns counts:
// the spec and its own label.
func decide(want, have client.Object) (action, error) {
	switch {
	case want == nil && have == nil:
		return nothing, nil
	case want == nil:
		if have.GetDeletionTimestamp() != nil {
			return nothing, nil
		}
		return remove, nil
	case have == nil:
		return create, nil
	}
	wantSpec, err := specOf(want)
	if err != nil {
		return nothing, err
	}
	haveSpec, err := specOf(have)
	if err != nil {
		return nothing, err
	}
	if have.GetLabels()[LabelManagedBy] == ManagedBy && render.Same(wantSpec, haveSpec) {
		return nothing, nil
	}
	return update, nil
}

// operation is one step of a JSON patch (RFC 6902).
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

// patchOf replaces the whole spec, and adds the label when it is missing. It carries no resource version: the operator
// is the only writer of specs, so an agent's write of the status in between is no conflict. Should two operators
// overlap while leadership passes on, the newer sees the older's write on its watch and puts it right.
func patchOf(want, have client.Object) ([]byte, error) {
	spec, err := specOf(want)
	if err != nil {
		return nil, err
	}
	ops := []operation{{Op: "add", Path: "/spec", Value: spec}} // "add" replaces what is there (RFC 6902, section 4.1)
	labels := have.GetLabels()
	switch {
	case labels == nil:
		ops = append(ops, operation{Op: "add", Path: "/metadata/labels", Value: map[string]string{LabelManagedBy: ManagedBy}})
	case labels[LabelManagedBy] != ManagedBy:
		path := "/metadata/labels/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(LabelManagedBy)
		ops = append(ops, operation{Op: "add", Path: path, Value: ManagedBy})
	}
	raw, err := json.Marshal(ops)
	if err != nil {
		return nil, fmt.Errorf("encoding the patch: %w", err)
	}
	return raw, nil
}
