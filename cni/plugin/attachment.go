package plugin

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/cni/protocol"
)

// attachment is an interface as it should be.
type attachment struct {
	id       protocol.Attachment
	hostName string
	hostMAC  net.HardwareAddr
	podMAC   net.HardwareAddr
	addrs    []netip.Addr
	mtu      int
	// apart: the pod has a default route of the family by another interface, so that the routes by this one are for what is sent from its
	// addresses. By whether the family is IPv6; make finds it out.
	apart map[bool]bool
}

func newAttachment(id protocol.Attachment, given protocol.AddResult) attachment {
	// One address for one attachment, so that ADD has the same result each time: locally administered, unicast.
	sum := sha256.Sum256([]byte(alias(id)))
	sum[0] = sum[0]&^1 | 2
	podMAC := net.HardwareAddr(sum[:6])
	if mac, err := net.ParseMAC(given.HardwareAddress); err == nil {
		podMAC = mac // the pod asks for it
	}
	return attachment{
		id: id, hostName: given.InterfaceName, hostMAC: hostMAC(), podMAC: podMAC,
		addrs: given.Addresses, mtu: given.MTU, apart: map[bool]bool{},
	}
}

// hostMAC is protocol.HostMAC.
func hostMAC() net.HardwareAddr { return net.HardwareAddr{0xee, 0xee, 0xee, 0xee, 0xee, 0xee} }

func (a attachment) hasIPv6() bool {
	for _, addr := range a.addrs {
		if addr.Is6() {
			return true
		}
	}
	return false
}

// alias marks the host side of an attachment (IFLA_IFALIAS), so that a DEL that comes late does not take the interface of
// another sandbox of the same pod, and GC knows what is whose.
func alias(id protocol.Attachment) string {
	return protocol.InterfaceMark + id.ContainerID + "/" + id.IfName
}

// parseAlias reads a mark. chained: the interface is another plugin's, and not to be removed.
func parseAlias(s string) (id protocol.Attachment, chained, ok bool) {
	rest, ours := strings.CutPrefix(s, protocol.InterfaceMark)
	rest, chained = strings.CutSuffix(rest, protocol.ChainedMark)
	container, ifName, ok := strings.Cut(rest, "/")
	return protocol.Attachment{ContainerID: container, IfName: ifName}, chained, ours && ok
}

// gateway of a family: the pod's next hop.
func gateway(ipv6 bool) netip.Addr {
	if ipv6 {
		return netip.MustParseAddr(protocol.GatewayIPv6)
	}
	return netip.MustParseAddr(protocol.GatewayIPv4)
}

// families that the attachment has addresses of, as values of ipv6.
func (a attachment) families() []bool {
	var f []bool
	if a.addrs[0].Is4() {
		f = append(f, false)
	}
	if a.hasIPv6() {
		f = append(f, true)
	}
	return f
}

// make builds the attachment. What an earlier ADD left under the host side's name goes first. After an error
// nothing is left.
func (a *attachment) make(pod ns.NetNS) (err error) {
	host, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("opening netlink: %w", err)
	}
	defer host.Close()
	if err := removeLeftover(host, a.hostName, a.id); err != nil {
		return err
	}
	veth := netlink.NewVeth(netlink.LinkAttrs{Name: a.hostName, MTU: a.mtu, HardwareAddr: a.hostMAC, TxQLen: -1})
	veth.PeerName, veth.PeerHardwareAddr, veth.PeerNamespace = a.id.IfName, a.podMAC, netlink.NsFd(int(pod.Fd()))
	err = host.LinkAdd(veth)
	if errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("making interface %s: there is an interface %s in the pod already", a.hostName, a.id.IfName)
	}
	if err != nil {
		return fmt.Errorf("making interface %s: %w", a.hostName, err)
	}
	defer func() {
		if err == nil {
			return
		}
		if veth.Index == 0 { // its index could not be read back
			err = errors.Join(err, removeLeftover(host, a.hostName, a.id))
		} else {
			err = errors.Join(err, deleteLink(host, veth.Index, a.hostName))
		}
	}()
	if veth.Index == 0 {
		return fmt.Errorf("making interface %s: it is not there", a.hostName)
	}
	if err := host.LinkSetAlias(veth, alias(a.id)); err != nil {
		return fmt.Errorf("marking interface %s: %w", a.hostName, err)
	}
	// The pod can send once the host side is up; it is reachable once the routes to it are there, which come last.
	if err := a.prepareHost(host, veth.Index); err != nil {
		return err
	}
	if err := a.configurePod(pod); err != nil {
		return err
	}
	return a.routeHost(host, veth.Index)
}

// result in the form of the newest specification.
func (a attachment) result(netns string) *types100.Result {
	r := &types100.Result{
		CNIVersion: types100.ImplementedSpecVersion,
		Interfaces: []*types100.Interface{
			{Name: a.hostName, Mac: a.hostMAC.String(), Mtu: a.mtu},
			{Name: a.id.IfName, Mac: a.podMAC.String(), Mtu: a.mtu, Sandbox: netns},
		},
	}
	for _, addr := range a.addrs {
		r.IPs = append(r.IPs, &types100.IPConfig{
			Interface: new(1), Address: *ipNet(netip.PrefixFrom(addr, addr.BitLen())),
			Gateway: net.IP(gateway(addr.Is6()).AsSlice()),
		})
	}
	for _, ipv6 := range a.families() {
		if a.apart[ipv6] {
			continue
		}
		gw := gateway(ipv6)
		r.Routes = append(r.Routes, &types.Route{Dst: *ipNet(everywhere(ipv6)), GW: net.IP(gw.AsSlice())})
	}
	return r
}

func everywhere(ipv6 bool) netip.Prefix {
	if ipv6 {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: net.IP(p.Addr().AsSlice()), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
