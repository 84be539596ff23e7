package agent

import (
	"context"
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/cni/protocol"
	"github.com/manul-net/manul/nodeagent/render"
	"github.com/manul-net/manul/nodeagent/source"
	"github.com/manul-net/manul/nodeagent/tables"
)

func TestPodsArePreparedAheadOfTheRuntime(t *testing.T) {
	bubble(t, func(t *testing.T, l *lab) {
		l.sync(l.state(1, nil), l.program("gnp.a", 1, "aa1"), l.catalog(1, "aa1"))
		l.set(l.state(2, []string{"gnp.a"}, "n/a"))

		r := l.source.last(t)
		want := []v1alpha1.EndpointStatus{{ID: "n/a", UID: "uid-n/a", Addresses: []string{"10.48.0.0"}}}
		if d := cmp.Diff(want, r.Status.Endpoints); d != "" {
			t.Errorf("reported endpoints (-want +got):\n%s", d)
		}
		if !r.Urgent {
			t.Error("the report of a new pod's address is not urgent")
		}
		if r.Status.ObservedGeneration != 2 {
			t.Errorf("observed generation %d, want 2", r.Status.ObservedGeneration)
		}
		e, ok := l.policy.endpoint(render.InterfaceName("n/a"))
		if !ok || e.Unknown || len(e.Ingress) != 1 {
			t.Fatalf("endpoint in the kernel: %+v", e)
		}

		began := time.Now()
		got, err := l.agent.Add(t.Context(), addRequest("n/a", "uid-n/a", "c1"))
		if err != nil {
			t.Fatal(err)
		}
		if time.Since(began) != 0 {
			t.Errorf("ADD of a prepared pod took %s", time.Since(began))
		}
		result := protocol.AddResult{InterfaceName: render.InterfaceName("n/a"), Addresses: []netip.Addr{netip.MustParseAddr("10.48.0.0")}, MTU: 1450}
		if d := cmp.Diff(result, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
			t.Errorf("result (-want +got):\n%s", d)
		}
	})
}

func TestAddWaitsForState(t *testing.T) {
	bubble(t, func(t *testing.T, l *lab) {
		l.sync(l.state(1, nil))
		answer := make(chan error, 1)
		go func() {
			_, err := l.agent.Add(t.Context(), addRequest("n/a", "uid-n/a", "c1"))
			answer <- err
		}()
		pause(3 * time.Second)
		l.set(l.state(2, []string{"gnp.a"}, "n/a"))
		pause(3 * time.Second)
		select {
		case err := <-answer:
			t.Fatalf("ADD answered before the program was known: %v", err)
		default:
		}
		l.set(l.program("gnp.a", 1))
		if err := <-answer; err != nil {
			t.Fatal(err)
		}
		if e, ok := l.policy.endpoint(render.InterfaceName("n/a")); !ok || e.Unknown {
			t.Errorf("ADD answered and the kernel has %+v", e)
		}
	})
}

func TestAddNamesWhatIsMissing(t *testing.T) {
	for name, tc := range map[string]struct {
		prepare func(l *lab)
		want    string
	}{
		"no state at all": {func(*lab) {}, "has not received all rendered state"},
		"pod not named":   {func(l *lab) { l.sync(l.state(1, nil)) }, "does not name the pod"},
		"another pod of that name": {func(l *lab) {
			s := l.state(1, nil, "n/a")
			s.Spec.Endpoints[0].UID = "older"
			l.sync(s)
		}, "names an earlier pod"},
		"program missing": {func(l *lab) { l.sync(l.state(1, []string{"gnp.a"}, "n/a")) }, "wait for PolicyProgram gnp.a"},
		"no block": {func(l *lab) {
			s := l.state(1, nil, "n/a")
			s.Spec.Blocks = nil
			l.sync(s)
		}, "the node has no block"},
		"kernel refuses": {func(l *lab) {
			l.policy.failWith(errors.New("no such device"))
			l.sync(l.state(1, nil, "n/a"))
		}, "no such device"},
		"kernel refuses the endpoint": {func(l *lab) {
			l.policy.failWith(errors.Join(&tables.ItemError{Kind: "Endpoint", Name: render.InterfaceName("n/a"), Err: errors.New("too long")}))
			l.sync(l.state(1, nil, "n/a"))
		}, "too long"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, l *lab) {
				tc.prepare(l)
				began := time.Now()
				_, err := l.agent.Add(t.Context(), addRequest("n/a", "uid-n/a", "c1"))
				var e *protocol.Error
				if !errors.As(err, &e) || e.Code != protocol.CodeTryAgainLater {
					t.Fatalf("error %v, want one that says to try again", err)
				}
				if !strings.Contains(err.Error(), tc.want) {
					t.Errorf("error %q does not say %q", err, tc.want)
				}
				if took := time.Since(began); took != 10*time.Second {
					t.Errorf("took %s, want the bound", took)
				}
				if len(l.addresses.attached) > 0 {
					t.Errorf("attached: %v", l.addresses.attached)
				}
			})
		})
	}
}

