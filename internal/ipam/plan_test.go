package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/manul-net/manul/internal/selector"
)

// summary counts a plan's leases by node and pool.
func summary(leases []Lease) map[string]int {
	counts := map[string]int{}
	for _, l := range leases {
		counts[l.Node+" "+l.Pool.String()]++
	}
	return counts
}

func nodes(names ...string) []Node {
	var list []Node
	for _, name := range names {
		list = append(list, Node{Name: name})
	}
	return list
}

func pool(cidr string, bits int) Pool { return Pool{CIDR: prefix(cidr), BlockBits: bits} }

func TestPlan(t *testing.T) {
	rackA, err := selector.Parse("rack == 'a'")
	if err != nil {
		t.Fatal(err)
	}
	main4, main6 := pool("10.48.0.0/16", 26), pool("fd00:10::/112", 122)
	manual := Pool{CIDR: prefix("10.49.0.0/24"), BlockBits: 26, Manual: true}
	tunnels := Pool{CIDR: prefix("10.50.0.0/24"), BlockBits: 26, TunnelsOnly: true}
	tests := []struct {
		name  string
		in    Input
		lease map[string]int
		short []Shortage
	}{
		{
			name: "nothing",
		},
		{
			name:  "each node gets its first block of each pool",
			in:    Input{Pools: []Pool{main4, main6}, Nodes: nodes("master1", "worker1")},
			lease: map[string]int{"master1 10.48.0.0/16": 1, "master1 fd00:10::/112": 1, "worker1 10.48.0.0/16": 1, "worker1 fd00:10::/112": 1},
		},
		{
			name: "what is leased is not leased again",
			in:   Input{Pools: []Pool{main4}, Nodes: nodes("a"), Leases: []Lease{{prefix("10.48.3.0/26"), main4.CIDR, "a"}}},
		},
		{
			name:  "a pool for tunnels gives each node one block, and none to its pods",
			in:    Input{Pools: []Pool{tunnels}, Nodes: []Node{{Name: "a", Endpoints4: 100}, {Name: "b"}}, Leases: []Lease{{prefix("10.50.0.0/26"), tunnels.CIDR, "b"}}},
			lease: map[string]int{"a 10.50.0.0/24": 1},
			short: []Shortage{{Node: "a", Missing: 100, Reason: NoPool}},
		},
		{
			name:  "48 of 64 addresses in use leave a quarter free",
			in:    Input{Pools: []Pool{main4}, Nodes: []Node{{Name: "a", Endpoints4: 48}}},
			lease: map[string]int{"a 10.48.0.0/16": 1},
		},
		{
			name:  "49 do not",
			in:    Input{Pools: []Pool{main4}, Nodes: []Node{{Name: "a", Endpoints4: 49}}},
			lease: map[string]int{"a 10.48.0.0/16": 2},
		},
		{
			name:  "small blocks: eight addresses are free",
			in:    Input{Pools: []Pool{pool("10.48.0.0/16", 30)}, Nodes: []Node{{Name: "a", Endpoints4: 1}}},
			lease: map[string]int{"a 10.48.0.0/16": 3},
		},
		{
			name:  "disabled pool",
			in:    Input{Pools: []Pool{{CIDR: main4.CIDR, BlockBits: 26, Disabled: true}}, Nodes: []Node{{Name: "a", Endpoints4: 1}}},
			short: []Shortage{{Node: "a", Missing: 1, Reason: NoPool}},
		},
		{
			name:  "manual pool: only where it is asked for",
			in:    Input{Pools: []Pool{manual}, Nodes: []Node{{Name: "a", Asked: []Ask{{[]netip.Prefix{manual.CIDR}, 1}}}, {Name: "b"}}},
			lease: map[string]int{"a 10.49.0.0/24": 1},
		},
		{
			name:  "automatic pool that is asked for",
			in:    Input{Pools: []Pool{main4, pool("10.49.0.0/24", 26)}, Nodes: []Node{{Name: "a", Asked: []Ask{{prefixes("10.49.0.0/24"), 60}}}}},
			lease: map[string]int{"a 10.48.0.0/16": 1, "a 10.49.0.0/24": 2},
		},
		{
			name: "node selector",
			in: Input{
				Pools: []Pool{{CIDR: main4.CIDR, BlockBits: 26, Nodes: rackA}},
				Nodes: []Node{{Name: "a", Labels: map[string]string{"rack": "a"}}, {Name: "b", Labels: map[string]string{"rack": "b"}}},
			},
			lease: map[string]int{"a 10.48.0.0/16": 1},
		},
		{
			name: "who names a pool gets a block of it whatever its node selector says",
			in: Input{
				Pools: []Pool{{CIDR: main4.CIDR, BlockBits: 26, Nodes: rackA}},
				Nodes: []Node{{Name: "b", Asked: []Ask{{[]netip.Prefix{main4.CIDR}, 1}}}},
			},
			lease: map[string]int{"b 10.48.0.0/16": 1},
		},
		{
			name:  "pool for some namespaces: only where one of their pods is",
			in:    Input{Pools: []Pool{{CIDR: main4.CIDR, BlockBits: 26, Namespaced: true}}, Nodes: []Node{{Name: "a"}, {Name: "b", Asked: []Ask{{[]netip.Prefix{main4.CIDR}, 1}}}}},
			lease: map[string]int{"b 10.48.0.0/16": 1},
		},
		{
			name: "who may use several pools goes on in the second when the first is full",
			in: Input{
				Pools: []Pool{{CIDR: prefix("10.50.0.0/26"), BlockBits: 26, Namespaced: true}, {CIDR: prefix("10.51.0.0/26"), BlockBits: 26, Manual: true}},
				Nodes: []Node{{Name: "a", Asked: []Ask{{prefixes("10.50.0.0/26", "10.51.0.0/26"), 40}, {prefixes("10.50.0.0/26"), 40}}}},
			},
			lease: map[string]int{"a 10.50.0.0/26": 1, "a 10.51.0.0/26": 1},
		},
		{
			name: "the block of an address that is asked for by name",
			in: Input{
				Pools: []Pool{{CIDR: main4.CIDR, BlockBits: 26, Manual: true}}, Reserved: prefixes("10.48.7.0/24"),
				Nodes: []Node{{Name: "a", Fixed: []netip.Addr{addr("10.48.7.7"), addr("10.48.7.8")}}},
			},
			lease: map[string]int{"a 10.48.0.0/16": 1},
		},
		{
			name: "not when another node has it",
			in: Input{
				Pools: []Pool{{CIDR: main4.CIDR, BlockBits: 26, Manual: true}}, Leases: []Lease{{prefix("10.48.7.0/26"), main4.CIDR, "b"}},
				Nodes: []Node{{Name: "a", Fixed: []netip.Addr{addr("10.48.7.7")}}, {Name: "b"}},
			},
		},
		{
			name:  "first blocks of all come before the second of any",
			in:    Input{Pools: []Pool{pool("10.48.0.0/25", 26)}, Nodes: []Node{{Name: "a", Endpoints4: 100}, {Name: "b"}}},
			lease: map[string]int{"a 10.48.0.0/25": 1, "b 10.48.0.0/25": 1},
			short: []Shortage{{Node: "a", Pools: prefixes("10.48.0.0/25"), Missing: 36, Reason: PoolsFull}},
		},
		{
			name:  "needs come before what is ahead of need",
			in:    Input{Pools: []Pool{pool("10.48.0.0/24", 26)}, Nodes: []Node{{Name: "a", Endpoints4: 50}, {Name: "b", Endpoints4: 180}}},
			lease: map[string]int{"a 10.48.0.0/24": 1, "b 10.48.0.0/24": 3},
		},
		{
			name:  "the next pool when the first is full",
			in:    Input{Pools: []Pool{pool("10.49.0.0/26", 26), pool("10.48.0.0/26", 26)}, Nodes: []Node{{Name: "a", Endpoints4: 100}}},
			lease: map[string]int{"a 10.48.0.0/26": 1, "a 10.49.0.0/26": 1},
		},
		{
			name:  "limit of blocks",
			in:    Input{Pools: []Pool{main4}, Nodes: []Node{{Name: "a", Endpoints4: 200}}, MaxBlocks: 2},
			lease: map[string]int{"a 10.48.0.0/16": 2},
			short: []Shortage{{Node: "a", Pools: prefixes("10.48.0.0/16"), Missing: 72, Reason: BlockLimit}},
		},
		{
			name:  "default limit of blocks",
			in:    Input{Pools: []Pool{main4}, Nodes: []Node{{Name: "a", Endpoints4: 20 * 64}}},
			lease: map[string]int{"a 10.48.0.0/16": 20},
		},
		{
			name:  "reserved addresses are no capacity",
			in:    Input{Pools: []Pool{pool("10.48.0.0/25", 26)}, Nodes: nodes("a"), Reserved: prefixes("10.48.0.0/26", "10.48.0.0/27", "10.48.0.64/28", "10.48.0.64/29")},
			lease: map[string]int{"a 10.48.0.0/25": 1},
		},
		{
			name:  "a pool reserved as a whole is not searched block by block",
			in:    Input{Pools: []Pool{pool("fd00::/48", 122)}, Nodes: []Node{{Name: "a", Endpoints6: 1}}, Reserved: prefixes("fd00::/49", "fd00:0:0:8000::/49")},
			short: []Shortage{{Node: "a", Pools: prefixes("fd00::/48"), Missing: 1, Reason: PoolsFull}},
		},
	}
	for _, tt := range tests {
		plan := MakePlan(tt.in)
		if tt.lease == nil {
			tt.lease = map[string]int{}
		}
		if diff := cmp.Diff(tt.lease, summary(plan.Lease)); diff != "" {
			t.Errorf("%s: leases (-want +got):\n%s", tt.name, diff)
		}
		if diff := cmp.Diff(tt.short, plan.Short, comparePrefixes()); diff != "" {
			t.Errorf("%s: shortages (-want +got):\n%s", tt.name, diff)
		}
	}
}

