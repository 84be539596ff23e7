package agent

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/cni/protocol"
	"github.com/manul-net/manul/nodeagent/render"
)

// fakeKernel has the interfaces of pods.
type fakeKernel struct {
	mu     sync.Mutex
	marked map[string]string
	looks  int
	gone   chan struct{}
}

func newFakeKernel() *fakeKernel {
	return &fakeKernel{marked: map[string]string{}, gone: make(chan struct{}, 1)}
}

func (k *fakeKernel) Marked() (map[string]string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.looks++
	return maps.Clone(k.marked), nil
}

func (k *fakeKernel) Gone() <-chan struct{} { return k.gone }

func (k *fakeKernel) count() int { k.mu.Lock(); defer k.mu.Unlock(); return k.looks }

// connect gives a container its interface; disconnect takes it away without a word to the agent.
func (k *fakeKernel) connect(pod, container string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.marked[container+"/eth0"] = render.InterfaceName(pod)
}

func (k *fakeKernel) disconnect(container string) {
	k.mu.Lock()
	delete(k.marked, container+"/eth0")
	k.mu.Unlock()
	k.gone <- struct{}{}
	synctest.Wait()
}

// forgetful is an agent whose runtime does not always say that a container is gone.
type forgetful struct {
	*lab
	t      *testing.T
	kernel *fakeKernel
}

func inForgetful(t *testing.T, addresses *fakeAddresses, test func(f *forgetful), change ...func(*Options)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		kernel := newFakeKernel()
		change := append(change, func(o *Options) { o.Attachments = kernel })
		f := &forgetful{newLab(t, newFakeCheckpoint(), addresses, change...), t, kernel}
		test(f)
		f.stop()
	})
}

// names says which pods the node has.
func (f *forgetful) names(generation int64, pods ...string) {
	f.sync(f.state(generation, nil, pods...))
}

// run starts a pod's container: an ADD, and the interface.
func (f *forgetful) run(pod, container string) {
	f.t.Helper()
	r := addRequest(pod, "uid-"+pod, container)
	r.PodNamespace, r.PodName, _ = strings.Cut(pod, "/")
	if _, err := f.agent.Add(f.t.Context(), r); err != nil {
		f.t.Fatal(err)
	}
	f.kernel.connect(pod, container)
}

// holds are the pods with addresses, as the node reports them.
func (f *forgetful) holds(want ...string) {
	f.t.Helper()
	var got []string
	for _, e := range f.source.last(f.t).Status.Endpoints {
		got = append(got, e.ID)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		f.t.Errorf("addresses are held by %v, want %v", got, want)
	}
}

// says is what the node reports of attachments.
func (f *forgetful) says(want ...string) {
	f.t.Helper()
	var got []string
	for _, a := range f.source.last(f.t).Status.Attachments {
		got = append(got, a.Reason+" "+a.Name)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		f.t.Errorf("the node reports %v, want %v", got, want)
	}
}

func (f *forgetful) released() float64 { return testutil.ToFloat64(f.agent.Metrics.released) }

// A container that nobody ended keeps its pod's address for the grace period after its interface and its pod have gone, is reported
// meanwhile, and is given up then.
func TestForgottenAttachmentIsGivenUp(t *testing.T) {
	inForgetful(t, newFakeAddresses(), func(f *forgetful) {
		f.names(1, "a/web", "a/db")
		f.run("a/web", "c1")
		f.run("a/db", "c2")
		f.names(2, "a/db")
		pause(time.Hour)
		f.holds("a/db", "a/web") // its container is there, whoever long ago deleted the pod
		f.says()
		f.kernel.disconnect("c1")
		pause(4 * time.Minute)
		f.holds("a/db", "a/web")
		f.says("Forgotten c1/eth0")
		s := f.source.last(t).Status.Attachments[0]
		if s.Endpoint != "a/web" || len(s.Addresses) != 1 || s.ReleaseAt.Sub(s.Since.Time) != 5*time.Minute {
			t.Errorf("the report is %+v", s)
		}
		if got := testutil.ToFloat64(f.agent.Metrics.attachments.WithLabelValues("Forgotten")); got != 1 {
			t.Errorf("metric of forgotten attachments: %v", got)
		}
		pause(3 * time.Minute)
		f.holds("a/db")
		f.says()
		if f.released() != 1 || testutil.ToFloat64(f.agent.Metrics.attachments.WithLabelValues("Forgotten")) != 0 {
			t.Errorf("%v were released", f.released())
		}
	})
}

