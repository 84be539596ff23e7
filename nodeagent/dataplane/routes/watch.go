package routes

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/rtnetlink"
)

// watch tells that links or routes changed that are not learned ones.
type watch struct {
	*rtnetlink.Listener

	protocol uint8
	// workloads begins the names of pods' interfaces. They come and go all the time, and learned routes do not go by them, but for those
	// to a pod that peers.
	workloads string
	// used are the indexes of the links that learned routes lead over. With a link go its routes, and of IPv4 the kernel does not say so.
	used atomic.Pointer[map[int32]struct{}]
	// waiting: some routes wait for a next hop, which any link may lead to.
	waiting atomic.Bool
	news    atomic.Bool
}

func startWatch(options LearnedOptions) (*watch, error) {
	listener, err := rtnetlink.Subscribe(unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
	if err != nil {
		return nil, err
	}
	w := &watch{Listener: listener, protocol: uint8(options.Protocol), workloads: options.Workloads}
	listener.Listen(options.Log, w.hear)
	return w, nil
}

func (w *watch) take() bool { return w.news.Swap(false) }

func (w *watch) hear(messages []syscall.NetlinkMessage, lost bool) bool {
	news := lost
	for i := range messages {
		news = news || w.look(&messages[i])
	}
	if news {
		w.news.Store(true)
	}
	return news
}

// look tells whether a message may change what is to be done about learned routes.
func (w *watch) look(m *syscall.NetlinkMessage) bool {
	switch m.Header.Type {
	case unix.RTM_NEWLINK:
		const changeAt = 12 // in struct ifinfomsg; 0: statistics and the like
		return len(m.Data) >= unix.SizeofIfInfomsg && slices.ContainsFunc(m.Data[changeAt:changeAt+4], func(b byte) bool { return b != 0 }) &&
			!w.spared(m.Data)
	case unix.RTM_DELLINK:
		return !w.spared(m.Data)
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		const tableAt, protocolAt = 4, 5 // in struct rtmsg
		if len(m.Data) < unix.SizeofRtMsg || m.Data[tableAt] != unix.RT_TABLE_MAIN {
			return false
		}
		// The agent's own routes lead to pods, which are no next hops but where they peer: those wait, and every Apply looks.
		learned := m.Data[protocolAt] == w.protocol
		return m.Data[protocolAt] != DefaultProtocol && (!learned || m.Header.Type == unix.RTM_DELROUTE && m.Header.Pid == 0)
	}
	return false
}

// spared tells whether a message of a link is about a pod's, for which no route waits.
func (w *watch) spared(link []byte) bool {
	if w.workloads == "" || w.waiting.Load() || len(link) < unix.SizeofIfInfomsg {
		return false
	}
	const indexAt = 4 // in struct ifinfomsg
	if used := w.used.Load(); used != nil {
		if _, ok := (*used)[int32(binary.NativeEndian.Uint32(link[indexAt:]))]; ok {
			return false
		}
	}
	attributes, err := nl.ParseRouteAttr(link[unix.SizeofIfInfomsg:])
	if err != nil {
		return false
	}
	for _, a := range attributes {
		if a.Attr.Type == unix.IFLA_IFNAME {
			return strings.HasPrefix(string(bytes.TrimRight(a.Value, "\x00")), w.workloads)
		}
	}
	return false
}
