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

// tunnelOwnerOf is who holds the address of an end of a tunnel that comes from a pool. An end that is to have an address of another
// pool gets that before it gives up the one that it has.
func tunnelOwnerOf(kind v1alpha1.TunnelKind, pool string) string {
	return tunnelOwner + string(kind) + ":" + pool
}

// tunnelEnds is what the loop knows of the node's ends of tunnels.
type tunnelEnds struct {
	// held are the addresses by owner; addresses those in use, by kind.
	held      map[string]netip.Addr
	addresses map[string]string // kind -> owner
	// errors tell why an end got none, by kind.
	errors map[string]error
}

// giveTunnelAddresses gives the node's ends of tunnels their addresses out of the node's blocks, where no pod gets them. It adds
// their owners to those that keep their addresses.
func (a *Agent) giveTunnelAddresses(owners []string) []string {
	e := &a.tunnelEnds
	e.errors = nil
	inUse := map[string]string{}
	for i := range a.nodeState.Spec.Tunnels {
		t := &a.nodeState.Spec.Tunnels[i]
		owner, err := a.tunnelAddress(t)
		if err != nil {
			if e.errors == nil {
				e.errors = map[string]error{}
			}
			e.errors[string(t.Kind)] = fmt.Errorf("no address for the node's end of the tunnel: %w", err)
			a.timers.addresses.within(addressRetry)
		}
		if owner != "" {
			inUse[string(t.Kind)] = owner
			owners = append(owners, owner)
		}
	}
	e.addresses = inUse
	return owners
}

// tunnelAddress is who holds the address that an end of a tunnel is to have.
func (a *Agent) tunnelAddress(t *v1alpha1.Tunnel) (owner string, err error) {
	e := &a.tunnelEnds
	for _, pool := range t.Pools {
		if owner := tunnelOwnerOf(t.Kind, pool); e.held[owner].IsValid() {
			return owner, nil
		}
	}
	var errs []error
	for _, pool := range t.Pools {
		owner := tunnelOwnerOf(t.Kind, pool)
		if _, err := a.Addresses.AllocateTunnel(owner, pool); err != nil {
			errs = append(errs, err)
			continue
		}
		return owner, nil
	}
	for old := range e.held {
		if strings.HasPrefix(old, tunnelOwnerOf(t.Kind, "")) && (owner == "" || old < owner) {
			owner = old // better than none
		}
	}
	return owner, errors.Join(errs...)
}

// reportedEnds are the addresses that ends of tunnels had when the node last reported, under the names that hold them: of an end whose
// kind gets its addresses from another pool now, nobody would.
func (a *Agent) reportedEnds() []v1alpha1.EndpointStatus {
	var out []v1alpha1.EndpointStatus
	for _, end := range a.earlier.Tunnels {
		addr, err := netip.ParseAddr(end.Address)
		if err != nil {
			continue // it had none
		}
		for i := range a.nodeState.Spec.Tunnels {
			t := &a.nodeState.Spec.Tunnels[i]
			for _, pool := range t.Pools {
				if cidr, err := netip.ParsePrefix(pool); t.Kind == end.Kind && err == nil && cidr.Contains(addr) {
					owner := tunnelOwnerOf(t.Kind, pool)
					out = append(out, v1alpha1.EndpointStatus{ID: owner, UID: uidType(owner), Addresses: []string{end.Address}})
				}
			}
		}
	}
	return out
}

// setTunnelEnds brings the addresses of ends of tunnels into the tables. Before the node's state tells which are in use, the ones of
// an earlier process are.
func (a *Agent) setTunnelEnds(held map[string]netip.Addr) {
	e := &a.tunnelEnds
	e.held = held
	for _, kind := range tables.TunnelKinds() {
		owner := e.addresses[kind.String()]
		if a.nodeState == nil {
			for old := range held {
				if strings.HasPrefix(old, tunnelOwnerOf(v1alpha1.TunnelKind(kind.String()), "")) && (owner == "" || old < owner) {
					owner = old
				}
			}
		}
		a.state.SetTunnelAddress(kind, held[owner])
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
	if !due {
		return a.itemsOf(isTunnel)
	}
	if a.state.Tunnels().Devices.HasDirty() {
		a.Routes.Resync() // with a device's last address its routes go, too, and the kernel does not say so
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

// sweepTunnels removes the devices of tunnels that are not wanted any more, after no route leads over them: what pods send meanwhile
// goes the new way already.
func (a *Agent) sweepTunnels() []*tables.ItemError {
	if a.Tunnels == nil {
		return nil
	}
	items, err := split(a.Tunnels.Sweep())
	if err != nil {
		items = append(items, &tables.ItemError{Kind: tables.KindTunnel, Name: "all", Err: err})
	}
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
