package ipam

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"
)

// clock is a clock that stands until it is moved.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Unix(1_000_000, 0)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func prefix(text string) netip.Prefix { return netip.MustParsePrefix(text) }

func addrs(texts ...string) []netip.Addr {
	var list []netip.Addr
	for _, text := range texts {
		list = append(list, netip.MustParseAddr(text))
	}
	return list
}

func prefixes(texts ...string) []netip.Prefix {
	var list []netip.Prefix
	for _, text := range texts {
		list = append(list, prefix(text))
	}
	return list
}

func compareAddrs() cmp.Option {
	return cmp.Options{
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	}
}

// small is a block of four addresses, so that tests reach its end.
func small() Block { return Block{CIDR: prefix("10.48.0.64/30"), Pool: prefix("10.48.0.0/16")} }

func small6() Block { return Block{CIDR: prefix("fd00::40/126"), Pool: prefix("fd00::/112")} }

func pod(name string) Owner { return Owner{Endpoint: "ns/" + name, UID: "uid-" + name} }

// harness is an allocator in a directory of its own, with a clock that stands.
type harness struct {
	*Allocator
	t       *testing.T
	path    string
	clock   *clock
	options Options
}

func newHarness(t *testing.T, cooldown time.Duration, blocks ...Block) *harness {
	t.Helper()
	c := newClock()
	h := &harness{t: t, path: filepath.Join(t.TempDir(), "addresses.db"), clock: c, options: Options{Clock: c.now, Cooldown: cooldown}}
	h.open(blocks...)
	t.Cleanup(func() { _ = h.Close() })
	return h
}

func (h *harness) open(blocks ...Block) {
	h.t.Helper()
	a, err := Open(h.path, h.options)
	if err != nil {
		h.t.Fatal(err)
	}
	h.Allocator = a
	h.ok(a.SetBlocks(blocks))
}

func (h *harness) reopen(blocks ...Block) {
	h.t.Helper()
	h.ok(h.Close())
	h.open(blocks...)
}

