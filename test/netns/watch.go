package netns

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Watch sends packets from many namespaces and hears what arrives in any of them, behind its input hook. Its sockets stay open,
// so that many packets cost little.
type Watch struct {
	senders map[watchSender]int
	ears    []ear
	lastID  uint32
	buffer  []byte
}

type watchSender struct {
	from *NS
	v4   bool
}

// ear is a raw socket that gets what arrives of one protocol.
type ear struct {
	at       *NS
	fd       int
	v4       bool
	protocol uint8
}

// Mail is a packet and where it is sent from.
type Mail struct {
	From *NS
	Packet
}

// Arrival is a packet that arrived.
type Arrival struct {
	// At is where. It may be that a packet arrives at more than one place.
	At *NS
	// Source and SourcePort are what the packet has at its end: on the way they may have been translated.
	Source     netip.Addr
	SourcePort uint16
	// Port is that of the destination.
	Port uint16
}

// NewWatch watches over namespaces. It hears TCP, UDP, SCTP, ICMP, ICMPv6, GRE and IPIP.
func NewWatch(t testing.TB, namespaces ...*NS) *Watch {
	t.Helper()
	const buffer = 64 << 10
	w := &Watch{senders: map[watchSender]int{}, buffer: make([]byte, buffer)}
	t.Cleanup(w.close)
	for _, ns := range namespaces {
		ns.Must("opening raw sockets", func() error { return w.open(ns) })
	}
	return w
}

func (w *Watch) open(ns *NS) error {
	const room = 4 << 20
	for _, v4 := range []bool{true, false} {
		domain, icmp := unix.AF_INET6, unix.IPPROTO_ICMPV6
		if v4 {
			domain, icmp = unix.AF_INET, unix.IPPROTO_ICMP
		}
		fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			return fmt.Errorf("for sending: %w", err)
		}
		w.senders[watchSender{ns, v4}] = fd
		for _, protocol := range []int{unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_SCTP, icmp, unix.IPPROTO_GRE, unix.IPPROTO_IPIP} {
			fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
			if err != nil {
				return fmt.Errorf("for protocol %d: %w", protocol, err)
			}
			w.ears = append(w.ears, ear{ns, fd, v4, uint8(protocol)})
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room); err != nil {
				return fmt.Errorf("making room for what arrives: %w", err)
			}
		}
	}
	return nil
}

func (w *Watch) close() {
	for _, fd := range w.senders {
		unix.Close(fd)
	}
	for _, e := range w.ears {
		unix.Close(e.fd)
	}
}

// Send sends packets in order and tells where each arrived. It waits for as many arrivals as are expected, and then a moment for
// more. What the sender has no route for, or may not send, does not arrive.
func (w *Watch) Send(mail []Mail, expected int) ([][]Arrival, error) {
	first := w.lastID + 1
	w.lastID += uint32(len(mail))
	for i, m := range mail {
		v4 := m.To.Is4()
		err := unix.Sendto(w.senders[watchSender{m.From, v4}], m.encoded(first+uint32(i)), 0, socketAddress(m.To))
		if err != nil && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ENETUNREACH) && !errors.Is(err, unix.EHOSTUNREACH) {
			return nil, fmt.Errorf("sending %+v: %w", m.Packet, err)
		}
	}
	out := make([][]Arrival, len(mail))
	heard, deadline := 0, time.Now().Add(arrivalWait)
	for {
		if heard >= expected {
			deadline = time.Now().Add(quiet)
		}
		before := heard
		if arrived, err := w.wait(time.Until(deadline)); err != nil || !arrived {
			return out, err
		}
		for _, e := range w.ears {
			heard += w.drain(&e, mail, first, out)
		}
		if heard == before && time.Now().After(deadline) {
			return out, nil
		}
	}
}

// wait tells whether something arrived in time.
func (w *Watch) wait(wait time.Duration) (bool, error) {
	fds := make([]int, 0, len(w.ears))
	for _, e := range w.ears {
		fds = append(fds, e.fd)
	}
	ready, err := poll(fds, wait)
	if err != nil {
		return false, fmt.Errorf("waiting for packets: %w", err)
	}
	return ready >= 0, nil
}

// drain reads all that an ear has, and returns how many packets of the mail it heard.
func (w *Watch) drain(e *ear, mail []Mail, first uint32, out [][]Arrival) int {
	heard := 0
	for {
		n, from, err := unix.Recvfrom(e.fd, w.buffer, 0)
		if err != nil {
			return heard
		}
		id, a, ok := e.read(w.buffer[:n], from)
		if !ok || id < first || id-first >= uint32(len(mail)) {
			continue
		}
		if m := &mail[id-first]; m.Protocol == e.protocol && m.To.Is4() == e.v4 {
			out[id-first] = append(out[id-first], a)
			heard++
		}
	}
}

// read finds the mark in what a socket got. Answers and errors that carry it along are none of those that were sent.
func (e *ear) read(b []byte, from unix.Sockaddr) (uint32, Arrival, bool) {
	a := Arrival{At: e.at}
	switch from := from.(type) {
	case *unix.SockaddrInet4:
		a.Source = netip.AddrFrom4(from.Addr)
		if len(b) == 0 || len(b) < int(b[0]&15)*4 {
			return 0, a, false
		}
		b = b[int(b[0]&15)*4:] // IPv4 comes with its header
	case *unix.SockaddrInet6:
		a.Source = netip.AddrFrom16(from.Addr)
	}
	prefix := marker(0)[:len(marker(0))-4]
	i := bytes.LastIndex(b, prefix)
	if i < 0 || len(b) < i+len(prefix)+4 || !e.isFirst(b) {
		return 0, a, false
	}
	switch e.protocol {
	case unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_SCTP:
		a.SourcePort, a.Port = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	}
	return binary.BigEndian.Uint32(b[i+len(prefix):]), a, true
}

// isFirst tells errors and answers of ICMP, which carry the mark of what they are about, from what is sent.
func (e *ear) isFirst(b []byte) bool {
	const echo, lastError, timestampReply, lastError6, echoReply6 = 8, 12, 14, 127, 129 // RFC 792, RFC 4443
	switch {
	case len(b) < 4:
		return false
	case e.protocol == unix.IPPROTO_ICMP:
		return b[0] == echo || b[0] > lastError && b[0] != timestampReply
	case e.protocol == unix.IPPROTO_ICMPV6:
		return b[0] > lastError6 && b[0] != echoReply6
	}
	return true
}
