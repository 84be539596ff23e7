package leases

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/blocks"
	"github.com/manul-net/manul/internal/ipam"
)

// cluster is a state whose decisions can be carried out.
type cluster struct {
	*state
	t *testing.T
}

// tiny is a cluster of nodes with a pool of two blocks of four addresses.
func tiny(t *testing.T, names ...string) *cluster {
	t.Helper()
	s := &state{
		pools:    []v3.IPPool{pool("tiny", "10.48.0.0/29", func(s *v3.IPPoolSpec) { s.BlockSize = 30 })},
		nodes:    nodes(names...),
		settings: standardSettings(), demand: map[string]int{}, now: time.Unix(1_700_000_000, 0),
	}
	for _, name := range names {
		s.nodeStates = append(s.nodeStates, v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	c := &cluster{state: s, t: t}
	c.settle()
	return c
}

func (c *cluster) node(name string) *v1alpha1.NodeState {
	i := slices.IndexFunc(c.nodeStates, func(n v1alpha1.NodeState) bool { return n.Name == name })
	return &c.nodeStates[i]
}

// hold has a node's pods hold addresses.
func (c *cluster) hold(name string, addrs ...string) {
	n := c.node(name)
	n.Spec.Endpoints, n.Status.Endpoints = nil, nil
	for _, addr := range addrs {
		n.Spec.Endpoints = append(n.Spec.Endpoints, v1alpha1.Endpoint{ID: "x/" + addr, UID: types.UID(addr)})
		n.Status.Endpoints = append(n.Status.Endpoints, v1alpha1.EndpointStatus{ID: "x/" + addr, UID: types.UID(addr), Addresses: []string{addr}})
	}
	c.demand[name] = len(addrs)
}

// need has further pods of a node wait for addresses.
func (c *cluster) need(name string, pods int) {
	c.demand[name] = len(c.node(name).Spec.Endpoints) + pods
}

// step carries out one decision, and tells whether there was anything to do.
func (c *cluster) step() bool {
	d := decide(c.state)
	for _, l := range d.lease {
		given(c.state, l)
	}
	for _, h := range d.change {
		blocks.Write(h, &c.object(h.Block).Spec)
	}
	for _, l := range d.release {
		c.blocks = slices.DeleteFunc(c.blocks, func(b v3.IPAMBlock) bool { return b.Name == ipam.Name(l.Block) })
	}
	return len(d.lease)+len(d.change)+len(d.release) > 0
}

// settle carries out decisions until there is nothing to do but by time.
func (c *cluster) settle() {
	c.t.Helper()
	for range 20 {
		if !c.step() {
			return
		}
	}
	c.t.Fatal("there is always something more to do")
}

// agree has a node agree to all that it is asked, but for what its pods hold.
func (c *cluster) agree(name string) {
	n := c.node(name)
	n.Status.Leases = nil
	holds := func(cidr netip.Prefix) bool {
		return slices.ContainsFunc(n.Status.Endpoints, func(e v1alpha1.EndpointStatus) bool { return cidr.Contains(netip.MustParseAddr(e.Addresses[0])) })
	}
	for _, h := range c.holdings() {
		l := v1alpha1.LeaseStatus{CIDR: h.Block.String(), Revision: h.Revision, Released: h.Withdrawn && !holds(h.Block)}
		for _, loan := range h.Loans {
			single := netip.PrefixFrom(loan.Address, 32)
			if h.Node == name && !holds(single) {
				l.Withheld = append(l.Withheld, loan.Address.String())
			}
			if loan.Node == name && loan.State != ipam.LoanAsked {
				n.Status.Leases = append(n.Status.Leases, v1alpha1.LeaseStatus{
					CIDR: single.String(), Revision: loan.Revision, Released: loan.State == ipam.LoanRecalled && !holds(single),
				})
			}
		}
		if h.Node == name {
			n.Status.Leases = append(n.Status.Leases, l)
		}
	}
}

// has lists what nodes have: "n1 10.48.0.0/30", "n1 -10.48.0.0/30" for a withdrawn block, "n2 10.48.0.3 Given" for a loan.
func (c *cluster) has() string {
	var out []string
	for _, h := range c.holdings() {
		sign := ""
		if h.Withdrawn {
			sign = "-"
		}
		out = append(out, h.Node+" "+sign+h.Block.String())
		for _, loan := range h.Loans {
			out = append(out, loan.Node+" "+loan.Address.String()+" "+string(loan.State))
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func (c *cluster) want(when, want string) {
	c.t.Helper()
	if got := c.has(); got != want {
		c.t.Fatalf("%s: nodes have %s; want %s", when, got, want)
	}
}

func (c *cluster) wait() { c.now = c.now.Add(patience) }

// blockOfN1 and blockOfN2 are the blocks of a tiny cluster in the order of its nodes.
func (c *cluster) blockOf(name string) ipam.Holding {
	for _, h := range c.holdings() {
		if h.Node == name {
			return h
		}
	}
	c.t.Fatalf("node %s has no block", name)
	return ipam.Holding{}
}

func all(h ipam.Holding) []string {
	var out []string
	for offset := range ipam.Size(h.Block) {
		out = append(out, ipam.AddrAt(h.Block, offset).String())
	}
	return out
}

// TestBorrowing follows a single address to another node and back.
func TestBorrowing(t *testing.T) {
	c := tiny(t, "n1", "n2")
	one, two := c.blockOf("n1"), c.blockOf("n2")
	blocks := func(more ...string) string {
		list := append([]string{"n1 " + one.Block.String(), "n2 " + two.Block.String()}, more...)
		slices.Sort(list)
		return strings.Join(list, ", ")
	}
	c.hold("n1", all(one)...)
	c.need("n1", 1)
	c.settle()
	last := ipam.Last(two.Block).String()
	c.want("one pod too many", blocks("n1 "+last+" Asked"))
	c.agree("n1")
	c.settle()
	c.want("the borrower's word is not asked", blocks("n1 "+last+" Asked"))
	c.agree("n2")
	c.settle()
	c.want("the owner agreed", blocks("n1 "+last+" Given"))
	if f := decide(c.state).findings["tiny"]; !f.allocatable {
		t.Errorf("the pool is said to be exhausted: %+v", f)
	}
	c.hold("n1", append(all(one), last)...)
	c.wait()
	c.settle()
	c.want("it is in use", blocks("n1 "+last+" Given"))
	c.hold("n1", all(one)[1:]...)
	c.settle()
	c.want("a pod may come right away", blocks("n1 "+last+" Given"))
	c.wait()
	c.settle()
	c.want("it is not needed any more", blocks("n1 "+last+" Recalled"))
	c.agree("n2")
	c.settle()
	c.want("the owner's word is not asked", blocks("n1 "+last+" Recalled"))
	c.agree("n1")
	c.settle()
	c.want("the borrower let go", blocks())
}

func TestNoBorrowing(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*cluster)
		says   string
	}{
		"strict affinity": {func(c *cluster) { c.settings.StrictAffinity = true }, "strictAffinity: false"},
		"the owner does not answer": {func(c *cluster) {
			c.nodes[1].Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown}}
		}, "no node that answers can spare one"},
		"the owner needs all itself": {func(c *cluster) { c.need("n2", 4) }, "add an IPPool, or delete pods"},
		"the owner uses all":         {func(c *cluster) { c.hold("n2", all(c.blockOf("n2"))...) }, "8 of 8 addresses of 10.48.0.0/29 are in use"},
	} {
		t.Run(name, func(t *testing.T) {
			c := tiny(t, "n1", "n2")
			before := c.has()
			c.hold("n1", all(c.blockOf("n1"))...)
			c.need("n1", 1)
			tc.change(c)
			c.settle()
			c.want(name, before)
			f := decide(c.state).findings["tiny"]
			if f.reason != ReasonExhausted || !strings.Contains(f.message, tc.says) || !strings.Contains(f.message, "node n1 lacks 1 addresses") {
				t.Errorf("finding is %+v, want %q in it", f, tc.says)
			}
		})
	}
}

// An owner that takes the address itself in the meantime is asked for another.
func TestOwnerWasFaster(t *testing.T) {
	c := tiny(t, "n1", "n2")
	one, two := c.blockOf("n1"), c.blockOf("n2")
	c.hold("n1", all(one)...)
	c.need("n1", 1)
	c.settle()
	last := ipam.Last(two.Block)
	c.hold("n2", last.String())
	c.settle()
	want := []string{"n1 " + last.Prev().String() + " Asked", "n1 " + one.Block.String(), "n2 " + two.Block.String()}
	slices.Sort(want)
	c.want("the owner uses it", strings.Join(want, ", "))
}

// The address that a pod asks for by name comes from the node that has its block.
func TestNamedAddressIsBorrowed(t *testing.T) {
	c := tiny(t, "n1", "n2")
	two := c.blockOf("n2")
	addr := all(two)[1]
	n1 := c.node("n1")
	n1.Spec.Endpoints = []v1alpha1.Endpoint{{ID: "x/fixed", UID: "u", Addresses: v1alpha1.AddressRequest{Fixed: []string{addr}}}}
	c.demand["n1"] = 1
	c.settle()
	c.agree("n2")
	c.settle()
	if got := c.has(); !strings.Contains(got, "n1 "+addr+" Given") {
		t.Errorf("nodes have %s", got)
	}
}

// TestPoolsThatChange: what is in use stays in use, what is not goes back.
func TestPoolsThatChange(t *testing.T) {
	for name, tc := range map[string]struct {
		change, undo func(*cluster)
	}{
		"disabled": {
			func(c *cluster) { c.pools[0].Spec.Disabled = true },
			func(c *cluster) { c.pools[0].Spec.Disabled = false },
		},
		"for no node": {
			func(c *cluster) { c.pools[0].Spec.NodeSelector = "name == 'none'" },
			func(c *cluster) { c.pools[0].Spec.NodeSelector = "all()" },
		},
		"for namespaces of which no pod is there": {
			func(c *cluster) { c.pools[0].Spec.NamespaceSelector = "team == 'none'" },
			func(c *cluster) { c.pools[0].Spec.NamespaceSelector = "" },
		},
		"not for pods": {
			func(c *cluster) { c.pools[0].Spec.AllowedUses = []v3.IPPoolAllowedUse{v3.IPPoolAllowedUseTunnel} },
			func(c *cluster) { c.pools[0].Spec.AllowedUses = nil },
		},
		"manual": {
			func(c *cluster) { c.pools[0].Spec.AssignmentMode = v3.AssignmentManual },
			func(c *cluster) { c.pools[0].Spec.AssignmentMode = v3.AssignmentAutomatic },
		},
		"deleted": {
			func(c *cluster) { c.pools[0].Name, c.pools[0].Spec.CIDR = "other", "10.99.0.0/24" },
			func(c *cluster) { c.pools[0].Name, c.pools[0].Spec.CIDR = "tiny", "10.48.0.0/29" },
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := tiny(t, "n1", "n2")
			one, two := c.blockOf("n1"), c.blockOf("n2")
			c.hold("n1", all(one)[0])
			tc.change(c)
			gone := func() bool { _, there := c.holdings()[two.Block]; return !there }
			c.settle()
			c.agree("n1")
			c.agree("n2")
			c.settle()
			if gone() {
				t.Fatal("a block goes back at once")
			}
			c.wait()
			c.settle()
			if gone() {
				t.Fatal("the block went back without the node's consent")
			}
			c.agree("n1")
			c.agree("n2")
			c.settle()
			if h := c.holdings()[one.Block]; !gone() || !h.Withdrawn || h.Node != "n1" {
				t.Fatalf("nodes have %s, want the block of n1 withdrawn and that of n2 gone", c.has())
			}
			// Undone in time, the node keeps what it has.
			tc.undo(c)
			c.need("n1", 1)
			c.settle()
			if h := c.holdings()[one.Block]; h.Withdrawn {
				t.Fatalf("nodes have %s, want the block of n1 restored", c.has())
			}
		})
	}
}

