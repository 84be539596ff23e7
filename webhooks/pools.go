package webhooks

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/validate"
)

func writePool(ctx context.Context, in Cluster, obj client.Object) (verdict, error) {
	p, ok := obj.(*v3.IPPool)
	if !ok {
		return verdict{}, unexpected(obj)
	}
	errs := validate.IPPool(p)
	pools, err := in.Pools(ctx)
	if err != nil {
		return verdict{}, err
	}
	v := verdict{errs: append(errs, overlap(p, pools)...)}
	if len(v.errs) == 0 {
		v.warnTaken(ctx, in, p)
	}
	return v, nil
}

// warnTaken warns of a pool in which addresses of nodes or cluster IPs of services lie: pods that got them would take others' packets.
func (v *verdict) warnTaken(ctx context.Context, in Cluster, p *v3.IPPool) {
	pool, err := netip.ParsePrefix(p.Spec.CIDR)
	if err != nil || p.Spec.Disabled {
		return
	}
	within := func(text string) bool {
		addr, err := netip.ParseAddr(text)
		return err == nil && pool.Contains(addr)
	}
	nodes, err := in.Nodes(ctx)
	if err != nil {
		v.blind = err
		return
	}
	for i := range nodes {
		for _, address := range nodes[i].Status.Addresses {
			if within(address.Address) {
				v.warnings = append(v.warnings, fmt.Sprintf("spec.cidr: %s in it is the address of node %s: choose a network apart from the nodes', or keep their addresses out by an IPReservation", address.Address, nodes[i].Name))
				break
			}
		}
		if len(v.warnings) > 0 {
			break
		}
	}
	services, err := in.Services(ctx)
	if err != nil {
		v.blind = err
		return
	}
	for i := range services {
		if slices.ContainsFunc(services[i].Spec.ClusterIPs, within) {
			v.warnings = append(v.warnings, fmt.Sprintf("spec.cidr: %s/%s has its cluster IP in it: choose a network apart from the cluster's range of services", services[i].Namespace, services[i].Name))
			return
		}
	}
}

// overlap finds a pool that has addresses in common with p.
func overlap(p *v3.IPPool, pools []v3.IPPool) field.ErrorList {
	own, err := validate.ParseNet(p.Spec.CIDR)
	if err != nil {
		return nil // found already, as a mistake in the pool itself
	}
	for i := range pools {
		other, err := netip.ParsePrefix(pools[i].Spec.CIDR)
		if err != nil || pools[i].Name == p.Name || !own.Overlaps(other) {
			continue
		}
		return field.ErrorList{field.Invalid(field.NewPath("spec", "cidr"), p.Spec.CIDR,
			fmt.Sprintf("overlaps with pool %q (%s): choose a network outside of it", pools[i].Name, pools[i].Spec.CIDR))}
	}
	return nil
}

func removePool(ctx context.Context, in Cluster, obj client.Object) (verdict, error) {
	p, ok := obj.(*v3.IPPool)
	if !ok {
		return verdict{}, unexpected(obj)
	}
	states, err := in.NodeStates(ctx)
	if err != nil {
		return verdict{}, err
	}
	if slices.Contains(p.Spec.AllowedUses, v3.IPPoolAllowedUseLoadBalancer) {
		services, err := in.Services(ctx)
		if err != nil {
			return verdict{}, err
		}
		if count, example := balanced(p.Spec.CIDR, services); count > 0 {
			const advice = "pool %q is in use: %d of its addresses are those of services, such as %s. Set spec.disabled to true, delete these services or give them addresses of another pool, then delete the pool"
			return refuse(advice, p.Name, count, example), nil
		}
	}
	count, example := inUse(p.Spec.CIDR, states)
	if count == 0 {
		return verdict{}, nil
	}
	const advice = "pool %q is in use: %d of its addresses are held, such as %s. Set spec.disabled to true, replace the pods that hold addresses, then delete the pool"
	return refuse(advice, p.Name, count, example), nil
}

// inUse counts the addresses of a network that pods hold, and gives one as an example.
func inUse(cidr string, states []v1alpha1.NodeState) (count int, example string) {
	pool, err := netip.ParsePrefix(cidr)
	if err != nil {
		return 0, ""
	}
	for i := range states {
		endpoints := states[i].Status.Endpoints
		for j := range endpoints {
			for _, text := range endpoints[j].Addresses {
				addr, err := netip.ParseAddr(text)
				if err != nil || !pool.Contains(addr) {
					continue
				}
				if count++; count == 1 {
					example = fmt.Sprintf("%s by pod %s on node %s", text, endpoints[j].ID, states[i].Name)
				}
			}
		}
	}
	return count, example
}

// balanced counts the addresses of a network that services of type LoadBalancer have, and gives one as an example.
func balanced(cidr string, services []corev1.Service) (count int, example string) {
	pool, err := netip.ParsePrefix(cidr)
	if err != nil {
		return 0, ""
	}
	for i := range services {
		s := &services[i]
		if s.Spec.Type != corev1.ServiceTypeLoadBalancer {
			continue
		}
		for _, in := range s.Status.LoadBalancer.Ingress {
			addr, err := netip.ParseAddr(in.IP)
			if err != nil || !pool.Contains(addr) {
				continue
			}
			if count++; count == 1 {
				example = fmt.Sprintf("%s of service %s/%s", in.IP, s.Namespace, s.Name)
			}
		}
	}
	return count, example
}
