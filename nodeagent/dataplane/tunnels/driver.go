// Package tunnels makes the kernel's ends of tunnels equal to tables.Tunnels by rtnetlink: the devices, and for VXLAN the
// permanent neighbours and forwarding entries that lead to other nodes.
//
// It owns the devices that bear the names of tables.TunnelKind, with all that is on them, and touches no others.
package tunnels

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/tables"
)

// Options of a driver.
type Options struct {
	// WorkloadPrefix is what the names of workload interfaces begin with, whose changes mean nothing for tunnels.
	WorkloadPrefix string
	// Log takes what an operator of the node may want to know. Nil: nothing is logged.
	Log *slog.Logger
}

// Driver keeps one network namespace's ends of tunnels equal to desired tables. Its methods may be called from one goroutine
// at a time, Resync, Changed and Disturbances from any.
type Driver struct {
	options Options
	handle  *netlink.Handle
	// socket is for what the handle can't ask for.
	socket  *nl.SocketHandle
	monitor *monitor
	resync  atomic.Bool
	// disturbances counts how often others' changes were undone.
	disturbances atomic.Int64
	// known: the kernel was compared with the tables, and links are the devices.
	known bool
	links map[tables.TunnelKind]int
	// failed is why all of a kind was not in force at the last comparison. refused are peers whose entries the kernel refused: they are
	// tried again when they change, or everything is compared.
	failed  map[tables.TunnelKind]error
	refused map[tables.TunnelPeer]error
	// leaving are the kinds whose devices Sweep removes.
	leaving map[tables.TunnelKind]bool
}

// answerWait bounds the wait for the kernel's answer, which is there when the request returns.
const answerWait = 5 * time.Second

// New opens a lasting connection to the calling thread's network namespace. It changes nothing.
func New(options Options) (*Driver, error) {
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("opening tunnels: %w", err)
	}
	d := &Driver{
		options: options, handle: handle, links: map[tables.TunnelKind]int{}, failed: map[tables.TunnelKind]error{},
		refused: map[tables.TunnelPeer]error{}, leaving: map[tables.TunnelKind]bool{},
	}
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE)
	if err == nil {
		d.socket = &nl.SocketHandle{Socket: socket}
		wait := unix.NsecToTimeval(answerWait.Nanoseconds())
		if err = socket.SetReceiveTimeout(&wait); err == nil {
			d.monitor, err = startMonitor(options)
		}
	}
	if err != nil {
		handle.Close()
		d.socket.Close()
		return nil, fmt.Errorf("opening tunnels: %w", err)
	}
	return d, nil
}

// Close ends the connection. The tunnels stay.
func (d *Driver) Close() error {
	d.monitor.Close()
	d.socket.Close()
	d.handle.Close()
	return nil
}

// Resync makes the next Apply compare everything with the kernel.
func (d *Driver) Resync() { d.resync.Store(true) }

// Changed yields a value when changes of links, or foreign changes of the tunnels, make another Apply necessary.
func (d *Driver) Changed() <-chan struct{} { return d.monitor.Changed() }

// Disturbances counts how often other programs' changes of the tunnels were noticed, and undone. Changes that come close
// together count once.
func (d *Driver) Disturbances() int64 { return d.disturbances.Load() }

// Apply makes the kernel's ends of tunnels equal to desired, but for devices that are not wanted any more: these Sweep removes, once no
// route leads over them. The first call, and the next one after an error, a change of links
// or of devices, a foreign change or Resync, compares everything with the kernel; others cost in proportion to the peers
// that changed. A kind of tunnel that can't be put into force is reported as tables.ItemErrors, joined, while the others
// are in force. Unless another error is returned, desired is clean afterwards.
func (d *Driver) Apply(ctx context.Context, desired *tables.Tunnels) error {
	news, foreign := d.monitor.take()
	if d.resync.Swap(false) || news || !d.known || desired.Devices.HasDirty() {
		if err := d.compare(ctx, desired); err != nil {
			d.known = false
			return fmt.Errorf("applying tunnels: %w", err)
		}
	} else {
		for key := range desired.Peers.Dirty() {
			if err := ctx.Err(); err != nil {
				d.known = false
				return fmt.Errorf("applying tunnels: %w", err)
			}
			index, ok := d.links[key.Kind]
			if !ok {
				continue // the kind failed, or there is none
			}
			d.notePeer(key, d.makePeer(desired, key, index))
		}
	}
	desired.Clean()
	if foreign {
		d.disturbances.Add(1)
		d.options.Log.Warn("somebody else changed tunnels of this agent; they are what they should be again")
	}
	return d.problems()
}

