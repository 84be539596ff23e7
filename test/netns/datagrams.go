package netns

import (
	"net"
	"net/netip"
	"time"
)

// EchoUDP starts a server that sends every datagram back to whoever sent it, and gives what ends it.
func (n *NS) EchoUDP(at netip.AddrPort) (stop func()) {
	n.t.Helper()
	var socket *net.UDPConn
	n.Must("listening", func() (err error) {
		socket, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
		return err
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		buffer := make([]byte, 2048)
		for {
			size, from, err := socket.ReadFromUDPAddrPort(buffer)
			if err != nil {
				return
			}
			_, _ = socket.WriteToUDPAddrPort(buffer[:size], from)
		}
	}()
	return func() {
		_ = socket.Close()
		<-done
	}
}

// ConnectUDP opens a flow of datagrams from the namespace.
func (n *NS) ConnectUDP(to netip.AddrPort) *Connection {
	n.t.Helper()
	c := &Connection{t: n.t}
	n.Must("opening a socket", func() (err error) {
		c.Conn, err = net.DialTimeout("udp", to.String(), exchangeWait)
		return err
	})
	return c
}

// aliveWait is how long an answer may take.
const aliveWait = 500 * time.Millisecond

// Alive tells whether something that is sent on the connection comes back. After it was false on one of TCP, what was sent may
// still come back.
func (c *Connection) Alive() bool {
	c.t.Helper()
	if err := c.SetDeadline(time.Now().Add(aliveWait)); err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.Write([]byte{'?'}); err != nil {
		return false
	}
	_, err := c.Read(make([]byte, 1))
	return err == nil
}
