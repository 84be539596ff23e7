// Package traffic measures what policies cost packets: connections per second and throughput from a client to a pod, through a
// node on which a driver has put policies into force, against a node without policy. All of it happens in network namespaces
// that the benchmarks make. Run as root:
//
//	go test -run xxx -bench . -benchtime 3s ./test/bench/traffic
package traffic

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/dataplane/iptables"
	"github.com/manul-net/manul/nodeagent/dataplane/nftables"
	"github.com/manul-net/manul/nodeagent/fold"
	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/test/netns"
)

// Addresses of the client outside the node, and of the pod.
const (
	client = "192.0.2.2"
	pod    = "10.48.0.2"
	device = "cali0"
)

// driver of either dataplane.
type driver interface {
	Apply(ctx context.Context, desired *tables.Policy) error
	Close() error
}

// loads are how many policies there are.
func loads() []int { return []int{1, 100, 1_000, 10_000} }

// BenchmarkConnections opens TCP connections, exchanges a byte, and closes them, from 8 clients at a time.
func BenchmarkConnections(b *testing.B) { each(b, connections) }

// BenchmarkThroughput sends over one TCP connection.
func BenchmarkThroughput(b *testing.B) { each(b, throughput) }

func each(b *testing.B, measure func(*testing.B, *path)) {
	b.Run("no-policy", func(b *testing.B) { measure(b, newPath(b)) })
	for _, plane := range []string{"nftables", "iptables"} {
		for _, selecting := range []bool{true, false} {
			for _, n := range loads() {
				which := map[bool]string{true: "selecting-the-pod", false: "selecting-others"}[selecting]
				b.Run(fmt.Sprintf("%s/%s=%d", plane, which, n), func(b *testing.B) {
					p := newPath(b)
					p.enforce(b, plane, policies(n, selecting))
					measure(b, p)
				})
			}
		}
		for _, n := range []int{100, 10_000, 1_000_000} {
			b.Run(fmt.Sprintf("%s/set-members=%d", plane, n), func(b *testing.B) {
				p := newPath(b)
				p.enforce(b, plane, members(n))
				measure(b, p)
			})
		}
	}
}

// path is a client, the node, and a pod.
type path struct{ client, node, pod *netns.NS }

func newPath(b *testing.B) *path {
	b.Helper()
	p := &path{client: netns.New(b), node: netns.New(b), pod: netns.New(b)}
	p.node.Sysctl("ipv4/ip_forward", "1")
	p.node.Veth("eth0", p.client, "eth0")
	p.node.Address("eth0", "192.0.2.1/24")
	p.client.Address("eth0", client+"/24")
	p.client.Route("10.48.0.0/16", "192.0.2.1", "eth0")
	p.node.Veth(device, p.pod, "eth0")
	p.node.Sysctl("ipv4/conf/"+device+"/proxy_arp", "1")
	p.node.Route(pod+"/32", "", device)
	p.pod.Address("eth0", pod+"/32")
	p.pod.Route("169.254.1.1/32", "", "eth0")
	p.pod.Neighbor("eth0", "169.254.1.1", p.node.Link(device).Attrs().HardwareAddr)
	p.pod.Route("0.0.0.0/0", "169.254.1.1", "eth0")
	// Ends of connections must not be short of ports or of room for their state.
	p.client.Sysctl("ipv4/ip_local_port_range", "1024 65535")
	return p
}

func (p *path) enforce(b *testing.B, plane string, desired *tables.Policy) {
	b.Helper()
	p.node.Must("putting policies into force", func() error {
		d, err := open(b, plane)
		if err != nil {
			return err
		}
		return errors.Join(d.Apply(b.Context(), desired), d.Close())
	})
}

// open opens a driver for the calling thread's namespace.
func open(b *testing.B, plane string) (driver, error) {
	b.Helper()
	limits := fold.DefaultLimits()
	plane, unfolded := strings.CutSuffix(plane, "-unfolded")
	if unfolded { // what it would be without folding
		limits.MinPrograms = math.MaxInt
	}
	variant := map[string]iptables.Variant{"iptables": iptables.Auto, "iptables-legacy": iptables.Legacy}
	if v, is := variant[plane]; is {
		return iptables.New(b.Context(), iptables.Options{WorkloadPrefix: "cali", Variant: v, Fold: limits})
	}
	return nftables.New(nftables.Options{WorkloadPrefix: "cali", Fold: limits})
}

func policyName(i int) string { return fmt.Sprintf("np.team.policy-%d", i) }
func setName(i int) string    { return fmt.Sprintf("%016x", i) }

func peer(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 50, byte(i >> 8), byte(i)}), 32)
}

