package netns

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// arrivalWait bounds the wait for packets that are expected: each takes less than a millisecond, but on a machine that does much else.
	arrivalWait = 15 * time.Second
	// quiet is how long nothing unexpected may arrive after what is expected has.
	quiet = 40 * time.Millisecond
)

// Prober sends packets from one namespace to another.
type Prober struct {
	lastID atomic.Uint32
}

// Send sends packets from one namespace and tells which of them arrived in the other, behind its input hook. It waits
// for as many as are expected, and then a moment for more.
func (p *Prober) Send(from, to *NS, packets []Packet, expected int) []bool {
	from.t.Helper()
	receivers := to.listen(packets)
	defer closeAll(receivers)
	first := p.lastID.Add(uint32(len(packets))) - uint32(len(packets)) + 1
	from.Must("sending packets", func() error { return sendAll(packets, first) })

	arrived := make([]bool, len(packets))
	count := 0
	deadline := time.Now().Add(arrivalWait)
	if expected == 0 {
		deadline = time.Now().Add(quiet)
	}
	buffer := make([]byte, 64<<10)
	for {
		ready, err := poll(receivers, time.Until(deadline))
		if err != nil {
			to.t.Fatalf("waiting for packets: %v", err)
		}
		if ready < 0 {
			return arrived
		}
		n, err := unix.Read(ready, buffer)
		if err != nil {
			continue
		}
		for i := range packets {
			if !arrived[i] && bytes.Contains(buffer[:n], marker(first+uint32(i))) {
				arrived[i] = true
				if count++; count == expected {
					deadline = time.Now().Add(quiet)
				}
			}
		}
	}
}

// listen opens a raw socket for each protocol of the packets.
func (n *NS) listen(packets []Packet) []int {
	n.t.Helper()
	type kind struct {
		v4       bool
		protocol uint8
	}
	open := map[kind]bool{}
	var sockets []int
	n.Must("listening for packets", func() error {
		for _, p := range packets {
			k := kind{p.To.Is4(), p.Protocol}
			if open[k] {
				continue
			}
			open[k] = true
			domain := unix.AF_INET6
			if k.v4 {
				domain = unix.AF_INET
			}
			fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(k.protocol))
			if err != nil {
				return fmt.Errorf("opening a raw socket for protocol %d: %w", k.protocol, err)
			}
			sockets = append(sockets, fd)
		}
		return nil
	})
	return sockets
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// poll returns a readable socket, or -1 when the time is over.
func poll(fds []int, wait time.Duration) (int, error) {
	list := make([]unix.PollFd, len(fds))
	for i, fd := range fds {
		list[i] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
	}
	n, err := unix.Poll(list, max(0, int(wait.Milliseconds())))
	if err != nil && !errors.Is(err, unix.EINTR) {
		return -1, err
	}
	if n > 0 {
		for _, p := range list {
			if p.Revents != 0 {
				return int(p.Fd), nil
			}
		}
	}
	if wait > 0 {
		return poll(fds, 0) // the time was rounded down, or the wait interrupted: one last look
	}
	return -1, nil
}

func sendAll(packets []Packet, first uint32) error {
	sockets := map[bool]int{}
	for _, v4 := range []bool{true, false} {
		domain := unix.AF_INET6
		if v4 {
			domain = unix.AF_INET
		}
		fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			return fmt.Errorf("opening a raw socket: %w", err)
		}
		defer unix.Close(fd)
		sockets[v4] = fd
	}
	for i, p := range packets {
		err := unix.Sendto(sockets[p.To.Is4()], p.encoded(first+uint32(i)), 0, socketAddress(p.To))
		if err != nil && !errors.Is(err, unix.EPERM) { // EPERM: dropped on output
			return fmt.Errorf("sending %+v: %w", p, err)
		}
	}
	return nil
}

func socketAddress(a netip.Addr) unix.Sockaddr {
	if a.Is4() {
		return &unix.SockaddrInet4{Addr: a.As4()}
	}
	return &unix.SockaddrInet6{Addr: a.As16()}
}
