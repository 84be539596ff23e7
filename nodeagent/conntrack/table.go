// Package conntrack lists and ends the connections that the kernel tracks in a network namespace.
package conntrack

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/connections"
)

// receiveSeconds bounds the wait for each part of the kernel's answer.
const receiveSeconds = 30

// Table is what the kernel tracks in the namespace in which it was opened.
type Table struct {
	// A list takes its socket until it is done, so what is ended meanwhile needs another.
	lists, ends *nl.SocketHandle
	sockets     *nl.SocketHandle // to the node's own sockets
	routes      *netlink.Handle
	buckets     int
}

// Open opens the table of the calling thread's network namespace.
func Open() (*Table, error) {
	t := &Table{buckets: buckets()}
	var errs [4]error
	t.lists, errs[0] = open(unix.NETLINK_NETFILTER)
	t.ends, errs[1] = open(unix.NETLINK_NETFILTER)
	t.sockets, errs[2] = open(unix.NETLINK_INET_DIAG)
	t.routes, errs[3] = netlink.NewHandle(unix.NETLINK_ROUTE)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, errors.Join(fmt.Errorf("opening sockets for connections: %w", err), t.Close())
	}
	return t, nil
}

func open(protocol int) (*nl.SocketHandle, error) {
	s, err := nl.Subscribe(protocol)
	if err != nil {
		return nil, err
	}
	return &nl.SocketHandle{Socket: s}, s.SetReceiveTimeout(&unix.Timeval{Sec: receiveSeconds})
}

// Close closes the table.
func (t *Table) Close() error {
	for _, s := range []*nl.SocketHandle{t.lists, t.ends, t.sockets} {
		if s != nil {
			s.Close()
		}
	}
	if t.routes != nil {
		t.routes.Close()
	}
	return nil
}

// Each calls f for every connection; where addresses are given, for every one that has one of these as the source of its first
// packet, as the destination of that packet or as the source of the answers, perhaps more than once and perhaps for others
// too: the kernel picks out IPv4 addresses since Linux 5.8, and tells all there is of IPv6. It ends when f says false. f may
// take its time, and may use the table's other methods: the kernel keeps what it has not told.
func (t *Table) Each(ctx context.Context, involving []netip.Addr, f func(*connections.Flow) bool) error {
	filters := filtersOf(involving)
	if len(filters) > 1 && t.few() {
		filters = everything()
	}
	for _, filter := range filters {
		more, err := t.list(ctx, filter, f)
		if err != nil {
			return fmt.Errorf("listing connections: %w", err)
		}
		if !more {
			break
		}
	}
	return ctx.Err()
}

func (t *Table) list(ctx context.Context, filter filter, f func(*connections.Flow) bool) (bool, error) {
	request := t.request(t.lists, nl.IPCTNL_MSG_CT_GET, unix.NLM_F_DUMP, filter.family)
	for _, attribute := range filter.attributes() {
		request.AddData(attribute)
	}
	more := true
	var broken error
	err := request.ExecuteIter(unix.NETLINK_NETFILTER, 0, func(message []byte) bool {
		flow, err := parse(message)
		if err != nil {
			broken = err
			return true
		}
		more = ctx.Err() == nil && f(flow)
		return more
	})
	return more, errors.Join(err, broken)
}

// few tells whether the namespace has so few connections that to hear of them all takes less than to have the kernel walk once more over its
// table, which is one for all namespaces and as large as the machine's memory lets it be.
func (t *Table) few() bool {
	const bucketsPerConnection = 128 // about as many does the kernel look into while one connection is told and read
	size, err := t.size()
	return err == nil && size <= t.buckets/bucketsPerConnection
}

// size is how many connections the namespace has.
func (t *Table) size() (int, error) {
	// The kernel marks its one answer as one of several, so that only the acknowledgement ends it.
	answers, err := t.request(t.lists, getStats, unix.NLM_F_ACK, unix.AF_UNSPEC).Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil {
		return 0, fmt.Errorf("counting connections: %w", err)
	}
	size, known := 0, false
	for _, answer := range answers {
		err := attributes(answer[min(len(answer), nl.SizeofNfgenmsg):], func(kind uint16, value []byte) error {
			if kind == ctaStatsGlobalSize && len(value) == 4 {
				size, known = int(binary.BigEndian.Uint32(value)), true
			}
			return nil
		})
		if err != nil {
			return 0, fmt.Errorf("counting connections: %w", err)
		}
	}
	if !known {
		return 0, errors.New("counting connections: the kernel does not say how many there are")
	}
	return size, nil
}

// buckets is how many buckets the kernel's table has; 0: not known.
func buckets() int {
	text, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_buckets")
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	return n
}

// End makes the kernel forget a connection: its next packet is the first of a new one. It tells whether the connection was
// still there.
func (t *Table) End(f *connections.Flow) (bool, error) {
	family := uint8(unix.AF_INET)
	if f.Original.Source.Addr().Is6() {
		family = unix.AF_INET6
	}
	request := t.request(t.ends, nl.IPCTNL_MSG_CT_DELETE, unix.NLM_F_ACK, family)
	request.AddData(original(f))
	request.AddData(nl.NewRtAttr(nl.CTA_ID, bigEndian32(f.ID)))
	_, err := request.Execute(unix.NETLINK_NETFILTER, 0)
	switch {
	case errors.Is(err, unix.ENOENT): // it has gone, or there is another in its place
		return false, nil
	case err != nil:
		return false, fmt.Errorf("ending the connection from %s to %s: %w", f.Original.Source, f.Original.Destination, err)
	}
	return true, nil
}

func (t *Table) request(socket *nl.SocketHandle, message, flags int, family uint8) *nl.NetlinkRequest {
	r := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_CTNETLINK<<8|message, flags)
	r.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_NETFILTER: socket}
	r.AddData(&nl.Nfgenmsg{NfgenFamily: family, Version: nl.NFNETLINK_V0})
	return r
}
