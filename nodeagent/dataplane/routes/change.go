package routes

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/tables"
)

// changeWait bounds the wait for the kernel's answer, which is there when the request returns.
const changeWait = 5 * time.Second

// changer adds and removes routes. It has a socket whose address it knows, so that the driver's own changes can be told
// from those of others.
type changer struct {
	protocol int
	socket   *nl.SocketHandle
	portID   uint32
}

func newChanger(protocol int) (*changer, error) {
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("opening a netlink socket: %w", err)
	}
	portID, err := socket.GetPid()
	if err != nil {
		socket.Close()
		return nil, fmt.Errorf("asking for the netlink socket's address: %w", err)
	}
	wait := unix.NsecToTimeval(changeWait.Nanoseconds())
	if err := socket.SetReceiveTimeout(&wait); err != nil {
		socket.Close()
		return nil, fmt.Errorf("setting the netlink socket's receive timeout: %w", err)
	}
	return &changer{protocol: protocol, socket: &nl.SocketHandle{Socket: socket}, portID: portID}, nil
}

func (c *changer) close() { c.socket.Close() }

// set adds a route, or replaces the driver's own. It never replaces another's: that fails with EEXIST.
func (c *changer) set(p netip.Prefix, r route, replace bool) error {
	flags := unix.NLM_F_CREATE | unix.NLM_F_EXCL
	if replace {
		flags = unix.NLM_F_REPLACE
	}
	return c.request(unix.RTM_NEWROUTE, flags, p, r)
}

func (c *changer) remove(p netip.Prefix, r route) error {
	return c.request(unix.RTM_DELROUTE, 0, p, r)
}

func (c *changer) request(message, flags int, p netip.Prefix, r route) error {
	request := nl.NewNetlinkRequest(message, flags|unix.NLM_F_ACK)
	request.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: c.socket}
	header := nl.NewRtMsg()
	header.Family = unix.AF_INET6
	if p.Addr().Is4() {
		header.Family = unix.AF_INET
	}
	header.Dst_len = uint8(p.Bits())
	header.Table = unix.RT_TABLE_MAIN
	header.Protocol = uint8(c.protocol)
	header.Scope = unix.RT_SCOPE_UNIVERSE
	header.Type = unix.RTN_UNICAST
	request.AddData(header)
	request.AddData(nl.NewRtAttr(unix.RTA_DST, p.Addr().AsSlice()))
	request.AddData(nl.NewRtAttr(unix.RTA_PRIORITY, nl.Uint32Attr(uint32(metric(p)))))
	switch r.kind {
	case tables.Workload:
		header.Scope = unix.RT_SCOPE_LINK
		request.AddData(nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(uint32(r.link))))
	case tables.Gateway:
		request.AddData(nl.NewRtAttr(unix.RTA_GATEWAY, r.nextHop.AsSlice()))
	case tables.Encapsulated:
		if p.Addr().Is4() {
			header.Flags |= unix.RTNH_F_ONLINK // the other node's address is on no network of the device
		}
		request.AddData(nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(uint32(r.link))))
		request.AddData(nl.NewRtAttr(unix.RTA_GATEWAY, r.nextHop.AsSlice()))
	case tables.Blackhole:
		header.Type = unix.RTN_BLACKHOLE
	}
	_, err := request.Execute(unix.NETLINK_ROUTE, 0)
	return err
}