func (h *harness) ok(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// expect allocates and compares.
func (h *harness) expect(owner Owner, request Request, want ...string) {
	h.t.Helper()
	got, err := h.Allocate(owner, request)
	if err != nil {
		h.t.Fatal(err)
	}
	if diff := cmp.Diff(addrs(want...), got, compareAddrs()); diff != "" {
		h.t.Fatalf("addresses of %s (-want +got):\n%s", owner.Endpoint, diff)
	}
}

// refuse allocates and compares the error.
func (h *harness) refuse(owner Owner, request Request, want string) {
	h.t.Helper()
	if err := h.refusal(owner, request); !strings.Contains(err.Error(), want) {
		h.t.Fatalf("got error %q, want %q", err, want)
	}
}

// refusal allocates in vain and returns the error.
func (h *harness) refusal(owner Owner, request Request) error {
	h.t.Helper()
	got, err := h.Allocate(owner, request)
	if err == nil {
		h.t.Fatalf("%s got %v, want an error", owner.Endpoint, got)
	}
	return err
}

// isA tells whether err is or wraps an error of a type.
func isA[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func TestAllAddressesOfABlockAreUsable(t *testing.T) {
	h := newHarness(t, 0, small())
	for i := range 4 {
		h.expect(pod(fmt.Sprint(i)), Request{}, fmt.Sprintf("10.48.0.%d", 64+i))
	}
	h.refuse(pod("late"), Request{}, "allocating addresses for ns/late: no free address in 10.48.0.64/30 (4 of 4 in use)")
	if err := h.refusal(pod("late"), Request{}); !isA[*ExhaustedError](err) {
		t.Errorf("%T is no *ExhaustedError", err)
	}
}

func TestSameOwnerGetsTheSame(t *testing.T) {
	h := newHarness(t, 0, small())
	h.expect(pod("a"), Request{}, "10.48.0.64")
	h.expect(pod("a"), Request{}, "10.48.0.64")
	h.expect(pod("a"), Request{Fixed: addrs("10.48.0.66")}, "10.48.0.64")
	// The same name with another UID is another pod.
	h.expect(Owner{Endpoint: "ns/a", UID: "other"}, Request{}, "10.48.0.65")
}

func TestFamilies(t *testing.T) {
	h := newHarness(t, 0, small())
	h.expect(pod("4"), Request{}, "10.48.0.64")
	h.ok(h.SetBlocks([]Block{small(), small6()}))
	h.expect(pod("both"), Request{}, "10.48.0.65", "fd00::40")
	h.expect(pod("6"), Request{Pools: prefixes("fd00::/112")}, "fd00::41")
	// Both or neither.
	h.expect(pod("fill"), Request{Fixed: addrs("fd00::42", "fd00::43")}, "fd00::42", "fd00::43")
	h.refuse(pod("late"), Request{}, "no free address in fd00::40/126 (4 of 4 in use)")
	if got := h.Blocks()[0].InUse; got != 2 {
		t.Errorf("after an attempt in vain %d IPv4 addresses are in use, want 2", got)
	}
}

func TestPools(t *testing.T) {
	other := Block{CIDR: prefix("10.49.0.0/30"), Pool: prefix("10.49.0.0/24")}
	h := newHarness(t, 0, small(), other)
	h.expect(pod("a"), Request{Pools: prefixes("10.49.0.0/24")}, "10.49.0.0")
	h.expect(pod("b"), Request{Pools: prefixes("10.49.0.0/24", "10.48.0.0/16")}, "10.48.0.64")
	h.refuse(pod("c"), Request{Pools: prefixes("10.50.0.0/24", "10.51.0.0/24")}, "no address block of pool 10.50.0.0/24 or 10.51.0.0/24 has been leased to this node yet")
	if err := h.refusal(pod("c"), Request{Pools: prefixes("10.50.0.0/24", "10.51.0.0/24")}); !isA[*NoBlockError](err) {
		t.Errorf("%T is no *NoBlockError", err)
	}
	// A family that is asked for is not silently left out.
	h.refuse(pod("c"), Request{Pools: prefixes("10.48.0.0/16", "fd00::/112")}, "no address block of pool fd00::/112 has been leased to this node yet")
}

func TestNoBlocks(t *testing.T) {
	h := newHarness(t, 0)
	h.refuse(pod("a"), Request{}, "no address block has been leased to this node yet")
	h.refuse(pod("a"), Request{Fixed: addrs("10.48.0.64")}, "address 10.48.0.64: no address block of its family has been leased to this node")
}

func TestFixed(t *testing.T) {
	b := small()
	b.Reserved = prefixes("10.48.0.64/31")
	h := newHarness(t, time.Minute, b)
	h.expect(pod("automatic"), Request{}, "10.48.0.66")
	h.expect(pod("reserved"), Request{Fixed: addrs("10.48.0.65")}, "10.48.0.65")
	h.refuse(pod("taken"), Request{Fixed: addrs("10.48.0.65")}, "address 10.48.0.65 is in use by ns/reserved: ask for another in cni.projectcalico.org/ipAddrs, or delete that pod")
	if taken, ok := errors.AsType[*InUseError](h.refusal(pod("taken"), Request{Fixed: addrs("10.48.0.65")})); !ok || taken.By != pod("reserved") {
		t.Errorf("%#v is no fitting *InUseError", taken)
	}
	h.refuse(pod("outside"), Request{Fixed: addrs("10.48.0.68")}, "address 10.48.0.68 does not lie in a block that is leased to this node: ask for another in cni.projectcalico.org/ipAddrs, out of 10.48.0.64/30")
	if err := h.refusal(pod("outside"), Request{Fixed: addrs("10.48.0.68")}); !isA[*OutsideError](err) {
		t.Errorf("%T is no *OutsideError", err)
	}
	// One that cannot be had: none is.
	h.refuse(pod("half"), Request{Fixed: addrs("10.48.0.67", "10.48.0.68")}, "10.48.0.64/30")
	h.expect(pod("last"), Request{}, "10.48.0.67")
	h.refuse(pod("late"), Request{}, "no free address in 10.48.0.64/30 (3 of 4 in use, 1 reserved)")
	// Neither cooldown nor reservation holds back what is asked for by name.
	h.ok(h.SetLive(nil))
	h.clock.advance(2 * time.Minute)
	h.ok(h.SetLive(nil))
	h.expect(pod("again"), Request{Fixed: addrs("::ffff:10.48.0.65", "10.48.0.65")}, "10.48.0.65")
}

func TestLifeOfAnAddress(t *testing.T) {
	h := newHarness(t, time.Minute, small())
	h.expect(pod("a"), Request{}, "10.48.0.64")
	h.ok(h.SetLive([]string{"uid-a"}))
	h.ok(h.Attach(pod("a"), "sandbox-1"))
	h.ok(h.Attach(pod("a"), "sandbox-1"))

	// A live pod keeps its address while the runtime replaces the sandbox.
	if found, err := h.Detach("sandbox-1"); !found || err != nil {
		t.Fatalf("Detach: %v, %v", found, err)
	}
	h.ok(h.Attach(pod("a"), "sandbox-2"))
	// A container keeps the address of a pod that has gone.
	h.ok(h.SetLive(nil))
	if got, ok := h.Lookup(pod("a")); !ok || got[0] != addrs("10.48.0.64")[0] {
		t.Fatalf("the address was freed under a container: %v, %v", got, ok)
	}
	if owner, ok := h.Attached("sandbox-2"); !ok || owner != pod("a") {
		t.Fatalf("sandbox-2 belongs to %v, %v", owner, ok)
	}
	want := []Allocation{{Owner: pod("a"), Addresses: addrs("10.48.0.64"), Attachments: []string{"sandbox-2"}}}
	if diff := cmp.Diff(want, h.Allocations(), compareAddrs()); diff != "" {
		t.Fatalf("allocations (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]Attachment{{"sandbox-2", pod("a")}}, h.Attachments()); diff != "" {
		t.Fatalf("attachments (-want +got):\n%s", diff)
	}

	if found, err := h.Detach("sandbox-2"); !found || err != nil {
		t.Fatalf("Detach: %v, %v", found, err)
	}
	if found, err := h.Detach("sandbox-2"); found || err != nil {
		t.Fatalf("Detach of what is gone: %v, %v", found, err)
	}
	if diff := cmp.Diff([]BlockUse{{CIDR: small().CIDR, Pool: small().Pool, Size: 4, Cooling: 1, Free: 3}}, h.Blocks(), compareAddrs()); diff != "" {
		t.Fatalf("use of blocks (-want +got):\n%s", diff)
	}
	if err := h.Attach(pod("a"), "sandbox-3"); !isA[*NotAllocatedError](err) {
		t.Fatalf("Attach without addresses: %v", err)
	}
}

func TestOrderOfReuse(t *testing.T) {
	h := newHarness(t, time.Minute, small())
	for i := range 4 {
		h.expect(pod(fmt.Sprint(i)), Request{}, fmt.Sprintf("10.48.0.%d", 64+i))
	}
	// They go in the order 2, 0, 3, ten seconds apart.
	h.ok(h.SetLive([]string{"uid-0", "uid-1", "uid-2", "uid-3"}))
	h.ok(h.SetLive([]string{"uid-0", "uid-1", "uid-3"}))
	h.clock.advance(10 * time.Second)
	h.ok(h.SetLive([]string{"uid-1", "uid-3"}))
	h.clock.advance(10 * time.Second)
	h.ok(h.SetLive([]string{"uid-1"}))
	h.refuse(pod("a"), Request{}, "no free address in 10.48.0.64/30 (1 of 4 in use, 3 in cooldown)")

	h.clock.advance(40*time.Second - 1)
	h.refuse(pod("a"), Request{}, "in cooldown)")
	h.clock.advance(1)
	h.expect(pod("a"), Request{}, "10.48.0.66")
	h.refuse(pod("b"), Request{}, "in cooldown)")
	h.reopen(small())
	h.refuse(pod("b"), Request{}, "in cooldown)")
	h.clock.advance(time.Hour)
	h.expect(pod("b"), Request{}, "10.48.0.64")
	h.expect(pod("c"), Request{}, "10.48.0.67")
}

func TestClockSetBack(t *testing.T) {
	h := newHarness(t, time.Minute, Block{CIDR: prefix("10.48.0.64/32"), Pool: prefix("10.48.0.0/16")})
	h.expect(pod("a"), Request{}, "10.48.0.64")
	h.ok(h.SetLive([]string{"uid-a"}))
	h.ok(h.SetLive(nil))
	h.clock.advance(-24 * time.Hour)
	h.refuse(pod("b"), Request{}, "in cooldown)")
	h.clock.advance(time.Minute)
	h.expect(pod("b"), Request{}, "10.48.0.64")
}

func TestPodBeforeItsState(t *testing.T) {
	h := newHarness(t, 0, small())
	h.ok(h.SetLive(nil))
	h.expect(pod("early"), Request{}, "10.48.0.64")
	// A state that does not name it yet takes nothing from it, but it cannot wait for ever.
	h.ok(h.SetLive(nil))
	h.clock.advance(defaultGrace - 1)
	h.ok(h.SetLive(nil))
	h.expect(pod("early"), Request{}, "10.48.0.64")
	h.clock.advance(1)
	h.ok(h.SetLive(nil))
	if got, ok := h.Lookup(pod("early")); ok {
		t.Errorf("it still holds %v", got)
	}
}

func TestPodWithoutUID(t *testing.T) {
	h := newHarness(t, 0, small())
	nameless := Owner{Endpoint: "ns/a"}
	h.expect(nameless, Request{}, "10.48.0.64")
	h.ok(h.Attach(nameless, "sandbox"))
	// The state brings the UID; the pod keeps its address and container.
	h.expect(pod("a"), Request{}, "10.48.0.64")
	h.ok(h.SetLive([]string{"uid-a"}))
	if owner, _ := h.Attached("sandbox"); owner != pod("a") {
		t.Errorf("the container belongs to %v", owner)
	}
	// Without a UID the live pod of that name is meant.
	h.expect(nameless, Request{}, "10.48.0.64")
	h.reopen(small())
	h.expect(nameless, Request{}, "10.48.0.64")
}

func TestWithdrawnBlock(t *testing.T) {
	other := Block{CIDR: prefix("10.48.1.0/30"), Pool: prefix("10.48.0.0/16")}
	h := newHarness(t, time.Minute, small())
	h.expect(pod("a"), Request{}, "10.48.0.64")
	h.expect(pod("b"), Request{}, "10.48.0.65")
	h.ok(h.SetLive([]string{"uid-a", "uid-b"}))
	h.ok(h.SetBlocks([]Block{other}))
	h.expect(pod("a"), Request{}, "10.48.0.64")
	h.expect(pod("c"), Request{}, "10.48.1.0")
	h.reopen(other)
	h.expect(pod("a"), Request{}, "10.48.0.64")
	h.ok(h.SetLive([]string{"uid-a", "uid-c"}))
	// The block comes back: what is in use is known, and so is the cooldown.
	h.ok(h.SetBlocks([]Block{small()}))
	if diff := cmp.Diff([]BlockUse{{CIDR: small().CIDR, Pool: small().Pool, Size: 4, InUse: 1, Cooling: 1, Free: 2}}, h.Blocks(), compareAddrs()); diff != "" {
		t.Errorf("use of blocks (-want +got):\n%s", diff)
	}
}

// TestForgetsWithdrawnBlocks: blocks that come and go do not fill the journal.
func TestForgetsWithdrawnBlocks(t *testing.T) {
	h := newHarness(t, time.Minute)
	for i := range 5 {
		b := Block{CIDR: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 48, byte(i), 0}), 30), Pool: prefix("10.48.0.0/16")}
		h.ok(h.SetBlocks([]Block{b}))
		if _, err := h.Allocate(pod("a"), Request{}); err != nil {
			t.Fatal(err)
		}
		h.ok(h.SetLive([]string{"uid-a"}))
		h.ok(h.SetLive(nil))
		h.clock.advance(time.Hour)
	}
	h.ok(h.SetBlocks(nil))
	c, err := h.journal.read()
	if err != nil || len(c.freed)+len(c.owners)+len(h.orphans) != 0 {
		t.Errorf("the journal still has %v and %v (%v)", c.freed, c.owners, err)
	}
}

