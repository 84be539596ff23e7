package bandwidth

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/tables"
)

// watchBuffer has room for the news of some thousand interfaces.
const watchBuffer = 1 << 20

// monitor listens for interfaces with limits that come, go or change.
type monitor struct {
	log     *slog.Logger
	socket  *nl.NetlinkSocket
	changed chan struct{}
	done    chan struct{}
	closing atomic.Bool

	mu     sync.Mutex
	wanted map[string]bool // interfaces with limits
	news   map[string]bool // those of them of which there are news
	all    bool            // news were lost
}

// startMonitor listens in the calling thread's namespace.
func startMonitor(log *slog.Logger) (*monitor, error) {
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK)
	if err != nil {
		return nil, fmt.Errorf("subscribing to changes of links: %w", err)
	}
	if err := socket.SetReceiveBufferSize(watchBuffer, true); err != nil {
		socket.Close()
		return nil, fmt.Errorf("setting the receive buffer for changes: %w", err)
	}
	m := &monitor{log: log, socket: socket, changed: make(chan struct{}, 1), done: make(chan struct{}), wanted: map[string]bool{}, news: map[string]bool{}}
	go m.run()
	return m, nil
}

func (m *monitor) close() {
	m.closing.Store(true)
	m.socket.Close()
	<-m.done
}

func (m *monitor) run() {
	defer close(m.done)
	for {
		messages, _, err := m.socket.Receive()
		if err != nil && m.closing.Load() { // the library has several errors for that
			return
		}
		m.mu.Lock()
		m.all = m.all || err != nil // news were lost (ENOBUFS)
		told := err != nil
		for i := range messages {
			if name := nameIn(&messages[i]); m.wanted[name] {
				m.news[name], told = true, true
			}
		}
		m.mu.Unlock()
		if told {
			select {
			case m.changed <- struct{}{}:
			default:
			}
		}
		if err != nil && !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EINTR) {
			m.log.Error("changes of links are not seen any more", "error", err)
			return
		}
	}
}

// nameIn is the name of the interface of which a message tells.
func nameIn(message *syscall.NetlinkMessage) string {
	if message.Header.Type != unix.RTM_NEWLINK && message.Header.Type != unix.RTM_DELLINK || len(message.Data) < unix.SizeofIfInfomsg {
		return ""
	}
	attributes, err := nl.ParseRouteAttr(message.Data[unix.SizeofIfInfomsg:])
	if err != nil {
		return ""
	}
	for _, a := range attributes {
		if a.Attr.Type == unix.IFLA_IFNAME {
			return nl.BytesToString(a.Value)
		}
	}
	return ""
}

// want says which interfaces have limits. What happens to them from now on is news.
func (m *monitor) want(desired *tables.Bandwidth) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name := range desired.Dirty() {
		if _, ok := desired.Get(name); ok {
			m.wanted[name] = true
		} else {
			delete(m.wanted, name)
		}
	}
}

// take returns what has changed since the last call.
func (m *monitor) take() (news map[string]bool, all bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	news, all = m.news, m.all
	m.news, m.all = map[string]bool{}, false
	return news, all
}
