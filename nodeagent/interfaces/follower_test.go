package interfaces

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/test/netns"
)

const patience = time.Minute

func follow(t *testing.T, ns *netns.NS) *Follower {
	t.Helper()
	var f *Follower
	ns.Must("following interfaces", func() (err error) {
		f, err = New(Options{WorkloadPrefix: "cali", Log: slog.New(slog.DiscardHandler)})
		return err
	})
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// Closing is no failure.
func TestCloseIsSilent(t *testing.T) {
	ns := netns.New(t)
	var log bytes.Buffer
	var f *Follower
	ns.Must("following interfaces", func() (err error) {
		f, err = New(Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
		return err
	})
	if err := f.Close(); err != nil || log.Len() > 0 {
		t.Errorf("%v; logged: %s", err, &log)
	}
}

// eventually waits until the follower knows what is wanted, woken by nothing but its own word.
func eventually(t *testing.T, f *Follower, what string, want map[string][]string) {
	t.Helper()
	timeout := time.After(patience)
	for {
		d := cmp.Diff(want, texts(f.Addresses()), cmpopts.EquateEmpty())
		if d == "" {
			return
		}
		select {
		case <-f.Changed():
		case <-timeout:
			t.Fatalf("%s (-want +got):\n%s", what, d)
		}
	}
}

// texts leaves out link-local addresses, which the kernel makes in its own time.
func texts(in map[string][]netip.Addr) map[string][]string {
	out := map[string][]string{}
	for name, addrs := range in {
		out[name] = nil
		for _, a := range addrs {
			if !a.IsLinkLocalUnicast() {
				out[name] = append(out[name], a.String())
			}
		}
	}
	return out
}

func TestInterfacesAreFollowed(t *testing.T) {
	ns, other := netns.New(t), netns.New(t)
	ns.Veth("eth0", other, "peer0")
	ns.Address("eth0", "192.168.0.1/24", "fd00::1/64")
	f := follow(t, ns)
	lo := []string{"127.0.0.1", "::1"}
	if d := cmp.Diff(map[string][]string{"lo": lo, "eth0": {"192.168.0.1", "fd00::1"}}, texts(f.Addresses())); d != "" {
		t.Errorf("at the start (-want +got):\n%s", d)
	}

	ns.Veth("eth1", other, "peer1")
	eventually(t, f, "a new interface", map[string][]string{"lo": lo, "eth0": {"192.168.0.1", "fd00::1"}, "eth1": nil})
	ns.Address("eth1", "192.168.1.1/24")
	eventually(t, f, "a new address", map[string][]string{"lo": lo, "eth0": {"192.168.0.1", "fd00::1"}, "eth1": {"192.168.1.1"}})

	addr, err := netlink.ParseAddr("192.168.0.1/24")
	if err != nil {
		t.Fatal(err)
	}
	if err := ns.AddrDel(ns.Link("eth0"), addr); err != nil {
		t.Fatal(err)
	}
	eventually(t, f, "an address that goes", map[string][]string{"lo": lo, "eth0": {"fd00::1"}, "eth1": {"192.168.1.1"}})

	eth1 := ns.Link("eth1")
	if err := ns.LinkSetDown(eth1); err != nil {
		t.Fatal(err)
	}
	if err := ns.LinkSetName(eth1, "uplink"); err != nil {
		t.Fatal(err)
	}
	eventually(t, f, "another name", map[string][]string{"lo": lo, "eth0": {"fd00::1"}, "uplink": {"192.168.1.1"}})
	if err := ns.LinkDel(ns.Link("uplink")); err != nil {
		t.Fatal(err)
	}
	eventually(t, f, "an interface that goes", map[string][]string{"lo": lo, "eth0": {"fd00::1"}})
}

// Pods that come and go wake nobody.
func TestWorkloadsAreNoNews(t *testing.T) {
	ns, other := netns.New(t), netns.New(t)
	f := follow(t, ns)
	_, _, seen, err := f.read()
	if err != nil {
		t.Fatal(err)
	}
	var socket *nl.NetlinkSocket
	ns.Must("subscribing", func() (err error) {
		socket, err = nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR)
		return err
	})
	defer socket.Close()
	for i := range 5 {
		name := fmt.Sprintf("cali%d", i)
		ns.Veth(name, other, name)
		ns.Address(name, "169.254.1.1/32")
		if err := ns.LinkDel(ns.Link(name)); err != nil {
			t.Fatal(err)
		}
	}
	ns.Veth("eth0", other, "eth0")
	if err := socket.SetReceiveTimeout(&unix.Timeval{Sec: int64(patience.Seconds())}); err != nil {
		t.Fatal(err)
	}
	for {
		messages, _, err := socket.Receive()
		if err != nil {
			t.Fatalf("waiting for the news of eth0: %v", err)
		}
		for i := range messages {
			kind := messages[i].Header.Type
			news := seen.look(&messages[i], "cali")
			if news && kind == unix.RTM_NEWLINK && nameOf(&messages[i]) == "eth0" {
				return
			}
			if news {
				t.Errorf("a message of type %d counts as news", kind)
			}
		}
	}
}

// News that the kernel could not deliver is made up for by a list.
func TestLostNews(t *testing.T) {
	f := follow(t, netns.New(t))
	if !f.hear(nil, true) {
		t.Error("that news were lost has nobody look")
	}
}
