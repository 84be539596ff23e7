package rtnetlink

import (
	"fmt"
	"log/slog"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/test/netns"
)

const patience = time.Minute

func subscribe(t *testing.T, ns *netns.NS) *Listener {
	t.Helper()
	var l *Listener
	ns.Must("subscribing", func() (err error) {
		l, err = Subscribe(unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR)
		return err
	})
	t.Cleanup(l.Close)
	return l
}

func await(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
	}
}

func TestTheNewsAreHeardAlsoThoseFromBeforeListening(t *testing.T) {
	ns, other := netns.New(t), netns.New(t)
	l := subscribe(t, ns)
	ns.Veth("eth0", other, "eth0")
	address := make(chan struct{}, 1)
	l.Listen(slog.Default(), func(messages []syscall.NetlinkMessage, _ bool) bool {
		news := false
		for i := range messages {
			if messages[i].Header.Type == unix.RTM_NEWADDR {
				select {
				case address <- struct{}{}:
				default:
				}
			}
			news = news || messages[i].Header.Type == unix.RTM_NEWLINK
		}
		return news
	})
	await(t, "news of the link", l.Changed())
	ns.Address("eth0", "192.0.2.1/24")
	await(t, "news of the address", address)
}

func TestLostNewsAreTold(t *testing.T) {
	ns, other := netns.New(t), netns.New(t)
	l := subscribe(t, ns)
	if err := l.socket.SetReceiveBufferSize(0, true); err != nil { // the kernel gives the least that it can
		t.Fatal(err)
	}
	for i := range 8 {
		ns.Veth(fmt.Sprintf("eth%d", i), other, fmt.Sprintf("eth%d", i))
	}
	lostSome := make(chan struct{}, 1)
	l.Listen(slog.Default(), func(_ []syscall.NetlinkMessage, lost bool) bool {
		if lost {
			select {
			case lostSome <- struct{}{}:
			default:
			}
		}
		return lost
	})
	await(t, "word that news were lost", lostSome)
	await(t, "Changed", l.Changed())
	ns.Veth("late0", other, "late0")
	l.Close()
	l.Close()
}
