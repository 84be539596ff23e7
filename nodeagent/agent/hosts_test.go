package agent

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/nodeagent/tables"
)

// hostState is a NodeState with one host endpoint.
func (l *lab) hostState(generation int64, h v1alpha1.HostEndpoint) *v1alpha1.NodeState {
	s := l.state(generation, nil)
	s.Spec.HostEndpoints = []v1alpha1.HostEndpoint{h}
	return s
}

func guarded(name, iface string, addrs ...string) v1alpha1.HostEndpoint {
	return v1alpha1.HostEndpoint{Name: name, Interface: iface, Addresses: addrs, DefaultAction: v1alpha1.Deny, Local: v1alpha1.DirectionPolicies{
		Ingress: []v1alpha1.TierPolicies{{Tier: "default", DefaultAction: v1alpha1.Deny, Policies: []string{"gnp.a"}}},
	}}
}

func TestHostEndpointFollowsTheInterfaceOfItsAddress(t *testing.T) {
	bubble(t, func(t *testing.T, l *lab) {
		l.sync(l.hostState(1, guarded("h1", "", "192.168.0.1")), l.program("gnp.a", 1))
		want := []v1alpha1.Failure{{Kind: "HostEndpoint", Name: "h1", Message: "expectedIPs: no interface of the node has any of 192.168.0.1"}}
		if d := cmp.Diff(want, l.source.last(t).Status.Failures); d != "" {
			t.Errorf("failures while no interface has the address (-want +got):\n%s", d)
		}
		l.interfaces.set("eth0", "192.168.0.1")
		if h, ok := l.policy.host("eth0"); !ok || len(h.Local.Ingress) != 1 {
			t.Errorf("host endpoint of eth0: %+v", h)
		}
		pause(2 * time.Second)
		status := l.source.last(t).Status
		if len(status.Failures) > 0 || status.Summary.HostEndpoints != 1 {
			t.Errorf("failures %v, %d host endpoints", status.Failures, status.Summary.HostEndpoints)
		}
		l.interfaces.set("eth1", "192.168.0.1")
		_, stays := l.policy.host("eth0")
		if _, came := l.policy.host("eth1"); stays || !came {
			t.Errorf("after the address moved: eth0 %t, eth1 %t", stays, came)
		}
	})
}

func TestHostEndpointThatWaitsIsNotAcknowledged(t *testing.T) {
	bubble(t, func(t *testing.T, l *lab) {
		l.sync(l.hostState(1, guarded("h1", "eth0")))
		if h, _ := l.policy.host("eth0"); !h.Unknown {
			t.Errorf("before its program is known: %+v, want one that is denied", h)
		}
		if got := l.source.last(t).Status.ObservedGeneration; got != 0 {
			t.Errorf("observed generation %d while its program is missing", got)
		}
		pause(6 * time.Second)
		if f := l.source.last(t).Status.Failures; len(f) != 1 || f[0].Kind != "HostEndpoint" || f[0].Name != "h1" || !strings.Contains(f[0].Message, "gnp.a") {
			t.Errorf("failures after a while: %+v", f)
		}
		l.set(l.program("gnp.a", 1))
		pause(2 * time.Second)
		if s := l.source.last(t).Status; s.ObservedGeneration != 1 || len(s.Failures) > 0 {
			t.Errorf("after the program came: generation %d, failures %v", s.ObservedGeneration, s.Failures)
		}
	})
}

func TestRefusedHostEndpointIsReportedByItsOwnName(t *testing.T) {
	bubble(t, func(t *testing.T, l *lab) {
		l.policy.failWith(errors.Join(&tables.ItemError{Kind: tables.KindHostEndpoint, Name: "*", Err: errors.New("no such table")}))
		l.sync(l.hostState(1, guarded("worker1-auto-hep", "*")), l.program("gnp.a", 1))
		want := []v1alpha1.Failure{{Kind: "HostEndpoint", Name: "worker1-auto-hep", Message: "no such table"}}
		if d := cmp.Diff(want, l.source.last(t).Status.Failures); d != "" {
			t.Errorf("failures (-want +got):\n%s", d)
		}
	})
}