// With --keep-forgotten the node only says what it would do.
func TestForgottenAttachmentIsOnlyReported(t *testing.T) {
	inForgetful(t, newFakeAddresses(), func(f *forgetful) {
		f.names(1, "a/web")
		f.run("a/web", "c1")
		f.names(2)
		f.kernel.disconnect("c1")
		pause(time.Hour)
		f.holds("a/web")
		f.says("Forgotten c1/eth0")
		if s := f.source.last(t).Status.Attachments[0]; s.ReleaseAt.IsZero() || f.released() != 0 {
			t.Errorf("the report is %+v, released %v", s, f.released())
		}
	}, func(o *Options) { o.KeepForgotten = true })
}

// What speaks for an attachment keeps its address.
func TestWhatSpeaksForAnAttachment(t *testing.T) {
	for name, test := range map[string]func(f *forgetful){
		"its pod is the node's": func(f *forgetful) {
			f.kernel.disconnect("c1")
			pause(time.Hour)
			f.says("InterfaceMissing c1/eth0")
		},
		"its interface": func(f *forgetful) {
			f.names(2)
			pause(time.Hour)
			f.says()
		},
		"the runtime, in a GC": func(f *forgetful) {
			f.names(2)
			f.kernel.disconnect("c1")
			for range 30 {
				pause(2 * time.Minute)
				err := f.agent.GC(f.t.Context(), protocol.GCRequest{Valid: []protocol.Attachment{{ContainerID: "c1", IfName: "eth0"}}})
				if err != nil {
					f.t.Fatal(err)
				}
			}
		},
		"the node's own state is gone": func(f *forgetful) {
			f.sync() // without a NodeState: the node was deleted
			f.kernel.disconnect("c1")
			pause(time.Hour)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inForgetful(t, newFakeAddresses(), func(f *forgetful) {
				f.names(1, "a/web")
				f.run("a/web", "c1")
				pause(10 * time.Minute)
				test(f)
				f.holds("a/web")
				if f.released() != 0 {
					t.Errorf("%v were released", f.released())
				}
			})
		})
	}
}

// A node that has no API server to hear from goes by its checkpoint, and gives up nothing on its word.
func TestCutOffNodeGivesUpNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		addresses, disk, kernel := newFakeAddresses(), newFakeCheckpoint(), newFakeKernel()
		change := func(o *Options) { o.Attachments = kernel }
		f := &forgetful{newLab(t, disk, addresses, change), t, kernel}
		f.names(1, "a/web", "a/db")
		f.run("a/web", "c1")
		f.run("a/db", "c2")
		f.names(2, "a/db")
		pause(10 * time.Second)
		f.stop()

		// The machine starts anew: no interface is left. For an hour nobody answers.
		kernel.mu.Lock()
		kernel.marked = map[string]string{}
		kernel.mu.Unlock()
		f.lab = newLab(t, disk, addresses, change)
		pause(time.Hour)
		if len(addresses.attached) != 2 || len(addresses.held) != 2 {
			t.Errorf("held are %v, attached %v", addresses.held, addresses.attached)
		}
		// It hears again. The pod that is the node's gets a new sandbox; the old ones are forgotten.
		f.names(3, "a/db")
		f.run("a/db", "c3")
		pause(10 * time.Minute)
		f.holds("a/db")
		if got := fmt.Sprint(addresses.attached); got != "map[c3/eth0:{a/db uid-a/db }]" {
			t.Errorf("attached are %s", got)
		}
		f.stop()
	})
}

// A node that comes back under its name has an old journal, and no pods.
func TestNodeThatComesBackGivesUpWhatItHad(t *testing.T) {
	inForgetful(t, newFakeAddresses(), func(f *forgetful) {
		f.names(1, "a/web")
		f.run("a/web", "c1")
		f.sync() // the node is deleted
		f.kernel.disconnect("c1")
		pause(time.Hour)
		f.holds("a/web")
		again := f.state(1, nil)
		again.UID = "another"
		f.sync(again)
		pause(10 * time.Minute)
		f.holds()
	})
}

