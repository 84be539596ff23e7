package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/policy"
	"github.com/manul-net/manul/internal/render"
	"github.com/manul-net/manul/internal/validate"
	"github.com/manul-net/manul/test/apischema"
	"github.com/manul-net/manul/test/manifests"
	"github.com/manul-net/manul/webhooks"
)

// drawn is how many manifests TestAgreement draws from each of the seeds.
const drawn = 500

func seeds() []uint64 { return []uint64{1, 2, 3, 4, 5} }

// TestAgreement: of every manifest, right or spoiled, the API server with the operator's webhook says what the compiler says. Both take it
// or both refuse it, with strict field validation and without, and what they take can be read.
func TestAgreement(t *testing.T) {
	j := newJudges(t)
	taken, all := map[string]int{}, map[string]int{}
	for _, seed := range seeds() {
		source := manifests.New(seed)
		for i := range drawn {
			m := source.Any()
			all[m.Kind]++
			for _, strict := range []bool{true, false} {
				server, compiler := j.server(t.Context(), m, strict), j.compiler(t.Context(), m, strict)
				if strict && server == nil {
					taken[m.Kind]++
				}
				if (server == nil) != (compiler == nil) {
					raw, _ := json.Marshal(m.Object["spec"])
					t.Errorf("seed %d, manifest %d, strict %v, %s, %s:\n%.2000s\nAPI server: %v\ncompiler: %v", seed, i, strict, m.Kind, strings.Join(m.Changes, "; "), raw, server, compiler)
				}
			}
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(all)) {
		t.Logf("%-30s %d of %d taken", kind, taken[kind], all[kind])
		if taken[kind] < all[kind]/10 || taken[kind] > all[kind]*9/10 {
			t.Errorf("%s: %d of %d were taken: that shows little", kind, taken[kind], all[kind])
		}
	}
	t.Logf("seeds %v, %d manifests of each", seeds(), drawn)
}

// judges say whether a manifest is right.
type judges struct {
	kinds   map[string]*apischema.Kind
	webhook *webhooks.Handler
}

func newJudges(t *testing.T) *judges {
	t.Helper()
	return &judges{kinds: loadKinds(t), webhook: &webhooks.Handler{Cluster: quiet{}, Ready: func() bool { return true }, Log: logr.Discard()}}
}

// server is the verdict of the API server: the schema with its CEL rules, then the webhook.
func (j *judges) server(ctx context.Context, m *manifests.Manifest, strict bool) error {
	answer := j.kinds[m.Kind].Create(ctx, m.Object)
	if strict && len(answer.Unknown) > 0 || len(answer.Errs) > 0 {
		return answer.Err()
	}
	return j.asked(ctx, j.kinds[m.Kind], answer.Stored)
}

// asked is the verdict of the webhook alone, on what the API server would store.
func (j *judges) asked(ctx context.Context, kind *apischema.Kind, object map[string]any) error {
	raw, err := json.Marshal(object)
	if err != nil {
		return err
	}
	namespace, name := names(object)
	got := j.webhook.Handle(ctx, admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		UID: "u", Operation: admissionv1.Create, Name: name, Namespace: namespace,
		Kind:     metav1.GroupVersionKind{Group: kind.Group, Version: kind.Version, Kind: kind.Name},
		Resource: metav1.GroupVersionResource{Group: kind.Group, Version: kind.Version, Resource: kind.Plural},
		Object:   runtime.RawExtension{Raw: raw},
	}})
	if !got.Allowed {
		return fmt.Errorf("webhook: %s", got.Result.Message)
	}
	return nil
}

func names(object map[string]any) (namespace, name string) {
	metadata, _ := object["metadata"].(map[string]any)
	namespace, _ = metadata["namespace"].(string)
	name, _ = metadata["name"].(string)
	return namespace, name
}

