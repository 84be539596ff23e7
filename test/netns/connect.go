package netns

import (
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// exchangeWait bounds each step of a connection that must succeed. It takes a millisecond; a machine that does much else may need seconds.
const exchangeWait = 30 * time.Second

// Server sends back what it gets on one TCP connection at a time.
type Server struct {
	t        testing.TB
	listener net.Listener
	peers    chan netip.Addr
	done     chan struct{}

	mu      sync.Mutex
	current net.Conn
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
		s.serving(connection)
		_, _ = io.Copy(connection, connection)
		s.serving(nil)
		_ = connection.Close()
	}
}

func (s *Server) serving(connection net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = connection
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

// Close ends the server, and the connection that it still has.
func (s *Server) Close() {
	_ = s.listener.Close()
	s.mu.Lock()
	if s.current != nil {
		_ = s.current.Close()
	}
	s.mu.Unlock()
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

// Port is the connection's own.
func (c *Connection) Port() uint16 {
	address, ok := c.LocalAddr().(*net.TCPAddr)
	if !ok {
		return 0
	}
	return uint16(address.Port)
}

// stallWait is how long a connection that must be dead is listened to, and how long an attempt to open one may take.
const stallWait = 200 * time.Millisecond

// Stalls sends text and expects nothing back.
func (c *Connection) Stalls(text string) {
	c.t.Helper()
	if err := c.SetDeadline(time.Now().Add(stallWait)); err != nil {
		c.t.Fatal(err)
	}
	if _, err := io.WriteString(c, text); err != nil {
		return
	}
	if n, err := c.Read(make([]byte, len(text))); err == nil {
		c.t.Errorf("the connection is alive: %d bytes came back", n)
	}
}

// CanConnect tells whether a connection from the namespace can be opened at once. Where it must be, Connect says so without hurry.
func (n *NS) CanConnect(to netip.AddrPort) bool {
	n.t.Helper()
	connected := false
	n.Do(func() {
		c, err := net.DialTimeout("tcp", to.String(), stallWait)
		if err == nil {
			connected = true
			_ = c.Close()
		}
	})
	return connected
}
