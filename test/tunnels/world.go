package tunnels

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/manul-net/manul/cni/protocol"
	"github.com/manul-net/manul/nodeagent/agent"
	"github.com/manul-net/manul/nodeagent/checkpoint"
	"github.com/manul-net/manul/nodeagent/conntrack"
	"github.com/manul-net/manul/nodeagent/daemon"
	"github.com/manul-net/manul/nodeagent/dataplane/nftables"
	"github.com/manul-net/manul/nodeagent/dataplane/routes"
	"github.com/manul-net/manul/nodeagent/dataplane/tunnels"
	"github.com/manul-net/manul/nodeagent/interfaces"
	"github.com/manul-net/manul/test/netns"
)

// World is a network of two subnets with a router between them, which knows of no pod.
type World struct {
	*operator
	t      testing.TB
	Router *netns.NS
	Nodes  map[string]*Node
}

// Node is a node with its agent.
type Node struct {
	*netns.NS
	Name string
	// V4 and V6 are the node's addresses.
	V4, V6 netip.Addr

	world  *World
	number int
	dir    string
	agent  *agent.Agent
	stop   func()
}

// Pod is a pod on a node.
type Pod struct {
	*netns.NS
	Node *Node
	ID   string
	// V4 and V6 are the pod's addresses; not valid: it has none of the family.
	V4, V6 netip.Addr
	MTU    int
}

// subnets of the world, with the router as their last host but one.
func subnetOf(letter string, number int) (v4, v6 string) {
	at := map[string][2]string{"a": {"192.0.2.%d/24", "2001:db8:a::%d/64"}, "b": {"198.51.100.%d/24", "2001:db8:b::%d/64"}}[letter]
	return fmt.Sprintf(at[0], number), fmt.Sprintf(at[1], number)
}

const routerNumber = 254

// NewWorld makes the network, and the objects that every cluster has.
func NewWorld(t testing.TB) *World {
	t.Helper()
	w := &World{t: t, Router: netns.New(t), Nodes: map[string]*Node{}, operator: newOperator(t)}
	quiet(w.Router)
	for _, letter := range []string{"a", "b"} {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = letter
		if err := w.Router.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
			t.Fatalf("making a bridge: %v", err)
		}
		w.Router.Up(letter)
		v4, v6 := subnetOf(letter, routerNumber)
		w.Router.Address(letter, v4, v6)
	}
	w.Give("apiVersion: v1\nkind: Namespace\nmetadata: {name: default}\n---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {name: default, namespace: default}")
	return w
}

// quiet makes a namespace one of a host that passes packets on.
func quiet(ns *netns.NS) {
	ns.Sysctl("ipv4/ip_forward", "1")
	ns.Sysctl("ipv6/conf/all/forwarding", "1")
	ns.Sysctl("ipv6/conf/default/accept_dad", "0")
	for _, which := range []string{"all", "default"} {
		ns.Sysctl("ipv4/conf/"+which+"/rp_filter", "1")
	}
}

// Node makes a node on a subnet and starts its agent. Its blocks are the ones of its number of the pools that are given.
func (w *World) Node(name, subnet string, pools ...string) *Node {
	w.t.Helper()
	n := &Node{NS: netns.New(w.t), Name: name, world: w, number: len(w.Nodes) + 1, dir: w.t.TempDir()}
	w.Nodes[name] = n
	quiet(n.NS)
	port := "port" + name
	n.Veth("eth0", w.Router, port)
	w.Router.Master(port, subnet)
	v4, v6 := subnetOf(subnet, n.number)
	n.Address("eth0", v4, v6)
	n.V4, n.V6 = netip.MustParsePrefix(v4).Addr(), netip.MustParsePrefix(v6).Addr()
	via4, via6 := subnetOf(subnet, routerNumber)
	n.Route("0.0.0.0/0", netip.MustParsePrefix(via4).Addr().String(), "eth0")
	n.Route("::/0", netip.MustParsePrefix(via6).Addr().String(), "eth0")
	w.Give(n.manifest())
	for _, pool := range pools {
		w.Give(n.block(pool))
	}
	n.Start()
	w.t.Cleanup(func() {
		if n.stop != nil {
			n.stop()
		}
	})
	return n
}

func (n *Node) manifest() string {
	return fmt.Sprintf("apiVersion: v1\nkind: Node\nmetadata: {name: %s}\nstatus: {addresses: [{type: InternalIP, address: %s}, {type: InternalIP, address: %q}]}",
		n.Name, n.V4, n.V6)
}

