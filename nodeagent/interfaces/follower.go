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
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/rtnetlink"
)

const (
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
	options  Options
	handle   *netlink.Handle
	listener *rtnetlink.Listener // of what makes what is known out of date
	changed  chan struct{}
	gone     chan struct{} // of one element: a workload's interface was removed
	done     chan struct{} // closed: nobody wants to know any more
	running  sync.WaitGroup

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
	listener, err := rtnetlink.Subscribe(unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR)
	if err != nil {
		handle.Close()
		return nil, err
	}
	f := &Follower{options: o, handle: handle, listener: listener, done: make(chan struct{}), changed: make(chan struct{}, 1), gone: make(chan struct{}, 1)}
	if _, err := f.list(); err != nil {
		handle.Close()
		listener.Close()
		return nil, err
	}
	listener.Listen(o.Log, f.hear)
	f.running.Go(f.follow)
	return f, nil
}

// Close ends the following.
func (f *Follower) Close() error {
	close(f.done)
	f.listener.Close()
	f.running.Wait()
	f.handle.Close()
	return nil
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

// hear takes the kernel's news as fast as it comes.
func (f *Follower) hear(messages []syscall.NetlinkMessage, lost bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	news, gone := lost, f.links.gone
	for i := range messages {
		news = f.links.look(&messages[i], f.options.WorkloadPrefix) || news
	}
	if lost || f.links.gone > gone {
		select {
		case f.gone <- struct{}{}:
		default:
		}
	}
	return news
}

// follow lists all interfaces whenever what is known is out of date.
func (f *Follower) follow() {
	wait := retryAtFirst
	changed := f.listener.Changed()
	var pause <-chan time.Time
	for {
		select {
		case <-f.done:
			return
		case <-changed:
		case <-pause:
		}
		changed, pause = f.listener.Changed(), nil
		news, err := f.list()
		if news {
			select {
			case f.changed <- struct{}{}:
			default:
			}
		}
		if err == nil {
			wait = retryAtFirst
			continue
		}
		f.options.Log.Error("the node's interfaces are not known; trying again", "error", err, "in", wait)
		changed, pause = nil, time.After(wait/2+rand.N(wait/2)) //nolint:gosec // jitter
		wait = min(2*wait, retryAtMost)
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