// compiler is the verdict of the operator on an object that nobody has checked: it can be read, and no finding says that it is wrong.
func (j *judges) compiler(ctx context.Context, m *manifests.Manifest, strict bool) error {
	if path := lost(j.kinds[m.Kind].Create(ctx, m.Object).Stored); path != "" {
		return fmt.Errorf("reading: %s is lost", path)
	}
	obj, unknown, err := typed(m.Kind, m.Object)
	if err != nil || strict && len(unknown) > 0 {
		return fmt.Errorf("reading: %w", errors.Join(append(unknown, err)...))
	}
	cluster := render.New()
	for _, o := range []runtime.Object{&v3.Tier{ObjectMeta: metav1.ObjectMeta{Name: "security"}}, obj} {
		if err := cluster.Set(o); err != nil && policy.Compile(o) != nil {
			return err
		}
	}
	if ref, ok := policy.RefOf(obj); ok {
		report, _ := cluster.Policy(ref)
		if f := report.Finding; !f.Accepted && f.Reason != policy.ReasonNotSupported {
			return errors.New(f.Message)
		}
		return nil
	}
	return checked(obj).ToAggregate()
}

// lost finds what a Go type can't tell, of the fields that it has: that there is no spec (or no controllers in it), which reads like
// an empty one; null among the entries of a list; and the empty text where only some words may stand, which reads like none. The API
// server refuses all of these, and so they are never stored.
func lost(object map[string]any) string {
	spec, ok := object["spec"].(map[string]any)
	if !ok {
		return "spec"
	}
	if _, ok := spec["controllers"].(map[string]any); object["kind"] == "KubeControllersConfiguration" && !ok {
		return "spec.controllers"
	}
	return lostIn(spec, "spec")
}

func lostIn(value any, path string) string {
	words := []string{
		"stagedAction", "nftablesMode", "ipipMode", "vxlanMode", "assignmentMode", "logSeverityScreen", "healthChecks", "autoCreate",
		"syncLabels", "defaultAction",
	}
	switch value := value.(type) {
	case map[string]any:
		for name := range value {
			if value[name] == "" && slices.Contains(words, name) {
				return path + "." + name
			}
			if found := lostIn(value[name], path+"."+name); found != "" {
				return found
			}
		}
	case []any:
		for i := range value {
			path := fmt.Sprintf("%s[%d]", path, i)
			if value[i] == nil {
				return path
			}
			if found := lostIn(value[i], path); found != "" {
				return found
			}
		}
	}
	return ""
}

// checked is for kinds of which the compiler takes what is right and leaves out the rest: they have no finding.
func checked(obj runtime.Object) field.ErrorList {
	switch obj := obj.(type) {
	case *v3.Tier:
		return validate.Tier(obj)
	case *v3.NetworkSet:
		return validate.NetworkSet(obj)
	case *v3.GlobalNetworkSet:
		return validate.GlobalNetworkSet(obj)
	case *v3.HostEndpoint:
		return validate.HostEndpoint(obj)
	case *v3.IPPool:
		return validate.IPPool(obj)
	case *v3.BGPPeer:
		return validate.BGPPeer(obj)
	case *v3.BGPFilter:
		return validate.BGPFilter(obj)
	case *v3.BGPConfiguration:
		return validate.BGPConfiguration(obj)
	case *v3.IPReservation:
		return validate.IPReservation(obj)
	case *v3.IPAMConfiguration:
		return validate.IPAMConfiguration(obj)
	case *v3.FelixConfiguration:
		return validate.FelixConfiguration(obj)
	case *v3.KubeControllersConfiguration:
		return validate.KubeControllersConfiguration(obj)
	}
	return field.ErrorList{field.InternalError(nil, fmt.Errorf("nobody checks a %T", obj))}
}

// quiet is a cluster in which nothing else is wrong: it has the tier "security" beside those that every cluster has.
type quiet struct{}

func (quiet) Tier(_ context.Context, name string) (*v3.Tier, error) {
	if name != "security" {
		return nil, nil
	}
	return &v3.Tier{ObjectMeta: metav1.ObjectMeta{Name: name}}, nil
}
func (quiet) PoliciesIn(context.Context, string) ([]string, error)            { return nil, nil }
func (quiet) Pools(context.Context) ([]v3.IPPool, error)                      { return nil, nil }
func (quiet) Nodes(context.Context) ([]corev1.Node, error)                    { return nil, nil }
func (quiet) NodeStates(context.Context) ([]v1alpha1.NodeState, error)        { return nil, nil }
func (quiet) Services(context.Context) ([]corev1.Service, error)              { return nil, nil }
func (quiet) Selects(context.Context, *policy.Compiled, string) (bool, error) { return true, nil }
