package ipam

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// agreed compares what the node has agreed to.
func (h *harness) agreed(want ...Agreement) {
	h.t.Helper()
	got, _ := h.Agreements()
	if diff := cmp.Diff(want, got, compareAddrs()); diff != "" {
		h.t.Errorf("agreements (-want +got):\n%s", diff)
	}
}

func withdrawn(b Block, revision int64) Block {
	b.Withdrawn, b.Revision = true, revision
	return b
}

func lending(b Block, revision int64, lent ...string) Block {
	b.Lent, b.Revision = addrs(lent...), revision
	return b
}

func TestBlockOnItsWayBack(t *testing.T) {
	h := newHarness(t, time.Minute, small())
	h.expect(pod("a"), Request{}, "10.48.0.64")
	h.ok(h.SetLive([]string{"uid-a"}))
	h.agreed()

	// What is in use stays in use, and nothing more is given.
	h.ok(h.SetBlocks([]Block{withdrawn(small(), 5)}))
	h.expect(pod("a"), Request{}, "10.48.0.64")
	h.refuse(pod("b"), Request{}, "no address block has been leased to this node yet")
	h.refuse(pod("b"), Request{Fixed: addrs("10.48.0.65")}, "does not lie in a block that is leased to this node")
	h.agreed(Agreement{CIDR: small().CIDR, Revision: 5})

	// It is released once nothing is in use, and no cooldown runs.
	h.ok(h.SetLive(nil))
	h.agreed(Agreement{CIDR: small().CIDR, Revision: 5})
	if _, cooling := h.Agreements(); !cooling {
		t.Error("nobody is told that time alone releases the block")
	}
	h.clock.advance(time.Minute)
	h.agreed(Agreement{CIDR: small().CIDR, Revision: 5, Released: true})

	// An older word gives nothing back: neither now nor after a restart, nor when the block is gone in between.
	for range 2 {
		h.ok(h.SetBlocks([]Block{small()}))
		h.refuse(pod("b"), Request{}, "no address block has been leased to this node yet")
		h.agreed(Agreement{CIDR: small().CIDR, Revision: 5, Released: true})
		h.ok(h.SetBlocks(nil))
		h.reopen()
	}
	// A later lease does.
	again := small()
	again.Revision = 6
	h.ok(h.SetBlocks([]Block{again}))
	h.expect(pod("b"), Request{}, "10.48.0.64")
	h.agreed(Agreement{CIDR: small().CIDR, Revision: 6})
}

func TestLentAddresses(t *testing.T) {
	h := newHarness(t, time.Minute, small())
	h.expect(pod("a"), Request{}, "10.48.0.64")
	h.ok(h.SetBlocks([]Block{lending(small(), 7, "10.48.0.66", "10.48.0.64")}))
	// The one is withheld; the other is in use, and stays so.
	h.agreed(Agreement{CIDR: small().CIDR, Revision: 7, Withheld: addrs("10.48.0.66")})
	h.refuse(pod("x"), Request{Fixed: addrs("10.48.0.66")}, "does not lie in a block that is leased to this node")
	h.reopen()
	h.ok(h.SetBlocks([]Block{small()})) // an older word
	h.expect(pod("b"), Request{}, "10.48.0.65")
	h.expect(pod("c"), Request{}, "10.48.0.67")
	h.refuse(pod("d"), Request{}, "no free address in 10.48.0.64/30 (3 of 4 in use, 1 lent to other nodes) of pool 10.48.0.0/16")
	h.agreed(Agreement{CIDR: small().CIDR, Revision: 7, Withheld: addrs("10.48.0.66")})
	// What comes back is given again.
	h.ok(h.SetBlocks([]Block{lending(small(), 8)}))
	h.expect(pod("d"), Request{}, "10.48.0.66")
	if err := h.SetBlocks([]Block{lending(small(), 9, "10.48.0.99")}); err == nil {
		t.Error("an address outside the block can be lent")
	}
}

func TestBorrowedAddresses(t *testing.T) {
	single := Block{CIDR: prefix("10.48.0.3/32"), Pool: prefix("10.48.0.0/16"), Borrowed: true, Revision: 3}
	h := newHarness(t, 0, small(), single)
	// The node's own come first, though they are higher.
	for i := range 4 {
		h.expect(pod(fmt.Sprint(i)), Request{}, fmt.Sprintf("10.48.0.%d", 64+i))
	}
	h.expect(pod("b"), Request{}, "10.48.0.3")
	h.ok(h.SetLive([]string{"uid-0", "uid-1", "uid-2", "uid-3", "uid-b"}))
	h.refuse(pod("late"), Request{}, "no free address in")
	// Recalled, it stays with its pod, and goes back after it.
	single.Withdrawn, single.Revision = true, 4
	h.ok(h.SetBlocks([]Block{small(), single}))
	h.agreed(Agreement{CIDR: single.CIDR, Revision: 4})
	h.ok(h.SetLive([]string{"uid-0", "uid-1", "uid-2", "uid-3"}))
	h.agreed(Agreement{CIDR: single.CIDR, Revision: 4, Released: true})
	h.refuse(pod("late"), Request{}, "no free address in")
	if err := h.SetBlocks([]Block{{CIDR: prefix("10.48.1.0/30"), Pool: single.Pool, Borrowed: true}}); err == nil {
		t.Error("a whole block can be borrowed")
	}
}

