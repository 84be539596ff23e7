package stream

import (
	"net"
	"slices"
	"testing"
)

// TestAReplicaCallsNotItself: it would be sent away each second while nobody writes.
func TestAReplicaCallsNotItself(t *testing.T) {
	own := []net.Addr{
		&net.IPNet{IP: net.IPv4(127, 0, 0, 1), Mask: net.CIDRMask(8, 32)},
		&net.IPNet{IP: net.IPv4(10, 48, 0, 7), Mask: net.CIDRMask(32, 32)},
		&net.IPNet{IP: net.ParseIP("fd00::7"), Mask: net.CIDRMask(128, 128)},
	}
	for _, tc := range []struct {
		what       string
		there      []string
		wantOthers []string
	}{
		{"none", nil, nil},
		{"only itself", []string{"10.48.0.7:5473"}, nil},
		{"two others", []string{"10.48.0.6:5473", "10.48.0.7:5473", "10.48.0.8:5473"}, []string{"10.48.0.6:5473", "10.48.0.8:5473"}},
		{"IPv6", []string{"[fd00::7]:5473", "[fd00::8]:5473"}, []string{"[fd00::8]:5473"}},
		{"another on the same machine, by its port", []string{"10.48.0.7:5474", "10.48.0.7:5473"}, []string{"10.48.0.7:5474"}},
		{"what is no address", []string{"x"}, []string{"x"}},
	} {
		if got := without(slices.Clone(tc.there), own, "5473"); !slices.Equal(got, tc.wantOthers) {
			t.Errorf("%s: it calls %q, want %q", tc.what, got, tc.wantOthers)
		}
	}
}
