package tables_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/manul-net/manul/nodeagent/tables"
)

func TestUnfit(t *testing.T) {
	u := &tables.Unfit{}
	bad := errors.New
	for _, step := range []struct {
		what string
		do   func()
		want string
	}{
		{"nothing is known", func() {}, ""},
		{"a part that is fit changes nothing", func() { u.Note("Set", "s", "a", nil) }, ""},
		{"a member", func() { u.Note("Set", "s", "b", bad("b is bad")) }, "Set s: b is bad"},
		{"another: the smaller one is told of", func() { u.Note("Set", "s", "a", bad("a is bad")) }, "Set s: a is bad"},
		{"other items, in order", func() { u.Note("Set", "r", "", bad("odd")); u.Note("Endpoint", "x", "", bad("odd")) }, "Endpoint x: odd, Set r: odd, Set s: a is bad"},
		{"one member is good again", func() { u.Note("Set", "s", "a", nil) }, "Endpoint x: odd, Set r: odd, Set s: b is bad"},
		{"an item is looked at anew", func() { u.Look("Endpoint", "x"); u.Look("Endpoint", "y") }, "Set r: odd, Set s: b is bad"},
		{"the last of them are good", func() { u.Note("Set", "s", "b", nil); u.Look("Set", "r") }, ""},
	} {
		step.do()
		var got []string
		for _, e := range u.Items() {
			got = append(got, e.Kind+" "+e.Name+": "+e.Err.Error())
		}
		if got := strings.Join(got, ", "); got != step.want {
			t.Errorf("%s: got %q, want %q", step.what, got, step.want)
		}
	}
}