// allow is a policy that lets in from its own set of peers.
func allow(i int, port uint16) tables.Program {
	return tables.Program{Ingress: []tables.Rule{{
		Action: tables.Allow, Protocol: unix.IPPROTO_TCP, Source: tables.Entity{Sets: []string{setName(i)}},
		Destination: tables.Entity{Ports: []tables.PortRange{{First: port, Last: port}}},
	}}}
}

// policies are n policies, each of which lets in from one peer to one port. Where they select the pod, all do, and the one that
// lets the client in is the last; otherwise that one alone selects it.
func policies(n int, selecting bool) *tables.Policy {
	p := tables.NewPolicy()
	p.Settings.EndpointToHost, p.SettingsDirty = tables.HostAccept, true
	var names []string
	for i := range n {
		from := peer(i)
		if i == n-1 {
			from = netip.PrefixFrom(netip.MustParseAddr(client), 32)
		}
		p.Sets.Set(setName(i), tables.Addresses)
		p.Members.Set(tables.Member{Set: setName(i), Prefix: from}, struct{}{})
		p.Programs.Set(policyName(i), allow(i, 8080))
		names = append(names, policyName(i))
	}
	mine := names[n-1:]
	if selecting {
		mine = names
	} else {
		for i := range 100 { // the others are somebody's
			p.Endpoints.Set(fmt.Sprintf("cali%d", i+1), endpoint(names[i*n/100:(i+1)*n/100], fmt.Sprintf("10.49.0.%d", i)))
		}
	}
	p.Endpoints.Set(device, endpoint(mine, pod))
	return p
}

// members are one policy with a set of n members.
func members(n int) *tables.Policy {
	p := policies(1, true)
	set := setName(0)
	for i := range n - 1 {
		p.Members.Set(tables.Member{Set: set, Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{20, byte(i >> 16), byte(i >> 8), byte(i)}), 32)}, struct{}{})
	}
	return p
}

func endpoint(programs []string, address string) tables.Endpoint {
	e := tables.Endpoint{Addresses: []netip.Addr{netip.MustParseAddr(address)}}
	if len(programs) > 0 {
		e.Ingress = []tables.Tier{{Name: "default", Programs: programs, Default: tables.Deny}}
	}
	return e
}

// listen takes connections in the pod.
func (p *path) listen(b *testing.B, handle func(net.Conn)) {
	b.Helper()
	var listener net.Listener
	p.pod.Must("listening", func() error {
		var err error
		listener, err = new(net.ListenConfig).Listen(b.Context(), "tcp", pod+":8080")
		return err
	})
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				handle(c)
				_ = c.Close()
			})
		}
	})
	b.Cleanup(func() {
		_ = listener.Close()
		all.Wait()
	})
}

const clients = 8

func connections(b *testing.B, p *path) {
	p.listen(b, func(c net.Conn) { _, _ = io.CopyN(c, c, 1) })
	var left atomic.Int64
	left.Store(int64(b.N))
	problems := make([]error, clients)
	var all sync.WaitGroup
	b.ResetTimer()
	for i := range clients {
		all.Go(func() {
			p.client.Do(func() {
				for left.Add(-1) >= 0 && problems[i] == nil {
					problems[i] = exchange(b.Context())
				}
			})
		})
	}
	all.Wait()
	b.StopTimer()
	if err := errors.Join(problems...); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "connections/s")
	b.ReportMetric(0, "ns/op")
}

// exchange makes one connection. It ends with a reset, so that no state of it stays at either end.
func exchange(ctx context.Context) error {
	dialer := net.Dialer{Timeout: 5 * time.Second}
	c, err := dialer.DialContext(ctx, "tcp", pod+":8080")
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if tcp, ok := c.(*net.TCPConn); ok {
		if err := tcp.SetLinger(0); err != nil {
			return err
		}
	}
	one := []byte{1}
	if _, err := c.Write(one); err != nil {
		return err
	}
	_, err = io.ReadFull(c, one)
	return err
}

func throughput(b *testing.B, p *path) {
	const chunk = 1 << 20
	p.listen(b, func(c net.Conn) {
		_, _ = io.Copy(io.Discard, c)
	})
	var c net.Conn
	p.client.Must("connecting", func() error {
		var err error
		c, err = new(net.Dialer).DialContext(b.Context(), "tcp", pod+":8080")
		return err
	})
	defer func() { _ = c.Close() }()
	data := make([]byte, chunk)
	b.SetBytes(chunk)
	for b.Loop() {
		if _, err := c.Write(data); err != nil {
			b.Fatal(err)
		}
	}
}
