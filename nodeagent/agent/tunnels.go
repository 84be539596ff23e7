package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/nodeagent/render"
	"github.com/manul-net/manul/nodeagent/tables"
)

// tunnelOwner begins the names under which ends of tunnels hold addresses. Pods are named "namespace/name".
const tunnelOwner = "tunnel:"

func isTunnelOwner(name string) bool { return strings.HasPrefix(name, tunnelOwner) }

// tunnelEnds is what the loop knows of the node's ends of tunnels.
type tunnelEnds struct {
	// addresses that they hold, and why one got none, by kind.
	addresses map[string]netip.Addr
	errors    map[string]error
}

// giveTunnelAddresses gives the node's ends of tunnels their addresses out of the node's blocks, where no pod gets them. It adds
// their owners to those that keep their addresses.
func (a *Agent) giveTunnelAddresses(owners []string) []string {
	a.tunnelEnds.errors = nil
	for i := range a.nodeState.Spec.Tunnels {
		t := &a.nodeState.Spec.Tunnels[i]
		owner := tunnelOwner + string(t.Kind)
		have, ok := a.tunnelEnds.addresses[string(t.Kind)]
		if ok && !liesIn(have, t.Pools) {
			a.timers.addresses.within(0) // it is given back first
			continue
		}
		owners = append(owners, owner)
		if ok || len(t.Pools) == 0 {
			continue
		}
		if err := a.allocateTunnel(owner, t.Pools); err != nil {
			if a.tunnelEnds.errors == nil {
				a.tunnelEnds.errors = map[string]error{}
			}
			a.tunnelEnds.errors[string(t.Kind)] = fmt.Errorf("no address for the node's end of the tunnel: %w", err)
			a.timers.addresses.within(addressRetry)
		}
	}
	return owners
}

func (a *Agent) allocateTunnel(owner string, pools []string) error {
	var errs []error
	for _, pool := range pools {
		if _, err := a.Addresses.AllocateTunnel(owner, pool); err != nil {
			errs = append(errs, err)
			continue
		}
		return nil
	}
	return errors.Join(errs...)
}

func liesIn(addr netip.Addr, pools []string) bool {
	for _, pool := range pools {
		if cidr, err := netip.ParsePrefix(pool); err == nil && cidr.Contains(addr) {
			return true
		}
	}
	return false
}

// setTunnelEnds brings the addresses of ends of tunnels into the tables.
func (a *Agent) setTunnelEnds(held map[string]netip.Addr) {
	a.tunnelEnds.addresses = map[string]netip.Addr{}
	for _, kind := range tables.TunnelKinds() {
		addr, ok := held[tunnelOwner+kind.String()]
		if ok {
			a.tunnelEnds.addresses[kind.String()] = addr
		}
		a.state.SetTunnelAddress(kind, addr)
	}
}

// tunnelsChanged gives a channel that never yields when no tunnels are made.
func (a *Agent) tunnelsChanged() <-chan struct{} {
	if a.Tunnels == nil {
		return nil
	}
	return a.Tunnels.Changed()
}

func (a *Agent) tunnelsDirty() bool { return a.Tunnels != nil && a.state.Tunnels().HasDirty() }

func (a *Agent) resyncTunnels() {
	if a.Tunnels != nil {
		a.Tunnels.Resync()
	}
}

// applyTunnels makes the node's ends of tunnels what they should be. Whatever goes wrong with them, policy and the other routes
// are in force all the same, so it is a failure among the items and none of the whole.
func (a *Agent) applyTunnels(ctx context.Context, due bool) []*tables.ItemError {
	if a.Tunnels == nil {
		return nil
	}
	if !due && !a.state.Tunnels().HasDirty() {
		return a.itemsOf(isTunnel, true)
	}
	var items []*tables.ItemError
	a.Metrics.timed("tunnels", func() {
		var err error
		if items, err = split(a.Tunnels.Apply(ctx, a.state.Tunnels())); err != nil {
			items = append(items, &tables.ItemError{Kind: tables.KindTunnel, Name: "all", Err: err})
		}
	})
	return items
}

func isTunnel(e *tables.ItemError) bool { return e.Kind == tables.KindTunnel }

// insideTunnels is the MTU of pods' interfaces, so that what they send to other nodes need not be cut up: that of the node's
// interface less what the tunnel that takes most adds.
func (a *Agent) insideTunnels(mtu int) int {
	if a.nodeState == nil {
		return mtu
	}
	inside := mtu
	for i := range a.nodeState.Spec.Tunnels {
		t := &a.nodeState.Spec.Tunnels[i]
		if t.MTU > 0 {
			inside = min(inside, int(t.MTU))
		} else if kind := render.TunnelKind(t.Kind); kind != 0 {
			inside = min(inside, mtu-kind.Overhead())
		}
	}
	return inside
}

// nodeAddresses are the node's own addresses with the prefix lengths of their subnets, as far as they are known.
func (a *Agent) nodeAddresses() []string {
	if a.Subnet == nil {
		return nil
	}
	var out []string
	for _, addr := range a.state.OwnAddresses() {
		if subnet, ok := a.Subnet(addr); ok {
			out = append(out, subnet.String())
		}
	}
	return out
}

// tunnelStatus lists the node's ends of tunnels.
func (a *Agent) tunnelStatus() []v1alpha1.TunnelEnd {
	var out []v1alpha1.TunnelEnd
	if a.Tunnels == nil {
		return nil
	}
	for _, kind := range tables.TunnelKinds() {
		device, ok := a.state.Tunnels().Devices.Get(kind)
		if !ok {
			continue
		}
		end := v1alpha1.TunnelEnd{Kind: v1alpha1.TunnelKind(kind.String())}
		if device.Address.IsValid() {
			end.Address = device.Address.String()
		}
		if kind != tables.IPIP {
			end.MAC = net.HardwareAddr(device.MAC[:]).String()
		}
		out = append(out, end)
	}
	return out
}
