package tables

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMergedPorts(t *testing.T) {
	for _, tc := range []struct {
		name     string
		in, want []PortRange
	}{
		{"none", nil, nil},
		{"in order", []PortRange{{First: 443, Last: 443}, {First: 80, Last: 81}}, []PortRange{{First: 80, Last: 81}, {First: 443, Last: 443}}},
		{"that overlap", []PortRange{{First: 80, Last: 90}, {First: 85, Last: 100}}, []PortRange{{First: 80, Last: 100}}},
		{"one in another", []PortRange{{First: 1, Last: 100}, {First: 5, Last: 6}}, []PortRange{{First: 1, Last: 100}}},
		{"that touch", []PortRange{{First: 80, Last: 80}, {First: 81, Last: 81}}, []PortRange{{First: 80, Last: 81}}},
		{"up to the last port", []PortRange{{First: 65535, Last: 65535}, {First: 65000, Last: 65535}}, []PortRange{{First: 65000, Last: 65535}}},
		{"without a port", []PortRange{{First: 90, Last: 80}}, nil},
	} {
		if diff := cmp.Diff(tc.want, MergedPorts(tc.in)); diff != "" {
			t.Errorf("ranges %s (-want +got):\n%s", tc.name, diff)
		}
	}
}

func TestGreatest(t *testing.T) {
	for _, tc := range []struct {
		name     string
		in, want []string
	}{
		{"none", nil, nil},
		{"one in another", []string{"10.1.0.0/16", "10.0.0.0/8"}, []string{"10.0.0.0/8"}},
		{"one of which has bits behind its prefix", []string{"10.1.2.3/16", "10.1.255.0/24"}, []string{"10.1.0.0/16"}},
		{"twice the same", []string{"10.0.0.1/32", "10.0.0.1/32"}, []string{"10.0.0.1/32"}},
		{"side by side", []string{"10.0.1.0/24", "10.0.0.0/24"}, []string{"10.0.0.0/24", "10.0.1.0/24"}},
		{"everything of one family", []string{"0.0.0.0/0", "10.0.0.0/8", "fd00::/8"}, []string{"0.0.0.0/0", "fd00::/8"}},
	} {
		var in []netip.Prefix
		for _, p := range tc.in {
			in = append(in, netip.MustParsePrefix(p))
		}
		var got []string
		for _, p := range Greatest(in) {
			got = append(got, p.String())
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("CIDRs, %s (-want +got):\n%s", tc.name, diff)
		}
	}
}
