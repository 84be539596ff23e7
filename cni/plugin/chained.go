package plugin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/cni/protocol"
)

// addChained has policy enforced at the interface that the plugins before this one made. It gives no address and no route, and the result is
// theirs. After an error the interface is as it was.
func (c *call) addChained(prev *types100.Result) error {
	if len(c.IPAM) > 0 {
		return configError("ipam: the addresses are those of prevResult, for manul is not the first plugin of its list: remove the section")
	}
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	defer unlock()
	netns, err := openNetns(c.netns)
	if err != nil {
		return types.NewError(types.ErrInvalidNetNS, err.Error(), "")
	}
	defer netns.Close() // nothing was written to it
	host, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("opening netlink: %w", err)
	}
	defer host.Close()
	addrs, err := addressesIn(prev, c.attachment.IfName)
	if err != nil {
		return err
	}
	link, err := hostSide(host, netns, c.attachment.IfName)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), addTimeout, fmt.Errorf("no answer within %v", addTimeout))
	defer cancel()
	given, err := c.client.Add(ctx, protocol.AddRequest{
		Attachment: c.attachment, Netns: c.netns, Given: addrs, Chained: true,
		PodNamespace: c.pod.namespace, PodName: c.pod.name, PodUID: c.pod.uid,
	})
	if err != nil {
		return err
	}
	if !given.Chained {
		err = protocol.Errorf(protocol.CodeInternal, "the node agent knows of no interface of another plugin: the plugin and the agent are of different releases")
	} else {
		err = takeOver(host, link, given.InterfaceName, c.attachment)
	}
	if err != nil {
		return errors.Join(err, c.release())
	}
	return nil
}

// addressesIn are those that a result has for an interface of the pod.
func addressesIn(prev *types100.Result, ifName string) ([]netip.Addr, error) {
	at := slices.IndexFunc(prev.Interfaces, func(i *types100.Interface) bool { return i.Name == ifName && i.Sandbox != "" })
	if at < 0 {
		return nil, configError("prevResult.interfaces: no interface %s with a sandbox, so it is not known what to enforce policy at: the plugin before manul must make the pod's interface, as ptp does", ifName)
	}
	var out []netip.Addr
	for _, ip := range prev.IPs {
		if ip.Interface != nil && *ip.Interface != at {
			continue
		}
		if addr, ok := netip.AddrFromSlice(ip.Address.IP); ok {
			out = append(out, addr.Unmap())
		}
	}
	if len(out) == 0 {
		return nil, configError("prevResult.ips: no address of interface %s, so no policy could name the pod: give the plugin before manul an ipam section", ifName)
	}
	return out, nil
}

// hostSide finds the host's end of the pod's interface.
func hostSide(host *netlink.Handle, netns ns.NetNS, ifName string) (netlink.Link, error) {
	pod, err := podHandle(netns)
	if err != nil {
		return nil, err
	}
	defer pod.Close()
	inner, err := find(pod.LinkByName(ifName))
	if err != nil {
		return nil, fmt.Errorf("looking for %s in the pod: %w", ifName, err)
	}
	if inner == nil {
		return nil, configError("prevResult.interfaces: interface %s is not in the pod: the plugin before manul must make it", ifName)
	}
	const fix = "have the plugin before manul make a routed veth pair, as ptp does"
	if inner.Type() != "veth" {
		return nil, configError("prevResult.interfaces: interface %s of the pod is of type %s, and has no end on the host at which policy can be enforced: %s", ifName, inner.Type(), fix)
	}
	link, err := find(host.LinkByIndex(inner.Attrs().ParentIndex))
	if err != nil {
		return nil, fmt.Errorf("looking for the host's end of %s: %w", ifName, err)
	}
	if link == nil || link.Type() != "veth" || link.Attrs().ParentIndex != inner.Attrs().Index {
		return nil, configError("prevResult.interfaces: the other end of interface %s of the pod is not in the node's network namespace: %s", ifName, fix)
	}
	if master := link.Attrs().MasterIndex; master != 0 {
		name := fmt.Sprint("with index ", master)
		if bridge, err := find(host.LinkByIndex(master)); err == nil && bridge != nil {
			name = bridge.Attrs().Name
		}
		return nil, configError("prevResult.interfaces: %s, the host's end of interface %s of the pod, is a port of bridge %s, whose packets between pods pass no policy: %s", link.Attrs().Name, ifName, name, fix)
	}
	return link, nil
}

