package agent

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/nodeagent/connections"
	"github.com/manul-net/manul/nodeagent/source"
)

// fakeConnections are a kernel's, from 10.48.7.7 or to it unless said otherwise.
type fakeConnections struct {
	mu      sync.Mutex
	flows   []*connections.Flow
	aborted []connections.Tuple
	asked   [][]netip.Addr
	fail    error
	hold    chan struct{} // not nil: a list waits for it
}

const peer = "10.48.7.7"

func port(s string, n uint16) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(s), n) }

// connect adds a connection by TCP, whose source port tells it from others.
func (c *fakeConnections) connect(from string, fromPort uint16, to string, toPort uint16) {
	c.mu.Lock()
	defer c.mu.Unlock()
	source, destination := port(from, fromPort), port(to, toPort)
	c.flows = append(c.flows, &connections.Flow{
		Protocol: 6, Original: connections.Tuple{Source: source, Destination: destination}, Reply: connections.Tuple{Source: destination, Destination: source},
	})
}

func (c *fakeConnections) Each(ctx context.Context, involving []netip.Addr, f func(*connections.Flow) bool) error {
	c.mu.Lock()
	c.asked = append(c.asked, involving)
	flows, hold, fail := slices.Clone(c.flows), c.hold, c.fail
	c.mu.Unlock()
	if hold != nil {
		<-hold
	}
	if fail != nil {
		return fail
	}
	for _, flow := range flows {
		if !f(flow) {
			break
		}
	}
	return ctx.Err()
}

func (c *fakeConnections) End(f *connections.Flow) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.Index(c.flows, f)
	if i < 0 {
		return false, nil
	}
	c.flows = slices.Delete(c.flows, i, i+1)
	return true, nil
}

func (c *fakeConnections) Abort(own connections.Tuple) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.aborted = append(c.aborted, own)
	return true, nil
}

func (*fakeConnections) Towards(a netip.Addr) (connections.Place, error) {
	if a == netip.MustParseAddr(ownAddress) {
		return connections.Place{Local: true}, nil
	}
	return connections.Place{Interface: "eth0"}, nil
}

const ownAddress = "192.168.0.1"

// open lists the source ports of the connections that there are.
func (c *fakeConnections) open() []uint16 {
	c.mu.Lock()
	defer c.mu.Unlock()
	var ports []uint16
	for _, f := range c.flows {
		ports = append(ports, f.Original.Source.Port())
	}
	return ports
}

func (c *fakeConnections) set(change func()) { c.mu.Lock(); defer c.mu.Unlock(); change() }

// lists is how often the kernel was asked, and for what at last.
func (c *fakeConnections) lists() (int, []netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.asked) == 0 {
		return 0, nil
	}
	return len(c.asked), c.asked[len(c.asked)-1]
}

// connected runs a test with an agent whose node has two pods, 10.48.0.0 and 10.48.0.1, and a connection from the peer to each
// and one between them.
func connected(t *testing.T, test func(t *testing.T, l *lab)) {
	t.Helper()
	bubble(t, func(t *testing.T, l *lab) {
		l.connections.connect(peer, 1, "10.48.0.0", 80)
		l.connections.connect(peer, 2, "10.48.0.1", 80)
		l.connections.connect("10.48.0.0", 3, "10.48.0.1", 80)
		l.sync(l.state(1, nil, "n/a", "n/b"), l.denying("gnp.a", 1))
		l.open(t, 1, 2, 3)
		test(t, l)
	})
}

// denying is a program that denies everything.
func (l *lab) denying(name string, generation int64) *v1alpha1.PolicyProgram {
	return &v1alpha1.PolicyProgram{ObjectMeta: l.meta(name, generation), Spec: v1alpha1.PolicyProgramSpec{Ingress: []v1alpha1.Rule{{Action: v1alpha1.Deny}}}}
}

// denied is a state in which policies apply to the first pod only.
func (l *lab) denied(generation int64, policies ...string) *v1alpha1.NodeState {
	s := l.state(generation, policies, "n/a", "n/b")
	s.Spec.Endpoints[1].Ingress = nil
	return s
}