// A block whose addresses others have borrowed goes to one of them when its node is gone.
func TestBlockOfANodeThatIsGoneGoesToTheBorrower(t *testing.T) {
	c := tiny(t, "n1", "n2")
	one, two := c.blockOf("n1"), c.blockOf("n2")
	last := ipam.Last(two.Block).String()
	c.hold("n1", all(one)...)
	c.need("n1", 1)
	c.settle()
	c.agree("n2")
	c.settle()
	c.hold("n1", append(all(one), last)...)
	c.nodes, c.bound = nodes("n1"), map[string]bool{"n2": true}
	before := c.has()
	c.settle()
	c.want("pods are still bound to the node", before)
	c.bound = nil
	c.settle()
	list := []string{"n1 " + one.Block.String(), "n1 " + two.Block.String()}
	slices.Sort(list)
	c.want("the node is gone", strings.Join(list, ", "))
	if h := c.holdings()[two.Block]; h.Revision <= two.Revision {
		t.Errorf("the revision went from %d to %d", two.Revision, h.Revision)
	}
	// A borrower that is gone needs nothing back.
	c = tiny(t, "n1", "n2")
	c.hold("n1", all(c.blockOf("n1"))...)
	c.need("n1", 1)
	c.settle()
	c.agree("n2")
	c.settle()
	c.nodes = nodes("n2")
	c.settle()
	if got := c.has(); strings.Contains(got, "n1 ") {
		t.Errorf("nodes have %s", got)
	}
}

