// Package netns makes network namespaces for kernel tests and sends real packets between them. Nothing in it touches
// the namespace that the test process runs in.
package netns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// NS is a network namespace. It has no name and goes with the last thing that uses it.
type NS struct {
	t  testing.TB
	fd int
	// Links of the namespace. Made in it, usable from everywhere.
	*netlink.Handle
}

// New makes a namespace with its loopback up. It skips the test, with the reason, where that is not allowed.
func New(t testing.TB) *NS {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("kernel test: making a network namespace needs root")
	}
	ns := &NS{t: t, fd: -1}
	var err error
	inThread(func() { err = ns.unshare() })
	if err != nil {
		t.Fatalf("making a network namespace: %v", err)
	}
	t.Cleanup(func() {
		ns.Close()
		unix.Close(ns.fd)
	})
	ns.Up("lo")
	return ns
}

func (n *NS) unshare() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	var err error
	if n.fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return err
	}
	n.Handle, err = netlink.NewHandle(unix.NETLINK_ROUTE)
	return err
}

// inThread runs f on a thread of its own, which ends with it: a thread that changed its namespace must not run
// anything else.
func inThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the runtime ends the thread with the goroutine
		f()
	}()
	<-done
}

// Do runs f in the namespace. Sockets that f opens stay in it. f must not call t.Fatal and the like.
func (n *NS) Do(f func()) {
	n.t.Helper()
	var err error
	inThread(func() {
		if err = unix.Setns(n.fd, unix.CLONE_NEWNET); err == nil {
			f()
		}
	})
	if err != nil {
		n.t.Fatalf("entering a network namespace: %v", err)
	}
}

// Must runs f in the namespace and fails the test if it fails.
func (n *NS) Must(what string, f func() error) {
	n.t.Helper()
	var err error
	n.Do(func() { err = f() })
	if err != nil {
		n.t.Fatalf("%s: %v", what, err)
	}
}

// Up sets a link up.
func (n *NS) Up(link string) {
	n.t.Helper()
	if err := n.LinkSetUp(n.Link(link)); err != nil {
		n.t.Fatalf("setting %s up: %v", link, err)
	}
}

// Link returns a link by its name.
func (n *NS) Link(name string) netlink.Link {
	n.t.Helper()
	link, err := n.LinkByName(name)
	if err != nil {
		n.t.Fatalf("looking for link %s: %v", name, err)
	}
	return link
}

// Veth makes a pair of interfaces, name here and peerName in peer, both up.
func (n *NS) Veth(name string, peer *NS, peerName string) {
	n.t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	if err := n.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: peerName, PeerNamespace: netlink.NsFd(peer.fd)}); err != nil {
		n.t.Fatalf("making veth %s: %v", name, err)
	}
	n.Up(name)
	peer.Up(peerName)
	// Until the kernel has seen the carrier, which it may take a second to look for, it drops what is sent.
	n.until("link "+name+" does not come up", func() bool { return n.Link(name).Attrs().OperState == netlink.OperUp })
	n.until("link "+peerName+" does not come up", func() bool { return peer.Link(peerName).Attrs().OperState == netlink.OperUp })
}

// Master puts a link under a bridge of the namespace.
func (n *NS) Master(link, bridge string) {
	n.t.Helper()
	if err := n.LinkSetMaster(n.Link(link), n.Link(bridge)); err != nil {
		n.t.Fatalf("putting %s under %s: %v", link, bridge, err)
	}
}

// Address gives a link addresses, as CIDRs. IPv6 addresses are usable at once.
func (n *NS) Address(link string, cidrs ...string) {
	n.t.Helper()
	for _, cidr := range cidrs {
		address, err := netlink.ParseAddr(cidr)
		if err != nil {
			n.t.Fatalf("parsing %s: %v", cidr, err)
		}
		address.Flags |= unix.IFA_F_NODAD
		if err := n.AddrAdd(n.Link(link), address); err != nil {
			n.t.Fatalf("adding %s to %s: %v", cidr, link, err)
		}
		// The kernel takes IPv6 addresses into use in the background.
		n.until("address "+cidr+" is not usable", func() bool { return n.usable(address) })
	}
}

// usable tells whether packets to an address are for the namespace itself.
func (n *NS) usable(address *netlink.Addr) bool {
	n.t.Helper()
	list, err := n.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_LOCAL}, netlink.RT_FILTER_TABLE)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		n.t.Fatalf("listing local routes: %v", err)
	}
	return slices.ContainsFunc(list, func(r netlink.Route) bool {
		return r.Type == unix.RTN_LOCAL && r.Dst != nil && r.Dst.IP.Equal(address.IP)
	})
}

// settleWait bounds the wait for what the kernel does in the background.
const settleWait = time.Minute

// until waits for something that the kernel does in the background.
func (n *NS) until(problem string, done func() bool) {
	n.t.Helper()
	deadline, tick := time.Now().Add(settleWait), time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !done() {
		if time.Now().After(deadline) {
			n.t.Fatal(problem)
		}
		<-tick.C
	}
}

// LinkLocal is the IPv6 link-local address of a link.
func (n *NS) LinkLocal(link string) netip.Addr {
	n.t.Helper()
	list, err := n.AddrList(n.Link(link), unix.AF_INET6)
	if err != nil {
		n.t.Fatalf("listing the addresses of %s: %v", link, err)
	}
	for i := range list {
		if address, ok := netip.AddrFromSlice(list[i].IP); ok && address.IsLinkLocalUnicast() {
			return address
		}
	}
	n.t.Fatalf("%s has no link-local address", link)
	return netip.Addr{}
}

// Route adds a route over a link, by way of a gateway unless that is empty.
func (n *NS) Route(destination, via, link string) {
	n.t.Helper()
	dst, err := netlink.ParseIPNet(destination)
	if err != nil {
		n.t.Fatalf("parsing %s: %v", destination, err)
	}
	route := &netlink.Route{Dst: dst, LinkIndex: n.Link(link).Attrs().Index}
	if via == "" {
		route.Scope = netlink.SCOPE_LINK
	} else {
		gateway, err := netlink.ParseAddr(via + "/" + map[bool]string{true: "32", false: "128"}[dst.IP.To4() != nil])
		if err != nil {
			n.t.Fatalf("parsing %s: %v", via, err)
		}
		route.Gw = gateway.IP
		route.Flags = int(netlink.FLAG_ONLINK)
	}
	if err := n.RouteAdd(route); err != nil {
		n.t.Fatalf("adding route to %s over %s: %v", destination, link, err)
	}
}

// Sysctl sets a value below /proc/sys/net, such as "ipv4/ip_forward".
func (n *NS) Sysctl(name, value string) {
	n.t.Helper()
	n.Must(fmt.Sprintf("setting net/%s", name), func() error {
		return os.WriteFile(filepath.Join("/proc/sys/net", name), []byte(value), 0o600)
	})
}

// Neighbor makes the link address of a neighbour known for good.
func (n *NS) Neighbor(link, address string, hardware net.HardwareAddr) {
	n.t.Helper()
	entry := &netlink.Neigh{LinkIndex: n.Link(link).Attrs().Index, IP: net.ParseIP(address), HardwareAddr: hardware, State: netlink.NUD_PERMANENT}
	if err := n.NeighSet(entry); err != nil {
		n.t.Fatalf("adding neighbour %s on %s: %v", address, link, err)
	}
}
