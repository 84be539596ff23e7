// Package kernels puts worlds of package oracle into kernels: their nodes, pods and machines outside are network namespaces of one
// machine, a driver keeps each node's policy dataplane, and what becomes of packets is seen where they arrive.
package kernels

import (
	"fmt"
	"net/netip"
	"strconv"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/render"
	"github.com/manul-net/manul/test/netns"
	"github.com/manul-net/manul/test/oracle"
	"github.com/manul-net/manul/test/packets"
)

// Cluster is the network of worlds that have the same nodes and interfaces, and pods at most where it has some.
type Cluster struct {
	// Name is that of the dataplane.
	Name    string
	t       testing.TB
	subject packets.Subject
	network *oracle.Network
	nodes   map[string]*node
	places  map[oracle.Place]*netns.NS
	names   map[*netns.NS]oracle.Place
	watch   *netns.Watch
	// now are the pods that exist in the world of the moment.
	now map[string]bool
}

type node struct {
	*netns.NS
	driver packets.Driver
	// services that the node translates, once it translated any.
	services   []oracle.Translation
	translated bool
}

// New makes the network for worlds on a dataplane. Every interface leads to the addresses outside that are given, by its name;
// there are machines behind each node's interface, so that packets come in where they should.
func New(t testing.TB, name string, subject packets.Subject, network *oracle.Network, outside map[string][]netip.Addr) *Cluster {
	t.Helper()
	c := &Cluster{
		Name: name, t: t, subject: subject, network: network,
		nodes: map[string]*node{}, places: map[oracle.Place]*netns.NS{}, names: map[*netns.NS]oracle.Place{}, now: map[string]bool{},
	}
	switches := map[string]*netns.NS{}
	for i := range network.Interfaces {
		l := &network.Interfaces[i]
		n := c.node(l.Node)
		if switches[l.Name] == nil {
			switches[l.Name] = newSwitch(t)
		}
		port := switches[l.Name]
		plug(n.NS, l.Name, port, l.Node)
		for _, a := range l.Addresses {
			n.Address(l.Name, single(a))
		}
		c.machine(l, n, port, outside[l.Name])
	}
	c.route()
	for i := range network.Pods {
		c.pod(&network.Pods[i])
	}
	var all []*netns.NS
	for ns := range c.names {
		all = append(all, ns)
	}
	c.watch = netns.NewWatch(t, all...)
	return c
}

func single(a netip.Addr) string { return netip.PrefixFrom(a, a.BitLen()).String() }

// node makes a node, unless it is there, with its driver.
func (c *Cluster) node(name string) *node {
	c.t.Helper()
	if n := c.nodes[name]; n != nil {
		return n
	}
	n := &node{NS: c.place(oracle.Place{Node: name})}
	c.nodes[name] = n
	for setting, value := range map[string]string{
		"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1", "ipv4/conf/all/rp_filter": "0", "ipv4/conf/default/rp_filter": "0",
		"ipv4/conf/all/send_redirects": "0", "ipv4/conf/default/send_redirects": "0",
	} {
		n.Sysctl(setting, value)
	}
	n.Must("opening the driver", func() (err error) {
		n.driver, err = c.subject.Open(c.t)
		return err
	})
	c.t.Cleanup(func() {
		if err := n.driver.Close(); err != nil {
			c.t.Errorf("closing the driver: %v", err)
		}
	})
	return n
}

// place makes the namespace of a place. What has its own address as a source arrives, too, as it does where that is translated later.
func (c *Cluster) place(p oracle.Place) *netns.NS {
	c.t.Helper()
	ns := netns.New(c.t)
	ns.Sysctl("ipv6/conf/default/accept_dad", "0")
	ns.Sysctl("ipv4/conf/all/accept_local", "1")
	c.places[p], c.names[ns] = ns, p
	return ns
}

// newSwitch makes a switch of one network.
func newSwitch(t testing.TB) *netns.NS {
	t.Helper()
	ns := netns.New(t)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "switch"
	if err := ns.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: new(false)}); err != nil {
		t.Fatalf("making a bridge: %v", err)
	}
	ns.Up("switch")
	return ns
}

// plug connects an interface to a switch.
func plug(ns *netns.NS, name string, to *netns.NS, port string) {
	to.Veth(port, ns, name)
	to.Master(port, "switch")
}

// machine makes the one behind a node's interface. All its packets come in there.
func (c *Cluster) machine(l *oracle.Interface, n *node, port *netns.NS, addrs []netip.Addr) {
	c.t.Helper()
	ns := c.place(oracle.Place{Node: l.Node, Interface: l.Name})
	plug(ns, "eth0", port, "m-"+l.Node)
	for _, a := range addrs {
		ns.Address("eth0", single(a))
		n.Neighbor(l.Name, a.String(), ns.Link("eth0").Attrs().HardwareAddr)
	}
	for _, a := range l.Addresses {
		ns.Neighbor("eth0", a.String(), n.Link(l.Name).Attrs().HardwareAddr)
		ns.Route(every(a), a.String(), "eth0")
	}
}

func every(of netip.Addr) string {
	if of.Is4() {
		return "0.0.0.0/0"
	}
	return "::/0"
}

