package bgp

import (
	"net"
	"net/netip"
	"testing"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/test/netns"
)

// What a node advertises of its pods: blocks as they are, borrowed addresses one by one, and nothing of pools with disableBGPExport.
func TestExportedAddresses(t *testing.T) {
	withEach(t, func(t *testing.T, kind Kind) {
		node, tor := netns.New(t), netns.New(t)
		link(t, node, tor, "eth0", nodeAddress+"/24", torAddress+"/24")
		(&Setup{ID: torAddress, Peerings: []Peering{rackPeering()}}).Start(t, tor, kind)
		n := NewNode(t, node, "node1")
		b := speaker(nodeAddress)
		b.Sessions = []v1alpha1.BGPSession{session("tor", torAddress, rack)}
		n.Input.State = withBlock(b)
		n.Input.State.Blocks = append(n.Input.State.Blocks, v1alpha1.BlockLease{CIDR: "10.60.1.0/26", Pool: "10.60.0.0/16"})
		n.Input.State.Pools = append(n.Input.State.Pools, v1alpha1.Pool{CIDR: "10.60.0.0/16", DisableBGPExport: true})
		hold := func(pods map[string]string) {
			n.Input.Pods, n.Input.State.Endpoints = map[string][]string{}, nil
			for id, address := range pods {
				n.Input.Pods[id] = []string{address}
				n.Input.State.Endpoints = append(n.Input.State.Endpoints, v1alpha1.Endpoint{ID: id, UID: "u"})
			}
			n.Tell()
		}
		hold(map[string]string{"shop/inside": "10.48.1.7", "shop/borrowed": "10.48.9.9", "shop/private": "10.60.9.9"})
		WantRoutes(t, tor, "10.0.0.0/8", block4+" via "+nodeAddress, "10.48.9.9/32 via "+nodeAddress)
		n.Input.State.Pools[1].DisableBGPExport = false
		hold(map[string]string{"shop/inside": "10.48.1.7", "shop/private": "10.60.9.9"})
		WantRoutes(t, tor, "10.0.0.0/8", block4+" via "+nodeAddress, "10.60.1.0/26 via "+nodeAddress, "10.60.9.9/32 via "+nodeAddress)
		n.Input.State.Pools[0].DisableBGPExport = true
		hold(nil)
		WantRoutes(t, tor, "10.0.0.0/8", "10.60.1.0/26 via "+nodeAddress)
	})
}

// A router that the node's default route leads to sends packets to unused addresses of a range of services to the node: with
// serviceLoopPrevention they end there, and without it they go to and fro until their time to live is over.
func TestUnusedServiceAddresses(t *testing.T) {
	withEach(t, func(t *testing.T, kind Kind) {
		const unused = "10.49.0.77"
		node, tor := netns.New(t), netns.New(t)
		link(t, node, tor, "eth0", nodeAddress+"/24", torAddress+"/24")
		client := netns.New(t)
		link(t, client, tor, "eth1", "198.51.100.9/24", "198.51.100.1/24")
		client.Route("0.0.0.0/0", "198.51.100.1", "eth1")
		for _, ns := range []*netns.NS{node, tor} {
			ns.Sysctl("ipv4/ip_forward", "1")
			ns.Sysctl("ipv4/conf/all/send_redirects", "0")
			ns.Sysctl("ipv4/conf/eth0/send_redirects", "0")
		}
		(&Setup{ID: torAddress, Peerings: []Peering{rackPeering()}, Offers: offers("0.0.0.0/0")}).Start(t, tor, kind)
		n := NewNode(t, node, "node1")
		b := speaker(nodeAddress)
		b.Sessions = []v1alpha1.BGPSession{session("tor", torAddress, rack)}
		b.Announce, b.ServiceRanges = []string{services}, []string{services}
		n.Input.State = v1alpha1.NodeStateSpec{BGP: b}
		sent := func() uint64 { return tor.Link("eth0").Attrs().Statistics.TxPackets }
		for setting, bounces := range map[string]bool{"Disabled": true, "Drop": false, "Reject": false} {
			n.Input.State.Settings.ServiceLoops = setting
			n.Tell()
			WantRoutes(t, tor, services, services+" via "+nodeAddress)
			WantRoutes(t, node, "0.0.0.0/32", "0.0.0.0/0 via "+torAddress)
			Eventually(t, func() string {
				before := sent()
				client.Must("sending", func() error {
					c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(unused), 9)))
					if err != nil {
						return err
					}
					defer c.Close()
					_, _ = c.Write([]byte("x")) // told at once that it is unreachable
					return nil
				})
				if many := sent()-before > 20; many != bounces {
					return setting + ": one packet to an unused address was not treated so"
				}
				return ""
			})
		}
	})
}
