package ipam

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// What an IPAM plugin gave is a pod's as long as one of its containers is attached, also over a restart, and no longer, though the pod be live.
func TestAddressesThatSomebodyElseGave(t *testing.T) {
	h := newHarness(t, time.Minute, small())
	addrs := func(texts ...string) (out []netip.Addr) {
		for _, text := range texts {
			out = append(out, netip.MustParseAddr(text))
		}
		return out
	}
	expect := func(owner Owner, want ...string) {
		t.Helper()
		if got, _ := h.Lookup(owner); !slices.Equal(got, addrs(want...)) {
			t.Errorf("%s has %v, want %v", owner.Endpoint, got, want)
		}
	}
	a, b := pod("a"), pod("b")
	h.expect(a, Request{}, "10.48.0.64") // ahead of its ADD
	h.ok(h.SetLive([]string{a.UID, b.UID}))
	h.ok(h.Take(a, addrs("192.0.2.7", "10.48.0.65"), "c1", false))
	h.ok(h.Take(a, addrs("192.0.2.7", "10.48.0.65"), "c1", false))
	expect(a, "10.48.0.65", "192.0.2.7")
	h.reopen(small())
	h.ok(h.SetLive([]string{a.UID, b.UID}))
	expect(a, "10.48.0.65", "192.0.2.7")
	err := h.Take(b, addrs("192.0.2.7"), "c2", false)
	if _, ok := errors.AsType[*InUseError](err); !ok {
		t.Errorf("taken twice: %v", err)
	}
	expect(b)
	// One inside a block is not given to somebody else; the one that it had before rests.
	h.expect(b, Request{}, "10.48.0.66")

	h.ok(h.Take(a, addrs("192.0.2.8"), "c1-again", false)) // another sandbox
	expect(a, "192.0.2.8")
	for _, container := range []string{"c1", "c1-again"} {
		_, err := h.Detach(container)
		h.ok(err)
	}
	expect(a)
	h.ok(h.Take(b, addrs("192.0.2.7"), "c2", false))
	expect(b, "192.0.2.7")
	if got := h.Allocations(); len(got) != 1 || !got[0].External {
		t.Errorf("allocations %+v", got)
	}
	for _, test := range []struct {
		owner     Owner
		addrs     []netip.Addr
		container string
	}{{a, nil, "c3"}, {a, addrs("192.0.2.9"), ""}, {a, addrs("192.0.2.9"), "c2"}, {Owner{}, addrs("192.0.2.9"), "c3"}} {
		if err := h.Take(test.owner, test.addrs, test.container, false); err == nil {
			t.Errorf("%+v is accepted", test)
		}
	}
}

func TestDrop(t *testing.T) {
	h := newHarness(t, 0, small())
	a := pod("a")
	drop := func(want bool) {
		t.Helper()
		got, err := h.Drop(a)
		h.ok(err)
		if got != want {
			t.Errorf("dropped %v, want %v", got, want)
		}
	}
	drop(false)
	h.expect(a, Request{}, "10.48.0.64")
	h.ok(h.Attach(a, "c1"))
	drop(false)
	h.expect(a, Request{}, "10.48.0.64")
	_, err := h.Detach("c1")
	h.ok(err)
	h.expect(a, Request{}, "10.48.0.64")
	drop(true)
	h.expect(a, Request{}, "10.48.0.65")
}
