// Package traffic measures what policies cost packets: connections per second and throughput from a client to a pod, through a
// node on which a driver has put policies into force, against the same node without. All of it happens in network namespaces
// that the benchmarks make. Run as root:
//
//	go test -run xxx -bench 'Connections|Throughput' -benchtime 10x -count 3 ./test/bench/traffic
package traffic

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/dataplane/iptables"
	"github.com/manul-net/manul/nodeagent/dataplane/nftables"
	"github.com/manul-net/manul/nodeagent/fold"
	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/test/flow"
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

// BenchmarkConnections opens TCP connections, exchanges a byte, and closes them, 16 at a time.
func BenchmarkConnections(b *testing.B) {
	each(b, "connections/s", func(b *testing.B, p *path) flow.Meter {
		return flow.NewConnections(b, p.client, p.pod, netip.MustParseAddr(pod))
	})
}

// BenchmarkThroughput sends over one TCP connection.
func BenchmarkThroughput(b *testing.B) {
	each(b, "B/s", func(b *testing.B, p *path) flow.Meter {
		return flow.NewStream(b, p.client, p.pod, netip.MustParseAddr(pod))
	})
}

// turn is how long a way is measured before it is the next one's: short, for the more alike is what the machine does besides.
const turn = 50 * time.Millisecond

// way is a node and what is put into force on it.
type way struct {
	name string
	put  func(b *testing.B, plane string, p *path)
}

// Nodes to compare with: without anything, with the least that makes the kernel track connections, which every cluster with services or
// masquerading does, and with the driver and its pod, but no policy.
const bare, tracked, without = "bare", "tracked", "no-policy"

func ways() []way {
	enforced := func(policy func() *tables.Policy) func(*testing.B, string, *path) {
		return func(b *testing.B, plane string, p *path) { p.enforce(b, plane, policy()) }
	}
	all := []way{
		{bare, func(*testing.B, string, *path) {}},
		{tracked, func(_ *testing.B, plane string, p *path) { p.track(plane) }},
		{without, enforced(func() *tables.Policy { return policies(0, false) })},
	}
	for _, n := range loads() {
		all = append(all, way{fmt.Sprintf("selecting-the-pod=%d", n), enforced(func() *tables.Policy { return policies(n, true) })})
	}
	for _, n := range loads() {
		all = append(all, way{fmt.Sprintf("selecting-others=%d", n), enforced(func() *tables.Policy { return policies(n, false) })})
	}
	for _, n := range []int{100, 10_000, 1_000_000} {
		all = append(all, way{fmt.Sprintf("set-members=%d", n), enforced(func() *tables.Policy { return members(n) })})
	}
	return all
}

// each measures all ways of a dataplane in turn, and reports one after the other. Beside the rate, which the cores' other work changes,
// each tells what a second of the processors' time carries.
func each(b *testing.B, unit string, meter func(*testing.B, *path) flow.Meter) {
	for _, plane := range []string{"nftables", "iptables"} {
		b.Run(plane, func(b *testing.B) {
			readings := map[string][]flow.Reading{}
			b.Run("in-turn", func(b *testing.B) {
				var meters []flow.Meter
				for _, w := range ways() {
					p := newPath(b)
					w.put(b, plane, p)
					meters = append(meters, meter(b, p))
				}
				for i, r := range flow.Compare(b, turn, meters...) {
					readings[ways()[i].name] = r
				}
			})
			for _, w := range ways() {
				mine := readings[w.name]
				if len(mine) == 0 {
					continue // another part of the benchmark was asked for
				}
				b.Run(w.name, func(b *testing.B) {
					b.ReportMetric(0, "ns/op")
					b.ReportMetric(flow.Median(mine, flow.Reading.Rate), unit)
					for _, to := range []string{bare, tracked, without} {
						b.ReportMetric(flow.Ratio(mine, readings[to], flow.Reading.Rate), "of-"+to)
						b.ReportMetric(flow.Ratio(mine, readings[to], flow.Reading.PerCPU), "CPU:of-"+to)
					}
				})
			}
		})
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

// track puts the least into force that makes the kernel track connections: packets of those that are known pass.
func (p *path) track(plane string) {
	command := map[string]string{
		"nftables": "nft 'table inet least { chain forward { type filter hook forward priority filter; ct state established,related accept; }; }'",
		"iptables": "iptables -A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
	}[plane]
	p.node.Must(command, func() error {
		if out, err := exec.Command("sh", "-ec", command).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

// open opens a driver for the calling thread's namespace.
func open(b testing.TB, plane string) (driver, error) {
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
// lets the client in is the last; otherwise none does.
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
	var mine []string
	if selecting {
		mine = names
	} else if n > 0 {
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
