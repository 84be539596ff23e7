// Package tunnels measures how fast pods of two nodes exchange data, as they are and through VXLAN, against the same network made by hand
// without Manul, and by hand with nothing but connection tracking, without which there are no policies. They are measured in turn, and their
// ratio counts: what else the machine does meanwhile concerns all. Run as root:
//
//	go test -run xxx -bench . -benchtime 20x ./test/bench/tunnels
package tunnels

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/manul-net/manul/test/flow"
	"github.com/manul-net/manul/test/netns"
	"github.com/manul-net/manul/test/tunnels"
)

// turn is how long each path sends before it is another's turn.
const turn = 250 * time.Millisecond

// BenchmarkThroughput sends over one TCP connection from a pod of one node to a pod of another. Each iteration has two turns of each path,
// forwards and then backwards, so that what else the machine does concerns all alike. Beside the rate, which the two cores' other
// work changes, it tells what a second of the processors' time carries.
func BenchmarkThroughput(b *testing.B) {
	for _, mode := range modes() {
		b.Run(mode, func(b *testing.B) {
			readings := compare(b, byHand(b, mode == "VXLAN", false), withManul(b, mode == "VXLAN"), byHand(b, mode == "VXLAN", true))
			b.ReportMetric(0, "ns/op")
			for i, name := range []string{"by-hand", "Manul"} {
				b.ReportMetric(flow.Median(readings[i], megabytes(flow.Reading.Rate)), "MB/s-"+name)
				b.ReportMetric(flow.Median(readings[i], megabytes(flow.Reading.PerCPU)), "MB/CPU-s-"+name)
				b.ReportMetric(flow.Median(readings[i], flow.Reading.PacketSize), "B/packet-"+name)
			}
			reportRatios(b, "", readings, flow.Reading.Rate)
			reportRatios(b, "CPU:", readings, flow.Reading.PerCPU)
		})
	}
}

func modes() []string { return []string{"none", "VXLAN"} }

// compare sends over one TCP connection of each path, in turns.
func compare(b *testing.B, paths ...*path) [][]flow.Reading {
	b.Helper()
	meters := make([]flow.Meter, len(paths))
	for i, p := range paths {
		meters[i] = flow.NewStream(b, p.from, p.to, p.address)
	}
	return flow.Compare(b, turn, meters...)
}

func megabytes(value func(flow.Reading) float64) func(flow.Reading) float64 {
	return func(r flow.Reading) float64 { return value(r) / 1e6 }
}

