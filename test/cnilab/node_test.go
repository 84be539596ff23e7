package cnilab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/vishvananda/netlink"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/cni/protocol"
	"github.com/manul-net/manul/internal/usage"
	"github.com/manul-net/manul/nodeagent/render"
	"github.com/manul-net/manul/test/cniplugins"
)

// pluginEnv names the plugin's program.
const pluginEnv = "MANUL_TEST_PLUGIN"

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "manul-cnilab-")
		if err != nil {
			slog.Error("making a folder for the plugin", "error", err)
			return 1
		}
		defer os.RemoveAll(dir) // below the temporary folder
		if os.Getuid() == 0 {
			plugin, err := cniplugins.Manul(context.Background(), dir)
			if err := errors.Join(err, os.Setenv(pluginEnv, plugin)); err != nil {
				slog.Error("building the plugin", "error", err)
				return 1
			}
		}
		return m.Run()
	}())
}

// lab is a node under test.
type lab struct {
	*Node
	t        *testing.T
	operator *Operator
}

func newLab(t *testing.T, pods ...string) *lab {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: makes network namespaces")
	}
	l := &lab{t: t, operator: NewOperator("10.48.0.0/24")}
	l.operator.SetPods(pods...)
	node, err := New(t.TempDir(), os.Getenv(pluginEnv), l.operator)
	l.ok(err)
	l.Node = node
	l.AddWait = 20 * time.Second // the machine may be busy
	t.Cleanup(func() { l.ok(node.Close()) })
	return l
}

func (l *lab) ok(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) start() { l.t.Helper(); l.ok(l.Start(l.t.Context())) }

func (l *lab) sandbox(pod, id string) *Sandbox {
	l.t.Helper()
	s, err := l.Sandbox(pod, id)
	l.ok(err)
	l.t.Cleanup(func() { l.ok(s.Remove()) })
	return s
}

func (l *lab) add(s *Sandbox) string {
	l.t.Helper()
	_, err := s.Add()
	l.ok(err)
	return s.Result.IPs[0].Address.IP.String()
}

func (l *lab) del(s *Sandbox) { l.t.Helper(); _, err := s.Del(); l.ok(err) }

func (l *lab) eventually(what string, check func() bool) {
	l.t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !check() {
		select {
		case <-deadline:
			l.t.Fatalf("not within a minute: %s; the node's pods hold %v", what, l.operator.Held())
		case <-tick.C:
		}
	}
}

// nothing expects that no interface is left, and once the pods have gone no address either.
func (l *lab) nothing() {
	l.t.Helper()
	names, err := l.Interfaces()
	l.ok(err)
	if len(names) > 0 {
		l.t.Errorf("interfaces are left: %v", names)
	}
	l.operator.SetPods()
	l.eventually("all addresses are free", func() bool { return len(l.operator.Held()) == 0 })
}

func retryable(err error) bool {
	e, ok := errors.AsType[*types.Error](err)
	return ok && e.Code == protocol.CodeTryAgainLater
}

// each calls f for all at once.
func each(t *testing.T, list []*Sandbox, f func(*Sandbox) error) {
	t.Helper()
	var all sync.WaitGroup
	for _, s := range list {
		all.Go(func() {
			if err := f(s); err != nil {
				t.Errorf("%s: %v", s.Pod, err)
			}
		})
	}
	all.Wait()
}

func TestHundredPodsAtOnceOnARealAgent(t *testing.T) {
	pods := Pods(100)
	l := newLab(t, pods...)
	l.start()
	var list []*Sandbox
	for _, pod := range pods {
		list = append(list, l.sandbox(pod, strings.ReplaceAll(pod, "/", "-")))
	}
	each(t, list, func(s *Sandbox) error { _, err := s.Add(); return err })
	seen := map[string]string{}
	for _, s := range list {
		if s.Result == nil {
			continue
		}
		ip := s.Result.IPs[0].Address.IP.String()
		if other, twice := seen[ip]; twice {
			t.Errorf("%s has the address %s of %s", s.Pod, ip, other)
		}
		seen[ip] = s.Pod
	}
	each(t, list, (*Sandbox).Check)
	each(t, list, func(s *Sandbox) error { _, err := s.Del(); return err })
	l.nothing()
}

