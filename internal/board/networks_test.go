package board

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/render"
)

func network(node, address string) *v1alpha1.NodeNetwork {
	return &v1alpha1.NodeNetwork{ObjectMeta: named(node), Spec: v1alpha1.NodeNetworkSpec{Addresses: []string{address}}}
}

func (f *follower) networks() map[string]string {
	out := map[string]string{}
	for key, item := range f.items {
		if spec, ok := item.(*v1alpha1.NodeNetworkSpec); ok {
			out[key] = spec.Addresses[0]
		}
	}
	return out
}

func (f *follower) sameNetworksAs(what string, c *cluster, node string) {
	f.t.Helper()
	if d := cmp.Diff(c.follow(node).networks(), f.networks()); d != "" {
		f.t.Errorf("%s: it knows others than who begins now (-begins +knows):\n%s", what, d)
	}
}

// TestNetworksOfNodes: whoever begins when, is slow, or comes back, knows the networks of all nodes as they are.
func TestNetworksOfNodes(t *testing.T) {
	c := newCluster(t)
	for i := range 100 {
		c.put(network(fmt.Sprintf("n%d", i), "192.0.2.1"))
	}
	first := c.follow("n0")
	first.sameNetworksAs("who begins first", c, "n1")
	c.put(network("n5", "192.0.2.9"))
	first.expect("one changes", "+ NodeNetwork n5 ")
	first.expect("nothing changes")
	first.sameNetworksAs("one has changed since somebody began", c, "n1")
	c.gone(render.KindNodeNetwork, "n6")
	first.expect("one goes", "- NodeNetwork n6 ")
	first.sameNetworksAs("one has gone since somebody began", c, "n1")
	c.put(network("n7", "192.0.2.8"))
	c.put(network("n7", "192.0.2.7"))
	c.gone(render.KindNodeNetwork, "n8")
	c.put(network("n8", "192.0.2.6"))
	first.expect("some change more than once", "+ NodeNetwork n7 ", "+ NodeNetwork n8 ")
	for i := range 10 * fewChanges {
		c.put(network(fmt.Sprintf("n%d", 10+i%20), fmt.Sprintf("192.0.2.%d", i%250)))
	}
	c.gone(render.KindNodeNetwork, "n29")
	told := first.take()
	if len(told) != 20 || !slices.Contains(told, "- NodeNetwork n29 ") {
		t.Errorf("who was slow for thousands of changes of 20 networks is told %d: %q", len(told), told)
	}
	first.sameNetworksAs("it was slow", c, "n1")
}

// TestNetworksThatChangeTogether: as when all nodes get another tunnel.
func TestNetworksThatChangeTogether(t *testing.T) {
	const nodes = 2 * fewChanges
	c := newCluster(t)
	all := func(address string) (objs []runtime.Object) {
		for i := range nodes {
			objs = append(objs, network(fmt.Sprintf("n%d", i), address))
		}
		return objs
	}
	c.put(all("192.0.2.1")...)
	f, slow := c.follow("n1"), c.follow("n2")
	for i := range 5 {
		c.put(all(fmt.Sprintf("192.0.2.%d", 10+i))...)
		if told := f.take(); len(told) != nodes {
			t.Errorf("change %d: %d of %d networks are told", i, len(told), nodes)
		}
	}
	if told := slow.take(); len(told) != nodes {
		t.Errorf("who was slow is told of %d of %d networks", len(told), nodes)
	}
	f.sameNetworksAs("all changed", c, "n3")
	slow.sameNetworksAs("all changed, and it was slow", c, "n3")
	var gone []Change
	for i := range nodes - 2 {
		gone = append(gone, Change{Key: networkKey(fmt.Sprintf("n%d", i)).Key})
	}
	if err := c.board.Put(gone, time.Now()); err != nil {
		t.Fatal(err)
	}
	f.take()
	slow.take()
	f.sameNetworksAs("most nodes went", c, "n3")
	slow.sameNetworksAs("most nodes went", c, "n3")
	if n := len(c.board.networks.changes); n > 4*nodes {
		t.Errorf("%d changes are remembered", n)
	}
}

func TestWhoComesBackIsToldOfNetworksThatItMissed(t *testing.T) {
	for _, tc := range []struct {
		what    string
		missed  int
		back    uint64
		resumed bool
		told    []string
	}{
		{"it has all that it was sent", 1, 0, true, []string{"+ NodeNetwork m0 "}},
		{"it did not get the last batch", 1, 1, true, []string{"+ NodeNetwork last ", "+ NodeNetwork m0 "}},
		{"it missed more than is remembered", 4 * fewChanges, 0, false, nil},
	} {
		t.Run(tc.what, func(t *testing.T) {
			c := newCluster(t)
			c.put(network("n1", "192.0.2.1"))
			f := c.follow("n1")
			c.put(network("last", "192.0.2.2"))
			f.take()
			f.sub.Leave(f.attachment, func() {})
			for i := range tc.missed {
				c.put(network(fmt.Sprintf("m%d", i%10), fmt.Sprintf("192.0.2.%d", i%250)))
			}
			if got := c.board.Resumes("n1", f.epoch, f.cursor-tc.back); got != tc.resumed {
				t.Errorf("resumes: %v", got)
			}
			var resumed bool
			f.sub, f.attachment, resumed = c.board.Subscribe("n1", f.epoch, f.cursor-tc.back)
			told := f.take()
			if resumed != tc.resumed || resumed && !slices.Equal(told, tc.told) {
				t.Errorf("resumed: %v; told %q, want %q", resumed, told, tc.told)
			}
			f.sameNetworksAs("it came back", c, "n2")
		})
	}
}

// TestNetworksAreKeptOnce: what is remembered for a node that has received everything does not grow with the number of nodes.
func TestNetworksAreKeptOnce(t *testing.T) {
	c := newCluster(t)
	for i := range 1000 {
		c.put(network(fmt.Sprintf("n%d", i), "192.0.2.1"))
	}
	f, other := c.follow("n1"), c.follow("n2")
	if f.sub.sentItems != 0 || len(f.sub.pending) != 0 {
		t.Errorf("%d sent and %d pending items are remembered for a node", f.sub.sentItems, len(f.sub.pending))
	}
	n := &c.board.networks
	if all, _ := n.collection(c.board.cursor); all != n.all || len(all.Items) != 1000 {
		t.Errorf("two nodes that began did not share what they were told: %d items", len(all.Items))
	}
	f.sub.Acknowledge(f.cursor)
	other.sub.Acknowledge(other.cursor)
	if f.sub.sent != nil {
		t.Errorf("what was acknowledged is remembered: %d batches", len(f.sub.sent))
	}
}
