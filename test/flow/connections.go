package flow

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/test/netns"
)

// Connections opens TCP connections, exchanges a byte over each, and closes them; what it carries are connections.
type Connections struct {
	ends *ends
	to   *unix.SockaddrInet4
}

// together is how many connections are open at a time.
const together = 16

// NewConnections are from the first namespace to an IPv4 address of the second.
func NewConnections(t testing.TB, from, to *netns.NS, address netip.Addr) *Connections {
	t.Helper()
	c := &Connections{to: &unix.SockaddrInet4{Port: Port, Addr: address.As4()}}
	listener := listen(t, to, c.to)
	t.Cleanup(func() { _ = unix.Close(listener) })
	c.ends = newEnds(t, from, to, func() { serve(listener) }, func() { _ = unix.Shutdown(listener, unix.SHUT_RDWR) })
	return c
}

// serve sends back a byte over each connection that comes.
func serve(listener int) {
	var one [1]byte
	for {
		fd, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
		if again(err) {
			continue // it is the others' turn
		}
		if err != nil {
			return
		}
		if bound(fd) == nil {
			if n, err := unix.Read(fd, one[:]); n == 1 && err == nil {
				_, _ = unix.Write(fd, one[:])
			}
		}
		_ = unix.Close(fd)
	}
}

// Turn opens connections for a time.
func (c *Connections) Turn(t testing.TB, length time.Duration) Reading {
	t.Helper()
	return c.ends.turn(t, func(from time.Time) (r Reading, err error) {
		for time.Since(from) < length {
			if err := c.batch(); err != nil {
				return r, fmt.Errorf("connecting to %v port %d: %w", netip.AddrFrom4(c.to.Addr), c.to.Port, err)
			}
			r.Carried += together
		}
		return r, nil
	})
}

// batch makes some connections side by side, so that neither end waits for the other. They end with a reset, and no state of them stays
// at either end.
func (c *Connections) batch() (err error) {
	var open []int
	defer func() {
		for _, fd := range open {
			err = errors.Join(err, unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}), unix.Close(fd))
		}
	}()
	for range together {
		fd, err := socket(unix.SOCK_NONBLOCK)
		if err != nil {
			return err
		}
		open = append(open, fd)
		if err := unix.Connect(fd, c.to); err != nil && !errors.Is(err, unix.EINPROGRESS) {
			return err
		}
	}
	one := [1]byte{1}
	for _, fd := range open {
		if err := once(fd, unix.POLLOUT, func() error { _, err := unix.Write(fd, one[:]); return err }); err != nil {
			return err
		}
	}
	for _, fd := range open {
		if err := once(fd, unix.POLLIN, func() error { _, err := unix.Read(fd, one[:]); return err }); err != nil {
			return err
		}
	}
	return nil
}

// once does what a socket must be ready for.
func once(fd int, ready int16, do func() error) error {
	deadline := time.Now().Add(socketWait)
	for {
		err := do()
		if !again(err) {
			return err
		}
		if time.Now().After(deadline) {
			return errors.New("no answer")
		}
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: ready}}, int(socketWait.Milliseconds())); err != nil && !again(err) {
			return err
		}
	}
}