func TestStancesAreBounded(t *testing.T) {
	h := newHarness(t, 0)
	blocks := func(from int) []Block {
		var list []Block
		for i := range 400 {
			addr := netip.AddrFrom4([4]byte{10, 48, byte((from + i) / 256), byte((from + i) % 256)})
			list = append(list, Block{CIDR: netip.PrefixFrom(addr, 32), Pool: prefix("10.48.0.0/16"), Borrowed: true, Withdrawn: true, Revision: int64(from + i)})
		}
		return list
	}
	for round := range 5 {
		h.ok(h.SetBlocks(blocks(400 * round)))
	}
	if n := len(h.stances); n != maxStances {
		t.Errorf("%d stances are kept, want %d", n, maxStances)
	}
	if _, ok := h.stances[blocks(1600)[0].CIDR]; !ok {
		t.Error("that of a leased block is forgotten")
	}
	h.reopen()
	if n := len(h.stances); n != maxStances {
		t.Errorf("%d stances are on disk, want %d", n, maxStances)
	}
}

// TestAdoption: a node that lost its journal takes over what it last said was in use, and gives none of it to others.
func TestAdoption(t *testing.T) {
	h := newHarness(t, 0)
	fresh := func() bool {
		fresh, err := h.NeedsAdoption()
		h.ok(err)
		return fresh
	}
	if !fresh() {
		t.Fatal("a new journal claims to know what was in use before")
	}
	h.reopen()
	if !fresh() {
		t.Fatal("a restart made it know")
	}
	h.ok(h.Adopt([]Allocation{
		{Owner: pod("a"), Addresses: addrs("10.48.0.64", "fd00::40")},
		{Owner: pod("b"), Addresses: addrs("10.48.0.64")}, // nonsense: the address belongs to another
		{Owner: pod("a"), Addresses: addrs("10.48.0.67")},
		{Owner: Owner{}, Addresses: addrs("10.48.0.66")},
	}, nil))
	h.reopen(small(), small6())
	if fresh() {
		t.Fatal("adoption is asked for twice")
	}
	h.expect(pod("a"), Request{}, "10.48.0.64", "fd00::40")
	h.expect(pod("b"), Request{}, "10.48.0.65", "fd00::41")
	// What nobody holds any more is free again.
	h.ok(h.SetLive([]string{"uid-b"}))
	h.expect(pod("c"), Request{Fixed: addrs("10.48.0.64")}, "10.48.0.64")
}

// TestAddressesRestWhenTheJournalIsLost: nobody knows which addresses were in use a moment ago, so all that the node could have given rest
// for the cooldown from then on, and no block goes back before. Blocks that come later are not concerned.
func TestAddressesRestWhenTheJournalIsLost(t *testing.T) {
	h := newHarness(t, time.Minute)
	h.ok(h.Adopt([]Allocation{{Owner: pod("a"), Addresses: addrs("10.48.0.64")}}, prefixes("10.48.0.64/30", "10.49.0.9/32")))
	later := Block{CIDR: prefix("10.49.0.0/31"), Pool: prefix("10.49.0.0/24")}
	h.ok(h.SetBlocks([]Block{small()}))
	h.ok(h.SetLive([]string{"uid-a", "uid-b", "uid-c"}))
	h.expect(pod("a"), Request{}, "10.48.0.64")
	h.refuse(pod("b"), Request{}, "no free address in 10.48.0.64/30 (1 of 4 in use, 3 in cooldown)")
	h.expect(pod("named"), Request{Fixed: addrs("10.48.0.67")}, "10.48.0.67")
	h.ok(h.SetBlocks([]Block{small(), later}))
	h.expect(pod("b"), Request{}, "10.49.0.0")

	h.clock.advance(time.Minute - 1)
	h.reopen(small())
	h.refuse(pod("c"), Request{}, "in cooldown)")
	h.clock.advance(1)
	h.expect(pod("c"), Request{}, "10.48.0.65")

	// A block that is withdrawn, and a borrowed address, are not let go of before.
	h = newHarness(t, time.Minute)
	single := Block{CIDR: prefix("10.49.0.9/32"), Pool: prefix("10.49.0.0/24"), Borrowed: true, Withdrawn: true, Revision: 4}
	h.ok(h.Adopt(nil, prefixes("10.48.0.64/30", "10.49.0.9/32")))
	h.ok(h.SetBlocks([]Block{withdrawn(small(), 5), single}))
	h.agreed(Agreement{CIDR: small().CIDR, Revision: 5}, Agreement{CIDR: single.CIDR, Revision: 4})
	h.clock.advance(time.Minute)
	h.agreed(Agreement{CIDR: small().CIDR, Revision: 5, Released: true}, Agreement{CIDR: single.CIDR, Revision: 4, Released: true})

	for _, cidr := range prefixes("10.48.0.65/30", "10.48.0.0/16") {
		if err := h.Adopt(nil, []netip.Prefix{cidr}); err == nil {
			t.Errorf("%s is taken for a block", cidr)
		}
	}
}