func TestGC(t *testing.T) {
	h := newHarness(t, 0, small())
	for _, name := range []string{"a", "b"} {
		_, err := h.Allocate(pod(name), Request{})
		h.ok(err)
		h.ok(h.SetLive([]string{"uid-a", "uid-b"}))
		h.ok(h.Attach(pod(name), "sandbox-"+name))
		h.ok(h.Attach(pod(name), "old-sandbox-"+name))
	}
	h.ok(h.SetLive(nil))
	h.ok(h.GC([]string{"sandbox-a", "unheard-of"}))
	want := []Allocation{{Owner: pod("a"), Addresses: addrs("10.48.0.64"), Attachments: []string{"sandbox-a"}}}
	if diff := cmp.Diff(want, h.Allocations(), compareAddrs()); diff != "" {
		t.Errorf("allocations (-want +got):\n%s", diff)
	}
}

func TestRestart(t *testing.T) {
	h := newHarness(t, 0, small(), small6())
	h.expect(pod("a"), Request{}, "10.48.0.64", "fd00::40")
	h.expect(pod("b"), Request{}, "10.48.0.65", "fd00::41")
	h.ok(h.Attach(pod("a"), "sandbox"))
	h.reopen(small(), small6())
	want := []Allocation{
		{Owner: pod("a"), Addresses: addrs("10.48.0.64", "fd00::40"), Attachments: []string{"sandbox"}, Live: true},
		{Owner: pod("b"), Addresses: addrs("10.48.0.65", "fd00::41"), Live: true},
	}
	if diff := cmp.Diff(want, h.Allocations(), compareAddrs()); diff != "" {
		t.Errorf("allocations (-want +got):\n%s", diff)
	}
	// Before the first state nothing is freed, not even by the end of a container.
	if _, err := h.Detach("sandbox"); err != nil {
		t.Fatal(err)
	}
	h.expect(pod("a"), Request{}, "10.48.0.64", "fd00::40")
	h.ok(h.SetLive([]string{"uid-b"}))
	if n := len(h.Allocations()); n != 1 {
		t.Errorf("%d owners after the state that names one", n)
	}
}