// notePeer notes whether the kernel refused a peer's entries.
func (d *Driver) notePeer(key tables.TunnelPeer, err error) {
	if err != nil {
		d.refused[key] = err
	} else {
		delete(d.refused, key)
	}
}

// maxNamed is how many refused peers of a kind are named.
const maxNamed = 3

// problems are the kinds of which something is not in force, each with the reasons.
func (d *Driver) problems() error {
	peers := map[tables.TunnelKind][]tables.TunnelPeer{}
	for key := range d.refused {
		peers[key.Kind] = append(peers[key.Kind], key)
	}
	var errs []error
	for _, kind := range tables.TunnelKinds() {
		reasons := []error{d.failed[kind]}
		refused := peers[kind]
		slices.SortFunc(refused, func(a, b tables.TunnelPeer) int { return a.Node.Compare(b.Node) })
		for _, key := range refused[:min(len(refused), maxNamed)] {
			reasons = append(reasons, d.refused[key])
		}
		if more := len(refused) - maxNamed; more > 0 {
			reasons = append(reasons, fmt.Errorf("and the ways to %d more nodes", more))
		}
		if err := errors.Join(reasons...); err != nil {
			errs = append(errs, &tables.ItemError{Kind: tables.KindTunnel, Name: kind.String(), Err: err})
		}
	}
	return errors.Join(errs...)
}

// Sweep removes the devices that the last Apply did not want. One that can't be removed is reported as a tables.ItemError; the next
// Sweep tries it again.
func (d *Driver) Sweep() error {
	if len(d.leaving) == 0 {
		return nil
	}
	var errs []error
	for kind := range d.leaving {
		if err := d.removeDevice(kind); err != nil {
			errs = append(errs, &tables.ItemError{Kind: tables.KindTunnel, Name: kind.String(), Err: err})
			continue
		}
		delete(d.leaving, kind)
	}
	return errors.Join(errs...)
}

// compare makes all devices and peers what they should be.
func (d *Driver) compare(ctx context.Context, desired *tables.Tunnels) error {
	all, err := d.list()
	if err != nil {
		return err
	}
	first := !d.known
	clear(d.links)
	clear(d.failed)
	clear(d.refused)
	for _, kind := range tables.TunnelKinds() {
		if err := ctx.Err(); err != nil {
			return err
		}
		wish, wanted := desired.Devices.Get(kind)
		if !wanted {
			d.monitor.expect(kind, 0)
			d.leaving[kind] = true
			continue
		}
		delete(d.leaving, kind)
		index, err := d.makeDevice(all, kind, wish, first)
		if err == nil {
			d.links[kind] = index
			d.monitor.expect(kind, index)
			err = d.comparePeers(desired, kind, index)
		}
		if err != nil {
			d.failed[kind] = err
		}
	}
	d.known = true
	return nil
}

// namespace is what of the kernel's links matters here.
type namespace struct {
	links []netlink.Link
	// bearers: address -> index of the link.
	bearers map[netip.Addr]int
}

// listAttempts bounds the repetition of a listing that a change has interrupted.
const listAttempts = 10

func (d *Driver) list() (*namespace, error) {
	links, err := retried(d.handle.LinkList)
	if err != nil {
		return nil, fmt.Errorf("listing links: %w", err)
	}
	addrs, err := retried(func() ([]netlink.Addr, error) { return d.handle.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("listing addresses: %w", err)
	}
	all := &namespace{links: links, bearers: make(map[netip.Addr]int, len(addrs))}
	for i := range addrs {
		if addr, ok := netip.AddrFromSlice(addrs[i].IP); ok {
			all.bearers[addr.Unmap()] = addrs[i].LinkIndex
		}
	}
	return all, nil
}

func retried[T any](list func() ([]T, error)) ([]T, error) {
	out, err := list()
	for attempt := 0; errors.Is(err, netlink.ErrDumpInterrupted) && attempt < listAttempts; attempt++ {
		out, err = list()
	}
	return out, err
}

func (n *namespace) named(name string) netlink.Link {
	for _, link := range n.links {
		if link.Attrs().Name == name {
			return link
		}
	}
	return nil
}
