package leases

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/ipam"
)

// blocksOf counts the blocks of each node: "n1 2, n2 1".
func (c *cluster) blocksOf() string {
	count := map[string]int{}
	for _, h := range c.holdings() {
		count[h.Node]++
	}
	var out []string
	for node, n := range count {
		out = append(out, fmt.Sprint(node, " ", n))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// wide is a cluster of nodes with a pool of 64 blocks of four addresses, of which none is leased yet.
func wide(t *testing.T, names ...string) *cluster {
	t.Helper()
	c := tiny(t, names...)
	c.pools[0] = pool("wide", "10.48.0.0/24", func(s *v3.IPPoolSpec) { s.BlockSize = 30 })
	c.blocks, c.affinities = nil, nil
	return c
}

// TestIPAMConfiguration: what each setting does to a cluster in which n1 needs room for 100 pods, and n2 for none. While somebody lacks
// addresses, nobody leases ahead of need.
func TestIPAMConfiguration(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*v3.IPAMConfigurationSpec)
		want   string
	}{
		"none: 20 blocks of a family, further ones as they are needed": {func(*v3.IPAMConfigurationSpec) {}, "n1 20, n2 1"},
		"maxBlocksPerHost: 0 is 20":                                    {func(s *v3.IPAMConfigurationSpec) { s.MaxBlocksPerHost = 0 }, "n1 20, n2 1"},
		"maxBlocksPerHost: 3":                                          {func(s *v3.IPAMConfigurationSpec) { s.MaxBlocksPerHost = 3 }, "n1 3, n2 1"},
		"maxBlocksPerHost: 40":                                         {func(s *v3.IPAMConfigurationSpec) { s.MaxBlocksPerHost = 40 }, "n1 27, n2 2"},
		"autoAllocateBlocks: false":                                    {func(s *v3.IPAMConfigurationSpec) { s.AutoAllocateBlocks = false }, ""},
		"strictAffinity: true, blocks alone":                           {func(s *v3.IPAMConfigurationSpec) { s.StrictAffinity, s.MaxBlocksPerHost = true, 3 }, "n1 3, n2 1"},
	} {
		t.Run(name, func(t *testing.T) {
			c := wide(t, "n1", "n2")
			tc.change(&c.settings)
			c.need("n1", 100)
			for range 5 { // loans that are asked for and not agreed to don't count here
				c.step()
			}
			if got := c.blocksOf(); got != tc.want {
				t.Errorf("nodes have %q, want %q", got, tc.want)
			}
			if strict := c.settings.StrictAffinity; strict && strings.Contains(c.has(), string(ipam.LoanAsked)) {
				t.Errorf("nodes borrow: %s", c.has())
			}
		})
	}
}

// A setting that is made stricter takes nothing from anyone.
func TestStricterSettingsTakeNothing(t *testing.T) {
	for name, change := range map[string]func(*v3.IPAMConfigurationSpec){
		"maxBlocksPerHost":   func(s *v3.IPAMConfigurationSpec) { s.MaxBlocksPerHost = 1 },
		"autoAllocateBlocks": func(s *v3.IPAMConfigurationSpec) { s.AutoAllocateBlocks = false },
		"strictAffinity":     func(s *v3.IPAMConfigurationSpec) { s.StrictAffinity = true },
	} {
		t.Run(name, func(t *testing.T) {
			c := wide(t, "n1")
			c.need("n1", 8)
			c.settle()
			var used []string
			for _, h := range c.holdings() {
				used = append(used, all(h)...)
			}
			c.hold("n1", used...)
			before := c.blocksOf()
			change(&c.settings)
			c.settle()
			c.agree("n1")
			c.wait()
			c.settle()
			if got := c.blocksOf(); got != before && !strings.HasPrefix(got, "n1 ") || strings.Contains(c.has(), "-10.") {
				t.Errorf("the node has %s, and had %s before", c.has(), before)
			}
		})
	}
}