// The agent goes while ADDs wait, some for their pod's state. The runtime gets an error that tells it to try again, and once the
// agent is back that succeeds; nothing is leaked.
func TestAgentRestartedInTheMiddleOfAdd(t *testing.T) {
	known, unknown := Pods(20)[:10], Pods(20)[10:]
	l := newLab(t, known...)
	l.start()
	var list []*Sandbox
	for _, pod := range append(slices.Clone(known), unknown...) {
		list = append(list, l.sandbox(pod, strings.ReplaceAll(pod, "/", "-")))
	}
	failed := make(chan error, len(list))
	var all sync.WaitGroup
	for _, s := range list {
		all.Go(func() {
			if _, err := s.Add(); err != nil {
				failed <- err
			}
		})
	}
	l.eventually("the known pods' addresses", func() bool { return len(l.operator.Held()) == len(known) })
	l.ok(l.Stop())
	all.Wait()
	close(failed)
	count := 0
	for err := range failed {
		count++
		if !retryable(err) {
			t.Errorf("%v: want one that says to try again", err)
		}
	}
	if count < len(unknown) {
		t.Errorf("%d of %d ADDs failed; the node knew nothing of %d pods", count, len(list), len(unknown))
	}

	l.operator.SetPods(append(slices.Clone(known), unknown...)...)
	l.start()
	each(t, list, func(s *Sandbox) error { _, err := s.Add(); return err })
	each(t, list, (*Sandbox).Check)
	names, err := l.Interfaces()
	l.ok(err)
	if len(names) != len(list) {
		t.Errorf("%d interfaces for %d pods", len(names), len(list))
	}
	each(t, list, func(s *Sandbox) error { _, err := s.Del(); return err })
	l.nothing()
}

// The node starts anew: interfaces, rules and routes are gone, the journal is there. A pod that is still bound to the node gets the
// address that it had, in a sandbox of its own; the runtime's late DEL of the old one takes nothing from it. What has left meanwhile
// is free once the runtime says that its sandbox is gone, by a DEL or by leaving it out of a GC.
func TestSandboxesFromBeforeAReboot(t *testing.T) {
	pods := Pods(3)
	stays, byDel, byGC := pods[0], pods[1], pods[2]
	l := newLab(t, pods...)
	l.start()
	old := map[string]*Sandbox{}
	had := map[string]string{}
	for _, pod := range pods {
		old[pod] = l.sandbox(pod, "old-"+strings.ReplaceAll(pod, "/", "-"))
		had[pod] = l.add(old[pod])
	}
	l.ok(l.Reboot())
	l.operator.SetPods(stays)
	l.start()

	fresh := l.sandbox(stays, "new")
	if got := l.add(fresh); got != had[stays] {
		t.Errorf("the pod has address %s, and had %s before", got, had[stays])
	}
	l.del(old[stays])
	l.ok(fresh.Check())

	held := func(want ...string) func() bool {
		return func() bool {
			got := l.operator.Held()
			for _, pod := range want {
				if len(got[pod]) == 0 {
					return false
				}
			}
			return len(got) == len(want)
		}
	}
	l.eventually("what the runtime has not given up is held", held(stays, byDel, byGC))
	l.del(old[byDel])
	l.eventually("what a DEL gave up is free", held(stays, byGC))
	l.ok(l.GC(fresh))
	l.eventually("what a GC does not list is free", held(stays))
	l.ok(fresh.Check())
	l.del(fresh)
	l.nothing()
}

// A node loses power, and its runtime knows nothing of the sandboxes from before: no DEL and no GC ever comes. What no pod of the node uses goes
// back by itself; the pod that is still bound to it keeps its address, and when it leaves nothing of its old sandbox holds that.
func TestForgottenSandboxesOnARealNode(t *testing.T) {
	pods := Pods(3)
	stays, left, runs := pods[0], pods[1], pods[2]
	l := newLab(t, pods...)
	l.ForgottenAfter = time.Second
	l.start()
	had := map[string]string{}
	for _, pod := range pods {
		had[pod] = l.add(l.sandbox(pod, "old-"+strings.ReplaceAll(pod, "/", "-")))
	}
	l.ok(l.Reboot())
	l.operator.SetPods(stays, runs)
	l.start()
	fresh, running := l.sandbox(stays, "new"), l.sandbox(runs, "runs")
	if got := l.add(fresh); got != had[stays] {
		t.Errorf("the pod has address %s, and had %s before", got, had[stays])
	}
	l.add(running)
	l.operator.SetPods(stays) // the other's container stays for a while

	l.eventually("what nobody uses is free", func() bool {
		held := l.operator.Held()
		return len(held[left]) == 0 && len(held[stays]) == 1
	})
	if held := l.operator.Held(); len(held[runs]) != 1 {
		t.Errorf("a container that runs lost its address: %v", held)
	}
	l.ok(fresh.Check())
	l.del(fresh)
	l.del(running)
	l.nothing()
}

