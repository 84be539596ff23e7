// Package interfaces follows which interfaces the node has, and which addresses they bear. The kernel tells of changes; all is
// listed at the start, and again when something changed or news were lost. Nothing is polled.
package interfaces

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	// watchBuffer has room for the news of some thousand interfaces.
	watchBuffer = 1 << 20
	// A list is tried again at once when it changed while it was made, and after a time when it was refused.
	listAttempts = 5
	retryAtFirst = 100 * time.Millisecond
	retryAtMost  = 30 * time.Second
)

// Options of a Follower.
type Options struct {
	// WorkloadPrefix begins the names of workloads' interfaces, which are left out: they come and go with pods.
	WorkloadPrefix string
	// Mark begins the aliases of workloads' interfaces, by which Marked knows whose they are.
	Mark string
	Log  *slog.Logger
}

// Follower knows the interfaces of the network namespace in which it was made.
type Follower struct {
	options Options
	handle  *netlink.Handle
	socket  *nl.NetlinkSocket
	changed chan struct{}
	gone    chan struct{} // of one element: a workload's interface was removed
	stale   chan struct{} // of one element: what is known may be out of date
	done    chan struct{} // closed: nobody wants to know any more
	running sync.WaitGroup

	mu    sync.Mutex
	known map[string][]netip.Addr
	// subnets of the addresses.
	subnets map[netip.Addr]netip.Prefix
	links   links
}

// New makes a Follower in the calling thread's network namespace. It knows all interfaces when it returns.
func New(o Options) (*Follower, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("opening a netlink socket: %w", err)
	}
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR)
	if err != nil {
		handle.Close()
		return nil, fmt.Errorf("subscribing to changes of interfaces: %w", err)
	}
	f := &Follower{
		options: o, handle: handle, socket: socket, done: make(chan struct{}),
		changed: make(chan struct{}, 1), gone: make(chan struct{}, 1), stale: make(chan struct{}, 1),
	}
	err = socket.SetReceiveBufferSize(watchBuffer, true)
	if err == nil {
		_, err = f.list()
	}
	if err != nil {
		handle.Close()
		socket.Close()
		return nil, err
	}
	f.running.Go(f.receive)
	f.running.Go(f.follow)
	return f, nil
}

// Close ends the following.
func (f *Follower) Close() error {
	close(f.done)
	f.socket.Close()
	f.running.Wait()
	f.handle.Close()
	return nil
}

// closed tells whether an error of the socket is only that of its being closed, for which the library has several.
func (f *Follower) closed() bool {
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}

// Addresses gives the addresses of all interfaces by name, in order. The map must not be changed.
func (f *Follower) Addresses() map[string][]netip.Addr {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.known
}

// Subnet gives an address of the node with the prefix length of its subnet; false when no interface has it.
func (f *Follower) Subnet(addr netip.Addr) (netip.Prefix, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	subnet, ok := f.subnets[addr]
	return subnet, ok
}

// Changed yields a value when Addresses gives something new.
func (f *Follower) Changed() <-chan struct{} { return f.changed }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// receive takes the kernel's news as fast as it comes.
func (f *Follower) receive() {
	for {
		messages, _, err := f.socket.Receive()
		if err != nil && f.closed() {
			return
		}
		if err != nil {
			signal(f.stale) // news were lost (ENOBUFS)
			signal(f.gone)
			if !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EINTR) {
				f.options.Log.Error("changes of interfaces are not seen any more", "error", err)
				return
			}
		}
		f.mu.Lock()
		news, gone := false, f.links.gone
		for i := range messages {
			news = f.links.look(&messages[i], f.options.WorkloadPrefix) || news
		}
		fewer := f.links.gone > gone
		f.mu.Unlock()
		if news {
			signal(f.stale)
		}
		if fewer {
			signal(f.gone)
		}
	}
}

// follow lists all interfaces whenever what is known is out of date.
func (f *Follower) follow() {
	wait := retryAtFirst
	for {
		select {
		case <-f.done:
			return
		case <-f.stale:
		}
		news, err := f.list()
		if news {
			signal(f.changed)
		}
		if err == nil {
			wait = retryAtFirst
			continue
		}
		f.options.Log.Error("the node's interfaces are not known; trying again", "error", err, "in", wait)
		select {
		case <-f.done:
			return
		case <-time.After(wait/2 + rand.N(wait/2)): //nolint:gosec // jitter
		}
		wait = min(2*wait, retryAtMost)
		signal(f.stale)
	}
}

// list makes known what the kernel has, and tells whether that is news.
func (f *Follower) list() (bool, error) {
	var err error
	for range listAttempts {
		var known map[string][]netip.Addr
		var subnets map[netip.Addr]netip.Prefix
		var found links
		if known, subnets, found, err = f.read(); err == nil {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.links = found
			if maps.EqualFunc(f.known, known, slices.Equal) && maps.Equal(f.subnets, subnets) {
				return false, nil
			}
			f.known, f.subnets = known, subnets
			return true, nil
		}
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return false, err
}

// read asks the kernel for all interfaces and addresses.
func (f *Follower) read() (map[string][]netip.Addr, map[netip.Addr]netip.Prefix, links, error) {
	list, err := f.handle.LinkList()
	if err != nil {
		return nil, nil, links{}, fmt.Errorf("listing interfaces: %w", err)
	}
	addrs, err := f.handle.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, nil, links{}, fmt.Errorf("listing addresses: %w", err)
	}
	known, subnets, found := map[string][]netip.Addr{}, map[netip.Addr]netip.Prefix{}, newLinks()
	for _, link := range list {
		attrs := link.Attrs()
		if isWorkload(attrs.Name, f.options.WorkloadPrefix) {
			found.workloads[attrs.Index] = struct{}{}
			continue
		}
		found.names[attrs.Index] = attrs.Name
		known[attrs.Name] = nil
	}
	for i := range addrs {
		addr, ok := netip.AddrFromSlice(addrs[i].IP)
		name, others := found.names[addrs[i].LinkIndex]
		if ok && others {
			known[name] = append(known[name], addr.Unmap())
			ones, _ := addrs[i].Mask.Size()
			subnets[addr.Unmap()] = netip.PrefixFrom(addr.Unmap(), ones)
		}
	}
	for name := range known {
		slices.SortFunc(known[name], netip.Addr.Compare)
		known[name] = slices.Compact(known[name])
	}
	return known, subnets, found, nil
}