// Endpoints that wait for an address of one pool hold back none of another, and bring none of it to their node.
func TestWhoAsksForAPoolHoldsNothingBackOfOthers(t *testing.T) {
	one, other := pool("10.48.0.0/31", 31), pool("10.49.0.0/31", 31)
	in := Input{
		Pools: []Pool{one, other},
		Nodes: []Node{
			{Name: "n1", Reports: true, Asked: []Ask{{Pools: []netip.Prefix{other.CIDR}, Endpoints: 3}}},
			{Name: "n2", Reports: true, Endpoints4: 1, Used: []netip.Addr{addr("10.49.0.0"), addr("10.49.0.1")}},
		},
		Leases: []Lease{{Block: one.CIDR, Pool: one.CIDR, Node: "n1"}, {Block: other.CIDR, Pool: other.CIDR, Node: "n2"}},
	}
	want := []LoanStep{{Block: one.CIDR, Address: addr("10.48.0.1"), Node: "n2", State: LoanAsked}}
	plan := MakePlan(in)
	if diff := cmp.Diff(want, plan.Loans, comparePrefixes()); diff != "" {
		t.Errorf("loans (-want +got):\n%s", diff)
	}
	if len(plan.Short) != 1 || plan.Short[0].Node != "n1" || plan.Short[0].Missing != 3 || !slices.Equal(plan.Short[0].Pools, []netip.Prefix{other.CIDR}) {
		t.Errorf("shortages are %+v, want three addresses of %s on n1", plan.Short, other.CIDR)
	}
}

