package traffic

import (
	"runtime"
	"testing"

	"github.com/manul-net/manul/test/netns"
)

// TestAPolicyCostsADriverLittleMemory: nothing of a fixed size is allocated for a policy. What a driver keeps grows by what it knows of the
// policy's one rule, its set and the set's one member, all of which are names, numbers and digests.
func TestAPolicyCostsADriverLittleMemory(t *testing.T) {
	const few = 100
	for _, c := range []struct {
		plane string
		many  int
		most  int64 // bytes for each
	}{
		{"nftables", 2_100, 3 << 9},
		{"nftables-unfolded", 2_100, 3 << 9},
		{"iptables", 2_100, 3 << 9},
		{"iptables-unfolded", 300, 3 << 9},
	} {
		t.Run(c.plane, func(t *testing.T) {
			each := (kept(t, c.plane, c.many) - kept(t, c.plane, few)) / int64(c.many-few)
			t.Logf("%d bytes for each policy", each)
			if each > c.most {
				t.Errorf("a driver keeps %d bytes for each policy, want %d at most", each, c.most)
			}
		})
	}
}

// kept is what a driver holds in memory when so many policies are in force, beside the tables.
func kept(t *testing.T, plane string, policiesInForce int) int64 {
	t.Helper()
	node := netns.New(t)
	desired := policies(policiesInForce, true)
	before := heap()
	var d driver
	node.Must("putting policies into force", func() (err error) {
		if d, err = open(t, plane); err != nil {
			return err
		}
		return d.Apply(t.Context(), desired)
	})
	defer func() { _ = d.Close() }()
	held := heap() - before
	runtime.KeepAlive(desired)
	return held
}
