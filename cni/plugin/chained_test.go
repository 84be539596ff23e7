package plugin

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// An interface that an older kernel must set down to rename has all that it had afterwards.
func TestRenameOfAnInterfaceThatIsSetDown(t *testing.T) {
	w := newWorld(t)
	w.in(w.host, func() {
		w.ok(netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "veth1234"}, PeerName: "peer"}))
		w.ok(netlink.LinkSetUp(w.link("peer")))
		link := w.link("veth1234")
		for _, text := range []string{"10.60.0.1/32", "fd00:60::1/128"} {
			addr, err := netlink.ParseAddr(text)
			w.ok(err)
			addr.Flags = unix.IFA_F_NODAD
			w.ok(netlink.AddrAdd(link, addr))
		}
		w.ok(netlink.LinkSetUp(link))
		for _, text := range []string{"10.60.0.2/32", "fd00:60::2/128"} {
			dst, err := netlink.ParseIPNet(text)
			w.ok(err)
			w.ok(netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: dst, Scope: netlink.SCOPE_LINK}))
		}
		has := func() []string {
			var out []string
			addrs, err := netlink.AddrList(link, netlink.FAMILY_ALL)
			w.ok(err)
			for _, a := range addrs {
				if a.IP.IsGlobalUnicast() {
					out = append(out, a.IPNet.String())
				}
			}
			routes, err := netlink.RouteListFiltered(unix.AF_UNSPEC, &netlink.Route{LinkIndex: link.Attrs().Index}, netlink.RT_FILTER_OIF)
			w.ok(err)
			for _, r := range routes {
				if r.Dst.IP.IsGlobalUnicast() {
					out = append(out, fmt.Sprint(r.Dst, " scope ", r.Scope, " protocol ", r.Protocol))
				}
			}
			slices.Sort(out)
			return out
		}
		before := has()
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		w.ok(err)
		defer h.Close()
		w.ok(renameDown(h, link, "cali1234"))
		if diff := cmp.Diff(before, has()); diff != "" || len(before) < 4 {
			t.Errorf("(-before +after):\n%s%v", diff, before)
		}
		if got := w.link("cali1234").Attrs(); got.Index != link.Attrs().Index || got.RawFlags&unix.IFF_UP == 0 {
			t.Errorf("the interface is %+v", got)
		}
	})
}