// BenchmarkRoundTrips exchanges a byte over one TCP connection.
func BenchmarkRoundTrips(b *testing.B) {
	const exchanges = 2000
	for _, mode := range modes() {
		b.Run(mode, func(b *testing.B) {
			paths := [...]*path{byHand(b, mode == "VXLAN", false), withManul(b, mode == "VXLAN"), byHand(b, mode == "VXLAN", true)}
			times := make([][]flow.Reading, len(paths))
			for _, p := range paths {
				p.open(b)
			}
			for b.Loop() {
				for i, p := range paths {
					from := time.Now()
					for range exchanges {
						p.exchange(b)
					}
					times[i] = append(times[i], flow.Reading{Carried: exchanges, Seconds: time.Since(from).Seconds()})
				}
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(flow.Median(times[0], microseconds), "µs-by-hand")
			b.ReportMetric(flow.Median(times[1], microseconds), "µs-Manul")
			reportRatios(b, "", times, microseconds)
		})
	}
}

// microseconds that one exchange takes.
func microseconds(r flow.Reading) float64 { return 1e6 * r.Seconds / float64(r.Carried) }

// reportRatios compares the paths turn by turn: Manul with what was made by hand, without and with connection tracking.
func reportRatios(b *testing.B, of string, readings [][]flow.Reading, value func(flow.Reading) float64) {
	b.Helper()
	hand, manul, tracked := readings[0], readings[1], readings[2]
	b.ReportMetric(flow.Ratio(manul, hand, value), of+"Manul/by-hand")
	b.ReportMetric(flow.Ratio(manul, tracked, value), of+"Manul/tracked-by-hand")
	b.ReportMetric(flow.Ratio(tracked, hand, value), of+"tracked-by-hand/by-hand")
}

// path is a way from a pod of one node to a pod of another.
type path struct {
	from, to *netns.NS
	nodes    [2]*netns.NS
	stop     func()     // ends the agents; the kernel keeps what it has
	address  netip.Addr // of the pod that receives
	conn     net.Conn
}

// withManul is a path between nodes that have agents.
func withManul(b *testing.B, vxlan bool) *path {
	b.Helper()
	mode, device := "Never", "eth0"
	if vxlan {
		mode, device = "Always", "vxlan.manul"
	}
	const pool = "10.48.0.0/16"
	w := tunnels.NewWorld(b)
	w.Give(fmt.Sprintf("apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: pool}\nspec: {cidr: %s, natOutgoing: true, vxlanMode: %s}", pool, mode))
	w.Give("apiVersion: projectcalico.org/v3\nkind: FelixConfiguration\nmetadata: {name: default}\nspec: {defaultEndpointToHostAction: Accept}") // as it is installed
	n1, n2 := w.Node("w1", "a", pool), w.Node("w2", "a", pool)
	from, to := n1.Pod("p1"), n2.Pod("p2")
	n1.Sends(to.V4, device)
	n2.Sends(from.V4, device)
	return &path{from: from.NS, to: to.NS, nodes: [2]*netns.NS{n1.NS, n2.NS}, address: to.V4, stop: func() { n1.Stop(); n2.Stop() }}
}

// byHand is the same path made by hand: two nodes on a bridge, a pod on each, and routes. With tracked there is the least that lets
// answers pass by themselves: connections are tracked, inside of the tunnel alone, and one rule asks for their state.
func byHand(b *testing.B, vxlan, tracked bool) *path {
	b.Helper()
	bridge := netns.New(b)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "a"
	if err := bridge.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		b.Fatal(err)
	}
	bridge.Up("a")
	var nodes, pods [2]*netns.NS
	for i := range nodes {
		n, p := netns.New(b), netns.New(b)
		nodes[i], pods[i] = n, p
		n.Sysctl("ipv4/ip_forward", "1")
		for _, which := range []string{"all", "default"} { // hosts that filter strictly, as Manul's of the tests do
			n.Sysctl("ipv4/conf/"+which+"/rp_filter", "1")
		}
		port := fmt.Sprintf("port%d", i)
		n.Veth("eth0", bridge, port)
		bridge.Master(port, "a")
		n.Address("eth0", fmt.Sprintf("192.0.2.%d/24", i+1))
		n.Veth("pod", p, "eth0")
		p.Address("eth0", fmt.Sprintf("10.48.%d.2/32", i))
		p.Route("169.254.1.1/32", "", "eth0")
		p.Neighbor("eth0", "169.254.1.1", n.Link("pod").Attrs().HardwareAddr)
		p.Route("0.0.0.0/0", "169.254.1.1", "eth0")
		n.Route(fmt.Sprintf("10.48.%d.2/32", i), "", "pod")
	}
	for i, n := range nodes {
		command := fmt.Sprintf("ip route add 10.48.%d.0/24 via 192.0.2.%d", 1-i, 2-i)
		if vxlan {
			command = fmt.Sprintf(`ip link add vxlan0 address 02:00:00:00:00:0%d mtu 1450 type vxlan id 4096 dstport 4789 local 192.0.2.%d nolearning
				ip addr add 10.48.%d.1/32 dev vxlan0; ip link set vxlan0 up; ip link set pod mtu 1450
				ip neigh add 10.48.%d.1 lladdr 02:00:00:00:00:0%d dev vxlan0 nud permanent
				bridge fdb add 02:00:00:00:00:0%d dev vxlan0 dst 192.0.2.%d
				ip route add 10.48.%d.0/24 via 10.48.%d.1 dev vxlan0 onlink`, i+1, i+1, i, 1-i, 2-i, 2-i, 2-i, 1-i, 1-i)
			shell(pods[i], "ip link set eth0 mtu 1450")
		}
		shell(n, command)
		if tracked {
			shell(n, `nft 'table inet least {
				chain in { type filter hook prerouting priority raw; udp dport 4789 notrack; }
				chain out { type filter hook output priority raw; udp dport 4789 notrack; }
				chain pass { type filter hook forward priority filter; ct state established,related accept; }
			}'`)
		}
	}
	return &path{from: pods[0], to: pods[1], address: netip.MustParseAddr("10.48.1.2")}
}

func shell(ns *netns.NS, command string) {
	ns.Must(command, func() error {
		if out, err := exec.Command("sh", "-ec", command).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

// open connects the pods. The one that receives sends back what it gets.
func (p *path) open(b *testing.B) {
	b.Helper()
	at := netip.AddrPortFrom(p.address, 8080).String()
	var listener net.Listener
	p.to.Must("listening", func() (err error) {
		listener, err = new(net.ListenConfig).Listen(b.Context(), "tcp", at)
		return err
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := listener.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.Copy(c, c)
	}()
	p.from.Must("connecting", func() (err error) {
		p.conn, err = new(net.Dialer).DialContext(b.Context(), "tcp", at)
		return err
	})
	b.Cleanup(func() {
		if err := errors.Join(p.conn.Close(), listener.Close()); err != nil {
			b.Error(err)
		}
		<-done
	})
}

// exchange sends a byte and waits for it.
func (p *path) exchange(b *testing.B) {
	one := []byte{'e'}
	if _, err := p.conn.Write(one); err != nil {
		b.Fatal(err)
	}
	if _, err := io.ReadFull(p.conn, one); err != nil {
		b.Fatal(err)
	}
}
