package ipam

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// Addresses without address management are taken as they are, once on a node, also over a restart.
func TestUnmanagedAddresses(t *testing.T) {
	h := newHarness(t, time.Minute, small())
	outside, inside := netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("10.48.0.65")
	request := Request{Fixed: []netip.Addr{outside, inside}, Unmanaged: true}
	got, err := h.Allocate(pod("a"), request)
	h.ok(err)
	if want := []netip.Addr{inside, outside}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	h.reopen(small())
	_, err = h.Allocate(pod("b"), Request{Fixed: []netip.Addr{outside}, Unmanaged: true})
	if _, ok := errors.AsType[*InUseError](err); !ok {
		t.Errorf("taken twice: %v", err)
	}
	// One inside a block is not given to somebody else.
	for range 3 {
		got, err := h.Allocate(pod(string(rune('c'+len(h.Allocations())))), Request{})
		h.ok(err)
		if got[0] == inside {
			t.Errorf("%v is given twice", inside)
		}
	}
	h.ok(h.SetLive(nil))
	if _, err := h.Allocate(pod("b"), Request{Fixed: []netip.Addr{outside}, Unmanaged: true}); err != nil {
		t.Errorf("once it is free: %v", err)
	}
	if _, err := h.Allocate(pod("x"), Request{Fixed: []netip.Addr{netip.MustParseAddr("192.0.2.8")}}); err == nil {
		t.Error("a managed address outside the node's blocks is given")
	}
}