func TestPlanReleasesBlocksOfNodesThatAreGone(t *testing.T) {
	p := pool("10.48.0.0/25", 26)
	gone := Lease{prefix("10.48.0.64/26"), p.CIDR, "gone"}
	plan := MakePlan(Input{Pools: []Pool{p}, Nodes: nodes("a", "b"), Leases: []Lease{gone}})
	if diff := cmp.Diff([]Lease{gone}, plan.Release, comparePrefixes()); diff != "" {
		t.Errorf("released (-want +got):\n%s", diff)
	}
	// It is not given to another node before it has been released.
	want := []Lease{{prefix("10.48.0.0/26"), p.CIDR, "a"}}
	if diff := cmp.Diff(want, plan.Lease, comparePrefixes()); diff != "" {
		t.Errorf("leased (-want +got):\n%s", diff)
	}
}

func TestPlanAvoidsLeasesOfOtherSizes(t *testing.T) {
	// The pool was once cut into /28 and, for a part, a /25.
	p := pool("10.48.0.0/24", 26)
	plan := MakePlan(Input{Pools: []Pool{p}, Nodes: nodes("a", "b"), Leases: []Lease{
		{prefix("10.48.0.0/25"), prefix("10.48.0.0/25"), "x"},
		{prefix("10.48.0.208/28"), prefix("10.48.0.192/26"), "x"},
	}})
	want := []Lease{{prefix("10.48.0.128/26"), p.CIDR, "a"}}
	if diff := cmp.Diff(want, plan.Lease, comparePrefixes()); diff != "" {
		t.Errorf("leased (-want +got):\n%s", diff)
	}
}

