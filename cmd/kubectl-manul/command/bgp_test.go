package command

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/manul-net/manul/internal/routing"
)

// What "bgp explain" takes: a CIDR, an address, a service with its namespace. What is none of them gets told what is wrong with it, and is not
// looked for as a service that can't be.
func TestSubjectsOfExplain(t *testing.T) {
	for text, want := range map[string]string{
		"10.48.2.0/24": "10.48.2.0/24", "10.48.2.7/24": "10.48.2.0/24", "10.48.2.7": "10.48.2.7/32", "fd00:48::/32": "fd00:48::/32", "fd00::7": "fd00::7/128",
	} {
		cidr, service, err := parseSubject(text)
		if err != nil || service != (routing.ServiceName{}) || cidr != netip.MustParsePrefix(want) {
			t.Errorf("%s: %v, %v, %v, want CIDR %s", text, cidr, service, err, want)
		}
	}
	cidr, service, err := parseSubject("yaobank/customer")
	if err != nil || cidr.IsValid() || service != (routing.ServiceName{Namespace: "yaobank", Name: "customer"}) {
		t.Errorf("yaobank/customer: %v, %v, %v", cidr, service, err)
	}
	for text, want := range map[string]string{
		"":                      "want NAMESPACE/SERVICE",
		"customer":              "want NAMESPACE/SERVICE",
		"yaobank/":              "want NAMESPACE/SERVICE",
		"/customer":             "want NAMESPACE/SERVICE",
		"yaobank/customer/http": "want NAMESPACE/SERVICE",
		"yaobank/Customer!":     "want NAMESPACE/SERVICE",
		"svc yaobank/customer":  "want NAMESPACE/SERVICE",
		"10.48.2.0/33":          "length of 0 to 32",
		"10.48.2.0/":            "length of 0 to 32",
		"10.48.2.0/ab":          "length of 0 to 32",
		"fd00:48::/129":         "length of 0 to 128",
		"10.48.2/24":            "want NAMESPACE/SERVICE, or a CIDR",
		"10.48.2.300":           "want NAMESPACE/SERVICE, or a CIDR",
		"fe80::1%eth0":          "want NAMESPACE/SERVICE, or a CIDR",
		"::ffff:10.48.2.0/120":  "write it as IPv4",
		"::ffff:10.48.2.7":      "write it as IPv4",
	} {
		if _, _, err := parseSubject(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one that says %q", text, err, want)
		}
	}
}
