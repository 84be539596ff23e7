package routes

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/rtnetlink"
)

// monitor listens for changes of links, and of the driver's routes by others.
type monitor struct {
	*rtnetlink.Listener

	options Options
	owner   uint32

	mu    sync.Mutex
	links map[string]int // workload interfaces that came, went or changed their state, with their index
	// added are routes over a workload interface that another program made, with the interface's index: the CNI plugin
	// makes those of its pod.
	added map[netip.Prefix]int
	all   bool // everything has to be compared
	// foreign: another program changed routes of the driver's in another way.
	foreign bool
}

// news is what has changed in the kernel since the last look.
type news struct {
	links        map[string]int
	added        map[netip.Prefix]int
	all, foreign bool
}

// maxAdded bounds what is remembered of single routes; past it everything is compared.
const maxAdded = 4096

// startMonitor listens in the calling thread's namespace. Changes of routes by owner are no news.
func startMonitor(options Options, owner uint32) (*monitor, error) {
	listener, err := rtnetlink.Subscribe(unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
	if err != nil {
		return nil, err
	}
	m := &monitor{Listener: listener, options: options, owner: owner, links: map[string]int{}, added: map[netip.Prefix]int{}}
	listener.Listen(options.Log, m.hear)
	return m, nil
}

// take returns what has changed since the last call.
func (m *monitor) take() news {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := news{links: m.links, added: m.added, all: m.all, foreign: m.foreign}
	m.links, m.added, m.all, m.foreign = map[string]int{}, map[netip.Prefix]int{}, false, false
	return n
}

func (m *monitor) hear(messages []syscall.NetlinkMessage, lost bool) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all = m.all || lost
	news := lost
	for i := range messages {
		news = m.look(&messages[i]) || news
	}
	return news
}

// look notes what a message means for the driver and tells whether it means anything.
func (m *monitor) look(message *syscall.NetlinkMessage) bool {
	switch message.Header.Type {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		return m.link(message)
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		const protocolAt = 5 // in struct rtmsg
		if message.Header.Pid == m.owner || len(message.Data) < unix.SizeofRtMsg || message.Data[protocolAt] != uint8(m.options.Protocol) {
			return false
		}
		if p, link, ok := workloadRoute(message); ok && len(m.added) < maxAdded {
			m.added[p] = link
			return true
		}
		m.all = true
		m.foreign = m.foreign || message.Header.Pid != 0 // 0 is the kernel: routes go with their link
		return true
	}
	return false
}

// workloadRoute reads the news of a route that was made over an interface, as those of pods are; false for any other.
func workloadRoute(message *syscall.NetlinkMessage) (p netip.Prefix, link int, ok bool) {
	const ( // in struct rtmsg
		destinationLength = 1
		tos               = 3
		table             = 4
		kind              = 7
	)
	data := message.Data
	if message.Header.Type != unix.RTM_NEWROUTE || data[tos] != 0 || data[table] != unix.RT_TABLE_MAIN || data[kind] != unix.RTN_UNICAST {
		return p, 0, false
	}
	attributes, err := nl.ParseRouteAttr(data[unix.SizeofRtMsg:])
	if err != nil {
		return p, 0, false
	}
	priority := 0
	for _, a := range attributes {
		switch a.Attr.Type {
		case unix.RTA_DST:
			address, isAddress := netip.AddrFromSlice(a.Value)
			if !isAddress {
				return p, 0, false
			}
			p = netip.PrefixFrom(address, int(data[destinationLength]))
		case unix.RTA_OIF:
			link = int(binary.NativeEndian.Uint32(a.Value))
		case unix.RTA_PRIORITY:
			priority = int(binary.NativeEndian.Uint32(a.Value))
		case unix.RTA_GATEWAY, unix.RTA_MULTIPATH, unix.RTA_VIA:
			return p, 0, false
		}
	}
	return p, link, p.IsSingleIP() && link != 0 && priority == metric(p)
}

func (m *monitor) link(message *syscall.NetlinkMessage) bool {
	if len(message.Data) < unix.SizeofIfInfomsg {
		return false
	}
	index := int(int32(binary.NativeEndian.Uint32(message.Data[4:])))
	change := binary.NativeEndian.Uint32(message.Data[12:])
	attributes, err := nl.ParseRouteAttr(message.Data[unix.SizeofIfInfomsg:])
	if err != nil {
		return false
	}
	for _, a := range attributes {
		if a.Attr.Type != unix.IFLA_IFNAME {
			continue
		}
		name, _, _ := strings.Cut(string(a.Value), "\x00")
		if m.options.WorkloadPrefix != "" && strings.HasPrefix(name, m.options.WorkloadPrefix) {
			m.links[name] = index
			return true
		}
	}
	// Any other link: routes through gateways go with it, and may be possible again when it is back. A message that
	// says of no flag that it changed is about something else, statistics for instance.
	if change == 0 && message.Header.Type == unix.RTM_NEWLINK {
		return false
	}
	m.all = true
	return true
}
