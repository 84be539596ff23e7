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

// CountUDP counts the packets that arrive at an address.
func (n *NS) CountUDP(at netip.AddrPort) *Counter {
	n.t.Helper()
	c := &Counter{done: make(chan struct{}), from: map[netip.Addr]int64{}}
	n.Must("listening", func() error {
		var err error
		if c.socket, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(at)); err != nil {
			return err
		}
		return MakeRoom(c.socket)
	})
	go c.count()
	return c
}

func (c *Counter) count() {
	defer close(c.done)
	buffer := make([]byte, 2048)
	for {
		_, from, err := c.socket.ReadFromUDPAddrPort(buffer)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			c.drain(buffer)
			return
		case err != nil:
			return
		}
		c.add(from.Addr())
	}
}

func (c *Counter) add(from netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.from[from.Unmap()]++
}

// drain reads what there is until no packet has arrived for a moment. It asks the kernel itself: a read whose deadline has passed looks at
// nothing, and on a machine that does much else it passes before the read begins.
func (c *Counter) drain(buffer []byte) {
	raw, err := c.socket.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { // it fails once the socket is closed
		for {
			if ready, err := poll([]int{int(fd)}, quiet); err != nil || ready < 0 {
				return
			}
			_, from, err := unix.Recvfrom(int(fd), buffer, unix.MSG_DONTWAIT)
			if err != nil {
				return
			}
			switch from := from.(type) {
			case *unix.SockaddrInet4:
				c.add(netip.AddrFrom4(from.Addr))
			case *unix.SockaddrInet6:
				c.add(netip.AddrFrom16(from.Addr))
			}
		}
	})
}

// From ends the count, once no packet has arrived for a moment, and returns the number of packets from an address.
func (c *Counter) From(a netip.Addr) int64 {
	_ = c.socket.SetReadDeadline(time.Now())
	<-c.done
	_ = c.socket.Close()
	return c.soFar(a)
}

// All is From where all packets that were sent from the address must arrive: it waits for them as long as any may be on its way.
func (c *Counter) All(a netip.Addr, sent int64) int64 {
	arrived, last := c.soFar(a), time.Now()
	for arrived < sent && time.Since(last) < arrivalWait {
		<-time.After(time.Millisecond)
		if now := c.soFar(a); now != arrived {
			arrived, last = now, time.Now()
		}
	}
	return c.From(a)
}

// soFar is how many packets from an address were counted until now.
func (c *Counter) soFar(a netip.Addr) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.from[a]
}

// MakeRoom gives a socket a receive buffer, beyond the limit for ordinary users, for all that arrives while nobody reads.
func MakeRoom(socket *net.UDPConn) error {
	const size = 16 << 20
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
