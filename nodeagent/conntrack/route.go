package conntrack

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/connections"
)

// Towards finds the place of an address by the route that the node's own packets to it would take.
func (t *Table) Towards(a netip.Addr) (connections.Place, error) {
	list, err := t.routes.RouteGet(a.AsSlice())
	if err != nil {
		return connections.Place{}, fmt.Errorf("looking up the route to %s: %w", a, err)
	}
	if len(list) == 0 {
		return connections.Place{}, fmt.Errorf("looking up the route to %s: none", a)
	}
	if list[0].Type == unix.RTN_LOCAL {
		return connections.Place{Local: true}, nil
	}
	link, err := t.routes.LinkByIndex(list[0].LinkIndex)
	if err != nil {
		return connections.Place{}, fmt.Errorf("looking up the interface towards %s: %w", a, err)
	}
	return connections.Place{Interface: link.Attrs().Name}, nil
}
