package cnilab

import (
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/cni/protocol"
	"github.com/manul-net/manul/nodeagent/dataplane/iptables"
	"github.com/manul-net/manul/nodeagent/dataplane/packetlimits"
	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/test/netns"
)

// Limits of packets are in nftables, whatever policy is in. With either variant of iptables both hold, and neither touches the other's: policy
// denies what it denies, and what it denies uses up nothing of the limit.
func TestPacketLimitsBesideIPTables(t *testing.T) {
	for _, variant := range []iptables.Variant{iptables.Legacy, iptables.NFT} {
		t.Run(string(variant), func(t *testing.T) {
			node, pod, other := netns.New(t), netns.New(t), netns.New(t)
			const podAddr, otherAddr, iface = "10.48.0.2", "192.0.2.2", "caliweb"
			node.Veth(iface, pod, "eth0")
			node.Veth("eth0", other, "eth0")
			node.Address(iface, "10.48.0.1/24")
			pod.Address("eth0", podAddr+"/24")
			node.Address("eth0", "192.0.2.1/24")
			other.Address("eth0", otherAddr+"/24")
			pod.Route("0.0.0.0/0", "10.48.0.1", "eth0")
			other.Route("0.0.0.0/0", "192.0.2.1", "eth0")
			node.Sysctl("ipv4/ip_forward", "1")

			var policy *iptables.Driver
			var limits *packetlimits.Driver
			node.Must("opening the drivers", func() (err error) {
				// Nobody but this test looks: the driver's programs must run in this namespace.
				policy, err = iptables.New(t.Context(), iptables.Options{WorkloadPrefix: protocol.InterfacePrefix, Variant: variant, LookEvery: time.Hour})
				if err == nil {
					limits, err = packetlimits.New(packetlimits.Options{WorkloadPrefix: protocol.InterfacePrefix})
				}
				return err
			})
			defer limits.Close()
			defer policy.Close()

			const open, closed, count, burst, rate = 9000, 9010, 400, 50, 10
			desired := tables.NewPolicy()
			desired.SettingsDirty = true
			desired.Programs.Set("p", tables.Program{Ingress: []tables.Rule{{
				Action: tables.Allow, Protocol: unix.IPPROTO_UDP, Destination: tables.Entity{Ports: []tables.PortRange{{First: open, Last: open}}},
			}}})
			desired.Endpoints.Set(iface, tables.Endpoint{
				Addresses: []netip.Addr{netip.MustParseAddr(podAddr)},
				Ingress:   []tables.Tier{{Name: "default", Programs: []string{"p"}, Default: tables.Deny}},
			})
			wanted := tables.NewPacketLimits()
			apply := func(what string) {
				t.Helper()
				node.Must(what, func() error { return policy.Apply(t.Context(), desired) })
				node.Must(what, func() error { return limits.Apply(t.Context(), wanted) })
			}
			// arrive sends datagrams to a port of the pod and tells how many arrive.
			arrive := func(port uint16) (int64, time.Duration) {
				to := netip.AddrPortFrom(netip.MustParseAddr(podAddr), port)
				counter := pod.CountUDP(to)
				began := time.Now()
				for range count {
					other.SendUDP(to, 10)
				}
				took := time.Since(began)
				return counter.From(netip.MustParseAddr(otherAddr)), took
			}
			expect := func(what string, limited bool) {
				t.Helper()
				if got, _ := arrive(closed); got != 0 {
					t.Errorf("%s: %d datagrams arrive at a port that policy denies", what, got)
				}
				got, took := arrive(open)
				if most := int64(burst + rate*took.Seconds() + 2); limited && (got < burst-2 || got > most) {
					t.Errorf("%s: %d datagrams arrive of %d sent within %v, want %d to %d", what, got, count, took, burst-2, most)
				}
				if !limited && got != count {
					t.Errorf("%s: %d of %d datagrams arrive", what, got, count)
				}
			}
			apply("policy alone")
			expect("policy alone", false)
			wanted.Set(iface, tables.PacketLimits{Ingress: tables.PacketLimit{PacketsPerSecond: rate, Burst: burst}})
			apply("both")
			expect("both", true)
			// Everything is compared with the kernel, and neither finds anything to mend of the other's.
			policy.Resync()
			limits.Resync()
			apply("compared")
			if n := policy.Disturbances() + limits.Disturbances(); n != 0 {
				t.Errorf("%d changes by others were undone, and there were none", n)
			}
			if closedAfter, _ := arrive(closed); closedAfter != 0 {
				t.Errorf("compared: %d datagrams arrive at a port that policy denies", closedAfter)
			}
			// Without a limit nothing of it is left, and policy is as it was.
			wanted.Delete(iface)
			apply("no limit any more")
			expect("no limit any more", false)
			var out []byte
			node.Must("running nft", func() (err error) {
				out, err = exec.Command("nft", "list", "tables").CombinedOutput()
				return err
			})
			if strings.Contains(string(out), "manul-limits") {
				t.Errorf("the kernel has\n%s", out)
			}
			// The other way round: the limit holds without policy's rules.
			wanted.Set(iface, tables.PacketLimits{Ingress: tables.PacketLimit{PacketsPerSecond: rate, Burst: burst}})
			apply("both again")
			node.Must("removing policy", func() error { return policy.Remove(t.Context()) })
			if got, took := arrive(closed); got > int64(burst+rate*took.Seconds()+2) || got < burst-2 {
				t.Errorf("policy removed: %d datagrams arrive within %v, want the limit to hold", got, took)
			}
		})
	}
}
