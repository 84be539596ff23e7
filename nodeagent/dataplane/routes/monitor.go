package routes

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// watchBuffer has room for the news of some thousand routes.
const watchBuffer = 1 << 20

// monitor listens for changes of links, and of the driver's routes by others.
type monitor struct {
	options Options
	owner   uint32
	socket  *nl.NetlinkSocket
	changed chan struct{}
	done    chan struct{}
	closing atomic.Bool

	mu    sync.Mutex
	links map[string]int // workload interfaces that came, went or changed their state, with their index
	all   bool           // everything has to be compared
	// foreign: another program changed routes of the driver's.
	foreign bool
}

// startMonitor listens in the calling thread's namespace. Changes of routes by owner are no news.
func startMonitor(options Options, owner uint32) (*monitor, error) {
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("subscribing to changes of links and routes: %w", err)
	}
	if err := socket.SetReceiveBufferSize(watchBuffer, true); err != nil {
		socket.Close()
		return nil, fmt.Errorf("setting the receive buffer for changes: %w", err)
	}
	m := &monitor{options: options, owner: owner, socket: socket, changed: make(chan struct{}, 1), done: make(chan struct{}), links: map[string]int{}}
	go m.run()
	return m, nil
}

func (m *monitor) close() {
	m.closing.Store(true)
	m.socket.Close()
	<-m.done
}

// take returns what has changed since the last call.
func (m *monitor) take() (links map[string]int, all, foreign bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	links, all, foreign = m.links, m.all, m.foreign
	m.links, m.all, m.foreign = map[string]int{}, false, false
	return links, all, foreign
}

func (m *monitor) run() {
	defer close(m.done)
	for {
		messages, _, err := m.socket.Receive()
		if err != nil && m.closing.Load() { // the library has several errors for that
			return
		}
		news := false
		m.mu.Lock()
		if err != nil { // news were lost (ENOBUFS)
			m.all, news = true, true
		}
		for i := range messages {
			news = m.look(&messages[i]) || news
		}
		m.mu.Unlock()
		if news {
			select {
			case m.changed <- struct{}{}:
			default:
			}
		}
		if err != nil && !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EINTR) {
			m.options.Log.Error("changes of links and routes are not seen any more", "error", err)
			return
		}
	}
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
		m.all = true
		m.foreign = m.foreign || message.Header.Pid != 0 // 0 is the kernel: routes go with their link
		return true
	}
	return false
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