// block is the manifest of the node's block of a pool: that of its number.
func (n *Node) block(pool string) string {
	cidr := netip.MustParsePrefix(pool)
	bytes := cidr.Addr().AsSlice()
	bits := 26
	if cidr.Addr().Is6() {
		bits = 122
		bytes[14] += byte(n.number)
	} else {
		bytes[2] += byte(n.number)
	}
	addr, _ := netip.AddrFromSlice(bytes)
	block := netip.PrefixFrom(addr, bits).String()
	return fmt.Sprintf("apiVersion: projectcalico.org/v3\nkind: IPAMBlock\nmetadata: {name: %q}\nspec: {cidr: %q, affinity: \"host:%s\"}",
		strings.NewReplacer(".", "-", ":", "-", "/", "-").Replace(block), block, n.Name)
}

// Start starts the node's agent.
func (n *Node) Start() {
	n.world.t.Helper()
	t := n.world.t
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo})).With("node", n.Name)
	if _, figures := t.(*testing.B); figures {
		log = slog.New(slog.DiscardHandler)
	}
	o := agent.Options{
		Node: n.Name, Version: "test", Dataplane: func() string { return "nftables" }, Source: &carrier{operator: n.world.operator, node: n.Name}, Log: log,
		MTU: n.mtu, AddWait: patience() / 2,
	}
	var closers []func() error
	n.Must("opening drivers", func() error {
		policy, err := nftables.New(nftables.Options{WorkloadPrefix: protocol.InterfacePrefix, Log: log})
		if err != nil {
			return err
		}
		routing, err := routes.New(routes.Options{WorkloadPrefix: protocol.InterfacePrefix, Log: log})
		if err != nil {
			return err
		}
		ends, err := tunnels.New(tunnels.Options{WorkloadPrefix: protocol.InterfacePrefix, Log: log})
		if err != nil {
			return err
		}
		own, err := interfaces.New(interfaces.Options{WorkloadPrefix: protocol.InterfacePrefix, Log: log})
		if err != nil {
			return err
		}
		tracked, err := conntrack.Open()
		if err != nil {
			return err
		}
		o.Policy, o.Routes, o.Tunnels, o.Interfaces, o.Subnet, o.Connections = policy, routing, ends, own, own.Subnet, tracked
		closers = append(closers, policy.Close, routing.Close, ends.Close, own.Close, tracked.Close)
		return nil
	})
	file, err := checkpoint.Open(filepath.Join(n.dir, "checkpoint.db"))
	if err != nil {
		t.Fatal(err)
	}
	journal, err := daemon.OpenAddresses(filepath.Join(n.dir, "addresses.db"))
	if err != nil {
		t.Fatal(err)
	}
	o.Checkpoint, o.Addresses = file, journal
	closers = append(closers, file.Close, journal.Close)
	n.agent = agent.New(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	running := n.agent
	go func() { done <- running.Run(ctx) }()
	n.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("agent of node %s: %v", n.Name, err)
		}
		for _, c := range closers {
			if err := c(); err != nil {
				t.Errorf("closing a part of node %s: %v", n.Name, err)
			}
		}
		n.stop = nil
	}
}

// Stop stops the node's agent. The kernel keeps what it has.
func (n *Node) Stop() { n.stop() }

func (n *Node) mtu([]netip.Addr, string) (int, error) {
	link, err := n.LinkByName("eth0")
	if err != nil {
		return 0, err
	}
	return link.Attrs().MTU, nil
}

// Pod starts a pod on a node, as the CNI plugin would, and waits for its network.
func (n *Node) Pod(name string) *Pod {
	n.world.t.Helper()
	w := n.world
	w.Give(fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s, namespace: default, uid: u-%s}\nspec: {nodeName: %s, serviceAccountName: default, containers: []}", name, name, n.Name))
	p := &Pod{NS: netns.New(w.t), Node: n, ID: "default/" + name}
	ctx, cancel := context.WithTimeout(w.t.Context(), patience())
	defer cancel()
	result, err := n.agent.Add(ctx, protocol.AddRequest{
		Attachment: protocol.Attachment{ContainerID: name, IfName: "eth0"}, PodNamespace: "default", PodName: name, PodUID: "u-" + name,
	})
	if err != nil {
		w.t.Fatalf("adding pod %s: %v", name, err)
	}
	p.MTU = result.MTU
	p.Sysctl("ipv6/conf/default/accept_dad", "0")
	n.Veth(result.InterfaceName, p.NS, "eth0")
	for ns, link := range map[*netns.NS]string{n.NS: result.InterfaceName, p.NS: "eth0"} {
		if err := ns.LinkSetMTU(ns.Link(link), result.MTU); err != nil {
			w.t.Fatal(err)
		}
	}
	hardware := n.Link(result.InterfaceName).Attrs().HardwareAddr
	for _, addr := range result.Addresses {
		p.Address("eth0", netip.PrefixFrom(addr, addr.BitLen()).String())
		if addr.Is4() {
			p.V4 = addr
			p.Neighbor("eth0", "169.254.1.1", hardware)
			p.Route("0.0.0.0/0", "169.254.1.1", "eth0")
		} else {
			p.V6 = addr
			p.Neighbor("eth0", "fe80::1", hardware)
			p.Route("::/0", "fe80::1", "eth0")
		}
		single := netip.PrefixFrom(addr, addr.BitLen())
		eventually(w.t, func() string {
			route, err := n.RouteGet(net.IP(addr.AsSlice()))
			if err != nil || len(route) == 0 || route[0].LinkIndex != n.Link(result.InterfaceName).Attrs().Index {
				return fmt.Sprintf("no route to pod %s (%s)", name, single)
			}
			return ""
		})
	}
	return p
}

