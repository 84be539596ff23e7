package plugin

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A pod has one way out. If there is one by another interface already, that is the one: the routes by this interface go into a table of their
// own, by which is sent what bears an address of this interface as its source.
const (
	// tablesFrom is where the numbers of such tables begin; the interface's index is added.
	tablesFrom = 8000
	// rulePriority is that of the rules that lead to them: before the main table's.
	rulePriority = 1000
)

func tableOf(link netlink.Link) int { return tablesFrom + link.Attrs().Index }

// routePod gives the pod its way out by the interface.
func (a *attachment) routePod(pod *netlink.Handle, link netlink.Link, ipv6 bool) error {
	other, err := otherWay(pod, link, ipv6)
	if err != nil {
		return err
	}
	a.apart[ipv6] = other
	table := unix.RT_TABLE_MAIN
	if other {
		table = tableOf(link)
	}
	for _, r := range podRoutes(link.Attrs().Index, ipv6) {
		r.Table = table
		if err := pod.RouteReplace(r); err != nil {
			return fmt.Errorf("adding route to %s in the pod: %w", r.Dst, err)
		}
	}
	if !other {
		return nil
	}
	for _, rule := range a.rules(link, ipv6) {
		if err := pod.RuleAdd(rule); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("adding a rule for what is sent from %s in the pod: %w", rule.Src, err)
		}
	}
	return nil
}

// rules lead what bears the interface's addresses to its table.
func (a attachment) rules(link netlink.Link, ipv6 bool) []*netlink.Rule {
	var out []*netlink.Rule
	for _, addr := range a.addrs {
		if addr.Is6() != ipv6 {
			continue
		}
		r := netlink.NewRule()
		r.Family, r.Priority, r.Table = family(ipv6), rulePriority, tableOf(link)
		r.Src = ipNet(netip.PrefixFrom(addr, addr.BitLen()))
		out = append(out, r)
	}
	return out
}

// otherWay tells whether the pod has a default route by another interface.
func otherWay(pod *netlink.Handle, link netlink.Link, ipv6 bool) (bool, error) {
	routes, err := routesBy(pod, nil, unix.RT_TABLE_MAIN, ipv6)
	if err != nil {
		return false, fmt.Errorf("listing the pod's routes: %w", err)
	}
	for i := range routes {
		if r := &routes[i]; isDefault(r.Dst) && r.LinkIndex != link.Attrs().Index && r.Type == unix.RTN_UNICAST {
			return true, nil
		}
	}
	return false, nil
}

func isDefault(dst *net.IPNet) bool {
	if dst == nil {
		return true
	}
	ones, _ := dst.Mask.Size()
	return ones == 0
}

// routesBy lists the routes of a family in a table; link nil: by all interfaces.
func routesBy(h *netlink.Handle, link netlink.Link, table int, ipv6 bool) ([]netlink.Route, error) {
	filter, mask := &netlink.Route{Table: table}, netlink.RT_FILTER_TABLE
	if link != nil {
		filter.LinkIndex, mask = link.Attrs().Index, mask|netlink.RT_FILTER_OIF
	}
	return dump(func() ([]netlink.Route, error) { return h.RouteListFiltered(family(ipv6), filter, mask) })
}

// verifyWay finds what is missing of the way out by the interface, whichever of the two it is: the other interface may have gone since.
func (a attachment) verifyWay(pod *netlink.Handle, link netlink.Link, ipv6 bool) error {
	apart, err := routesBy(pod, link, tableOf(link), ipv6)
	if err != nil {
		return fmt.Errorf("listing the pod's routes: %w", err)
	}
	other, err := otherWay(pod, link, ipv6)
	if err != nil {
		return err
	}
	if len(apart) == 0 && !other {
		return verifyRoutes(pod, link, unix.RT_TABLE_MAIN, podRoutes(link.Attrs().Index, ipv6), "in the pod")
	}
	errs := []error{verifyRoutes(pod, link, tableOf(link), podRoutes(link.Attrs().Index, ipv6), "in the pod's table of that interface")}
	have, err := dump(func() ([]netlink.Rule, error) { return pod.RuleList(family(ipv6)) })
	if err != nil {
		return fmt.Errorf("listing the pod's rules: %w", err)
	}
	there := map[string]bool{}
	for i := range have {
		if r := &have[i]; r.Table == tableOf(link) && r.Src != nil {
			there[r.Src.String()] = true
		}
	}
	for _, r := range a.rules(link, ipv6) {
		if !there[r.Src.String()] {
			errs = append(errs, mismatch("the rule for what is sent from %s is missing in the pod", r.Src))
		}
	}
	return errors.Join(errs...)
}

// removeRules removes the rules that lead to the interface's table in a namespace that may be gone: they do not go with the interface.
func removeRules(netnsPath, ifName string) error {
	netns, err := ns.GetNS(netnsPath)
	if err != nil {
		if netnsPath == "" || errors.Is(err, fs.ErrNotExist) || errors.As(err, new(ns.NSPathNotExistErr)) || errors.As(err, new(ns.NSPathNotNSErr)) {
			return nil
		}
		return fmt.Errorf("opening the pod's network namespace: %w", err)
	}
	defer netns.Close() // only looked at
	pod, err := podHandle(netns)
	if err != nil {
		return err
	}
	defer pod.Close()
	return sweepRules(pod, ifName)
}

// sweepRules removes the rules that lead to the table of an interface, or of one that is no more: it went without a DEL.
func sweepRules(pod *netlink.Handle, ifName string) error {
	for _, f := range []int{unix.AF_INET, unix.AF_INET6} {
		rules, err := dump(func() ([]netlink.Rule, error) { return pod.RuleList(f) })
		if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
			continue // the kernel has no IPv6, or no rules
		}
		if err != nil {
			return fmt.Errorf("listing the pod's rules: %w", err)
		}
		for i := range rules {
			r := &rules[i]
			if r.Priority != rulePriority || r.Table <= tablesFrom {
				continue
			}
			link, err := find(pod.LinkByIndex(r.Table - tablesFrom))
			if err != nil {
				return fmt.Errorf("looking for the interface of table %d in the pod: %w", r.Table, err)
			}
			if link != nil && link.Attrs().Name != ifName {
				continue
			}
			r.Family = f
			if err := pod.RuleDel(r); err != nil && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("removing a rule in the pod: %w", err)
			}
		}
	}
	return nil
}
