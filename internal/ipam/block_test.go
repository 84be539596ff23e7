package ipam

import (
	"math"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func prefix(text string) netip.Prefix { return netip.MustParsePrefix(text) }

func addr(text string) netip.Addr { return netip.MustParseAddr(text) }

func prefixes(texts ...string) []netip.Prefix {
	var list []netip.Prefix
	for _, text := range texts {
		list = append(list, prefix(text))
	}
	return list
}

// comparePrefixes lets cmp look at netip values.
func comparePrefixes() cmp.Option {
	return cmp.Options{
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	}
}

func TestBlockBits(t *testing.T) {
	tests := []struct {
		pool string
		size int
		want int
		err  string
	}{
		{"10.48.0.0/16", 0, 26, ""},
		{"10.48.0.0/28", 0, 28, ""},
		{"fd00::/48", 0, 122, ""},
		{"fd00::/126", 0, 126, ""},
		{"10.48.0.0/16", 20, 20, ""},
		{"10.48.0.0/16", 32, 32, ""},
		{"10.48.0.0/16", 19, 0, "block size 19 of pool 10.48.0.0/16 is not between 20 and 32"},
		{"10.48.0.0/16", 33, 0, "block size 33 of pool 10.48.0.0/16 is not between 20 and 32"},
		{"fd00::/48", 64, 0, "block size 64 of pool fd00::/48 is not between 116 and 128"},
		{"10.48.0.0/28", 26, 0, "block size 26 is larger than its pool 10.48.0.0/28: use 28 or more"},
		{"10.48.0.1/16", 26, 0, "pool 10.48.0.1/16 is not a canonical IPv4 or IPv6 CIDR"},
	}
	for _, tt := range tests {
		got, err := BlockBits(prefix(tt.pool), tt.size)
		message := ""
		if err != nil {
			message = err.Error()
		}
		if got != tt.want || message != tt.err {
			t.Errorf("BlockBits(%s, %d): got %d, %q, want %d, %q", tt.pool, tt.size, got, message, tt.want, tt.err)
		}
	}
	if _, err := BlockBits(netip.Prefix{}, 0); err == nil {
		t.Error("no error for the zero prefix")
	}
}

func TestBlockOf(t *testing.T) {
	tests := []struct {
		pool string
		bits int
		addr string
		want string
	}{
		{"10.48.0.0/16", 26, "10.48.0.70", "10.48.0.64/26"},
		{"10.48.0.0/16", 32, "10.48.255.255", "10.48.255.255/32"},
		{"10.48.0.0/16", 26, "10.49.0.0", ""},
		{"fd00:10::/112", 122, "fd00:10::47", "fd00:10::40/122"},
		{"fd00:10::/112", 122, "10.48.0.1", ""},
	}
	for _, tt := range tests {
		got, ok := BlockOf(prefix(tt.pool), tt.bits, addr(tt.addr))
		if ok != (tt.want != "") || ok && got != prefix(tt.want) {
			t.Errorf("BlockOf(%s, %d, %s): got %v, %v, want %q", tt.pool, tt.bits, tt.addr, got, ok, tt.want)
		}
	}
}

func TestBlocks(t *testing.T) {
	tests := []struct {
		pool string
		bits int
		want []netip.Prefix
	}{
		{"10.48.0.0/24", 26, prefixes("10.48.0.0/26", "10.48.0.64/26", "10.48.0.128/26", "10.48.0.192/26")},
		{"10.48.0.0/26", 26, prefixes("10.48.0.0/26")},
		{"255.255.255.254/31", 32, prefixes("255.255.255.254/32", "255.255.255.255/32")},
		{"fd00::ff80/121", 122, prefixes("fd00::ff80/122", "fd00::ffc0/122")},
	}
	for _, tt := range tests {
		got := slices.Collect(Blocks(prefix(tt.pool), tt.bits))
		if diff := cmp.Diff(tt.want, got, comparePrefixes()); diff != "" {
			t.Errorf("blocks of %s (-want +got):\n%s", tt.pool, diff)
		}
		if n := BlockCount(prefix(tt.pool), tt.bits); n != uint64(len(tt.want)) {
			t.Errorf("BlockCount(%s, %d) = %d, want %d", tt.pool, tt.bits, n, len(tt.want))
		}
	}
	if n := BlockCount(prefix("fd00::/48"), 122); n != math.MaxUint64 {
		t.Errorf("the count of a large pool's blocks is %d", n)
	}
}

func TestNames(t *testing.T) {
	tests := map[string]string{
		"10.48.0.64/26":                 "10-48-0-64-26",
		"10.48.0.1/32":                  "10-48-0-1-32",
		"fd00:10::40/122":               "fd00-10--40-122",
		"fd00::/122":                    "fd00---122",
		"1:2:3:4:5:6:7:40/122":          "1-2-3-4-5-6-7-40-122",
		"::1:0/122":                     "0--1-0-122",
		"::/122":                        "0---122",
		"2001:db8:0:1:1:1:1:0/122":      "2001-db8-0-1-1-1-1-0-122",
		"2001:db8:85a3::8a2e:370:0/116": "2001-db8-85a3--8a2e-370-0-116",
	}
	for block, want := range tests {
		name := Name(prefix(block))
		if name != want {
			t.Errorf("Name(%s) = %q, want %q", block, name, want)
		}
		if back, err := ParseName(name); err != nil || back != prefix(block) {
			t.Errorf("ParseName(%q) = %v, %v, want %s", name, back, err, block)
		}
	}
	for _, name := range []string{"", "x", "10-48-0-64", "10-48-0-65-26", "10-48-0-64-33", "010-48-0-64-26", "fd00-0--40-122", "--1-0-122", "10.48.0.64-26", "fd00::40-122"} {
		if block, err := ParseName(name); err == nil {
			t.Errorf("ParseName(%q) = %s, want an error", name, block)
		}
	}
}

// drawPrefix draws a canonical CIDR of either family with a length in the given ranges.
func drawPrefix(t *rapid.T, least4, most4, least6, most6 int) netip.Prefix {
	if rapid.Bool().Draw(t, "IPv6") {
		bytes := [16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "address"))
		bytes[0] = 0xfd
		p, _ := netip.AddrFrom16(bytes).Prefix(rapid.IntRange(least6, most6).Draw(t, "length"))
		return p
	}
	bytes := [4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "address"))
	p, _ := netip.AddrFrom4(bytes).Prefix(rapid.IntRange(least4, most4).Draw(t, "length"))
	return p
}

func TestPropertyNamesAndOffsets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		block := drawPrefix(t, 0, 32, 64, 128)
		if back, err := ParseName(Name(block)); err != nil || back != block {
			t.Fatalf("name %q of %s reads back as %v, %v", Name(block), block, back, err)
		}
		offset := rapid.Uint64Range(0, Size(block)-1).Draw(t, "offset")
		at := AddrAt(block, offset)
		if !block.Contains(at) || Offset(block, at) != offset {
			t.Fatalf("address %d of %s is %s, whose offset is %d", offset, block, at, Offset(block, at))
		}
		if last := Last(block); !block.Contains(last) || last.Next().IsValid() && block.Contains(last.Next()) {
			t.Fatalf("last address of %s is %s", block, last)
		}
	})
}