// A node that is cut off keeps all that it has, for however long and whatever happens to its pools; when it answers again, what it does not use
// goes back.
func TestNodeThatIsCutOffKeepsWhatItHas(t *testing.T) {
	c := tiny(t, "n1", "n2")
	one, two := c.blockOf("n1"), c.blockOf("n2")
	answers := func(s corev1.ConditionStatus) {
		c.nodes[1].Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: s}}
	}
	answers(corev1.ConditionUnknown)
	c.hold("n1", all(one)...)
	c.need("n1", 3)
	before := c.has()
	c.settle()
	c.want("another node needs addresses", before)
	c.pools[0].Spec.Disabled = true
	for range 120 {
		c.now = c.now.Add(patience)
		c.settle()
		if h, there := c.holdings()[two.Block]; !there || h.Node != "n2" {
			t.Fatalf("after %s nodes have %s", c.now.Sub(time.Unix(1_700_000_000, 0)), c.has())
		}
	}
	answers(corev1.ConditionTrue)
	c.settle()
	c.agree("n2")
	c.settle()
	if _, there := c.holdings()[two.Block]; there {
		t.Errorf("nodes have %s, want that of n2 back", c.has())
	}
}

// A node that is deleted and comes back under its name begins with a block of its own, in which nobody's addresses are, and a late word from
// before counts for nothing.
func TestNodeThatComesBackUnderItsName(t *testing.T) {
	c := wide(t, "n1", "n2")
	c.settle()
	two := c.blockOf("n2")
	late := v1alpha1.LeaseStatus{CIDR: two.Block.String(), Revision: two.Revision, Released: true}
	c.nodes = nodes("n1")
	c.settle()
	if strings.Contains(c.has(), "n2 ") {
		t.Fatalf("the node is gone: nodes have %s", c.has())
	}
	c.now = c.now.Add(time.Minute)
	c.nodes = nodes("n1", "n2")
	for range 3 {
		for _, l := range decide(c.state).lease {
			c.blocks = append(c.blocks, *blockObject(l, c.now))
			c.affinities = append(c.affinities, *affinityObject(l))
		}
	}
	again := c.blockOf("n2")
	if again.Revision <= two.Revision {
		t.Errorf("the new lease has revision %d, the old one had %d", again.Revision, two.Revision)
	}
	late.CIDR = again.Block.String()
	c.node("n2").Status.Leases = []v1alpha1.LeaseStatus{late}
	before := c.has()
	c.settle()
	c.want("a late word", before)
}

// A namespace, or a pod, asks for another pool than before: the pods that run keep what they have, and the node their block; when the last of
// them is gone the block goes back.
func TestAnnotationThatChanges(t *testing.T) {
	c := tiny(t, "n1")
	c.pools[0].Spec.AssignmentMode = v3.AssignmentManual
	c.pools = append(c.pools, pool("other", "10.49.0.0/29", func(s *v3.IPPoolSpec) { s.BlockSize, s.AssignmentMode = 30, v3.AssignmentManual }))
	asks := func(pool string) {
		n := c.node("n1")
		for i := range n.Spec.Endpoints {
			n.Spec.Endpoints[i].Addresses.Pools = []string{pool}
		}
	}
	n := c.node("n1")
	n.Spec.Endpoints = []v1alpha1.Endpoint{{ID: "x/one", UID: types.UID("u1")}}
	c.demand["n1"] = 1
	asks("10.48.0.0/29")
	c.settle()
	one := c.blockOf("n1")
	n.Status.Endpoints = []v1alpha1.EndpointStatus{{ID: "x/one", UID: "u1", Addresses: all(one)[:1]}}
	c.settle()

	// The namespace's annotation names the other pool now, and a second pod comes.
	n.Spec.Endpoints = append(n.Spec.Endpoints, v1alpha1.Endpoint{ID: "x/two", UID: types.UID("u2")})
	c.demand["n1"] = 2
	asks("10.49.0.0/29")
	settle := func() {
		for range 3 {
			c.settle()
			c.agree("n1")
			c.wait()
		}
	}
	settle()
	if got := c.has(); !strings.Contains(got, "n1 10.49.0.") || !strings.Contains(got, "n1 -"+one.Block.String()) {
		t.Fatalf("the node has %s: want a block of the other pool, and the first one as long as a pod uses it", got)
	}
	n.Status.Endpoints = []v1alpha1.EndpointStatus{{ID: "x/two", UID: "u2", Addresses: []string{"10.49.0.0"}}}
	n.Spec.Endpoints = n.Spec.Endpoints[1:]
	c.demand["n1"] = 1
	settle()
	if got := c.has(); strings.Contains(got, one.Block.String()) {
		t.Errorf("the node has %s: nobody uses the first one", got)
	}
}