// Waiting does not mend an annotation.
func TestAddRefusesAtOnceWhatCannotBe(t *testing.T) {
	bubble(t, func(t *testing.T, l *lab) {
		s := l.state(1, nil, "n/a")
		s.Spec.Endpoints[0].Addresses.Impossible = "annotation x: there is no IPPool y"
		l.sync(s)
		began := time.Now()
		_, err := l.agent.Add(t.Context(), addRequest("n/a", "uid-n/a", "c1"))
		var e *protocol.Error
		if !errors.As(err, &e) || e.Code != protocol.CodeNoAddress || !strings.Contains(err.Error(), "there is no IPPool y") {
			t.Errorf("error %v, want the reason", err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("took %s", took)
		}
		l.set(l.state(2, nil, "n/a"))
		if _, err := l.agent.Add(t.Context(), addRequest("n/a", "uid-n/a", "c2")); err != nil {
			t.Errorf("after the annotation was mended: %v", err)
		}
	})
}

func TestDelIsIdempotentAndReleasesDepartedPods(t *testing.T) {
	bubble(t, func(t *testing.T, l *lab) {
		l.sync(l.state(1, nil, "n/a"))
		if _, err := l.agent.Add(t.Context(), addRequest("n/a", "uid-n/a", "c1")); err != nil {
			t.Fatal(err)
		}
		l.set(l.state(2, nil)) // the pod has gone, its sandbox not yet
		iface := render.InterfaceName("n/a")
		if e, ok := l.policy.endpoint(iface); !ok || !e.Unknown || len(e.Addresses) != 1 {
			t.Errorf("endpoint that is attached and not known: %+v, want one that is denied", e)
		}
		for range 2 {
			if err := l.agent.Del(t.Context(), protocol.DelRequest{Attachment: protocol.Attachment{ContainerID: "c1", IfName: "eth0"}}); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if _, ok := l.policy.endpoint(iface); ok {
			t.Error("the departed endpoint is still in the kernel")
		}
		if got := l.source.last(t).Status.Endpoints; len(got) != 0 {
			t.Errorf("still reported: %v", got)
		}
	})
}

func TestNothingIsAppliedBeforeItIsKnownWhatBelongsThere(t *testing.T) {
	bubble(t, func(t *testing.T, l *lab) {
		l.source.sink.Replace(source.NodeState, []source.Object{l.state(1, nil, "n/a")}, "1")
		pause(time.Hour)
		if n := l.policy.count(); n > 0 {
			t.Errorf("%d applies with half of the kinds received", n)
		}
		if err := l.agent.Status(t.Context()); err == nil {
			t.Error("STATUS says that ADD would be served")
		}
		l.sync(l.state(1, nil, "n/a"))
		if l.policy.count() != 1 {
			t.Errorf("%d applies, want 1", l.policy.count())
		}
		if err := l.agent.Status(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestAgentStartsFromItsCheckpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk, addresses := newFakeCheckpoint(), newFakeAddresses()
		first := newLab(t, disk, addresses)
		first.sync(first.state(1, []string{"gnp.a"}, "n/a"), first.program("gnp.a", 1))
		if _, err := first.agent.Add(t.Context(), addRequest("n/a", "uid-n/a", "c1")); err != nil {
			t.Fatal(err)
		}
		first.stop()

		second := newLab(t, disk, addresses)
		pause(time.Second)
		if n := second.policy.count(); n > 0 {
			t.Errorf("applied within the grace")
		}
		pause(2 * time.Second)
		if e, ok := second.policy.endpoint(render.InterfaceName("n/a")); !ok || e.Unknown || len(e.Addresses) != 1 {
			t.Errorf("endpoint without the API server: %+v", e)
		}
		if second.source.count() > 0 {
			t.Error("a report before all was received: it would take back what the first agent acknowledged")
		}
		// While it was away, the program went and the pod lost its policies.
		second.sync(second.state(2, nil, "n/a"))
		if e, _ := second.policy.endpoint(render.InterfaceName("n/a")); len(e.Ingress) > 0 {
			t.Errorf("endpoint after the first list: %+v", e)
		}
		if _, ok := disk.objects["PolicyProgram gnp.a"]; ok {
			t.Error("a deletion while the agent was away was missed")
		}
		second.stop()
	})
}

func TestStatusWritesOfOthersAreNoNews(t *testing.T) {
	bubble(t, func(t *testing.T, l *lab) {
		l.sync(l.state(1, []string{"gnp.a"}, "n/a"), l.program("gnp.a", 1))
		reports, applies, flushes := l.source.count(), l.policy.count(), l.checkpoint.pending
		p := l.program("gnp.a", 1)
		p.Status.Enforced = "1/1"
		l.set(p)
		own := l.state(1, []string{"gnp.a"}, "n/a")
		own.Status = l.source.last(t).Status // what the API server makes of the agent's own report
		l.set(own)
		pause(time.Second)
		if l.source.count() != reports || l.policy.count() != applies || l.checkpoint.pending > flushes {
			t.Errorf("reports %d -> %d, applies %d -> %d", reports, l.source.count(), applies, l.policy.count())
		}
	})
}

// TestReportsAreNewerThanWhatWasReported: an agent that starts anew, perhaps with a clock that went back, is not taken for an earlier one.
func TestReportsAreNewerThanWhatWasReported(t *testing.T) {
	bubble(t, func(t *testing.T, l *lab) {
		const earlier = 1 << 50
		state := l.state(1, nil, "n/a")
		state.Status.Sequence = earlier
		l.sync(state)
		if after := l.source.last(t).After; after != earlier {
			t.Errorf("the report is newer than that of sequence %d, want %d", after, earlier)
		}
	})
}

func TestNodeStateCreatedAnewIsReportedTo(t *testing.T) {
	bubble(t, func(t *testing.T, l *lab) {
		l.sync(l.state(1, nil, "n/a"))
		reports := l.source.count()
		l.source.sink.Delete(source.NodeState, node, "200")
		synctest.Wait()
		if e, ok := l.policy.endpoint(render.InterfaceName("n/a")); !ok || e.Unknown {
			t.Errorf("without a NodeState the endpoint is %+v, want it as it was", e)
		}
		s := l.state(1, nil, "n/a")
		s.UID = "another"
		l.set(s)
		if l.source.count() != reports+1 {
			t.Errorf("%d reports to a NodeState whose status is empty, want 1", l.source.count()-reports)
		}
	})
}

func TestNewsFromElsewhereIsAcknowledgedLater(t *testing.T) {
	bubble(t, func(t *testing.T, l *lab) {
		l.sync(l.state(1, []string{"gnp.a"}, "n/a"), l.program("gnp.a", 1, "aa1"), l.catalog(1, "aa1"))
		reports := l.source.count()
		elsewhere := &v1alpha1.NodeEndpoints{ObjectMeta: l.meta("worker2", 1), Spec: v1alpha1.NodeEndpointsSpec{
			Endpoints: []v1alpha1.RemoteEndpoint{{ID: "n/b", Identities: []string{"i1"}, Addresses: []string{"10.48.1.1"}}},
		}}
		l.set(elsewhere)
		if len(l.policy.members) != 2 {
			t.Errorf("members: %v, want the pod elsewhere beside the one here", l.policy.members)
		}
		if l.source.count() != reports {
			t.Error("a pod elsewhere made this node write")
		}
		l.set(l.program("gnp.unrelated", 1))
		if l.source.count() != reports {
			t.Error("a policy that concerns no pod here made this node write")
		}
		l.set(l.program("gnp.a", 2, "aa1"))
		if l.source.count() != reports+1 {
			t.Errorf("%d reports after a policy changed that concerns the node, want 1", l.source.count()-reports)
		}
		if got, want := l.source.last(t).Status.Applied["NodeEndpoints"], elsewhere.ResourceVersion; got != want {
			t.Errorf("acknowledged NodeEndpoints %s, want %s", got, want)
		}
		other := l.program("gnp.unrelated", 2)
		l.set(other)
		pause(20 * time.Second)
		if got := l.source.last(t).Status.Applied["PolicyProgram"]; got != other.ResourceVersion {
			t.Errorf("acknowledged PolicyProgram %s in the end, want %s", got, other.ResourceVersion)
		}
		reports = l.source.count()
		for version := range 100 {
			l.source.sink.Reached(source.PolicyProgram, strconv.Itoa(10_000+version))
			pause(time.Minute)
		}
		if l.source.count() != reports {
			t.Errorf("%d reports in a cluster in which nothing happens", l.source.count()-reports)
		}
	})
}

func TestWhatIsHeldBackIsNotAcknowledged(t *testing.T) {
	bubble(t, func(t *testing.T, l *lab) {
		l.sync(l.state(1, []string{"gnp.a"}, "n/a"), l.program("gnp.a", 1))
		before := l.source.last(t).Status.Applied["PolicyProgram"]
		p := l.program("gnp.a", 2, "aa1")
		l.set(p)
		pause(time.Minute)
		s := l.source.last(t).Status
		if got := parseVersion(s.Applied["PolicyProgram"]); got >= parseVersion(p.ResourceVersion) {
			t.Errorf("acknowledged %d (before: %s), though %s waits for a set", got, before, p.ResourceVersion)
		}
		if len(s.Failures) != 1 || !strings.Contains(s.Failures[0].Message, "waits for set aa1") {
			t.Errorf("failures: %v", s.Failures)
		}
		l.set(l.catalog(1, "aa1"))
		s = l.source.last(t).Status
		if s.Applied["PolicyProgram"] != p.ResourceVersion || len(s.Failures) > 0 {
			t.Errorf("after the set came: %v, failures %v", s.Applied, s.Failures)
		}
	})
}

func TestFailedApplyIsTriedAgain(t *testing.T) {
	bubble(t, func(t *testing.T, l *lab) {
		l.policy.failWith(errors.New("no buffer space"))
		l.sync(l.state(1, nil, "n/a"))
		pause(10 * time.Second)
		s := l.source.last(t).Status
		if s.Conditions[0].Status != "False" || s.Conditions[0].Reason != ReasonApplyFailed || s.ObservedGeneration != 0 {
			t.Errorf("status while applying fails: %+v", s)
		}
		if n := l.policy.count(); n < 5 || n > 20 {
			t.Errorf("%d attempts in 10 s", n)
		}
		l.policy.failWith(nil)
		pause(30 * time.Second)
		s = l.source.last(t).Status
		if s.Conditions[0].Status != "True" || s.ObservedGeneration != 1 {
			t.Errorf("status once applying succeeded: %+v", s)
		}
	})
}

func TestEverythingIsComparedNowAndThen(t *testing.T) {
	bubble(t, func(t *testing.T, l *lab) {
		l.sync(l.state(1, nil, "n/a"))
		pause(time.Hour)
		if n := l.policy.resynced(); n < 9 || n > 15 {
			t.Errorf("%d comparisons in an hour, want about one in five minutes", n)
		}
		n := l.policy.count()
		l.policy.changed <- struct{}{}
		synctest.Wait()
		if l.policy.count() != n+1 {
			t.Error("a foreign change brought no apply")
		}
	})
}

func TestCheckKnowsAttachments(t *testing.T) {
	bubble(t, func(t *testing.T, l *lab) {
		l.sync(l.state(1, nil, "n/a"))
		r := addRequest("n/a", "uid-n/a", "c1")
		check := protocol.CheckRequest{Attachment: r.Attachment, Netns: r.Netns, PodNamespace: r.PodNamespace, PodName: r.PodName, PodUID: r.PodUID}
		var e *protocol.Error
		if _, err := l.agent.Check(t.Context(), check); !errors.As(err, &e) || e.Code != protocol.CodeUnknownAttachment {
			t.Errorf("check before ADD: %v", err)
		}
		added, err := l.agent.Add(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		checked, err := l.agent.Check(t.Context(), check)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(added, checked, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
			t.Error(d)
		}
		if err := l.agent.GC(t.Context(), protocol.GCRequest{}); err != nil {
			t.Fatal(err)
		}
		if _, err := l.agent.Check(t.Context(), check); !errors.As(err, &e) || e.Code != protocol.CodeUnknownAttachment {
			t.Errorf("check after GC: %v", err)
		}
	})
}

func TestAddGivesUpWithItsCaller(t *testing.T) {
	bubble(t, func(t *testing.T, l *lab) {
		l.sync(l.state(1, nil))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := l.agent.Add(ctx, addRequest("n/a", "uid-n/a", "c1")); err == nil {
			t.Fatal("ADD of an unknown pod was answered")
		}
		l.set(l.state(2, nil, "n/a"))
		if len(l.addresses.attached) > 0 {
			t.Errorf("attached for a caller that is gone: %v", l.addresses.attached)
		}
	})
}