// takeOver gives an interface the name under which its policy is in the kernel. It keeps the name by which the runtime and the other plugins
// know it as an alternative one.
func takeOver(host *netlink.Handle, link netlink.Link, name string, id protocol.Attachment) error {
	before := link.Attrs().Name
	if before == name {
		return host.LinkSetAlias(link, alias(id)+protocol.ChainedMark) // the same ADD again
	}
	if err := removeLeftover(host, name, id); err != nil {
		return err
	}
	if err := host.LinkSetAlias(link, alias(id)+protocol.ChainedMark); err != nil {
		return fmt.Errorf("marking interface %s: %w", before, err)
	}
	err := rename(host, link, name)
	if err == nil {
		if err = host.LinkAddAltName(link, before); err == nil {
			return nil
		}
		err = errors.Join(fmt.Errorf("keeping %s as a name of interface %s: %w", before, name, err), rename(host, link, before))
	}
	return errors.Join(err, host.LinkSetAlias(link, ""))
}

// rename gives an interface another name. Kernels before 6.2 rename none that is up; such a one is set down for that moment, and what it loses by
// that is given back to it.
func rename(host *netlink.Handle, link netlink.Link, name string) error {
	err := host.LinkSetName(link, name)
	if errors.Is(err, unix.EBUSY) {
		err = renameDown(host, link, name)
	}
	if err != nil {
		return fmt.Errorf("renaming interface %s to %s: %w", link.Attrs().Name, name, err)
	}
	return nil
}

// renameDown renames an interface while it is down.
func renameDown(host *netlink.Handle, link netlink.Link, name string) error {
	addrs, err := dump(func() ([]netlink.Addr, error) { return host.AddrList(link, unix.AF_INET6) })
	if err != nil {
		return fmt.Errorf("listing its addresses: %w", err)
	}
	routes, err := dump(func() ([]netlink.Route, error) {
		return host.RouteListFiltered(unix.AF_UNSPEC, &netlink.Route{LinkIndex: link.Attrs().Index, Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_OIF|netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return fmt.Errorf("listing its routes: %w", err)
	}
	if err := host.LinkSetDown(link); err != nil {
		return fmt.Errorf("setting it down: %w", err)
	}
	err = host.LinkSetName(link, name)
	if up := host.LinkSetUp(link); up != nil {
		return errors.Join(err, fmt.Errorf("setting it up again: %w", up))
	}
	for i := range addrs {
		addrs[i].Label = ""
		if add := host.AddrReplace(link, &addrs[i]); add != nil {
			err = errors.Join(err, fmt.Errorf("giving it address %s again: %w", addrs[i].IPNet, add))
		}
	}
	for i := range routes {
		if r := &routes[i]; r.Table != unix.RT_TABLE_LOCAL { // those come with the addresses
			if add := host.RouteReplace(r); add != nil {
				err = errors.Join(err, fmt.Errorf("adding route to %s again: %w", r.Dst, add))
			}
		}
	}
	return err
}

// verifyChained finds what is not as addChained left it.
func (a attachment) verifyChained(podNS ns.NetNS) error {
	return a.look(podNS, func(_, pod *netlink.Handle, outer, inner netlink.Link) error {
		var errs []error
		if o := outer.Attrs(); o.Alias != alias(a.id)+protocol.ChainedMark {
			errs = append(errs, mismatch("interface %s belongs to another container (%q)", a.hostName, o.Alias))
		}
		errs = append(errs, a.verifyPair(outer.Attrs(), inner.Attrs()))
		have, err := dump(func() ([]netlink.Addr, error) { return pod.AddrList(inner, unix.AF_UNSPEC) })
		if err != nil {
			return fmt.Errorf("listing the pod's addresses: %w", err)
		}
		for _, addr := range a.addrs {
			if !slices.ContainsFunc(have, func(x netlink.Addr) bool { return x.IP.Equal(net.IP(addr.AsSlice())) }) {
				errs = append(errs, mismatch("address %s is missing in the pod", addr))
			}
		}
		return errors.Join(errs...)
	})
}
