package ipam

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

// An interface beside a pod's first has addresses of its own, for as long as a container is attached to it, whatever becomes of the pod.
func TestFurtherInterfaces(t *testing.T) {
	h := newHarness(t, time.Minute, small())
	a := pod("a")
	other := a
	other.Interface = "net1"
	first, err := h.Allocate(a, Request{})
	h.ok(err)
	h.ok(h.Attach(a, "c1/eth0"))
	second, err := h.AllocateAttached(other, Request{}, "c1/net1")
	h.ok(err)
	if slices.Equal(first, second) {
		t.Fatalf("both have %v", first)
	}
	again, err := h.AllocateAttached(other, Request{}, "c1/net1")
	h.ok(err)
	another, err := h.AllocateAttached(other, Request{}, "c2/net1") // a new sandbox of the same pod
	h.ok(err)
	if !slices.Equal(again, second) || !slices.Equal(another, second) {
		t.Errorf("got %v, then %v and %v", second, again, another)
	}
	if _, err := h.AllocateAttached(other, Request{}, "c1/eth0"); err == nil {
		t.Error("an attachment of the first interface is taken for the other's")
	}
	h.reopen(small())
	h.ok(h.SetLive([]string{a.UID}))
	if o, ok := h.Attached("c1/net1"); !ok || o != other {
		t.Errorf("after a restart c1/net1 is of %+v", o)
	}
	if got := h.AttachmentsOf(other); !slices.Equal(got, []string{"c1/net1", "c2/net1"}) {
		t.Errorf("attachments %v", got)
	}
	h.ok(detach(h, "c1/net1"))
	if _, held := h.Lookup(other); !held {
		t.Error("the addresses are free, and a container has them")
	}
	h.ok(detach(h, "c2/net1"))
	if _, held := h.Lookup(other); held {
		t.Error("the addresses are held, and no container has them")
	}
	if got, _ := h.Lookup(a); !slices.Equal(got, first) {
		t.Errorf("the first interface has %v, want %v", got, first)
	}
}

// What another plugin made is known as such after a restart.
func TestChainedAddressesInTheJournal(t *testing.T) {
	h := newHarness(t, time.Minute, small())
	a := pod("a")
	_, err := h.Allocate(a, Request{})
	h.ok(err)
	given := []netip.Addr{netip.MustParseAddr("10.60.0.2")}
	h.ok(h.Take(a, given, "c1/eth0", true))
	h.reopen(small())
	list := h.Allocations()
	if len(list) != 1 || !list[0].Chained || !list[0].External || !slices.Equal(list[0].Addresses, given) {
		t.Errorf("after a restart: %+v", list)
	}
	h.ok(h.SetLive([]string{a.UID}))
	h.ok(detach(h, "c1/eth0"))
	if _, held := h.Lookup(a); held {
		t.Error("the addresses are held after the DEL")
	}
}

func detach(h *harness, id string) error {
	_, err := h.Detach(id)
	return err
}
