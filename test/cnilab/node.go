// Package cnilab is one node for the CNI plugin: the real agent with its drivers, its journal and its socket, in a network
// namespace of its own, and the real plugin's program as a runtime calls it. The operator's word comes from whoever uses it.
package cnilab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/containernetworking/plugins/pkg/testutils"
	"github.com/vishvananda/netlink"

	"github.com/manul-net/manul/cni/protocol"
	"github.com/manul-net/manul/nodeagent/agent"
	"github.com/manul-net/manul/nodeagent/checkpoint"
	"github.com/manul-net/manul/nodeagent/cniserver"
	"github.com/manul-net/manul/nodeagent/daemon"
	"github.com/manul-net/manul/nodeagent/dataplane/bandwidth"
	"github.com/manul-net/manul/nodeagent/dataplane/nftables"
	"github.com/manul-net/manul/nodeagent/dataplane/packetlimits"
	"github.com/manul-net/manul/nodeagent/dataplane/routes"
	"github.com/manul-net/manul/nodeagent/interfaces"
)

// Name of the node.
const Name = "worker1"

// Node is a node. Its methods but Call are for one goroutine.
type Node struct {
	// Dir holds the agent's state, Plugin is the plugin's program.
	Dir, Plugin string
	// AddWait is how long an ADD waits for the pod's policy; set before Start.
	AddWait time.Duration
	// ForgottenAfter is how long nothing must speak for an attachment before its addresses go back; set before Start. 0: as the agent has it.
	ForgottenAfter time.Duration
	Log            *slog.Logger
	// IPAM is the section of the network configuration, in JSON; empty: there is none. Plugins is the folder of other plugins.
	IPAM, Plugins string
	// Observe is told of every request that the agent answered; set before Start. Nil: nobody is.
	Observe func(cniserver.Observation)
	// ExternalIPAM is the agent's setting.
	ExternalIPAM bool

	host     ns.NetNS
	operator *Operator
	stop     func() error // of the agent; nil: none runs
}

// New makes a node without an agent. Close removes it.
func New(dir, plugin string, operator *Operator) (*Node, error) {
	n := &Node{Dir: dir, Plugin: plugin, AddWait: time.Second, Log: slog.New(slog.DiscardHandler), operator: operator}
	return n, n.boot()
}

// boot makes the node's kernel: a network namespace.
func (n *Node) boot() error {
	host, err := testutils.NewNS()
	if err != nil {
		return fmt.Errorf("making a network namespace: %w", err)
	}
	n.host = host
	return n.In(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		// Any node has an uplink. Here it also keeps the numbers of both ends of a pair apart.
		// The node's own setting: IPv6 has no forwarding by interface.
		forwarding := os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0)
		return errors.Join(forwarding, netlink.LinkSetUp(lo), netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "uplink0"}}))
	})
}

// In runs f in the node's network namespace.
func (n *Node) In(f func() error) error {
	return n.host.Do(func(ns.NetNS) error { return f() })
}

