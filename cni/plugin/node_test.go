package plugin

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/vishvananda/netlink"

	"github.com/manul-net/manul/cni/protocol"
)

func TestHundredPodsAtOnce(t *testing.T) {
	w := newWorld(t, "10.48.0.1", "fd00:48::1")
	w.serve()
	pods := make([]*testPod, 100)
	for i := range pods {
		pods[i] = w.pod(fmt.Sprintf("c%d", i), fmt.Sprintf("web-%d", i))
	}
	each := func(f func(*testPod) error) {
		var all sync.WaitGroup
		for _, p := range pods {
			all.Go(func() {
				if err := f(p); err != nil {
					t.Errorf("%s: %v", p.id, err)
				}
			})
		}
		all.Wait()
	}
	each(func(p *testPod) error { _, err := p.add(); return err })
	if n := len(w.hostLinks()); n != 100 {
		t.Errorf("%d interfaces", n)
	}
	each(func(p *testPod) error { return p.check() })
	w.ok(transfer(pods[7].netns, pods[93].netns, w.agent.holds[pods[93].attachment()].Addresses[0].String()))
	each(func(p *testPod) error { return p.del() })
	w.wantNothing()
}

func TestAddAndDelOfOneContainerAtOnce(t *testing.T) {
	w := newWorld(t)
	w.serve()
	p := w.pod("c1", "web")
	env, config := p.env(), w.config("1.1.0")
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			if _, err := w.call([]string{"ADD", "DEL"}[i%2], env, config); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	// Whatever came last: all of it or nothing.
	if n := len(w.hostLinks()); n != w.agent.held() {
		t.Errorf("%d interfaces, %d with the agent", n, w.agent.held())
	}
	p.mustAdd()
	w.ok(p.check())
	w.ok(p.del())
	w.wantNothing()
}

func TestGC(t *testing.T) {
	w := newWorld(t)
	w.serve()
	keep, stale := w.pod("c1", "keep"), w.pod("c2", "stale")
	keep.mustAdd()
	stale.mustAdd()
	foreign := netlink.NewVeth(netlink.LinkAttrs{Name: "califoreign"})
	foreign.PeerName = "foreign0"
	w.in(w.host, func() { // not ours, though of our prefix
		w.ok(netlink.LinkAdd(foreign))
	})
	gc := func(valid ...types.GCAttachment) error {
		_, err := w.call("GC", []string{"CNI_PATH=/nowhere"}, w.config("1.1.0", "cni.dev/valid-attachments", valid, "cni.dev/attachments", valid))
		return err
	}
	w.ok(gc(types.GCAttachment{ContainerID: "c1", IfName: "eth0"}))
	w.ok(keep.check())
	want := map[string]bool{keep.hostName(): true, "califoreign": true}
	for _, name := range w.hostLinks() {
		if !want[name] {
			t.Errorf("%s is left", name)
		}
		delete(want, name)
	}
	if len(want) != 0 || w.agent.held() != 1 {
		t.Errorf("removed too much: %v, %d held", want, w.agent.held())
	}
	wantCode(t, gc(types.GCAttachment{ContainerID: "../c1", IfName: "eth0"}), protocol.CodeInvalidRequest, "valid[0]: containerID")
	w.ok(keep.check())
}

func TestStatus(t *testing.T) {
	w := newWorld(t)
	status := func() error {
		_, err := w.call("STATUS", []string{"CNI_PATH=/nowhere"}, w.config("1.1.0"))
		return err
	}
	wantCode(t, status(), types.ErrPluginNotAvailable, w.socket)
	w.serve()
	w.ok(status())
	w.agent.failing(errors.New("the dataplane has not been written yet"))
	wantCode(t, status(), types.ErrPluginNotAvailable, "dataplane")
	w.agent.failing(protocol.Errorf(protocol.CodeLimitedConnectivity, "routes are missing"))
	wantCode(t, status(), types.ErrLimitedConnectivity, "routes are missing")
}

func BenchmarkAddDel(b *testing.B) {
	w := newWorld(b)
	w.serve()
	p := w.pod("c1", "web")
	var add, del time.Duration
	for b.Loop() {
		t0 := time.Now()
		if _, err := p.add(); err != nil {
			b.Fatal(err)
		}
		t1 := time.Now()
		if err := p.del(); err != nil {
			b.Fatal(err)
		}
		add, del = add+t1.Sub(t0), del+time.Since(t1)
	}
	b.ReportMetric(float64(add.Microseconds())/1000/float64(b.N), "ms/ADD")
	b.ReportMetric(float64(del.Microseconds())/1000/float64(b.N), "ms/DEL")
}
