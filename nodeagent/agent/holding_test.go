package agent

import (
	"runtime"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/nodeagent/source"
)

// holds lists what the agent knows and has on disk or on its way there, but for the node's own state.
func (l *lab) holds() []string {
	synctest.Wait()
	var out []string
	for kind, objects := range l.agent.known {
		for name := range objects {
			out = append(out, string(kind)+" "+name)
		}
	}
	l.checkpoint.mu.Lock()
	defer l.checkpoint.mu.Unlock()
	for key := range l.checkpoint.objects {
		out = append(out, "on disk: "+key)
	}
	own := string(source.NodeState) + " " + node
	slices.Sort(out)
	return slices.DeleteFunc(out, func(s string) bool { return s == own || s == "on disk: "+own })
}

// After the last pod that a policy selects has gone, the agent holds neither its program, nor its sets, nor the endpoints that only these name, in
// memory, on disk and in the kernel, whether it is told of that one by one or by what there still is.
func TestWhatConcernsTheNodeNoMoreIsDropped(t *testing.T) {
	for _, how := range []string{"one by one", "by what there still is"} {
		bubble(t, func(t *testing.T, l *lab) {
			remote := &v1alpha1.NodeEndpoints{ObjectMeta: l.meta("node2", 1), Spec: v1alpha1.NodeEndpointsSpec{
				Endpoints: []v1alpha1.RemoteEndpoint{{ID: "n/x", Identities: []string{"i1"}, Addresses: []string{"10.48.7.1"}}},
			}}
			l.sync(l.state(1, []string{"gnp.p"}, "n/a"), l.program("gnp.p", 1, "aa1"), l.catalog(1, "aa1"), remote)
			if got := l.holds(); len(got) != 6 || len(l.policy.members) != 2 {
				t.Fatalf("holds %v, and %d members in the kernel", got, len(l.policy.members))
			}
			without := l.state(2, nil)
			if how == "one by one" {
				l.set(without)
				l.source.sink.Delete(source.PolicyProgram, "gnp.p", "")
				l.source.sink.Delete(source.SetCatalog, "sets-aa", "")
				l.source.sink.Delete(source.NodeEndpoints, "node2", "")
			} else {
				l.sync(without)
			}
			if got := l.holds(); len(got) > 0 || len(l.policy.members) > 0 || len(l.policy.endpoints) > 0 {
				t.Errorf("%s: holds %v, and in the kernel %d members and %d endpoints", how, got, len(l.policy.members), len(l.policy.endpoints))
			}
			policy := l.agent.state.Policy()
			if n := policy.Programs.Len() + policy.Sets.Len() + policy.Members.Len(); n > 0 {
				t.Errorf("%s: %d programs, sets and members are in the tables", how, n)
			}
		})
	}
}

// An agent that was told of 10,000 policies by the API's objects, none of which concerns it, and then is told by the stream what does, has the
// memory back.
func TestPoliciesOfTheAPIAreGivenUpForTheStream(t *testing.T) {
	bubble(t, func(t *testing.T, l *lab) {
		l.checkpoint.forgetful.Store(true)
		heap := func() int {
			var m runtime.MemStats
			runtime.GC()
			runtime.GC() // what weak references held goes at the second
			runtime.ReadMemStats(&m)
			return int(m.HeapAlloc)
		}
		state := l.state(1, nil)
		l.sync(state)
		before := heap()
		func() {
			var all []source.Object
			for i := range 10_000 {
				all = append(all, l.program("gnp.p"+strconv.Itoa(i), 1))
			}
			l.sync(append(all, state)...)
		}()
		many := heap() - before
		if n := len(l.holds()); n != 10_000 {
			t.Fatalf("knows %d objects", n)
		}
		l.sync(state)
		if after := heap() - before; after > many/5 || len(l.holds()) > 0 {
			t.Errorf("10,000 policies took %d bytes; without them %d are left, and %d objects", many, after, len(l.holds()))
		}
		t.Logf("%d bytes a policy that concerns nobody here", many/10_000)
	})
}
