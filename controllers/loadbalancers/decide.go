package loadbalancers

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/validate"
)

// Annotations on services that say which addresses they get.
const (
	annotationIPv4Pools = "projectcalico.org/ipv4pools"
	annotationIPv6Pools = "projectcalico.org/ipv6pools"
	annotationAddresses = "projectcalico.org/loadBalancerIPs"
)

// ownClass is the loadBalancerClass of services that get addresses here, beside those without a class.
const ownClass = "calico"

// Values of assignIPs.
const (
	assignAll       = "AllServices"
	assignRequested = "RequestedServicesOnly"
	assignNone      = ""
)

// assignIPs is what the configuration says. A cluster without one gives all services addresses; one whose configuration leaves
// loadBalancer out gives none.
func assignIPs(config *v3.KubeControllersConfiguration) string {
	switch {
	case config == nil:
		return assignAll
	case config.Spec.Controllers.LoadBalancer == nil:
		return assignNone
	case config.Spec.Controllers.LoadBalancer.AssignIPs == assignRequested:
		return assignRequested
	}
	return assignAll
}

// pool is a pool with allowedUses LoadBalancer.
type pool struct {
	name             string
	cidr             netip.Prefix
	disabled, manual bool
	// next is where to go on looking for a free address. What lies before is in use or reserved.
	next netip.Addr
}

// poolsOf are the pools for services, by CIDR.
func poolsOf(all []v3.IPPool) []*pool {
	var out []*pool
	for i := range all {
		spec := &all[i].Spec
		cidr, err := validate.ParseNet(spec.CIDR)
		if err != nil || !slices.Contains(spec.AllowedUses, v3.IPPoolAllowedUseLoadBalancer) {
			continue
		}
		out = append(out, &pool{
			name: all[i].Name, cidr: cidr, disabled: spec.Disabled, manual: spec.AssignmentMode == v3.AssignmentManual, next: cidr.Addr(),
		})
	}
	slices.SortFunc(out, func(a, b *pool) int {
		return cmp.Or(a.cidr.Addr().Compare(b.cidr.Addr()), strings.Compare(a.name, b.name))
	})
	return out
}

// reservedBy are the CIDRs of reservations.
func reservedBy(all []v3.IPReservation) []netip.Prefix {
	var out []netip.Prefix
	for i := range all {
		for _, text := range all[i].Spec.ReservedCIDRs {
			if cidr, _ := validate.ParseNet(text); cidr.IsValid() {
				out = append(out, cidr)
			}
		}
	}
	return out
}

// change is what a service's addresses should be.
type change struct {
	service   *corev1.Service
	addresses []netip.Addr
}

// plan is the outcome of a look at all services.
type plan struct {
	changes []change
	// problems say why a service has not the addresses that it asks for.
	problems map[types.UID]string
}

// allocation is a look at all services.
type allocation struct {
	pools    []*pool
	reserved []netip.Prefix
	// holders are the services that hold addresses.
	holders map[netip.Addr]types.UID
}