// A journal that is lost finds its attachments again by the interfaces, so that a pod that is deleted keeps its address while its
// container runs.
func TestAttachmentsAreFoundAfterTheJournalIsLost(t *testing.T) {
	addresses := newFakeAddresses()
	addresses.lost = true
	inForgetful(t, addresses, func(f *forgetful) {
		f.kernel.connect("a/gone", "c1")
		f.kernel.connect("a/web", "c2")
		f.kernel.connect("a/stranger", "c3")
		state := f.state(1, nil, "a/web")
		state.Status.Conditions = []metav1.Condition{{Type: ConditionReady}}
		for i, pod := range []string{"a/gone", "a/web"} {
			state.Status.Endpoints = append(state.Status.Endpoints, v1alpha1.EndpointStatus{
				ID: pod, UID: uidType("uid-" + pod), Addresses: []string{netip.AddrFrom4([4]byte{10, 48, 0, byte(9 + i)}).String()},
			})
		}
		f.sync(state)
		pause(10 * time.Minute)
		f.holds("a/gone", "a/web")
		f.says("InterfaceUnknown c3/eth0")
		if err := f.agent.Del(f.t.Context(), protocol.DelRequest{Attachment: protocol.Attachment{ContainerID: "c1", IfName: "eth0"}}); err != nil {
			f.t.Fatal(err)
		}
		pause(time.Second)
		f.holds("a/web")
	})
}

// Of a journal that is lost nobody knows which addresses rest after use: all do that the node could have given, where addresses rest at all. A
// node that never reported anything is a new one, and has given none.
func TestWhatRestsWhenTheJournalIsLost(t *testing.T) {
	for name, tc := range map[string]struct {
		cooldown int32
		reported bool
		want     []string
	}{
		"addresses rest after use":  {60, true, []string{"10.48.0.0/26", "10.49.0.9"}},
		"they don't":                {0, true, nil},
		"the node is a new one":     {60, false, nil},
		"a new one, without a rest": {0, false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			addresses := newFakeAddresses()
			addresses.lost = true
			inForgetful(t, addresses, func(f *forgetful) {
				state := f.state(1, nil, "a/web")
				state.Spec.Blocks = []v1alpha1.BlockLease{{CIDR: "10.48.0.0/26", Pool: "10.48.0.0/16"}}
				state.Spec.Borrowed = []v1alpha1.BorrowedAddress{{Address: "10.49.0.9", Pool: "10.49.0.0/16"}}
				state.Spec.Settings.IPAMCooldownSeconds = tc.cooldown
				if tc.reported {
					state.Status.Conditions = []metav1.Condition{{Type: ConditionReady}}
				}
				f.sync(state)
				if diff := cmp.Diff(tc.want, addresses.resting); diff != "" {
					t.Errorf("what rests (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// An attachment that the journal does not have, of a pod that has an address, is taken into it.
func TestAttachmentThatIsMissingInTheJournal(t *testing.T) {
	addresses := newFakeAddresses()
	inForgetful(t, addresses, func(f *forgetful) {
		f.names(1, "a/web")
		f.kernel.connect("a/web", "c1")
		pause(10 * time.Minute)
		f.says()
		f.names(2)
		pause(10 * time.Minute)
		f.holds("a/web")
	})
}

// The kernel is asked when something happens, and otherwise once in five minutes.
func TestKernelIsSeldomAsked(t *testing.T) {
	inForgetful(t, newFakeAddresses(), func(f *forgetful) {
		f.names(1, "a/web")
		f.run("a/web", "c1")
		pause(time.Hour)
		if got := f.kernel.count(); got < 10 || got > 16 {
			t.Errorf("%d times in an hour", got)
		}
		before := f.kernel.count()
		for range 100 {
			f.kernel.gone <- struct{}{}
			pause(100 * time.Millisecond)
		}
		pause(time.Minute)
		if got := f.kernel.count() - before; got < 1 || got > 2 {
			t.Errorf("%d times after a hundred interfaces went within ten seconds", got)
		}
	})
}
