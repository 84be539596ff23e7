package stream

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/manul-net/manul/nodeagent/dataplane/nftables"
	"github.com/manul-net/manul/nodeagent/render"
	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/test/netns"
)

// TestPacketsWhileReplicasGo is TestNothingIsLostWhenReplicasGo with a kernel: the node's tables are put into force by the product's driver, and
// all along packets go from a pod that has always been a friend of another, and from one that never was. Replicas are killed at random
// under churn; now and then all are, and the node follows the API's objects.
func TestPacketsWhileReplicasGo(t *testing.T) {
	machine := netns.New(t)
	machine.Sysctl("ipv4/ip_forward", "1")
	const pace = 200 * time.Microsecond
	const green, friend, stranger = 1, 10, 11
	pods := map[int]*netns.NS{}
	for _, number := range []int{green, friend, stranger} {
		pods[number] = podOn(t, machine, number)
	}
	var driver *nftables.Driver
	machine.Must("opening the driver", func() (err error) {
		driver, err = nftables.New(nftables.Options{WorkloadPrefix: "cali"})
		return err
	})
	t.Cleanup(func() {
		if err := driver.Close(); err != nil {
			t.Error(err)
		}
	})

	n := newNetwork(t, 2)
	n.falling(true)
	n.set(node("n1"), node("n2"), node("n3"), team("team"), pod(green, "n1", "green"), pod(friend, "n1", "friend"), pod(stranger, "n1", "stranger"),
		letIn("p", `colour == "green"`, `colour in {"friend", "red"}`))
	m := n.agent("n1", nil, n.replicas...)
	n.agree(m)
	applied := 0
	m.Apply(func(p *tables.Policy) {
		applied++
		machine.Do(func() {
			if err := driver.Apply(t.Context(), p); err != nil {
				t.Errorf("applying: %v", err)
			}
		})
	})

	at := netip.AddrPortFrom(netip.MustParseAddr(addressOf("team/pod-1")), 7000)
	counter := pods[green].CountUDP(at)
	fromFriend, fromStranger := netns.Flood{Every: pace}, netns.Flood{Every: pace}
	var senders sync.WaitGroup
	stop := make(chan struct{})
	senders.Go(func() { fromFriend.Run(pods[friend], at, stop) })
	senders.Go(func() { fromStranger.Run(pods[stranger], at, stop) })
	r := rand.New(rand.NewPCG(3, 3))
	for round := range 16 {
		victims := []*replica{n.replicas[r.IntN(2)]}
		if round%8 == 7 {
			victims = n.replicas
		}
		for _, victim := range victims {
			victim.stop()
		}
		for range 10 + r.IntN(20) {
			n.churn(r)
		}
		if len(victims) > 1 {
			n.agree(m) // by the API's objects
		}
		_, told, _ := m.News()
		for _, victim := range victims {
			n.start(victim)
		}
		for len(victims) > 1 {
			if _, now, _ := m.News(); now > told {
				break // it is back on the stream
			}
			n.churn(r)
			<-time.After(time.Millisecond)
		}
		for range r.IntN(20) {
			n.churn(r)
		}
	}
	n.agree(m)
	close(stop)
	senders.Wait()
	arrived := counter.All(netip.MustParseAddr(addressOf("team/pod-10")), fromFriend.Sent())
	wrong := counter.From(netip.MustParseAddr(addressOf("team/pod-11")))
	t.Logf("%d of %d packets of the friend and %d of %d of the stranger arrived; the tables were put into force %d times", arrived, fromFriend.Sent(), wrong, fromStranger.Sent(), applied)
	switch {
	case wrong > 0:
		t.Errorf("%d packets of the stranger arrived", wrong)
	case arrived < fromFriend.Sent():
		t.Errorf("%d packets of the friend were lost", fromFriend.Sent()-arrived)
	case arrived == 0 || fromStranger.Sent() == 0 || applied < 10:
		t.Error("too little happened")
	}
}

// podOn makes a pod of a machine, whose only way is over that.
func podOn(t *testing.T, machine *netns.NS, number int) *netns.NS {
	t.Helper()
	pod := netns.New(t)
	id := fmt.Sprintf("team/pod-%d", number)
	link := render.InterfaceName(id)
	machine.Veth(link, pod, "eth0")
	machine.Sysctl("ipv4/conf/"+link+"/proxy_arp", "1")
	address, gateway := addressOf(id)+"/32", "169.254.1.1"
	machine.Route(address, "", link)
	pod.Address("eth0", address)
	pod.Neighbor("eth0", gateway, machine.Link(link).Attrs().HardwareAddr)
	pod.Route("0.0.0.0/0", gateway, "eth0")
	return pod
}
