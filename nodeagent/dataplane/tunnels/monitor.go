package tunnels

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/rtnetlink"
	"github.com/manul-net/manul/nodeagent/tables"
)

// monitor listens for changes of links and addresses, and of the devices' neighbours by others. It knows what the driver has made, so
// that the news of that is none.
type monitor struct {
	*rtnetlink.Listener

	options Options

	mu sync.Mutex
	// links as last seen: their name, MTU and flags.
	links map[int]linkState
	// devices: index of a device -> its kind and entries.
	devices map[int]*expected
	// news: everything has to be compared. foreign: another program changed what is the driver's.
	news, foreign bool
}

type linkState struct {
	name    string
	mtu     uint32
	up      bool
	ignored bool // a workload's
}

// expected is what the driver made on a device.
type expected struct {
	kind    tables.TunnelKind
	entries map[entry]string
	byNode  map[netip.Addr]map[entry]struct{}
	nodes   map[entry]netip.Addr
}

func startMonitor(options Options) (*monitor, error) {
	listener, err := rtnetlink.Subscribe(unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_NEIGH)
	if err != nil {
		return nil, err
	}
	m := &monitor{Listener: listener, options: options, links: map[int]linkState{}, devices: map[int]*expected{}}
	listener.Listen(options.Log, m.hear)
	return m, nil
}

// take tells whether everything has to be compared, and whether another program was at it, since the last call.
func (m *monitor) take() (news, foreign bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	news, foreign = m.news, m.foreign
	m.news, m.foreign = false, false
	return news, foreign
}

// expect notes which link is the device of a kind; 0: none. What is known of another link goes.
func (m *monitor) expect(kind tables.TunnelKind, index int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, e := range m.devices {
		if e.kind == kind && i != index {
			delete(m.devices, i)
		}
	}
	if index != 0 { // compared from scratch
		m.devices[index] = &expected{kind: kind, entries: map[entry]string{}, byNode: map[netip.Addr]map[entry]struct{}{}, nodes: map[entry]netip.Addr{}}
	}
}

func (m *monitor) expectEntry(index int, e entry, to string, node netip.Addr) {
	m.mu.Lock()
	defer m.mu.Unlock()
	device := m.devices[index]
	if device == nil {
		return
	}
	device.forget(e)
	device.entries[e], device.nodes[e] = to, node
	if device.byNode[node] == nil {
		device.byNode[node] = map[entry]struct{}{}
	}
	device.byNode[node][e] = struct{}{}
}

func (m *monitor) forgetEntry(index int, e entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if device := m.devices[index]; device != nil {
		device.forget(e)
	}
}

func (x *expected) forget(e entry) {
	node := x.nodes[e]
	delete(x.byNode[node], e)
	if len(x.byNode[node]) == 0 {
		delete(x.byNode, node)
	}
	delete(x.nodes, e)
	delete(x.entries, e)
}

// expects is what an entry leads to that the driver made; "": it made none.
func (m *monitor) expects(index int, e entry) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if device := m.devices[index]; device != nil {
		return device.entries[e]
	}
	return ""
}

// entriesOf are the entries that the driver made for a node, with what they lead to.
func (m *monitor) entriesOf(index int, node netip.Addr) map[entry]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[entry]string{}
	if device := m.devices[index]; device != nil {
		for e := range device.byNode[node] {
			out[e] = device.entries[e]
		}
	}
	return out
}

func (m *monitor) hear(messages []syscall.NetlinkMessage, lost bool) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	news := lost
	for i := range messages {
		news = m.look(&messages[i]) || news
	}
	m.news = m.news || news
	return news
}

// look tells whether a message means anything for the driver.
func (m *monitor) look(message *syscall.NetlinkMessage) bool {
	switch message.Header.Type {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		return m.link(message)
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		if len(message.Data) < unix.SizeofIfAddrmsg {
			return false
		}
		return !m.links[int(binary.NativeEndian.Uint32(message.Data[4:]))].ignored // ifa_index
	case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
		return m.neighbor(message)
	}
	return false
}

func (m *monitor) link(message *syscall.NetlinkMessage) bool {
	if len(message.Data) < unix.SizeofIfInfomsg {
		return false
	}
	index := int(int32(binary.NativeEndian.Uint32(message.Data[4:])))
	before, known := m.links[index]
	if message.Header.Type == unix.RTM_DELLINK {
		delete(m.links, index)
		_, ours := m.devices[index]
		m.foreign = m.foreign || ours
		delete(m.devices, index)
		return !before.ignored
	}
	attributes, err := nl.ParseRouteAttr(message.Data[unix.SizeofIfInfomsg:])
	if err != nil {
		return true
	}
	now := linkState{up: binary.NativeEndian.Uint32(message.Data[8:])&unix.IFF_UP != 0}
	for _, a := range attributes {
		switch {
		case a.Attr.Type == unix.IFLA_IFNAME:
			now.name, _, _ = strings.Cut(string(a.Value), "\x00")
		case a.Attr.Type == unix.IFLA_MTU && len(a.Value) >= 4:
			now.mtu = binary.NativeEndian.Uint32(a.Value)
		}
	}
	now.ignored = m.options.WorkloadPrefix != "" && strings.HasPrefix(now.name, m.options.WorkloadPrefix)
	m.links[index] = now
	return !now.ignored && (!known || now != before)
}

// neighbor tells whether a message about a neighbour or a forwarding entry of a device is not what the driver did itself.
func (m *monitor) neighbor(message *syscall.NetlinkMessage) bool {
	const indexAt, stateAt, size = 4, 8, 12 // in struct ndmsg
	if len(message.Data) < size {
		return false
	}
	device := m.devices[int(int32(binary.NativeEndian.Uint32(message.Data[indexAt:])))]
	if device == nil {
		return false
	}
	attributes, err := nl.ParseRouteAttr(message.Data[size:])
	if err != nil {
		return true
	}
	var mac, addr string
	for _, a := range attributes {
		switch a.Attr.Type {
		case unix.NDA_LLADDR:
			mac = net.HardwareAddr(a.Value).String()
		case unix.NDA_DST:
			if parsed, ok := netip.AddrFromSlice(a.Value); ok {
				addr = parsed.Unmap().String()
			}
		}
	}
	e, to := entry{false, addr}, mac
	if message.Data[0] == unix.AF_BRIDGE {
		e, to = entry{true, mac}, addr
	}
	want, known := device.entries[e]
	permanent := binary.NativeEndian.Uint16(message.Data[stateAt:])&unix.NUD_PERMANENT != 0
	news := known && (message.Header.Type == unix.RTM_DELNEIGH || !permanent || to != want) ||
		!known && message.Header.Type == unix.RTM_NEWNEIGH && permanent
	if news {
		device.entries[e] = "" // it has to be set again
	}
	m.foreign = m.foreign || news
	return news
}
