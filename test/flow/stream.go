package flow

import (
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/test/netns"
)

// Stream sends over one TCP connection; what it carries are bytes.
type Stream struct {
	ends     *ends
	out, in  int // sockets
	received atomic.Int64
	// awaited is how much is received when the turn is over; 0: not known yet. arrived tells that it is.
	awaited atomic.Int64
	arrived chan struct{}
}

// NewStream connects to an IPv4 address of the second namespace from the first.
func NewStream(t testing.TB, from, to *netns.NS, address netip.Addr) *Stream {
	t.Helper()
	s := &Stream{arrived: make(chan struct{}, 1)}
	at := &unix.SockaddrInet4{Port: Port, Addr: address.As4()}
	listener := listen(t, to, at)
	from.Must("connecting to "+netip.AddrPortFrom(address, Port).String(), func() (err error) {
		if s.out, err = socket(0); err != nil {
			return err
		}
		return unix.Connect(s.out, at)
	})
	in, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
	if err != nil {
		t.Fatalf("accepting the connection: %v", err)
	}
	s.in = in
	if err := bound(in); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, fd := range []int{s.out, s.in, listener} {
			_ = unix.Close(fd)
		}
	})
	s.ends = newEnds(t, from, to, s.receive, func() { _ = unix.Shutdown(s.out, unix.SHUT_RDWR) })
	return s
}

func (s *Stream) receive() {
	buffer := make([]byte, 256<<10)
	for {
		n, err := unix.Read(s.in, buffer)
		if again(err) {
			continue // it is the others' turn
		}
		if err != nil || n == 0 {
			return
		}
		if got, awaited := s.received.Add(int64(n)), s.awaited.Load(); got == awaited {
			s.tell()
		}
	}
}

func (s *Stream) tell() {
	select {
	case s.arrived <- struct{}{}:
	default:
	}
}

// Turn sends for a time and tells what it took, until all has arrived.
func (s *Stream) Turn(t testing.TB, length time.Duration) Reading {
	t.Helper()
	got := s.received.Load()
	s.awaited.Store(0)
	select {
	case <-s.arrived: // told twice
	default:
	}
	return s.ends.turn(t, func(from time.Time) (r Reading, err error) {
		data := make([]byte, 256<<10)
		for time.Since(from) < length {
			n, err := unix.Write(s.out, data)
			if err != nil && !errors.Is(err, unix.EINTR) {
				return r, fmt.Errorf("sending: %w", err)
			}
			r.Carried += int64(max(n, 0))
		}
		s.awaited.Store(got + r.Carried)
		if s.received.Load() == got+r.Carried {
			s.tell()
		}
		select {
		case <-s.arrived:
		case <-time.After(socketWait):
		}
		if arrived := s.received.Load() - got; arrived != r.Carried {
			return r, fmt.Errorf("%d of %d bytes arrived", arrived, r.Carried)
		}
		return r, nil
	})
}