// Addresses of a node that is gone rest for the cooldown before another node can give them, from when its last pod is gone too.
func TestAddressesOfANodeThatIsGoneRest(t *testing.T) {
	const cooldown = 60 * time.Second
	lent := func(t *testing.T) (c *cluster, one, two ipam.Holding) {
		t.Helper()
		c = tiny(t, "n1", "n2")
		c.settings.IPCooldownSeconds = new(int32(cooldown.Seconds()))
		one, two = c.blockOf("n1"), c.blockOf("n2")
		c.hold("n1", all(one)...)
		c.need("n1", 1)
		c.settle()
		c.agree("n2")
		c.settle()
		c.hold("n1", append(all(one), ipam.Last(two.Block).String())...)
		return c, one, two
	}
	pass := func(c *cluster, d time.Duration) { c.now = c.now.Add(d); c.settle() }

	t.Run("a block goes back after the cooldown", func(t *testing.T) {
		c := tiny(t, "n1", "n2")
		c.settings.IPCooldownSeconds = new(int32(cooldown.Seconds()))
		before := c.has()
		c.nodes = nodes("n1")
		c.settle()
		c.want("at once", before)
		if again := decide(c.state).again; again != cooldown {
			t.Errorf("the next look is in %s, want %s", again, cooldown)
		}
		pass(c, cooldown-time.Second)
		c.want("before the cooldown is over", before)
		pass(c, time.Second)
		if strings.Contains(c.has(), "n2 ") {
			t.Errorf("after the cooldown: %s", c.has())
		}
	})
	t.Run("the time begins when the last pod is gone", func(t *testing.T) {
		c := tiny(t, "n1", "n2")
		c.settings.IPCooldownSeconds = new(int32(cooldown.Seconds()))
		before := c.has()
		c.nodes, c.bound = nodes("n1"), map[string]bool{"n2": true}
		pass(c, 2*cooldown)
		c.bound = nil
		pass(c, cooldown-time.Second)
		c.want("the last pod has just gone", before)
		pass(c, time.Second)
		if strings.Contains(c.has(), "n2 ") {
			t.Errorf("after the cooldown: %s", c.has())
		}
	})
	t.Run("a node that comes back has its block", func(t *testing.T) {
		c := tiny(t, "n1", "n2")
		c.settings.IPCooldownSeconds = new(int32(cooldown.Seconds()))
		before := c.has()
		c.nodes = nodes("n1")
		pass(c, cooldown/2)
		c.nodes = nodes("n1", "n2")
		pass(c, cooldown)
		c.want("it is back", before)
		c.nodes = nodes("n1")
		pass(c, cooldown/2)
		c.want("gone again, the time begins anew", before)
	})
	t.Run("a block that others borrow from goes to one of them after it", func(t *testing.T) {
		c, one, two := lent(t)
		c.nodes = nodes("n1")
		before := c.has()
		c.settle()
		pass(c, cooldown-time.Second)
		c.want("before the cooldown is over", before)
		pass(c, time.Second)
		list := []string{"n1 " + one.Block.String(), "n1 " + two.Block.String()}
		slices.Sort(list)
		c.want("after it", strings.Join(list, ", "))
	})
	t.Run("what it borrowed is the owner's after it", func(t *testing.T) {
		c, _, _ := lent(t)
		c.nodes = nodes("n2")
		before := c.has()
		c.settle()
		pass(c, cooldown-time.Second)
		c.want("before the cooldown is over", before)
		pass(c, time.Second)
		if strings.Contains(c.has(), "n1 ") {
			t.Errorf("after it: nodes have %s", c.has())
		}
	})
}

// What is empty and not needed goes back, and then to whom it is short, also with strict affinity.
func TestEmptyBlocksGoToWhomNeedsThem(t *testing.T) {
	c := tiny(t, "n1", "n2")
	c.settings.StrictAffinity = true
	one := c.blockOf("n1")
	c.pools[0].Spec.CIDR = "10.48.0.0/28" // four blocks
	c.hold("n1", all(one)...)
	c.need("n1", 4)
	c.settle()
	c.hold("n1", all(one)...) // they are gone again, and n2 has pods
	c.need("n2", 8)
	for range 4 {
		c.settle()
		c.agree("n1")
		c.agree("n2")
	}
	c.settle()
	count := 0
	for _, h := range c.holdings() {
		if h.Node == "n2" {
			count++
		}
	}
	if count < 2 {
		t.Errorf("nodes have %s: n2 needs two blocks", c.has())
	}
}