func (l *lab) open(t *testing.T, want ...uint16) {
	t.Helper()
	if d := cmp.Diff(want, l.connections.open(), cmpopts.EquateEmpty()); d != "" {
		t.Errorf("connections that go on, by their source port (-want +got):\n%s", d)
	}
}

func counted(t *testing.T, c prometheus.Counter) float64 {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(c)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return families[0].GetMetric()[0].GetCounter().GetValue()
}

func TestConnectionsThatPolicyComesToDenyAreEnded(t *testing.T) {
	connected(t, func(t *testing.T, l *lab) {
		pause(time.Minute)
		l.set(l.denied(2, "gnp.a"))
		l.open(t, 2, 3)
		if _, asked := l.connections.lists(); len(asked) != 1 || asked[0].String() != "10.48.0.0" {
			t.Errorf("the kernel was asked for %v, want the pod's address alone", asked)
		}
		if got := counted(t, l.agent.Metrics.ended); got != 1 {
			t.Errorf("%v connections are counted as ended", got)
		}
		lists, _ := l.connections.lists()
		l.set(l.denied(3))
		pause(time.Minute)
		l.set(l.program("gnp.unused", 1))
		if again, _ := l.connections.lists(); again != lists+1 {
			t.Errorf("the kernel was asked %d times; a program that nobody uses is no reason", again-lists)
		}
	})
}

// An agent does not know what it missed while there was none.
func TestConnectionsAreLookedThroughAtTheStart(t *testing.T) {
	bubble(t, func(t *testing.T, l *lab) {
		l.connections.connect(peer, 1, "10.48.0.0", 80)
		l.sync(l.denied(1, "gnp.a"), l.denying("gnp.a", 1))
		l.open(t)
	})
}

func TestDeniedConnectionsGoOnWhereThatIsAskedFor(t *testing.T) {
	connected(t, func(t *testing.T, l *lab) {
		keep := l.denied(2, "gnp.a")
		keep.Spec.Settings.KeepDeniedConnections = true
		l.set(keep)
		pause(time.Minute)
		l.open(t, 1, 2, 3)
		l.set(l.denied(3, "gnp.a"))
		l.open(t, 2, 3)
	})
}

// What is dropped only because something is not known yet may turn out to be allowed.
func TestConnectionsOfUnknownEndpointsGoOn(t *testing.T) {
	connected(t, func(t *testing.T, l *lab) {
		l.set(l.denied(2, "gnp.later"))
		pause(time.Minute)
		l.open(t, 1, 2, 3)
		l.set(l.denying("gnp.later", 1))
		pause(time.Second)
		l.open(t, 2, 3)
		l.set(l.state(3, nil)) // the pods are gone
		pause(time.Minute)
		l.open(t, 2, 3)
	})
}

// Whoever still sends to an earlier pod's address is judged by the policies of the pod that has it now.
func TestConnectionsOfAnEarlierPodAreJudgedByTheNewOnes(t *testing.T) {
	bubble(t, func(t *testing.T, l *lab) {
		l.sync(l.state(1, nil), l.denying("gnp.a", 1))
		pause(time.Minute)
		l.connections.connect(peer, 1, "10.48.0.0", 80)
		l.set(l.denied(2, "gnp.a"))
		pause(time.Second)
		l.open(t)
	})
}

func TestConnectionsAreEndedOnlyWhenPolicyIsInEffect(t *testing.T) {
	connected(t, func(t *testing.T, l *lab) {
		l.policy.failWith(errors.New("no such device"))
		l.set(l.denied(2, "gnp.a"))
		pause(time.Minute)
		l.open(t, 1, 2, 3)
		l.policy.failWith(nil)
		pause(time.Minute)
		l.open(t, 2, 3)
	})
}

func TestFailedPassIsTriedAgain(t *testing.T) {
	connected(t, func(t *testing.T, l *lab) {
		l.connections.set(func() { l.connections.fail = errors.New("no buffer space available") })
		l.set(l.denied(2, "gnp.a"))
		pause(time.Minute)
		l.open(t, 1, 2, 3)
		lists, _ := l.connections.lists()
		if lists < 3 || lists > 12 {
			t.Errorf("asked %d times in a minute", lists)
		}
		l.connections.set(func() { l.connections.fail = nil })
		pause(time.Minute)
		l.open(t, 2, 3)
	})
}

