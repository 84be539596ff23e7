package ipam

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
)

// powerLoss is how a test ends a process in the midst of a call.
type powerLoss struct{}

// step is one call. releases: addresses may cease to be held in it.
type step struct {
	do       func(*Allocator) error
	releases bool
}

// script is a life of a node's addresses: pods, a loan in each direction, a block that goes and comes back. Each step is
// harmless when repeated, as everything that the agent does.
func script() []step {
	own, other := crashBlock(), Block{CIDR: prefix("10.48.1.0/30"), Pool: prefix("10.48.0.0/16")}
	single := Block{CIDR: prefix("10.48.9.9/32"), Pool: prefix("10.48.0.0/16"), Borrowed: true, Revision: 2}
	recalled := withdrawn(single, 3)
	allocate := func(name string, fixed ...string) step {
		return step{do: func(a *Allocator) error {
			_, err := a.Allocate(pod(name), Request{Fixed: addrs(fixed...)})
			return err
		}}
	}
	blocks := func(list ...Block) step {
		return step{do: func(a *Allocator) error { return a.SetBlocks(list) }}
	}
	live := func(uids ...string) step {
		return step{do: func(a *Allocator) error { return a.SetLive(uids) }, releases: true}
	}
	return []step{
		{do: func(a *Allocator) error { return a.Adopt(nil, nil) }},
		blocks(own, other),
		allocate("a"), allocate("b", "10.48.1.1"),
		live("uid-a", "uid-b"),
		{do: func(a *Allocator) error { return a.Attach(pod("a"), "sandbox-a") }},
		blocks(lending(own, 5, "10.48.0.63"), other),
		blocks(lending(own, 5, "10.48.0.63"), withdrawn(other, 6)),
		live("uid-a"),
		blocks(lending(own, 5, "10.48.0.63"), withdrawn(other, 6), single),
		allocate("c", "10.48.9.9"),
		live("uid-a", "uid-c"),
		blocks(lending(own, 7), single),
		blocks(lending(own, 7), recalled),
		live("uid-a"),
		blocks(own),
		{do: func(a *Allocator) error { return a.GC(nil) }, releases: true},
		blocks(own, func() Block { b := other; b.Revision = 9; return b }()),
		allocate("d", "10.48.1.1"),
		live("uid-d"),
	}
}

// promises are what others rely on: who has which address, and what the node has agreed to.
func promises(a *Allocator) (held map[netip.Addr]Owner, agreed []Agreement) {
	held = map[netip.Addr]Owner{}
	for _, x := range a.Allocations() {
		for _, addr := range x.Addresses {
			held[addr] = x.Owner
		}
	}
	agreed, _ = a.Agreements()
	return held, agreed
}

// TestPowerLossAtEveryWrite ends the process before and after each write of the journal, and goes on with a new one at the step that
// was cut off. Nothing that was said before may have been forgotten, and the end is the same as without.
func TestPowerLossAtEveryWrite(t *testing.T) {
	want, wantAgreed := runScript(t, -1, false)
	writes := 0
	for ; ; writes++ {
		lost := 0
		for _, after := range []bool{false, true} {
			held, agreed := runScript(t, writes, after)
			if held == nil {
				lost++
				continue
			}
			if len(held) != len(want) || len(agreed) != len(wantAgreed) {
				t.Fatalf("cut off at write %d (after it: %v): held %v, agreed %v; want %v, %v", writes, after, held, agreed, want, wantAgreed)
			}
			for addr, owner := range want {
				if held[addr] != owner {
					t.Fatalf("cut off at write %d (after it: %v): %s belongs to %v, want %v", writes, after, addr, held[addr], owner)
				}
			}
		}
		if lost == 2 {
			break // there are no more writes
		}
	}
	if writes < 15 {
		t.Errorf("only %d writes were cut off", writes)
	}
}

// runScript runs the script with a loss of power at a write; it returns nil if there is no such write.
func runScript(t *testing.T, at int, after bool) (map[netip.Addr]Owner, []Agreement) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "addresses.db")
	count, happened := 0, at < 0
	open := func() *Allocator {
		a, err := Open(path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		a.journal.db.NoSync = true // the machine goes on running
		a.journal.around = func(write func() error) error {
			if count++; count-1 != at || happened {
				return write()
			}
			happened = true
			if after {
				if err := write(); err != nil {
					t.Error(err)
				}
			}
			panic(powerLoss{}) //nolint:forbidigo // nothing else ends a call in its midst
		}
		return a
	}
	a := open()
	var words []Block // the newest that was said about blocks
	steps := script()
	for i := 0; i < len(steps); i++ {
		held, agreed := promises(a)
		if !cutOff(func() {
			if err := errors.Join(steps[i].do(a), a.Save(context.Background(), a.Mark())); err != nil {
				t.Fatalf("step %d: %v", i, err)
			}
		}) {
			words = words[:0]
			for _, b := range a.blocks {
				words = append(words, b.Block)
			}
			continue
		}
		if err := a.journal.close(); err != nil {
			t.Fatal(err)
		}
		a = open()
		if err := a.SetBlocks(words); err != nil {
			t.Fatal(err)
		}
		now, nowAgreed := promises(a)
		for addr, owner := range held {
			if now[addr] != owner && !steps[i].releases {
				t.Fatalf("step %d, cut off at write %d: %s belonged to %v and belongs to %v", i, at, addr, owner, now[addr])
			}
		}
		for _, x := range agreed {
			if !slices.ContainsFunc(nowAgreed, func(y Agreement) bool { return x.CIDR == y.CIDR && x.Revision <= y.Revision }) {
				t.Fatalf("step %d, cut off at write %d: %+v is forgotten, the node says %+v", i, at, x, nowAgreed)
			}
		}
		i-- // the agent does it again
	}
	held, agreed := promises(a)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if !happened {
		return nil, nil
	}
	return held, agreed
}

// cutOff tells whether the power was lost.
func cutOff(do func()) (lost bool) {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(powerLoss); !ok {
				panic(r) //nolint:forbidigo // it is not this test's
			}
			lost = true
		}
	}()
	do()
	return false
}
