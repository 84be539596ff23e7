package peering

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/test/netns"
)

// The addresses come and go, also those of an earlier process; those of others stay.
func TestAddresses(t *testing.T) {
	ns := netns.New(t)
	ns.Up("lo")
	ns.Address("lo", "198.51.100.1/32", "2001:db8::1/128")
	var d *Driver
	open := func() {
		ns.Must("opening the driver", func() (err error) { d, err = New(); return err })
	}
	open()
	var desired tables.PeeringAddresses
	check := func(want string, addresses ...string) {
		t.Helper()
		var list []netip.Addr
		for _, a := range addresses {
			list = append(list, netip.MustParseAddr(a))
		}
		desired.Set(list)
		if err := d.Apply(t.Context(), &desired); err != nil {
			t.Fatal(err)
		}
		found, err := ns.AddrList(ns.Link("lo"), netlink.FAMILY_ALL)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for i := range found {
			if !found[i].IP.IsLoopback() {
				got = append(got, found[i].IPNet.String())
			}
		}
		slices.Sort(got)
		if text := strings.Join(got, " "); text != want {
			t.Errorf("addresses of lo: %s, want %s", text, want)
		}
	}
	check("169.254.7.9/32 198.51.100.1/32 2001:db8::1/128 fd00::179/128", "169.254.7.9", "fd00::179")
	check("169.254.7.8/32 198.51.100.1/32 2001:db8::1/128 fd00::179/128", "169.254.7.8", "fd00::179")
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	open()
	defer d.Close()
	check("198.51.100.1/32 2001:db8::1/128")
}
