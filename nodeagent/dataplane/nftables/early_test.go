package nftables

import (
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/test/netns"
	"github.com/manul-net/manul/test/packets"
)

// What is allowed early arrives while the table comes and goes, too: no packet meets rules that go by a mark which was not yet given when the
// packet came by.
func TestEarlyVerdictsWhileTheTableComes(t *testing.T) {
	early := []tables.Tier{packets.Tier(tables.Pass, "open")}
	deny := []tables.Tier{packets.Tier(tables.Deny, "none")}
	for name, h := range map[string]tables.HostEndpoint{
		"before translation": {PreDNAT: early, Local: tables.Directions{Ingress: deny}},
		"untracked":          {Untracked: tables.Directions{Ingress: early}, PreDNAT: deny, Local: tables.Directions{Ingress: deny}},
	} {
		t.Run(name, func(t *testing.T) {
			n := packets.NewNode(t, subject())
			p := packets.NewTables()
			p.Programs.Set("open", tables.Program{Ingress: []tables.Rule{packets.Rule(tables.Allow, unix.IPPROTO_UDP, 53)}})
			p.Programs.Set("none", tables.Program{})
			p.HostEndpoints.Set(tables.AllInterfaces, h)
			at := packets.At(packets.HostSide, packets.IPv4, 53)
			counter := n.Peer(packets.HostSide).CountUDP(at)
			var flood netns.Flood
			var sender sync.WaitGroup
			stop := make(chan struct{})
			sender.Go(func() { flood.Run(n.Peer(packets.Outside), at, stop) })
			const comings, longest = 300, 4 * time.Second
			i := 0
			for end := time.Now().Add(longest); i < comings && time.Now().Before(end); i++ {
				n.Must("removing the table", func() error { return Remove(t.Context()) })
				n.Reopen()
				n.Apply(p)
			}
			close(stop)
			sender.Wait()
			arrived := counter.All(packets.Address(packets.Outside, packets.IPv4), flood.Sent())
			t.Logf("the table came %d times; %d of %d packets arrived", i, arrived, flood.Sent())
			if arrived == 0 || arrived != flood.Sent() {
				t.Errorf("%d of %d packets arrived, want all", arrived, flood.Sent())
			}
			n.Verify(packets.UDP(packets.IPv4, packets.Outside, packets.HostSide, 53, true), packets.UDP(packets.IPv4, packets.Outside, packets.HostSide, 54, false))
		})
	}
}
