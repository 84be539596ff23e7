package conflist

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestIPAMSection(t *testing.T) {
	for section, want := range map[string]IPAM{
		``:                        {Type: OwnIPAM},
		`null`:                    {Type: OwnIPAM},
		`{"type": "manul-ipam"}`:  {Type: OwnIPAM},
		`{"type": "host-local"}`:  {Type: "host-local"},
		`{"type": "x", "any": 1}`: {Type: "x"},
		`{"type": "manul-ipam", "assign_ipv4": "false", "assign_ipv6": true}`:                {Type: OwnIPAM, NoIPv4: true},
		`{"type": "manul-ipam", "ipv4_pools": ["a", "10.0.0.0/8"], "ipv6_pools": ["b"]}`:     {Type: OwnIPAM, IPv4Pools: []string{"a", "10.0.0.0/8"}, IPv6Pools: []string{"b"}},
		`{"type": "manul-ipam", "ipv4_pools": ["a"], "assign_ipv6": false, "ipv6_pools":[]}`: {Type: OwnIPAM, IPv4Pools: []string{"a"}, IPv6Pools: []string{}, NoIPv6: true},
	} {
		got, err := ParseIPAM([]byte(section))
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", section, err, diff)
		}
	}
	for section, want := range map[string]string{
		`[]`:                      "ipam: ",
		`{"ipv4_pools": ["a"]}`:   "ipam.type: missing",
		`{"type": "manul"}`:       `ipam.type: got "manul"`,
		`{"type": "../x"}`:        `ipam.type: got "../x"`,
		`{"type": "calico-ipam"}`: `want manul-ipam, which has the same settings`,
		`{"type": "manul-ipam", "ipv4pools": []}`:                                       `unknown field "ipv4pools"`,
		`{"type": "manul-ipam", "assign_ipv4": "no"}`:                                   `want true or false`,
		`{"type": "manul-ipam", "assign_ipv4": false, "assign_ipv6": "false"}`:          "assign_ipv4 and assign_ipv6 are both false",
		`{"type": "manul-ipam", "assign_ipv4": false, "ipv4_pools": ["a"]}`:             "ipam.ipv4_pools: names pools, but assign_ipv4 is false",
		`{"type": "manul-ipam", "ipv6_pools": [""]}`:                                    "ipam.ipv6_pools: a name is empty",
		`{"type": "manul-ipam", "ipv4_pools": [` + strings.Repeat(`"a",`, 16) + `"a"]}`: "ipam.ipv4_pools: got 17 pools",
	} {
		if _, err := ParseIPAM([]byte(section)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", section, err, want)
		}
	}
}

func FuzzParseIPAM(f *testing.F) {
	f.Add([]byte(`{"type": "manul-ipam", "ipv4_pools": ["a"]}`))
	f.Fuzz(func(t *testing.T, section []byte) {
		if i, err := ParseIPAM(section); err == nil && i.Type == "" {
			t.Error("no type")
		}
	})
}

// Every section that the guide tells users to set can be read.
func TestSectionsOfTheGuide(t *testing.T) {
	page, err := os.ReadFile("../../docs/guide/addresses.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`CNI_IPAM='([^']*)'`).FindAllSubmatch(page, -1)
	if len(found) != 2 {
		t.Errorf("the guide has %d sections, want 2", len(found))
	}
	for _, section := range found {
		if _, err := ParseIPAM(section[1]); err != nil {
			t.Errorf("%s: %v", section[1], err)
		}
		if _, err := Render(Options{IPAM: section[1]}); err != nil {
			t.Errorf("%s: %v", section[1], err)
		}
	}
}
