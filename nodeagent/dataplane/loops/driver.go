// Package loops keeps packets to unused addresses of services from bouncing between the node and its router.
//
// Who proxies services translates packets to an address in use before they are routed, or has the address on an interface of the
// node. What is still to be routed to a range of services when it comes from elsewhere is thus for nobody, while the node's own
// packets are translated after they are routed. So a routing rule sends what does not come from the node itself through a table of its
// own, which has the ranges, each a route that leads nowhere, and nothing else.
package loops

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/dataplane/whole"
	"github.com/manul-net/manul/nodeagent/tables"
)

const (
	// Table is the driver's routing table. All that is there is the driver's.
	Table = 17900
	// Priority of the rule that leads to it: behind the table of the node's own addresses and before the main one. All rules of this
	// priority are the driver's.
	Priority = 17900
)

// Driver makes the rule and the table what they should be.
type Driver = whole.Driver[*tables.ServiceLoops]

// New opens a connection to the routes of the calling thread's network namespace. It changes nothing.
func New() (*Driver, error) { return whole.New("routing rules", compare) }

// compare gives a range that can't be put into force as a tables.ItemError.
func compare(kernel *netlink.Handle, desired *tables.ServiceLoops) (refused []error, err error) {
	k := rules{kernel}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		want := map[netip.Prefix]int{}
		for _, p := range desired.Ranges {
			if p.Addr().Is4() == (family == unix.AF_INET) {
				want[p] = routeType(desired.Action)
			}
		}
		if err := k.applyFamily(family, want); err != nil {
			if family == unix.AF_INET6 && len(want) == 0 {
				continue // the node may have no IPv6
			}
			refused = append(refused, &tables.ItemError{Kind: tables.KindServiceRanges, Name: familyName(family), Err: err})
		}
	}
	return refused, nil
}

// rules are those of the kernel, and its tables.
type rules struct{ *netlink.Handle }

func familyName(family int) string {
	if family == unix.AF_INET {
		return "IPv4"
	}
	return "IPv6"
}

func routeType(a tables.LoopAction) int {
	if a == tables.LoopReject {
		return unix.RTN_UNREACHABLE
	}
	return unix.RTN_BLACKHOLE
}

// applyFamily makes one family's table and rule. The table is right before the rule leads to it.
func (k rules) applyFamily(family int, want map[netip.Prefix]int) error {
	if err := k.applyTable(family, want); err != nil {
		return err
	}
	list, err := k.RuleList(family)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return fmt.Errorf("listing routing rules: %w", err)
	}
	there := false
	for i := range list {
		r := &list[i]
		if r.Priority != Priority {
			continue
		}
		if isOurs(r) && !there && len(want) > 0 {
			there = true
			continue
		}
		r.Family = family
		if err := k.RuleDel(r); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("removing a routing rule: %w", err)
		}
	}
	if there || len(want) == 0 {
		return nil
	}
	if err := k.RuleAdd(rule(family)); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("adding the routing rule: %w", err)
	}
	return nil
}

// rule is for all packets that do not come from the node itself: those have the interface lo in the eyes of rules.
func rule(family int) *netlink.Rule {
	r := netlink.NewRule()
	r.Family, r.Priority, r.Table, r.Invert, r.IifName = family, Priority, Table, true, "lo"
	return r
}

func isOurs(r *netlink.Rule) bool {
	return r.Table == Table && r.Invert && r.IifName == "lo" && r.OifName == "" && r.Src == nil && r.Dst == nil && r.Mark == 0
}

func (k rules) applyTable(family int, want map[netip.Prefix]int) error {
	list, err := k.RouteListFiltered(family, &netlink.Route{Table: Table}, netlink.RT_FILTER_TABLE)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return fmt.Errorf("listing the routes of table %d: %w", Table, err)
	}
	right := map[netip.Prefix]bool{}
	for i := range list {
		r := &list[i]
		p := prefixOf(r.Dst, family)
		if kind, ok := want[p]; ok && kind == r.Type && !right[p] {
			right[p] = true
			continue
		}
		if err := k.RouteDel(r); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("removing the route to %s: %w", p, err)
		}
	}
	for p, kind := range want {
		if right[p] {
			continue
		}
		r := &netlink.Route{
			Dst:   &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())},
			Table: Table, Type: kind, Family: family, Protocol: unix.RTPROT_STATIC,
		}
		if err := k.RouteReplace(r); err != nil {
			return fmt.Errorf("adding the route to %s: %w", p, err)
		}
	}
	return nil
}

func prefixOf(n *net.IPNet, family int) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	addr, _ := netip.AddrFromSlice(n.IP)
	if family == unix.AF_INET {
		addr = addr.Unmap()
	}
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(addr, bits)
}
