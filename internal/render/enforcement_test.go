package render

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/policy"
)

// api writes what a cluster wants written and shows it what it wrote, as the controllers and the API server do.
type api struct {
	t          *testing.T
	c          *Cluster
	version    int
	generation map[Key]int64
	states     map[string]*v1alpha1.NodeState
	programs   map[string]*v1alpha1.PolicyProgram
}

func newAPI(t *testing.T, manifests string) *api {
	t.Helper()
	a := &api{t: t, c: New(), version: 98, generation: map[Key]int64{}, states: map[string]*v1alpha1.NodeState{}, programs: map[string]*v1alpha1.PolicyProgram{}}
	give(t, a.c, parse(t, manifests)...)
	a.write()
	return a
}

func (a *api) meta(key Key) metav1.ObjectMeta {
	a.version++
	a.generation[key]++
	return metav1.ObjectMeta{Name: key.Name, ResourceVersion: strconv.Itoa(a.version), Generation: a.generation[key]}
}

func (a *api) write() {
	a.t.Helper()
	a.writeKeys(a.c.Dirty())
}

func (a *api) writeKeys(keys []Key) {
	a.t.Helper()
	for _, key := range keys {
		switch o := a.c.Desired(key).(type) {
		case *v1alpha1.SetCatalog:
			o.ObjectMeta = a.meta(key)
			give(a.t, a.c, o)
		case *v1alpha1.PolicyProgram:
			o.ObjectMeta = a.meta(key)
			a.programs[key.Name] = o
			give(a.t, a.c, o)
		case *v1alpha1.NodeEndpoints:
			o.ObjectMeta = a.meta(key)
			give(a.t, a.c, o)
		case *v1alpha1.NodeState:
			o.ObjectMeta = a.meta(key)
			if before := a.c.nodes[key.Name].state; before != nil {
				o.Status = before.Status
			}
			a.states[key.Name] = o
			give(a.t, a.c, o)
		}
	}
}

// acknowledge has a node put everything into effect, apart from the failures.
func (a *api) acknowledge(node string, failures ...v1alpha1.Failure) {
	a.t.Helper()
	a.states[node] = a.states[node].DeepCopy()
	state := a.states[node]
	now := strconv.Itoa(a.version)
	state.Status.ObservedGeneration = state.Generation
	state.Status.Applied = map[string]string{"SetCatalog": now, "PolicyProgram": now, "NodeEndpoints": now, "NodeNetwork": now}
	state.Status.Failures = failures
	give(a.t, a.c, state)
}

func (a *api) expect(ref PolicyRef, want string) {
	a.t.Helper()
	r, ok := a.c.Policy(ref)
	if !ok {
		a.t.Fatalf("there is no policy %v", ref)
	}
	got := fmt.Sprintf("%s %d/%d lagging %v failing %v", r.Finding.Reason, r.Enforcing, r.Required, r.Lagging, r.Failing)
	if diff := cmp.Diff(want, got); diff != "" {
		a.t.Errorf("policy %v (-want +got):\n%s", ref, diff)
	}
}

const twoNodes = town + `
---
apiVersion: v1
kind: Node
metadata: {name: z}
---
apiVersion: v1
kind: Node
metadata: {name: idle}
---
apiVersion: v1
kind: Pod
metadata: {namespace: a, name: web2, labels: {app: web}}
spec: {nodeName: z}
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {namespace: a, name: p, generation: 1}
spec: {selector: app == 'web', ingress: [{action: Allow, source: {selector: app == 'db'}}]}`

func TestAPolicyIsEnforcedOnceEveryNodeThatMustSaysSo(t *testing.T) {
	a := newAPI(t, twoNodes)
	p := PolicyRef{Kind: policy.KindNetworkPolicy, Namespace: "a", Name: "p"}
	a.expect(p, "Accepted 0/2 lagging [x z] failing []")

	a.acknowledge("x")
	a.acknowledge("idle")
	a.expect(p, "Accepted 1/2 lagging [z] failing []")
	a.acknowledge("z", v1alpha1.Failure{Kind: "PolicyProgram", Name: "np.a.p", Message: "adding rules: no memory"})
	a.expect(p, "Accepted 1/2 lagging [] failing [{z adding rules: no memory}]")
	a.acknowledge("z")
	a.expect(p, "Accepted 2/2 lagging [] failing []")

	// A new generation has to be acknowledged again.
	give(t, a.c, parse(t, `
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {namespace: a, name: p, generation: 2}
spec: {selector: app == 'web', ingress: [{action: Deny}]}`)...)
	a.expect(p, "Accepted 0/2 lagging [x z] failing []")
	a.acknowledge("x") // acknowledges nothing new: the new generation is not written yet
	a.expect(p, "Accepted 0/2 lagging [x z] failing []")
	a.write()
	a.acknowledge("x")
	a.acknowledge("z")
	a.expect(p, "Accepted 2/2 lagging [] failing []")

	// A failure that comes later counts as well, and so does one of an endpoint or of a set.
	a.acknowledge("x", v1alpha1.Failure{Kind: "Endpoint", Name: "a/web", Message: "no such interface"}, v1alpha1.Failure{Kind: "Endpoint", Name: "a/db", Message: "unrelated"})
	a.expect(p, "Accepted 1/2 lagging [] failing [{x no such interface}]")
	a.acknowledge("x", v1alpha1.Failure{Kind: "Endpoint", Name: "a/db", Message: "unrelated"})
	a.expect(p, "Accepted 2/2 lagging [] failing []")

	// One of the node itself is about all its policies.
	a.acknowledge("x", v1alpha1.Failure{Kind: "KubeProxy", Name: "ipvs", Message: "mode ipvs"})
	a.expect(p, "Accepted 1/2 lagging [] failing [{x mode ipvs}]")
	a.acknowledge("x")
	a.expect(p, "Accepted 2/2 lagging [] failing []")

	// A node that is gone need not enforce anything.
	take(t, a.c, parse(t, "apiVersion: v1\nkind: Node\nmetadata: {name: z}")...)
	a.expect(p, "Accepted 1/1 lagging [] failing []")
}