// way is the device by which the node sends to an address, and the source that it chooses.
func (n *Node) way(to netip.Addr) (device string, source netip.Addr) {
	list, err := n.RouteGet(net.IP(to.AsSlice()))
	if err != nil || len(list) == 0 {
		return "", netip.Addr{}
	}
	link, err := n.LinkByIndex(list[0].LinkIndex)
	if err != nil {
		return "", netip.Addr{}
	}
	src, _ := netip.AddrFromSlice(list[0].Src)
	return link.Attrs().Name, src.Unmap()
}

// Sends waits until the node's kernel sends to an address by a device.
func (n *Node) Sends(to netip.Addr, device string) {
	n.world.t.Helper()
	eventually(n.world.t, func() string {
		if got, _ := n.way(to); got != device {
			return fmt.Sprintf("node %s sends to %s by %q, want %q; failures: %v", n.Name, to, got, device, n.world.status(n.Name).Failures)
		}
		return ""
	})
}

// devices are the node's ends of tunnels with the peers that they know, "name: address address" each.
func (n *Node) devices() []string {
	links, err := n.LinkList()
	if err != nil {
		n.world.t.Fatal(err)
	}
	var out []string
	for _, link := range links {
		name := link.Attrs().Name
		if !strings.HasSuffix(name, ".manul") {
			continue
		}
		entries, err := n.NeighList(link.Attrs().Index, 7) // AF_BRIDGE
		if err != nil {
			n.world.t.Fatal(err)
		}
		peers := map[string]bool{}
		for i := range entries {
			peers[entries[i].IP.String()] = true
		}
		out = append(out, name+": "+strings.Join(slices.Sorted(maps.Keys(peers)), " "))
	}
	return out
}

// stream sends datagrams between pods, one every few milliseconds, until it is ended.
type stream struct {
	stop     chan struct{}
	done     chan struct{}
	longest  time.Duration
	sent     int64
	answered atomic.Int64
}

const streamEvery = 2 * time.Millisecond

// loss is what became of a stream: none of its datagrams is sent again.
type loss struct {
	longest    time.Duration // between two answers
	sent, lost int64
}

func (l loss) String() string {
	return fmt.Sprintf("%d of %d datagrams lost, one sent every %v; at most %v without an answer", l.lost, l.sent, streamEvery, l.longest.Round(100*time.Microsecond))
}

func newStream(t testing.TB, from *Pod, to *Pod) *stream {
	t.Helper()
	addr := to.V4
	if !addr.IsValid() {
		addr = to.V6
	}
	at := netip.AddrPortFrom(addr, 7007)
	end := to.EchoUDP(at)
	flow := from.ConnectUDP(at)
	s := &stream{stop: make(chan struct{}), done: make(chan struct{})}
	received := make(chan struct{})
	go func() { // sends
		defer close(s.done)
		tick := time.NewTicker(streamEvery)
		defer tick.Stop()
		for {
			select {
			case <-s.stop:
				s.wait()
				_ = flow.Close()
				<-received
				end()
				return
			case <-tick.C:
				_, _ = flow.Write([]byte("stream"))
				s.sent++
			}
		}
	}()
	go func() { // receives
		defer close(received)
		last, buffer := time.Now(), make([]byte, 64)
		for {
			_, err := flow.Read(buffer)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				continue // an error of ICMP
			}
			now := time.Now()
			s.longest = max(s.longest, now.Sub(last))
			s.answered.Add(1)
			last = now
		}
	}()
	return s
}

// wait waits for the answers of the last datagrams, as long as any comes.
func (s *stream) wait() {
	const quiet = 2 * time.Second
	answered, last := s.answered.Load(), time.Now()
	for answered < s.sent && time.Since(last) < quiet {
		wait := time.NewTimer(streamEvery)
		<-wait.C
		if now := s.answered.Load(); now != answered {
			answered, last = now, time.Now()
		}
	}
}

// end ends the stream once it flows, and tells what was lost.
func (s *stream) end(t testing.TB) loss {
	t.Helper()
	const flowing = 20
	first := s.answered.Load()
	eventually(t, func() string {
		if n := s.answered.Load() - first; n < flowing {
			return fmt.Sprintf("%d answers, want %d", n, flowing)
		}
		return ""
	})
	close(s.stop)
	<-s.done
	return loss{longest: s.longest, sent: s.sent, lost: s.sent - s.answered.Load()}
}
