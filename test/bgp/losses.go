package bgp

import (
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/test/netns"
)

// watchLosses counts from now on how often the route to a destination goes. The function that it gives ends the count.
func watchLosses(t testing.TB, ns *netns.NS, destination string) (count func() int) {
	t.Helper()
	updates, done := make(chan netlink.RouteUpdate, 1024), make(chan struct{})
	ns.Must("watching routes", func() error { return netlink.RouteSubscribe(updates, done) })
	result := make(chan int)
	stop := make(chan struct{})
	go func() {
		lost := 0
		for {
			select {
			case u := <-updates:
				if u.Type == unix.RTM_DELROUTE && u.Dst != nil && u.Dst.String() == destination && u.Route.Type == unix.RTN_UNICAST {
					lost++
				}
			case <-stop:
				close(done)
				result <- lost
				return
			}
		}
	}()
	return func() int {
		close(stop)
		return <-result
	}
}
