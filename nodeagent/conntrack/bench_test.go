package conntrack

import (
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/connections"
	"github.com/manul-net/manul/nodeagent/dataplane/nftables"
	"github.com/manul-net/manul/test/packets"
)

// One list of 50,000 connections, of all and of one address.
func BenchmarkList(b *testing.B) {
	n := packets.NewNode(b, packets.Subject{Open: func(testing.TB) (packets.Driver, error) {
		return nftables.New(nftables.Options{WorkloadPrefix: packets.WorkloadPrefix})
	}})
	n.Apply(packets.NewTables())
	var table *Table
	n.Must("opening the table of connections", func() (err error) { table, err = Open(); return err })
	defer table.Close()
	const count = 50000
	var handle *netlink.Handle // of the namespace; the node's own has no socket for connections
	n.Must("opening a socket", func() (err error) { handle, err = netlink.NewHandle(unix.NETLINK_NETFILTER); return err })
	defer handle.Close()
	for i := range count {
		from, to := net.IPv4(10, 48, 1, byte(i)).To4(), net.IPv4(10, 48, 2, byte(i>>8)).To4()
		tuple := netlink.IPTuple{SrcIP: from, DstIP: to, SrcPort: uint16(i), DstPort: 80, Protocol: unix.IPPROTO_UDP}
		reply := netlink.IPTuple{SrcIP: to, DstIP: from, SrcPort: 80, DstPort: uint16(i), Protocol: unix.IPPROTO_UDP}
		err := handle.ConntrackCreate(netlink.ConntrackTable, unix.AF_INET, &netlink.ConntrackFlow{
			FamilyType: unix.AF_INET, Forward: tuple, Reverse: reply, TimeOut: 600,
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	for name, addrs := range map[string][]netip.Addr{"All": nil, "OneAddress": {netip.MustParseAddr("10.48.1.1")}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				listed := 0
				if err := table.Each(b.Context(), addrs, func(*connections.Flow) bool { listed++; return true }); err != nil {
					b.Fatal(err)
				}
				if addrs == nil && listed < count || addrs != nil && listed > count/100 {
					b.Fatalf("%d connections were listed", listed)
				}
			}
		})
	}
}