// Start starts the agent, and returns once it listens.
func (n *Node) Start(ctx context.Context) error {
	var o agent.Options
	var closers []func() error
	closeAll := func() error {
		var errs []error
		for _, f := range slices.Backward(closers) {
			errs = append(errs, f())
		}
		return errors.Join(errs...)
	}
	err := n.In(func() error {
		policy, err := nftables.New(nftables.Options{WorkloadPrefix: protocol.InterfacePrefix, Log: n.Log})
		if err != nil {
			return err
		}
		closers = append(closers, policy.Close)
		routing, err := routes.New(routes.Options{WorkloadPrefix: protocol.InterfacePrefix, Protocol: protocol.RouteProtocol, Log: n.Log})
		if err != nil {
			return err
		}
		closers = append(closers, routing.Close)
		own, err := interfaces.New(interfaces.Options{WorkloadPrefix: protocol.InterfacePrefix, Mark: protocol.InterfaceMark, Log: n.Log})
		if err != nil {
			return err
		}
		closers = append(closers, own.Close)
		limits, err := bandwidth.New(bandwidth.Options{WorkloadPrefix: protocol.InterfacePrefix, Log: n.Log})
		if err != nil {
			return err
		}
		closers = append(closers, limits.Close)
		packets, err := packetlimits.New(packetlimits.Options{WorkloadPrefix: protocol.InterfacePrefix})
		if err != nil {
			return err
		}
		closers = append(closers, packets.Close)
		o = agent.Options{
			Policy: policy, Routes: routing, Interfaces: own, Attachments: own, ForgottenAfter: n.ForgottenAfter,
			Bandwidth: limits, PacketLimits: packets,
		}
		return nil
	})
	if err == nil {
		err = n.open(&o, &closers)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("starting the agent: %w", err), closeAll())
	}
	o.Node, o.Version, o.Dataplane, o.Source = Name, "lab", func() string { return "nftables" }, n.operator
	o.MTU = func([]netip.Addr, string) (int, error) { return 1450, nil }
	o.Log, o.AddWait = n.Log, n.AddWait
	o.ExternalIPAM = n.ExternalIPAM
	a := agent.New(o)
	ctx, cancel := context.WithCancel(ctx)
	loop, server := make(chan error, 1), make(chan error, 1)
	go func() { loop <- a.Run(ctx) }()
	go func() {
		server <- cniserver.Serve(ctx, a, n.Log, cniserver.Options{
			Socket: n.socket(), Queue: protocol.Queue{Dir: filepath.Join(n.Dir, "cni", "deferred")}, ShutdownGrace: time.Millisecond, Observe: n.Observe,
		})
	}()
	n.stop = func() error {
		cancel()
		return errors.Join(<-server, <-loop, closeAll())
	}
	return n.listening(ctx)
}

func (n *Node) open(o *agent.Options, closers *[]func() error) error {
	if err := os.MkdirAll(n.Dir, 0o700); err != nil {
		return err
	}
	file, err := checkpoint.Open(filepath.Join(n.Dir, "checkpoint.db"))
	if err != nil {
		return err
	}
	*closers = append(*closers, file.Close)
	given, err := daemon.OpenAddresses(filepath.Join(n.Dir, "addresses.db"))
	if err != nil {
		return err
	}
	*closers = append(*closers, given.Close)
	o.Checkpoint, o.Addresses = file, given
	return nil
}

const startWait = time.Minute

// listening waits until the agent listens.
func (n *Node) listening(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !(protocol.Client{Socket: n.socket()}).Listening(ctx) {
		select {
		case <-ctx.Done():
			return errors.Join(errors.New("the agent does not listen"), n.Stop())
		case <-tick.C:
		}
	}
	return nil
}

// Stop ends the agent; what it told the kernel stays.
func (n *Node) Stop() error {
	if n.stop == nil {
		return nil
	}
	stop := n.stop
	n.stop = nil
	return stop()
}

// Reboot gives the node a new kernel, in which nothing is. The agent does not run afterwards.
func (n *Node) Reboot() error {
	return errors.Join(n.Stop(), removeNamespace(n.host), n.boot())
}

// LoseJournal removes the journal of addresses. The agent must not run.
func (n *Node) LoseJournal() error { return os.Remove(filepath.Join(n.Dir, "addresses.db")) }

// Close ends the agent and removes the node.
func (n *Node) Close() error { return errors.Join(n.Stop(), removeNamespace(n.host)) }

func removeNamespace(n ns.NetNS) error { return errors.Join(n.Close(), testutils.UnmountNS(n)) }

func (n *Node) socket() string { return filepath.Join(n.Dir, "cni.sock") }

// Interfaces are the names of the pods' interfaces.
func (n *Node) Interfaces() ([]string, error) {
	var names []string
	err := n.In(func() error {
		links, err := netlink.LinkList()
		for _, l := range links {
			if l.Type() == "veth" {
				names = append(names, l.Attrs().Name)
			}
		}
		return err
	})
	return names, err
}
