package defaults

import (
	"strings"
	"testing"
)

func TestParsePool(t *testing.T) {
	for in, want := range map[string]string{
		"":             "invalid Prefix",
		"10.48.0.0/16": "10.48.0.0/16",
		"10.48.0.0/26": "10.48.0.0/26",
	} {
		if got, err := ParsePool(in); err != nil || got.String() != want {
			t.Errorf("ParsePool(%q) = %s, %v; want %s", in, got, err, want)
		}
	}
	for in, want := range map[string]string{
		"10.48.0.0":    "want a CIDR such as 10.48.0.0/16",
		"fd00::/48":    "want an IPv4 CIDR",
		"10.48.3.0/16": "write 10.48.0.0/16",
		"10.48.0.0/27": "at most /26",
	} {
		if _, err := ParsePool(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParsePool(%q): error %v, want one that says %q", in, err, want)
		}
	}
}