// What is wrong in the kernel comes to light in kubectl manul ipam check: the agent compares, reports, and the check tells it.
func TestCheckFindsWhatIsWrongInTheKernel(t *testing.T) {
	pods := Pods(3)
	well, cut, left := pods[0], pods[1], pods[2]
	l := newLab(t, pods...)
	l.ForgottenAfter = 20 * time.Second // findings are told after a tenth, and seen before it is over
	l.start()
	had := map[string]string{}
	for _, pod := range pods {
		had[pod] = l.add(l.sandbox(pod, "c-"+strings.TrimPrefix(pod, "lab/")))
	}
	finds := func(want ...string) {
		t.Helper()
		slices.Sort(want)
		var got []string
		l.eventually(fmt.Sprint("the check finds ", want), func() bool {
			got = nil
			state := v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: Name}, Status: l.operator.Status()}
			for _, f := range usage.Check(&usage.Cluster{NodeStates: []v1alpha1.NodeState{state}}) {
				switch f.Reason {
				case usage.AttachmentForgotten, usage.InterfaceMissing, usage.InterfaceUnknown, usage.RouteNotInEffect:
					got = append(got, f.Reason+" "+f.Object)
				}
			}
			return slices.Equal(got, want)
		})
	}
	// The interface of a pod is removed behind everybody's back, an interface appears that bears the mark of a container that nobody added, and a
	// pod leaves whose interface is removed without a DEL.
	remove := func(pod string) {
		t.Helper()
		l.ok(l.In(func() error {
			link, err := netlink.LinkByName(render.InterfaceName(pod))
			if err != nil {
				return err
			}
			return netlink.LinkDel(link)
		}))
	}
	remove(cut)
	l.ok(l.In(func() error {
		ghost := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "cali0123456789a"}, PeerName: "ghost0"}
		if err := netlink.LinkAdd(ghost); err != nil {
			return err
		}
		link, err := netlink.LinkByName("cali0123456789a")
		if err != nil {
			return err
		}
		return netlink.LinkSetAlias(link, protocol.InterfaceMark+"ghost/eth0")
	}))
	l.operator.SetPods(well, cut)
	remove(left)
	forgotten, unknown, missing := "AttachmentForgotten worker1 c-web-002/eth0", "InterfaceUnknown worker1 ghost/eth0", "InterfaceMissing worker1 c-web-001/eth0"
	finds(forgotten, missing, unknown)
	if held := l.operator.Held(); len(held[left]) != 1 || held[left][0] != had[left] {
		t.Errorf("within the grace period the pod's address is kept: %v", held)
	}
	// Mended: the interface is removed, the pod is made again, and the forgotten address goes back by itself.
	l.ok(l.In(func() error {
		return netlink.LinkDel(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "cali0123456789a"}})
	}))
	again := l.sandbox(cut, "c-again")
	l.add(again)
	finds()
	if held := l.operator.Held(); len(held) != 2 {
		t.Errorf("addresses are held by %v", held)
	}
}

// Without an agent, ADD says to try again and DEL is kept for the agent to find.
func TestWithoutAgent(t *testing.T) {
	pod := Pods(1)[0]
	l := newLab(t, pod)
	s := l.sandbox(pod, "c1")
	if _, err := s.Add(); !retryable(err) {
		t.Errorf("ADD without agent: %v, want one that says to try again", err)
	}
	l.start()
	l.add(s)
	l.ok(l.Stop())
	l.del(s)
	l.operator.SetPods()
	l.start()
	l.eventually("the DEL is replayed", func() bool { return len(l.operator.Held()) == 0 })
	l.operator.SetPods(pod)
	again := l.sandbox(pod, "c2")
	l.add(again)
	l.del(again)
	l.nothing()
}

// ADD and DEL of a pod's sandboxes, in any order and at once: afterwards a pod can always be added, and removed without a trace.
func TestAddsAndDelsRace(t *testing.T) {
	pod := Pods(1)[0]
	l := newLab(t, pod)
	l.start()
	l.del(l.sandbox(pod, "never")) // DEL without ADD
	var list []*Sandbox
	for i := range 4 {
		list = append(list, l.sandbox(pod, fmt.Sprintf("c%d", i)))
	}
	var all sync.WaitGroup
	for i := range 24 {
		all.Go(func() {
			s := *list[i%len(list)] // each call with a memory of its own
			var err error
			if i%3 == 2 {
				_, err = s.Del()
			} else {
				_, err = s.Add() // the same ADD again, too
			}
			// Another sandbox of the pod may have taken the interface's name over: the runtime tries again.
			if err != nil && !retryable(err) {
				if e, ok := errors.AsType[*types.Error](err); !ok || e.Code != protocol.CodeSetup {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	first := l.add(list[0])
	if second := l.add(list[0]); second != first {
		t.Errorf("the same ADD again: %s, then %s", first, second)
	}
	l.ok(list[0].Check())
	for _, s := range list {
		l.del(s)
	}
	l.nothing()
}