func TestBadInput(t *testing.T) {
	h := newHarness(t, 0, small())
	pool := prefix("10.48.0.0/16")
	blocks := map[string][]Block{
		"block 10.48.0.65/30 is not a canonical CIDR":                {{CIDR: prefix("10.48.0.65/30"), Pool: pool}},
		"block invalid Prefix is not a canonical CIDR":               {{Pool: pool}},
		"block 10.48.0.0/16 has more than 4096 addresses":            {{CIDR: pool, Pool: pool}},
		"block 10.49.0.0/26 does not lie in its pool 10.48.0.0/16":   {{CIDR: prefix("10.49.0.0/26"), Pool: pool}},
		"blocks 10.48.0.0/26 and 10.48.0.0/28 overlap":               {{CIDR: prefix("10.48.0.0/26"), Pool: pool}, {CIDR: prefix("10.48.0.0/28"), Pool: pool}},
		"block 10.48.0.0/26 does not lie in its pool invalid Prefix": {{CIDR: prefix("10.48.0.0/26")}},
		"block 10.48.0.0/20 does not lie in its pool 10.48.0.0/21":   {{CIDR: prefix("10.48.0.0/20"), Pool: prefix("10.48.0.0/21")}},
	}
	for want, b := range blocks {
		if err := h.SetBlocks(b); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want %q", err, want)
		}
	}
	h.refuse(Owner{UID: "x"}, Request{}, "endpoint has 0 characters, not 1 to 512")
	h.refuse(Owner{Endpoint: "ns/a", UID: strings.Repeat("u", 513)}, Request{}, "UID has 513 characters, not 1 to 512")
	h.refuse(pod("a"), Request{Fixed: make([]netip.Addr, 17)}, "17 addresses are asked for, at most 16 are possible")
	h.expect(pod("a"), Request{}, "10.48.0.64")
	h.expect(pod("b"), Request{}, "10.48.0.65")
	h.ok(h.Attach(pod("a"), "sandbox"))
	if err := h.Attach(pod("b"), "sandbox"); err == nil || err.Error() != "attaching container sandbox to ns/b: it is attached to ns/a" {
		t.Errorf("got error %v", err)
	}
	if err := h.Attach(pod("b"), ""); err == nil {
		t.Error("no error for an empty container ID")
	}
	for i := range maxAttachments - 1 {
		h.ok(h.Attach(pod("a"), fmt.Sprint(i)))
	}
	if err := h.Attach(pod("a"), "one more"); err == nil {
		t.Error("no limit of attachments")
	}
}