func TestAStatusWriteIsNoNewVersionOfAProgram(t *testing.T) {
	a := newAPI(t, twoNodes)
	p := PolicyRef{Kind: policy.KindNetworkPolicy, Namespace: "a", Name: "p"}
	a.acknowledge("x")
	a.acknowledge("z")
	written := a.programs["np.a.p"]
	withStatus := written.DeepCopy()
	withStatus.ResourceVersion = "100000"
	withStatus.Status = v1alpha1.PolicyProgramStatus{ObservedGeneration: written.Generation, RenderedVersion: written.ResourceVersion}
	give(t, a.c, withStatus)
	a.expect(p, "Accepted 2/2 lagging [] failing []")
	report, _ := a.c.Policy(p)
	if report.RenderedVersion != written.ResourceVersion {
		t.Errorf("rendered version: got %s, want %s, at which the spec was written", report.RenderedVersion, written.ResourceVersion)
	}

	// An operator that starts now reads that version off the status.
	fresh := New()
	give(t, fresh, parse(t, twoNodes)...)
	give(t, fresh, withStatus)
	for _, state := range a.states {
		give(t, fresh, state)
	}
	for name := range a.c.shards {
		give(t, fresh, a.c.shards[name].object)
	}
	a.c = fresh
	a.expect(p, "Accepted 2/2 lagging [] failing []")
}

func TestFindings(t *testing.T) {
	a := newAPI(t, twoNodes+`
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {namespace: a, name: tierless}
spec: {tier: nowhere}
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {namespace: a, name: unreadable}
spec: {selector: app = 'web'}
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {namespace: a, name: wrong}
spec: {selector: app == 'web', ingress: [{action: Allow, source: {nets: [10.0.0.1/24]}}]}`)
	for _, node := range []string{"x", "z", "idle"} {
		a.acknowledge(node)
	}
	ref := func(name string) PolicyRef {
		return PolicyRef{Kind: policy.KindNetworkPolicy, Namespace: "a", Name: name}
	}
	a.expect(ref("tierless"), "TierNotFound 0/0 lagging [] failing []")
	a.expect(ref("unreadable"), "InvalidSelector 0/0 lagging [] failing []")
	a.expect(ref("wrong"), "Invalid 2/2 lagging [] failing []")

	give(t, a.c, parse(t, "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: nowhere}\nspec: {}")...)
	a.expect(ref("tierless"), "Accepted 0/2 lagging [x z] failing []")
	if dirty := a.c.DirtyPolicies(); len(dirty) == 0 {
		t.Error("no policy is dirty after a tier came")
	}
	if dirty := a.c.DirtyPolicies(); len(dirty) != 0 {
		t.Errorf("policies %v are dirty although nothing happened", dirty)
	}
}

func TestAPolicyOverANewLabelKeyWaitsForEndpointsToBeKnownByIt(t *testing.T) {
	a := newAPI(t, twoNodes+`
---
apiVersion: v1
kind: Pod
metadata: {namespace: a, name: db, labels: {app: db, role: primary}}
spec: {serviceAccountName: robot}
---
apiVersion: manul.dev/v1alpha1
kind: NodeState
metadata: {name: x}
status: {endpoints: [{id: a/db, uid: db, addresses: [10.0.0.1]}]}`)
	p := PolicyRef{Kind: policy.KindNetworkPolicy, Namespace: "a", Name: "p"}
	a.acknowledge("x")
	a.acknowledge("z")
	a.expect(p, "Accepted 2/2 lagging [] failing []")

	give(t, a.c, parse(t, `
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {namespace: a, name: p, generation: 2}
spec: {selector: app == 'web', ingress: [{action: Allow, source: {selector: role == 'primary'}}]}`)...)
	var early, late []Key
	for _, key := range a.c.Dirty() {
		if key.Kind == KindNodeEndpoints {
			late = append(late, key)
		} else {
			early = append(early, key)
		}
	}
	a.writeKeys(early)
	a.acknowledge("x")
	a.acknowledge("z")
	a.expect(p, "Accepted 0/2 lagging [x z] failing []")
	a.writeKeys(late)
	a.acknowledge("x")
	a.expect(p, "Accepted 1/2 lagging [z] failing []")
	a.acknowledge("z")
	a.expect(p, "Accepted 2/2 lagging [] failing []")
}
