package nftables

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/test/packets"
)

// An edit of policies that are folded is as many elements as it changes: no rule, no chain, no set.
func TestMinimalChangeOfFolds(t *testing.T) {
	n := packets.NewNode(t, subject())
	p := packets.ManyPolicies(40)
	n.Apply(p)
	for _, line := range dump(t, n.NS, false) {
		if strings.Contains(line, "peers-") || strings.Contains(line, "pi-np.team") {
			t.Errorf("what is folded is there as it was, too: %s", line)
		}
	}
	news := listenForNews(t, n.NS)
	client := packets.AddressMember("peers-07", packets.Address(packets.ClientPod, packets.IPv4))
	for _, step := range []struct {
		name   string
		change func()
		want   map[string]int
	}{
		{"nothing", func() {}, map[string]int{}},
		{"a member comes", func() { p.Members.Set(client, struct{}{}) }, map[string]int{"new element": 1, "transaction": 1}},
		{"a member goes", func() { p.Members.Delete(client) }, map[string]int{"deleted element": 1, "transaction": 1}},
		{"another port", func() { p.Programs.Set(packets.ManyName(7), packets.ManyProgram("peers-07", 81)) }, map[string]int{"new element": 1, "deleted element": 1, "transaction": 1}},
		{"what another says, too", func() {
			p.Programs.Set(packets.ManyName(6), tables.Program{Ingress: slices.Concat(packets.ManyProgram("peers-06", 80).Ingress, packets.ManyProgram("peers-07", 81).Ingress)})
		}, map[string]int{}},
		{"what another still says", func() { p.Programs.Set(packets.ManyName(7), packets.ManyProgram("peers-09", 80)) }, map[string]int{}},
		{"a restart", func() { n.Reopen() }, map[string]int{}},
	} {
		step.change()
		n.Apply(p)
		got := map[string]int{}
		for text, count := range news.read() {
			if what, _, is := strings.Cut(text, " in f4-i-"); is {
				text = what
			}
			got[text] += count
		}
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Errorf("%s: what changed in the kernel (-want +got):\n%s", step.name, diff)
		}
		n.SameAsFresh(p)
	}
}

// Policies come to be folded and cease to be, and packets see nothing of it.
func TestFoldingComesAndGoes(t *testing.T) {
	packets.FoldingComesAndGoes(t, subject(), func(line string) bool { return strings.HasPrefix(line, "set <nil>f4-") })
}