// TestNodesSpread: planners that do not know of each other's leases rarely choose the same block.
func TestNodesSpread(t *testing.T) {
	p := pool("10.48.0.0/16", 26)
	chosen := map[netip.Prefix]bool{}
	for i := range 30 {
		plan := MakePlan(Input{Pools: []Pool{p}, Nodes: nodes(fmt.Sprint("worker", i))})
		chosen[plan.Lease[0].Block] = true
	}
	if len(chosen) < 27 {
		t.Errorf("30 nodes chose %d different blocks of %d", len(chosen), BlockCount(p.CIDR, p.BlockBits))
	}
}

// drawInput draws a small cluster: pools without overlap, some of them full.
func drawInput(t *rapid.T) Input {
	in := Input{MaxBlocks: rapid.IntRange(0, 6).Draw(t, "max blocks")}
	for i := range rapid.IntRange(0, 4).Draw(t, "pools") {
		base := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, 0}), rapid.IntRange(24, 30).Draw(t, "length"))
		if rapid.Bool().Draw(t, "IPv6") {
			base = netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, byte(i)}), rapid.IntRange(118, 126).Draw(t, "length"))
		}
		most := base.Addr().BitLen()
		in.Pools = append(in.Pools, Pool{
			CIDR: base, BlockBits: rapid.IntRange(base.Bits(), min(base.Bits()+4, most)).Draw(t, "block size"),
			Disabled: rapid.IntRange(0, 4).Draw(t, "disabled") == 0, Manual: rapid.IntRange(0, 4).Draw(t, "manual") == 0,
		})
	}
	for i := range rapid.IntRange(0, 5).Draw(t, "nodes") {
		n := Node{Name: fmt.Sprint("n", i), Endpoints4: rapid.IntRange(0, 100).Draw(t, "IPv4"), Endpoints6: rapid.IntRange(0, 100).Draw(t, "IPv6")}
		for _, p := range in.Pools {
			if rapid.IntRange(0, 3).Draw(t, "asks") == 0 {
				n.Asked = append(n.Asked, Ask{[]netip.Prefix{p.CIDR}, rapid.IntRange(1, 20).Draw(t, "asked")})
			}
		}
		in.Nodes = append(in.Nodes, n)
	}
	for _, p := range in.Pools {
		for block := range Blocks(p.CIDR, p.BlockBits) {
			if owner := rapid.IntRange(-4, 6).Draw(t, "owner"); owner >= 0 {
				in.Leases = append(in.Leases, Lease{block, p.CIDR, fmt.Sprint("n", owner)})
			}
		}
		if rapid.IntRange(0, 3).Draw(t, "reserve") == 0 {
			at := AddrAt(p.CIDR, rapid.Uint64Range(0, Size(p.CIDR)-1).Draw(t, "reserved"))
			in.Reserved = append(in.Reserved, netip.PrefixFrom(at, rapid.IntRange(p.CIDR.Bits(), at.BitLen()).Draw(t, "length")).Masked())
		}
	}
	return in
}

