package interfaces

import (
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/manul-net/manul/test/netns"
)

// Whose interfaces are there is read off their marks; others' interfaces and others' marks don't count. That one has gone is told.
func TestMarkedInterfaces(t *testing.T) {
	ns, other := netns.New(t), netns.New(t)
	var f *Follower
	ns.Must("following interfaces", func() (err error) {
		f, err = New(Options{WorkloadPrefix: "cali", Mark: "manul:", Log: slog.New(slog.DiscardHandler)})
		return err
	})
	defer func() { _ = f.Close() }()
	for name, alias := range map[string]string{"cali1": "manul:c1/eth0", "cali2": "", "cali3": "of another", "eth0": "manul:c4/eth0", "cali5": "manul:c5/net1"} {
		ns.Veth(name, other, name)
		if alias != "" {
			if err := ns.LinkSetAlias(ns.Link(name), alias); err != nil {
				t.Fatal(err)
			}
		}
	}
	look := func(want map[string]string) {
		t.Helper()
		got, err := f.Marked()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("marked interfaces (-want +got):\n%s", diff)
		}
	}
	look(map[string]string{"c1/eth0": "cali1", "c5/net1": "cali5"})
	if err := ns.LinkDel(ns.Link("cali5")); err != nil {
		t.Fatal(err)
	}
	select {
	case <-f.Gone():
	case <-time.After(patience):
		t.Fatal("that an interface has gone is not told")
	}
	look(map[string]string{"c1/eth0": "cali1"})
}
