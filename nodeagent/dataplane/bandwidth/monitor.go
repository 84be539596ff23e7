package bandwidth

import (
	"log/slog"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/rtnetlink"
	"github.com/manul-net/manul/nodeagent/tables"
)

// monitor listens for interfaces with limits that come, go or change.
type monitor struct {
	*rtnetlink.Listener

	mu     sync.Mutex
	wanted map[string]bool // interfaces with limits
	news   map[string]bool // those of them of which there are news
	all    bool            // news were lost
}

// startMonitor listens in the calling thread's namespace.
func startMonitor(log *slog.Logger) (*monitor, error) {
	listener, err := rtnetlink.Subscribe(unix.RTNLGRP_LINK)
	if err != nil {
		return nil, err
	}
	m := &monitor{Listener: listener, wanted: map[string]bool{}, news: map[string]bool{}}
	listener.Listen(log, m.hear)
	return m, nil
}

func (m *monitor) hear(messages []syscall.NetlinkMessage, lost bool) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all = m.all || lost
	news := lost
	for i := range messages {
		if name := nameIn(&messages[i]); m.wanted[name] {
			m.news[name], news = true, true
		}
	}
	return news
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