func TestPropertyPlan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawInput(t)
		plan := MakePlan(in)

		all := slices.Concat(in.Leases, plan.Lease)
		for i, lease := range plan.Lease {
			at := slices.IndexFunc(in.Pools, func(p Pool) bool { return p.CIDR == lease.Pool })
			p := in.Pools[at]
			if block, ok := BlockOf(p.CIDR, p.BlockBits, lease.Block.Addr()); !ok || block != lease.Block {
				t.Fatalf("%v is no block of its pool", lease)
			}
			if p.Disabled {
				t.Fatalf("%v is leased from a disabled pool", lease)
			}
			for j, other := range all {
				if j != len(in.Leases)+i && other.Block.Overlaps(lease.Block) {
					t.Fatalf("%v overlaps %v", lease, other)
				}
			}
		}
		for _, lease := range in.Leases {
			gone := !slices.ContainsFunc(in.Nodes, func(n Node) bool { return n.Name == lease.Node }) && !in.Kept[lease.Node]
			if gone != slices.Contains(plan.Release, lease) {
				t.Fatalf("%v: node is gone: %v, released: %v", lease, gone, !gone)
			}
		}
		checkShortages(t, in, plan, all)

		shuffled := in
		shuffled.Pools = rapid.Permutation(in.Pools).Draw(t, "pools")
		shuffled.Nodes = rapid.Permutation(in.Nodes).Draw(t, "nodes")
		shuffled.Leases = rapid.Permutation(in.Leases).Draw(t, "leases")
		shuffled.Reserved = rapid.Permutation(in.Reserved).Draw(t, "reserved")
		if diff := cmp.Diff(plan, MakePlan(shuffled), comparePrefixes()); diff != "" {
			t.Fatalf("the plan depends on the order of its input:\n%s", diff)
		}
	})
}

// checkShortages: pools are only called full when no block with a usable address is left.
func checkShortages(t *rapid.T, in Input, plan Plan, leases []Lease) {
	t.Helper()
	s := newSpace(Input{Pools: in.Pools, Leases: leases, Reserved: in.Reserved})
	for _, short := range plan.Short {
		if short.Missing <= 0 {
			t.Fatalf("%v misses nothing", short)
		}
		if short.Reason != PoolsFull {
			continue
		}
		for _, p := range in.Pools {
			if !slices.Contains(short.Pools, p.CIDR) {
				continue
			}
			for block := range Blocks(p.CIDR, p.BlockBits) {
				if s.capacity(block) > 0 && !slices.ContainsFunc(leases, func(l Lease) bool { return l.Block == block }) {
					t.Fatalf("%v, but %s is free", short, block)
				}
			}
		}
	}
}

func BenchmarkPlan(b *testing.B) {
	in := Input{Pools: []Pool{pool("10.0.0.0/8", 26), pool("fd00::/48", 122)}}
	for i := range 5_000 {
		in.Nodes = append(in.Nodes, Node{Name: fmt.Sprint("node", i), Endpoints4: 100, Endpoints6: 100})
	}
	in.Leases = MakePlan(in).Lease
	for b.Loop() {
		if plan := MakePlan(in); len(plan.Lease) > 0 {
			b.Fatal("leases everything twice")
		}
	}
}