// route leads the nodes to all that their interfaces reach, and makes them neighbours.
func (c *Cluster) route() {
	c.t.Helper()
	for i := range c.network.Interfaces {
		l := &c.network.Interfaces[i]
		n := c.nodes[l.Node]
		for _, p := range l.Reaches {
			n.Route(p.String(), "", l.Name)
		}
		for j := range c.network.Interfaces {
			o := &c.network.Interfaces[j]
			if o.Name != l.Name || o.Node == l.Node {
				continue
			}
			for _, a := range o.Addresses {
				n.Neighbor(l.Name, a.String(), c.nodes[o.Node].Link(o.Name).Attrs().HardwareAddr)
			}
		}
	}
}

// pod makes a pod. Its routes come with the worlds that have it.
func (c *Cluster) pod(p *oracle.Pod) {
	c.t.Helper()
	n, ns := c.nodes[p.Node], c.place(oracle.Place{Pod: p.ID})
	at := render.InterfaceName(p.ID)
	n.Veth(at, ns, "eth0")
	for _, a := range p.Addresses {
		gateway := c.gateway(p.Node, a.Is4())
		ns.Address("eth0", single(a))
		ns.Neighbor("eth0", gateway.String(), n.Link(at).Attrs().HardwareAddr)
		ns.Route(every(a), gateway.String(), "eth0")
		n.Neighbor(at, a.String(), ns.Link("eth0").Attrs().HardwareAddr)
	}
}

// gateway is a node's first address of a family: the one by which its pods are reached.
func (c *Cluster) gateway(node string, v4 bool) netip.Addr {
	for i := range c.network.Interfaces {
		for _, a := range c.network.Interfaces[i].Addresses {
			if c.network.Interfaces[i].Node == node && a.Is4() == v4 {
				return a
			}
		}
	}
	return netip.Addr{}
}

// first is the name of a node's first interface.
func (c *Cluster) first(node string) string {
	for i := range c.network.Interfaces {
		if c.network.Interfaces[i].Node == node {
			return c.network.Interfaces[i].Name
		}
	}
	return ""
}

// haveOnly makes the pods of a world reachable, and no others.
func (c *Cluster) haveOnly(exist map[string]bool) error {
	for i := range c.network.Pods {
		p := &c.network.Pods[i]
		if c.now[p.ID] == exist[p.ID] {
			continue
		}
		for name, n := range c.nodes {
			for _, a := range p.Addresses {
				if err := c.podRoute(name, n, p, a, exist[p.ID]); err != nil {
					return fmt.Errorf("route of node %s to pod %s: %w", name, p.ID, err)
				}
			}
		}
		c.now[p.ID] = exist[p.ID]
	}
	return nil
}

func (c *Cluster) podRoute(name string, n *node, p *oracle.Pod, a netip.Addr, add bool) error {
	dst, err := netlink.ParseIPNet(single(a))
	if err != nil {
		return err
	}
	r := &netlink.Route{Dst: dst}
	if name == p.Node {
		r.LinkIndex, r.Scope = n.Link(render.InterfaceName(p.ID)).Attrs().Index, netlink.SCOPE_LINK
	} else {
		r.LinkIndex, r.Gw, r.Flags = n.Link(c.first(name)).Attrs().Index, c.gateway(p.Node, a.Is4()).AsSlice(), int(netlink.FLAG_ONLINK)
	}
	if add {
		return n.RouteAdd(r)
	}
	return n.RouteDel(r)
}

// Become makes the network that of a world: its pods exist, its services are translated, and every node's kernel is equal to its
// tables. Connections of the world before are forgotten.
func (c *Cluster) Become(network *oracle.Network, tables oracle.Tables) error {
	exist := map[string]bool{}
	for i := range network.Pods {
		exist[network.Pods[i].ID] = true
	}
	if err := c.haveOnly(exist); err != nil {
		return fmt.Errorf("%s: %w", c.Name, err)
	}
	for name, n := range c.nodes {
		if err := n.translate(c.subject.Foreign, network.Translations); err != nil {
			return fmt.Errorf("%s, node %s: %w", c.Name, name, err)
		}
		n.driver.Resync() // these tables know nothing of those of the world before
		var err error
		n.Do(func() { err = n.driver.Apply(c.t.Context(), tables[name]) })
		if err != nil {
			return fmt.Errorf("%s, node %s: applying: %w", c.Name, name, err)
		}
	}
	return nil
}

// forget makes the nodes forget all connections.
func (c *Cluster) forget() error {
	for name, n := range c.nodes {
		var err error
		n.Do(func() { err = netlink.ConntrackTableFlush(netlink.ConntrackTable) })
		if err != nil {
			return fmt.Errorf("%s, node %s: flushing connections: %w", c.Name, name, err)
		}
	}
	return nil
}

func protocolName(number int) string {
	switch number {
	case unix.IPPROTO_TCP:
		return "tcp"
	case unix.IPPROTO_UDP:
		return "udp"
	case unix.IPPROTO_SCTP:
		return "sctp"
	}
	return strconv.Itoa(number)
}
