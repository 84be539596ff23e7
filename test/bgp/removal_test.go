package bgp

import (
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/test/netns"
)

// A peer whose session is taken away hears of it, however far the session had come. One that does not hear keeps a connection of which the node
// knows nothing, and refuses the next one for it.
func TestPeersHearThatASessionIsTakenAway(t *testing.T) {
	node, tor := netns.New(t), netns.New(t)
	link(t, node, tor, "eth0", nodeAddress+"/24", torAddress+"/24")
	n := NewNode(t, node, "node1")
	b := speaker(nodeAddress)
	n.Input.State = v1alpha1.NodeStateSpec{BGP: b}
	with := session("tor", torAddress, rack)
	with.Passive = true // the test connects
	for range 300 {
		b.Sessions = []v1alpha1.BGPSession{with}
		n.Tell()
		connection := opened(t, tor)
		pause, taken := time.NewTimer(rand.N(4*time.Millisecond)), make(chan struct{})
		go func() {
			defer close(taken)
			<-pause.C
			b.Sessions = nil
			n.Tell()
		}()
		speak(connection)
		<-taken
		if err := connection.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, connection); err != nil {
			if timeout, ok := err.(net.Error); ok && timeout.Timeout() { //nolint:errorlint // of a connection
				t.Fatalf("the session is gone, and its connection stays open: %v", err)
			}
		}
		_ = connection.Close()
	}
}

// opened is a connection from a router's namespace on which the node has sent its OPEN. A node that does not have the session yet closes it.
func opened(t *testing.T, router *netns.NS) net.Conn {
	t.Helper()
	var out net.Conn
	Eventually(t, func() string {
		for range 100 {
			var c net.Conn
			router.Do(func() { c, _ = net.Dial("tcp", net.JoinHostPort(nodeAddress, "179")) })
			if c == nil {
				return "the node does not listen"
			}
			if _, err := io.ReadFull(c, make([]byte, bgp.BGP_HEADER_LENGTH)); err == nil {
				out = c
				return ""
			}
			_ = c.Close()
		}
		return "the node closes connections"
	})
	return out
}

// speak brings a session up as far as it comes.
func speak(c net.Conn) {
	for _, m := range []*bgp.BGPMessage{
		bgp.NewBGPOpenMessage(rack, 90, torAddress, []bgp.OptionParameterInterface{bgp.NewOptionParameterCapability([]bgp.ParameterCapabilityInterface{
			bgp.NewCapMultiProtocol(bgp.RF_IPv4_UC), bgp.NewCapFourOctetASNumber(rack),
		})}),
		bgp.NewBGPKeepAliveMessage(),
	} {
		raw, _ := m.Serialize()
		if _, err := c.Write(raw); err != nil {
			return
		}
	}
}