// decide gives addresses to services that should have some. Services keep what they hold as long as it is what they ask for; the
// older ones choose first. made are addresses that were written and have yet to come back through the watch.
func decide(assign string, services []*corev1.Service, all []v3.IPPool, reservations []v3.IPReservation, made map[types.UID][]netip.Addr) plan {
	out := plan{problems: map[types.UID]string{}}
	a := allocation{pools: poolsOf(all), reserved: reservedBy(reservations), holders: map[netip.Addr]types.UID{}}
	if len(a.pools) == 0 {
		return out
	}
	services = slices.Clone(services)
	slices.SortFunc(services, func(a, b *corev1.Service) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	held := func(s *corev1.Service) []netip.Addr {
		if addresses, ok := made[s.UID]; ok {
			return addresses
		}
		return ingress(s)
	}
	for _, s := range services {
		for _, addr := range held(s) {
			if _, taken := a.holders[addr]; !taken && s.Spec.Type == corev1.ServiceTypeLoadBalancer {
				a.holders[addr] = s.UID
			}
		}
	}
	for _, s := range services {
		if !concerned(s, assign) {
			continue
		}
		before := held(s)
		if len(before) > 0 && !slices.ContainsFunc(before, a.ours) {
			continue // another implementation's
		}
		now, problem := a.addresses(s, before)
		if problem != "" {
			out.problems[s.UID] = problem
		}
		if !slices.Equal(now, before) {
			out.changes = append(out.changes, change{s, now})
		}
	}
	return out
}

// concerned tells whether a service gets addresses here.
func concerned(s *corev1.Service, assign string) bool {
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer || s.DeletionTimestamp != nil || assign == assignNone {
		return false
	}
	if class := s.Spec.LoadBalancerClass; class != nil && *class != ownClass {
		return false
	}
	asks := s.Annotations[annotationIPv4Pools] != "" || s.Annotations[annotationIPv6Pools] != "" || s.Annotations[annotationAddresses] != ""
	return asks || assign == assignAll
}

// ingress are the addresses that a service has.
func ingress(s *corev1.Service) []netip.Addr {
	var out []netip.Addr
	for i := range s.Status.LoadBalancer.Ingress {
		if addr, err := netip.ParseAddr(s.Status.LoadBalancer.Ingress[i].IP); err == nil {
			out = append(out, addr)
		}
	}
	return out
}

// ours tells whether an address is in a pool for services.
func (a *allocation) ours(addr netip.Addr) bool {
	return slices.ContainsFunc(a.pools, func(p *pool) bool { return p.cidr.Contains(addr) })
}

// addresses are those that a service should have, and what keeps it from others. It keeps none that it does not ask for.
func (a *allocation) addresses(s *corev1.Service, before []netip.Addr) (now []netip.Addr, problem string) {
	if text := s.Annotations[annotationAddresses]; text != "" {
		now, problem = a.fixed(s, text)
	} else {
		now, problem = a.chosen(s, before)
	}
	for _, addr := range before {
		if !slices.Contains(now, addr) && a.holders[addr] == s.UID {
			delete(a.holders, addr)
			for _, p := range a.pools {
				if p.cidr.Contains(addr) && addr.Less(p.next) {
					p.next = addr
				}
			}
		}
	}
	for _, addr := range now {
		a.holders[addr] = s.UID
	}
	return now, problem
}

// fixed are the addresses of the annotation: all or none.
func (a *allocation) fixed(s *corev1.Service, text string) (now []netip.Addr, problem string) {
	var list []string
	if err := json.Unmarshal([]byte(text), &list); err != nil || len(list) == 0 {
		return nil, fmt.Sprintf("annotation %s: %q is no JSON list of addresses: write it like [\"10.51.0.7\"]", annotationAddresses, text)
	}
	for _, text := range list {
		addr, err := netip.ParseAddr(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Sprintf("annotation %s: %q is no IP address: write it like [\"10.51.0.7\"]", annotationAddresses, text)
		}
		if !a.ours(addr) {
			return nil, fmt.Sprintf("annotation %s: %s lies outside every IPPool whose allowedUses have LoadBalancer: choose one inside such a pool", annotationAddresses, addr)
		}
		if holder, taken := a.holders[addr]; taken && holder != s.UID {
			return nil, fmt.Sprintf("annotation %s: another service has %s: choose a free address", annotationAddresses, addr)
		}
		if slices.ContainsFunc(now, func(other netip.Addr) bool { return other.Is4() == addr.Is4() }) {
			return nil, fmt.Sprintf("annotation %s: a service has one address of each family: leave one in the list", annotationAddresses)
		}
		now = append(now, addr)
	}
	return now, ""
}

// chosen is one address for each family of the service: the one that it has, or the first free one.
func (a *allocation) chosen(s *corev1.Service, before []netip.Addr) (now []netip.Addr, problem string) {
	families := s.Spec.IPFamilies
	if len(families) == 0 {
		families = []corev1.IPFamily{corev1.IPv4Protocol}
	}
	for _, family := range families {
		is4 := family == corev1.IPv4Protocol
		pools, named, trouble := a.poolsFor(s, is4)
		addr, found := netip.Addr{}, false
		for _, has := range before {
			if has.Is4() == is4 && a.holders[has] == s.UID && (!named || slices.ContainsFunc(pools, func(p *pool) bool { return p.cidr.Contains(has) })) {
				addr, found = has, true
				break
			}
		}
		for _, p := range pools {
			if !found && !p.disabled {
				addr, found = a.free(p)
			}
		}
		switch {
		case found:
			now = append(now, addr)
			a.holders[addr] = s.UID
		case trouble != "":
			problem = trouble
		case problem == "":
			problem = fmt.Sprintf("no %s address is free in an enabled IPPool whose allowedUses have LoadBalancer and which serves the service: make such a pool, or name one in an annotation", family)
		}
	}
	return now, problem
}

// poolsFor are the pools of a family from which a service gets its address, and whether it names them.
func (a *allocation) poolsFor(s *corev1.Service, is4 bool) (pools []*pool, named bool, problem string) {
	annotation := annotationIPv6Pools
	if is4 {
		annotation = annotationIPv4Pools
	}
	text := s.Annotations[annotation]
	if text == "" {
		for _, p := range a.pools {
			if p.cidr.Addr().Is4() == is4 && !p.manual {
				pools = append(pools, p)
			}
		}
		return pools, false, ""
	}
	var list []string
	if err := json.Unmarshal([]byte(text), &list); err != nil || len(list) == 0 {
		return nil, true, fmt.Sprintf("annotation %s: %q is no JSON list of pools: write it like [\"services\"]", annotation, text)
	}
	for _, name := range list {
		i := slices.IndexFunc(a.pools, func(p *pool) bool { return p.name == name || p.cidr.String() == name })
		switch {
		case i < 0:
			return nil, true, fmt.Sprintf("annotation %s: there is no IPPool %s whose allowedUses have LoadBalancer: name one of those", annotation, name)
		case a.pools[i].cidr.Addr().Is4() != is4:
			return nil, true, fmt.Sprintf("annotation %s: IPPool %s is of the other family: name it in the other annotation", annotation, name)
		}
		pools = append(pools, a.pools[i])
	}
	return pools, true, ""
}

// free is the first free address of a pool.
func (a *allocation) free(p *pool) (netip.Addr, bool) {
	for addr := p.next; addr.IsValid() && p.cidr.Contains(addr); addr = addr.Next() {
		if _, taken := a.holders[addr]; taken {
			continue
		}
		if i := slices.IndexFunc(a.reserved, func(r netip.Prefix) bool { return r.Contains(addr) }); i >= 0 {
			addr = lastOf(a.reserved[i])
			continue
		}
		p.next = addr
		return addr, true
	}
	p.next = netip.Addr{} // nothing is left
	return netip.Addr{}, false
}

// lastOf is the last address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	raw := p.Addr().AsSlice()
	for bit := p.Bits(); bit < 8*len(raw); bit++ {
		raw[bit/8] |= 0x80 >> (bit % 8)
	}
	addr, _ := netip.AddrFromSlice(raw)
	return addr
}