// However much changes while a pass is under way, one more pass sees to it.
func TestChangesDuringAPassAreSeenToAtOnce(t *testing.T) {
	connected(t, func(t *testing.T, l *lab) {
		pause(time.Minute)
		hold := make(chan struct{})
		l.connections.set(func() { l.connections.hold = hold })
		before, _ := l.connections.lists()
		l.set(l.denied(2))
		l.set(l.denied(3, "gnp.a"))
		l.set(l.state(4, []string{"gnp.a"}, "n/a", "n/b"))
		l.set(l.denied(5, "gnp.b"))
		l.set(l.denying("gnp.b", 1))
		l.connections.set(func() { l.connections.hold = nil })
		close(hold)
		pause(time.Minute)
		l.open(t, 2, 3)
		if lists, _ := l.connections.lists(); lists-before > 2 {
			t.Errorf("%d passes, want two", lists-before)
		}
	})
}

func TestConnectionsOfTheNodeItself(t *testing.T) {
	bubble(t, func(t *testing.T, l *lab) {
		l.interfaces.set("eth0", ownAddress)
		l.connections.connect(peer, 1, ownAddress, 80)
		l.connections.connect(peer, 2, ownAddress, 22)
		l.connections.connect(ownAddress, 3, peer, 5432)
		l.connections.connect(ownAddress, 4, ownAddress, 80)
		l.connections.connect(peer, 5, "10.9.9.9", 80) // passes through
		h := guarded("h1", "eth0")
		h.Local.Egress = h.Local.Ingress
		s := l.hostState(1, h)
		s.Spec.Settings.FailsafeInbound = []v1alpha1.FailsafePort{{Protocol: 6, Port: 22}}
		l.sync(s, l.denying("gnp.a", 1))
		l.open(t, 2, 4, 5)
		want := []connections.Tuple{
			{Source: port(ownAddress, 80), Destination: port(peer, 1)},
			{Source: port(ownAddress, 3), Destination: port(peer, 5432)},
		}
		if d := cmp.Diff(want, l.connections.aborted, cmpopts.EquateComparable(netip.AddrPort{})); d != "" {
			t.Errorf("sockets that were ended (-want +got):\n%s", d)
		}
	})
}

// Of a connection that is older than the rules it is not known who began it. It goes on if either side may.
func TestConnectionsThatWerePickedUpInTheirMiddle(t *testing.T) {
	bubble(t, func(t *testing.T, l *lab) {
		l.interfaces.set("eth0", ownAddress)
		l.connections.connect(peer, 6443, ownAddress, 1000) // an answer of the API server
		l.connections.connect(peer, 2, ownAddress, 81)
		l.connections.connect(peer, 3, ownAddress, 82)
		for i := range 2 {
			l.connections.flows[i].PickedUp = true
		}
		program := l.denying("gnp.a", 1)
		program.Spec.Egress = []v1alpha1.Rule{
			{Action: v1alpha1.Allow, Protocol: new(int32(6)), Destination: v1alpha1.EntityMatch{Ports: []v1alpha1.PortRange{{First: 6443, Last: 6443}}}},
		}
		h := guarded("h1", "eth0")
		h.Local.Egress = h.Local.Ingress
		l.sync(l.hostState(1, h), program)
		l.open(t, 6443)
	})
}

func TestManyConnectionsAreJudgedInParts(t *testing.T) {
	connected(t, func(t *testing.T, l *lab) {
		for p := range uint16(10 * judgeAtOnce) {
			l.connections.connect(peer, 1000+p, "10.48.0.0", 80)
		}
		l.set(l.denied(2, "gnp.a"))
		pause(time.Second)
		l.open(t, 2, 3)
	})
}

// A pass that is under way does not keep an agent from stopping.
func TestStopDuringAPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, newFakeCheckpoint(), newFakeAddresses())
		hold := make(chan struct{})
		l.connections.hold = hold
		l.connections.connect(peer, 1, "10.48.0.0", 80)
		l.sync(l.denied(1, "gnp.a"), source.Object(l.denying("gnp.a", 1)))
		go func() { <-time.After(time.Second); close(hold) }()
		l.stop()
		l.open(t, 1)
	})
}
