package routes

import (
	"syscall"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Links of pods come and go all the time; only a route that waits for a next hop has to hear of them.
func TestWhichLinksMatterToLearnedRoutes(t *testing.T) {
	for _, test := range []struct {
		what      string
		kind      uint16
		name      string
		changed   uint32
		waiting   bool
		workloads string
		used      bool
		news      bool
	}{
		{what: "a network card comes", kind: unix.RTM_NEWLINK, name: "eth1", changed: 1, workloads: "cali", news: true},
		{what: "a network card's counters", kind: unix.RTM_NEWLINK, name: "eth1", workloads: "cali"},
		{what: "a network card goes", kind: unix.RTM_DELLINK, name: "eth1", workloads: "cali", news: true},
		{what: "a pod comes", kind: unix.RTM_NEWLINK, name: "cali123", changed: 1, workloads: "cali"},
		{what: "a pod goes", kind: unix.RTM_DELLINK, name: "cali123", workloads: "cali"},
		{what: "a pod goes that peers", kind: unix.RTM_DELLINK, name: "cali123", workloads: "cali", used: true, news: true},
		{what: "a pod comes while a route waits", kind: unix.RTM_NEWLINK, name: "cali123", changed: 1, workloads: "cali", waiting: true, news: true},
		{what: "a pod goes while a route waits", kind: unix.RTM_DELLINK, name: "cali123", workloads: "cali", waiting: true, news: true},
		{what: "a pod comes, where nothing tells pods from others", kind: unix.RTM_NEWLINK, name: "cali123", changed: 1, news: true},
	} {
		t.Run(test.what, func(t *testing.T) {
			w := &watch{workloads: test.workloads}
			w.waiting.Store(test.waiting)
			info := nl.NewIfInfomsg(unix.AF_UNSPEC)
			info.Change, info.Index = test.changed, 7
			if test.used {
				w.used.Store(&map[int32]struct{}{7: {}})
			}
			m := &syscall.NetlinkMessage{
				Header: syscall.NlMsghdr{Type: test.kind},
				Data:   append(info.Serialize(), nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(test.name)).Serialize()...),
			}
			if got := w.look(m); got != test.news {
				t.Errorf("news: %t, want %t", got, test.news)
			}
		})
	}
}
