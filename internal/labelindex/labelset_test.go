package labelindex

import (
	"fmt"
	"testing"

	"github.com/manul-net/manul/internal/selector"
)

// TestItemsThatAreAlikeShareTheirLabels, in whatever order they come and go; and none is found under another's.
func TestItemsThatAreAlikeShareTheirLabels(t *testing.T) {
	x := New(func(int, int, bool) {})
	s, err := selector.Parse("app == '1'")
	if err != nil {
		t.Fatal(err)
	}
	x.SetSelector(1, s)
	const items, apps = 1000, 10
	labels := func(app int) map[string]string {
		return map[string]string{"app": fmt.Sprint(app), "version": "v1", fmt.Sprint(app): "app"}
	}
	expect := func(what string, sets, matched int) {
		t.Helper()
		n := 0
		for range x.Items(1) {
			n++
		}
		if len(x.sets.bySum) != sets || n != matched {
			t.Errorf("%s: %d different labels are kept, want %d; the selector matches %d items, want %d", what, len(x.sets.bySum), sets, n, matched)
		}
	}
	for i := range items {
		x.SetItem(i, labels(i%apps))
	}
	expect("all are there", apps, items/apps)
	for i := range items / 2 {
		x.SetItem(i, labels(1))
	}
	expect("half of them were labelled alike", apps, items/2+items/apps/2)
	for i := range items {
		if i%apps != 1 || i < items/2 {
			x.DeleteItem(i)
		}
	}
	expect("only some with one label are left", 1, items/apps/2)
	for i := range items {
		x.DeleteItem(i)
	}
	expect("all have gone", 0, 0)
}
