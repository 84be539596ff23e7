package rendered

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/manul-net/manul/api/v1alpha1"
)

func network(labels map[string]string, blocks ...string) *v1alpha1.NodeNetwork {
	return &v1alpha1.NodeNetwork{
		ObjectMeta: metav1.ObjectMeta{Name: "node1", Labels: labels},
		Spec:       v1alpha1.NodeNetworkSpec{Blocks: blocks},
	}
}

func ours() map[string]string { return map[string]string{LabelManagedBy: ManagedBy} }

func TestDecide(t *testing.T) {
	leaving := network(ours(), "10.48.0.0/26")
	leaving.DeletionTimestamp = &metav1.Time{}
	for name, tc := range map[string]struct {
		want, have client.Object
		do         action
	}{
		"absent and not wanted":          {nil, nil, nothing},
		"wanted and absent":              {network(nil, "10.48.0.0/26"), nil, create},
		"there and not wanted":           {nil, network(ours(), "10.48.0.0/26"), remove},
		"on its way out already":         {nil, leaving, nothing},
		"equal":                          {network(nil, "10.48.0.0/26"), network(ours(), "10.48.0.0/26"), nothing},
		"empty and absent lists are one": {network(nil, []string{}...), network(ours()), nothing},
		"other content":                  {network(nil, "10.48.0.0/26"), network(ours(), "10.48.0.64/26"), update},
		"label lost":                     {network(nil, "10.48.0.0/26"), network(nil, "10.48.0.0/26"), update},
	} {
		t.Run(name, func(t *testing.T) {
			do, err := decide(tc.want, tc.have)
			if err != nil || do != tc.do {
				t.Errorf("got %d, %v; want %d", do, err, tc.do)
			}
		})
	}
}

func TestPatchOf(t *testing.T) {
	spec := map[string]any{"op": "add", "path": "/spec", "value": map[string]any{"blocks": []any{"10.48.0.0/26"}}}
	for name, tc := range map[string]struct {
		have client.Object
		want []any
	}{
		"spec alone":     {network(ours()), []any{spec}},
		"without labels": {network(nil), []any{spec, map[string]any{"op": "add", "path": "/metadata/labels", "value": map[string]any{LabelManagedBy: ManagedBy}}}},
		"with other labels": {network(map[string]string{"a": "b"}), []any{spec, map[string]any{
			"op": "add", "path": "/metadata/labels/app.kubernetes.io~1managed-by", "value": ManagedBy,
		}}},
	} {
		t.Run(name, func(t *testing.T) {
			raw, err := patchOf(network(nil, "10.48.0.0/26"), tc.have)
			if err != nil {
				t.Fatal(err)
			}
			var got []any
			if err := json.Unmarshal(raw, &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("patch (-want +got):\n%s", diff)
			}
		})
	}
}
