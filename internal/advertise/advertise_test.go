package advertise

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
)

func prefix(text string) netip.Prefix { return netip.MustParsePrefix(text) }

func TestWhatANodeAdvertises(t *testing.T) {
	r := Rules{
		Blocks:  []netip.Prefix{prefix("10.48.1.0/26"), prefix("10.60.1.0/26")},
		Named:   []netip.Prefix{prefix("10.49.0.0/16"), prefix("10.60.9.9/32")},
		Private: []netip.Prefix{prefix("10.60.0.0/16")},
	}
	for _, tc := range []struct {
		prefix string
		held   bool
		want   string
	}{
		{"10.48.1.0/26", false, "true it is a block of the node"},
		{"10.48.1.7/32", true, "false it lies in block 10.48.1.0/26 of the node, which is advertised as a whole"},
		{"10.48.7.7/32", true, "true a pod of the node has the address, which lies outside the node's blocks"},
		{"10.48.7.7/32", false, "false no pod of the node has it"},
		{"10.60.1.0/26", false, "false it is a block of the node; pool 10.60.0.0/16 has disableBGPExport"},
		{"10.60.7.7/32", true, "false a pod of the node has the address; pool 10.60.0.0/16 has disableBGPExport"},
		{"10.49.0.0/16", false, "true the BGPConfiguration has it advertised for services"},
		{"10.60.9.9/32", true, "true the BGPConfiguration has it advertised for services"},
		{"10.48.0.0/16", false, "false no pod of the node has it"},
	} {
		v := r.Judge(prefix(tc.prefix), tc.held)
		if got := fmt.Sprint(v.Advertised(), " ", v.Why()); got != tc.want {
			t.Errorf("%s, held %v: %s, want %s", tc.prefix, tc.held, got, tc.want)
		}
	}
}

func TestCommunities(t *testing.T) {
	r := Rules{Communities: []Communities{{prefix("10.48.0.0/16"), []string{"1:2", "1:1"}}, {prefix("10.0.0.0/8"), []string{"1:1"}}, {prefix("10.48.1.7/32"), []string{"1:3"}}}}
	for p, want := range map[string][]string{"10.48.1.0/26": {"1:1", "1:2"}, "10.49.0.0/16": {"1:1"}, "192.0.2.0/24": nil, "10.48.1.7/32": {"1:1", "1:2", "1:3"}} {
		if got := r.CommunitiesOf(prefix(p)); !slices.Equal(got, want) {
			t.Errorf("%s bears %q, want %q", p, got, want)
		}
	}
}
