package packets

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/test/netns"
)

// settleAttempts bounds how often something may be put off.
const settleAttempts = 1000

// settle applies until nothing is put off any more.
func (s Subject) settle(t testing.TB, d Driver, p *tables.Policy, apply func()) {
	t.Helper()
	if s.Settle == nil {
		return
	}
	for range settleAttempts {
		if !s.Settle(d, p) {
			return
		}
		apply()
	}
	t.Fatal("the driver puts something off for ever")
}

// SameAsFresh checks that the kernel is what a fresh driver makes of the same tables.
func (n *Node) SameAsFresh(p *tables.Policy) {
	n.t.Helper()
	n.subject.settle(n.t, n.Driver, p, func() { n.Apply(p) })
	want := n.subject.freshDump(n.t, p)
	if diff := cmp.Diff(want, n.subject.Dump(n.t, n.NS)); diff != "" {
		n.t.Fatalf("the kernel is not what a fresh driver makes (-fresh +got):\n%s", diff)
	}
}

func (s Subject) openIn(t testing.TB, ns *netns.NS) Driver {
	t.Helper()
	var d Driver
	ns.Must("opening a driver", func() error {
		var err error
		d, err = s.Open(t)
		return err
	})
	return d
}

// freshDump is what a fresh driver makes of tables in an empty namespace.
func (s Subject) freshDump(t testing.TB, p *tables.Policy) []string {
	t.Helper()
	ns := netns.New(t)
	defer ns.Close()
	d := s.openIn(t, ns)
	defer func() { _ = d.Close() }()
	ns.Do(func() { _ = d.Apply(t.Context(), p) }) // refused items are no matter here
	s.settle(t, d, p, func() { ns.Do(func() { _ = d.Apply(t.Context(), p) }) })
	return s.Dump(t, ns)
}

// WantItems checks which items an error is about, as "<kind> <name>".
func (n *Node) WantItems(err error, want ...string) {
	n.t.Helper()
	got := itemsOf(n.t, err)
	if diff := cmp.Diff(want, got); diff != "" {
		n.t.Errorf("items in error (-want +got):\n%s", diff)
	}
}

// itemsOf are the items that an error is about; it must be about nothing else.
func itemsOf(t interface {
	Helper()
	Fatalf(format string, args ...any)
}, err error,
) []string {
	t.Helper()
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("Apply = %v, want joined errors about items", err)
	}
	var got []string
	for _, e := range joined.Unwrap() {
		var item *tables.ItemError
		if !errors.As(e, &item) {
			t.Fatalf("Apply = %v, want errors about items only", err)
		}
		got = append(got, item.Kind+" "+item.Name)
	}
	return got
}

// WantChange waits until the driver notices a foreign change.
func (n *Node) WantChange() {
	n.t.Helper()
	const wait = time.Minute
	select {
	case <-n.Driver.Changed():
	case <-time.After(wait):
		n.t.Fatal("the driver does not notice the change")
	}
}

// WantChanges is WantChange where several changes may be noticed one after the other: it takes them all.
func (n *Node) WantChanges() {
	n.t.Helper()
	n.WantChange()
	for {
		select {
		case <-n.Driver.Changed():
		case <-time.After(moment):
			return
		}
	}
}

// moment is how long nothing may come.
const moment = 50 * time.Millisecond

// WantNoChange checks that the driver has noticed none.
func (n *Node) WantNoChange() {
	n.t.Helper()
	select {
	case <-n.Driver.Changed():
		n.t.Error("the driver notices a foreign change where there is none")
	case <-time.After(moment):
	}
}

// untouched checks that f leaves every rule and element as it is.
func (n *Node) untouched(what string, f func()) {
	n.t.Helper()
	before := n.subject.Handles(n.t, n.NS)
	f()
	if diff := cmp.Diff(before, n.subject.Handles(n.t, n.NS)); diff != "" {
		n.t.Errorf("%s changed something (-before +after):\n%s", what, diff)
	}
}
