package netns

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Flood sends UDP packets, each from a port of its own so that each is the first of its flow.
type Flood struct {
	// Every is the pause after each packet. Default: none.
	Every time.Duration

	sent atomic.Int64
}

// Sent is the number of packets sent.
func (f *Flood) Sent() int64 { return f.sent.Load() }

// Run sends from a namespace until stop is closed.
func (f *Flood) Run(from *NS, to netip.AddrPort, stop <-chan struct{}) {
	from.Do(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			connection, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
			if err != nil {
				continue
			}
			if _, err := connection.Write([]byte("flood")); err == nil {
				f.sent.Add(1)
			}
			_ = connection.Close()
			if f.Every > 0 {
				<-time.After(f.Every)
			}
		}
	})
}

// SendUDP sends one datagram of some bytes.
func (n *NS) SendUDP(to netip.AddrPort, size int) {
	n.t.Helper()
	n.Must("sending a datagram to "+to.String(), func() error {
		connection, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
		if err != nil {
			return err
		}
		defer connection.Close()
		_, err = connection.Write(make([]byte, size))
		return err
	})
}

// Counter counts UDP packets by their source.
type Counter struct {
	socket *net.UDPConn
	done   chan struct{}

	mu   sync.Mutex
	from map[netip.Addr]int64
}

// floodBuffer has room for what arrives while nobody reads.
const floodBuffer = 16 << 20

// CountUDP counts the packets that arrive at an address.
func (n *NS) CountUDP(at netip.AddrPort) *Counter {
	n.t.Helper()
	c := &Counter{done: make(chan struct{}), from: map[netip.Addr]int64{}}
	n.Must("listening", func() error {
		var err error
		if c.socket, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(at)); err != nil {
			return err
		}
		return forceReceiveBuffer(c.socket, floodBuffer)
	})
	go c.count()
	return c
}

func (c *Counter) count() {
	defer close(c.done)
	buffer := make([]byte, 2048)
	idle := false
	for {
		_, from, err := c.socket.ReadFromUDPAddrPort(buffer)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && !idle:
			idle = true // there may be more to read: only a time without any packet is the end
			_ = c.socket.SetReadDeadline(time.Now().Add(quiet))
		case err != nil:
			return
		default:
			idle = false
			c.mu.Lock()
			c.from[from.Addr().Unmap()]++
			c.mu.Unlock()
		}
	}
}

// From ends the count, once no packet has arrived for a moment, and returns the number of packets from an address.
func (c *Counter) From(a netip.Addr) int64 {
	_ = c.socket.SetReadDeadline(time.Now())
	<-c.done
	_ = c.socket.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.from[a]
}

// forceReceiveBuffer sets a receive buffer beyond the limit for ordinary users.
func forceReceiveBuffer(socket *net.UDPConn, size int) error {
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) {
		inner = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size)
	}); err != nil {
		return err
	}
	return inner
}
