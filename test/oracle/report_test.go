package oracle_test

import (
	"encoding/json"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/manul-net/manul/internal/policy"
	"github.com/manul-net/manul/internal/render"
	"github.com/manul-net/manul/test/apischema"
	"github.com/manul-net/manul/test/oracle"
)

// failure is a world in which a flow is decided in different ways.
type failure struct {
	world *oracle.World
	flow  oracle.Flow
	// differs tells how the flow is decided in a world if that is in different ways, else nothing.
	differs func(*oracle.World, oracle.Flow) string
	// most is how often it may be asked.
	most int
}

// explain shows the smallest valid cluster of those that fail as this one does, in manifests.
func (f *failure) explain(t *testing.T) *oracle.World {
	t.Helper()
	if f == nil {
		return nil
	}
	is := newValidity(t, f.world)
	small := f.world.Minimal(f.most, func(w *oracle.World) bool { return is.valid(w) && f.differs(w, f.flow) != "" })
	t.Logf("the smallest cluster that was found:\n%s\n%s\n%s", f.differs(small, f.flow), small.Setting(), small.Manifests())
	return small
}

// differs compares what users and rendered objects say of a flow, and what the tables do.
func differs(w *oracle.World, f oracle.Flow) string {
	r, err := compile(w)
	if err != nil {
		return ""
	}
	return differsFrom(r, w, f)
}

func differsFrom(r *oracle.Rendered, w *oracle.World, f oracle.Flow) string {
	tables, err := r.Tables(w.Network())
	if err != nil {
		return ""
	}
	u, v, x := w.Users().Verdict(f), r.Evaluator(w.Network()).Verdict(f), tables.Evaluator(w.Network()).Verdict(f)
	if u.Equal(v) && u.Equal(x) {
		return ""
	}
	return fmt.Sprintf("%s\nusers: %s\nrendered: %s\ntables: %s", f, u, v, x)
}

// validity tells whether a world is one that can be: objects that the API server takes, in namespaces that exist.
type validity struct {
	t     *testing.T
	kinds map[string]*apischema.Kind
	// refused are policies that the compiler refuses in the world that it begins with, misfits objects that the API server does:
	// those may stay.
	refused map[policy.Ref]bool
	misfits map[string]bool
}

func newValidity(t *testing.T, w *oracle.World) *validity {
	t.Helper()
	kinds, err := apischema.Load("../../config/crd/bases/projectcalico.org_*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	v := &validity{t: t, kinds: kinds, refused: refused(w)}
	v.misfits = v.misfitsOf(w)
	return v
}

// refused are the policies that the compiler can't take as they are.
func refused(w *oracle.World) map[policy.Ref]bool {
	c, out := render.New(), map[policy.Ref]bool{}
	for _, o := range objects(w) {
		if c.Set(o) != nil {
			return nil
		}
	}
	for _, o := range w.Objects() {
		if ref, is := policy.RefOf(o); is {
			if report, _ := c.Policy(ref); !report.Finding.Accepted {
				out[ref] = true
			}
		}
	}
	return out
}

func (v *validity) valid(w *oracle.World) bool {
	namespaces, accounts := map[string]bool{}, map[string]bool{}
	for _, n := range w.Namespaces {
		namespaces[n.Name] = true
	}
	for _, a := range w.ServiceAccounts {
		accounts[a.Namespace+"/"+a.Name] = true
	}
	for _, pod := range w.Pods {
		if !accounts[pod.Namespace+"/"+pod.Spec.ServiceAccountName] || len(pod.Spec.Containers) == 0 || !validContainers(pod) {
			return false
		}
	}
	for ref := range refused(w) {
		if !v.refused[ref] {
			return false
		}
	}
	for _, o := range w.Objects() {
		object := map[string]any{}
		text, err := json.Marshal(o)
		if err != nil || json.Unmarshal(text, &object) != nil {
			return false
		}
		metadata, _ := object["metadata"].(map[string]any)
		if namespace, is := metadata["namespace"].(string); is && !namespaces[namespace] {
			return false
		}
	}
	for name := range v.misfitsOf(w) {
		if !v.misfits[name] {
			return false
		}
	}
	return true
}

func validContainers(pod *corev1.Pod) bool {
	for _, c := range pod.Spec.Containers {
		if c.Name == "" || c.Image == "" {
			return false
		}
		for _, p := range c.Ports {
			if p.ContainerPort == 0 {
				return false
			}
		}
	}
	return true
}

// misfitsOf are the objects that the schemas of the API refuse.
func (v *validity) misfitsOf(w *oracle.World) map[string]bool {
	out := map[string]bool{}
	w.Documents(func(apiVersion, kind string, document map[string]any) {
		k, metadata := v.kinds[kind], document["metadata"]
		if k != nil && apiVersion == k.Group+"/"+k.Version && k.Create(v.t.Context(), document).Err() != nil {
			m, _ := metadata.(map[string]any)
			out[fmt.Sprint(kind, " ", m["namespace"], " ", m["name"])] = true
		}
	})
	return out
}
