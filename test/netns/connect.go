package netns

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"
)

// exchangeWait bounds each step of a connection.
const exchangeWait = 3 * time.Second

// Server sends back what it gets on one TCP connection at a time.
type Server struct {
	t        testing.TB
	listener net.Listener
	peers    chan netip.Addr
	done     chan struct{}
}

// Echo starts a server.
func (n *NS) Echo(at netip.AddrPort) *Server {
	n.t.Helper()
	s := &Server{t: n.t, peers: make(chan netip.Addr, 16), done: make(chan struct{})}
	n.Must("listening", func() error {
		var err error
		s.listener, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
		return err
	})
	go s.serve()
	return s
}

func (s *Server) serve() {
	defer close(s.done)
	for {
		connection, err := s.listener.Accept()
		if err != nil {
			return
		}
		if peer, ok := connection.RemoteAddr().(*net.TCPAddr); ok {
			s.peers <- peer.AddrPort().Addr().Unmap()
		}
		_, _ = io.Copy(connection, connection)
		_ = connection.Close()
	}
}

// Peer is the address of the next connection's other end.
func (s *Server) Peer() netip.Addr {
	s.t.Helper()
	select {
	case peer := <-s.peers:
		return peer
	case <-time.After(exchangeWait):
		s.t.Error("no connection arrived")
		return netip.Addr{}
	}
}

// Close ends the server. Its connections must be closed before.
func (s *Server) Close() {
	_ = s.listener.Close()
	<-s.done
}

// Connection is a TCP connection to a Server.
type Connection struct {
	t testing.TB
	net.Conn
}

// Connect opens a connection from the namespace.
func (n *NS) Connect(to netip.AddrPort) *Connection {
	n.t.Helper()
	c := &Connection{t: n.t}
	n.Must("connecting to "+to.String(), func() error {
		var err error
		c.Conn, err = net.DialTimeout("tcp", to.String(), exchangeWait)
		return err
	})
	return c
}

// Exchange sends text and expects it back.
func (c *Connection) Exchange(text string) {
	c.t.Helper()
	if err := c.SetDeadline(time.Now().Add(exchangeWait)); err != nil {
		c.t.Fatal(err)
	}
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatalf("sending on the connection: %v", err)
	}
	back := make([]byte, len(text))
	if _, err := io.ReadFull(c, back); err != nil {
		c.t.Fatalf("receiving on the connection: %v", err)
	}
}