func TestJournalTrouble(t *testing.T) {
	path := filepath.Join(t.TempDir(), "addresses.db")
	a, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, Options{}); err == nil || !strings.Contains(err.Error(), "timeout") {
		t.Errorf("second Open: %v", err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Allocate(pod("a"), Request{}); !errors.Is(err, errClosed) {
		t.Errorf("Allocate after Close: %v", err)
	}
	if err := a.SetLive(nil); !errors.Is(err, errClosed) {
		t.Errorf("SetLive after Close: %v", err)
	}

	spoil := func(do func(tx *bbolt.Tx) error) {
		t.Helper()
		db, err := bbolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(db.Update(do), db.Close()); err != nil {
			t.Fatal(err)
		}
	}
	owner := func(key, value string) func(tx *bbolt.Tx) error {
		return func(tx *bbolt.Tx) error { return tx.Bucket(bucketOwners()).Put([]byte(key), []byte(value)) }
	}
	spoil(owner("uid:a", "{"))
	if _, err := Open(path, Options{}); err == nil || !strings.Contains(err.Error(), `reading owner "uid:a"`) {
		t.Errorf("spoilt owner: %v", err)
	}
	spoil(owner("uid:a", `{"endpoint":"ns/a","addresses":["10.48.0.64"]}`))
	spoil(owner("uid:b", `{"endpoint":"ns/b","addresses":["10.48.0.64"]}`))
	if _, err := Open(path, Options{}); err == nil || !strings.Contains(err.Error(), "address 10.48.0.64 belongs to") {
		t.Errorf("two owners: %v", err)
	}
	spoil(func(tx *bbolt.Tx) error { return tx.Bucket(bucketMeta()).Put(keyVersion(), []byte("2")) })
	if _, err := Open(path, Options{}); err == nil || !strings.Contains(err.Error(), `version "2"`) {
		t.Errorf("foreign version: %v", err)
	}
	if err := os.WriteFile(path, []byte("not a journal"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, Options{}); err == nil || !strings.Contains(err.Error(), "it is damaged. Move it away, and the node begins with what it last reported") {
		t.Errorf("a damaged file: %v", err)
	}
}

// TestClockAheadAtFree: a time in the future, as after a clock was wrong, keeps no address back for good.
func TestClockAheadAtFree(t *testing.T) {
	h := newHarness(t, time.Minute, Block{CIDR: prefix("10.48.0.64/32"), Pool: prefix("10.48.0.0/16")})
	h.ok(h.journal.db.Update(func(tx *bbolt.Tx) error {
		future := uint64(h.clock.now().Add(1000 * time.Hour).UnixNano())
		return tx.Bucket(bucketFreed()).Put(addrs("10.48.0.64")[0].AsSlice(), binary.BigEndian.AppendUint64(nil, future))
	}))
	h.reopen(Block{CIDR: prefix("10.48.0.64/32"), Pool: prefix("10.48.0.0/16")})
	h.refuse(pod("a"), Request{}, "in cooldown)")
	h.clock.advance(time.Minute)
	h.expect(pod("a"), Request{}, "10.48.0.64")
}
