package oracle

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/manul-net/manul/api/v1alpha1"
)

// Rendered is a cluster as its nodes know it.
type Rendered struct {
	States    map[string]*v1alpha1.NodeState
	Endpoints map[string]*v1alpha1.NodeEndpoints
	Programs  map[string]*v1alpha1.PolicyProgram
	Catalogs  map[string]*v1alpha1.SetCatalog
}

// Evaluator evaluates what is rendered.
func (r *Rendered) Evaluator(n *Network) *Evaluator {
	j := &renderedJudge{Rendered: r, network: n, sets: map[string]*v1alpha1.Set{}, members: map[membership]bool{}}
	for _, catalog := range r.Catalogs {
		for i := range catalog.Spec.Sets {
			j.sets[catalog.Spec.Sets[i].ID] = &catalog.Spec.Sets[i]
		}
	}
	return &Evaluator{network: n, hooks: stages{j}}
}

// renderedJudge is the judge that reads rendered objects.
type renderedJudge struct {
	*Rendered
	network *Network
	sets    map[string]*v1alpha1.Set
	members map[membership]bool // memory of who is in which set
}

type membership struct {
	set  string
	addr netip.Addr
}

func (r *renderedJudge) endpoint(id string) *v1alpha1.Endpoint {
	for _, state := range r.States {
		for i := range state.Spec.Endpoints {
			if state.Spec.Endpoints[i].ID == id {
				return &state.Spec.Endpoints[i]
			}
		}
	}
	return nil
}

func (r *renderedJudge) pod(id string, ingress bool, p Packet) action {
	e := r.endpoint(id)
	switch {
	case e == nil:
		return deny
	case ingress:
		return cmp.Or(r.tiers(e.Ingress, p, true), allow)
	}
	return cmp.Or(r.tiers(e.Egress, p, false), allow)
}

func (r *renderedJudge) maySend(id string, p Packet) bool {
	e, node := r.endpoint(id), ""
	own := false
	for _, pod := range r.network.Pods {
		if pod.ID == id {
			node, own = pod.Node, slices.Contains(pod.Addresses, p.Source)
		}
	}
	s := r.settings(node)
	switch {
	case e == nil,
		p.Protocol == IPIP && !s.AllowIPIPFromPods,
		p.Protocol == UDP && p.DestinationPort == int(cmp.Or(s.VXLANPort, 4789)) && !s.AllowVXLANFromPods:
		return false
	}
	return own || inAny(e.SourcePrefixes, p.Source)
}

func (r *renderedJudge) settings(node string) v1alpha1.AgentSettings {
	if state := r.States[node]; state != nil {
		return state.Spec.Settings
	}
	return v1alpha1.AgentSettings{}
}

func (r *renderedJudge) podToHost(node string) string {
	return cmp.Or(r.settings(node).EndpointToHostAction, "Drop")
}

func (r *renderedJudge) masquerades(node string, p Packet) bool {
	state := r.States[node]
	if state == nil {
		return false
	}
	from, inside := false, false
	for _, pool := range state.Spec.Pools {
		from = from || pool.NATOutgoing && inAny([]string{pool.CIDR}, p.Source)
		inside = inside || inAny([]string{pool.CIDR}, p.Destination)
	}
	return from && !inside
}

// hostEndpoint of an interface: one that names it, one that has an address of it, or the one for all.
func (r *renderedJudge) hostEndpoint(node, name string) *v1alpha1.HostEndpoint {
	state := r.States[node]
	if state == nil {
		return nil
	}
	var addrs []netip.Addr
	if l := r.network.named(node, name); l != nil {
		addrs = l.Addresses
	}
	hosts := slices.Clone(state.Spec.HostEndpoints)
	slices.SortFunc(hosts, func(a, b v1alpha1.HostEndpoint) int { return cmp.Compare(a.Name, b.Name) })
	rank := func(h *v1alpha1.HostEndpoint) int {
		switch {
		case h.Interface == name:
			return 1
		case h.Interface == "" && slices.ContainsFunc(addrs, func(a netip.Addr) bool { return slices.Contains(h.Addresses, a.String()) }):
			return 2
		case h.Interface == "*":
			return 3
		}
		return 0
	}
	var best *v1alpha1.HostEndpoint
	for i := range hosts {
		if n := rank(&hosts[i]); n > 0 && (best == nil || n < rank(best)) {
			best = &hosts[i]
		}
	}
	return best
}

func (r *renderedJudge) direction(d *v1alpha1.DirectionPolicies, ingress bool, p Packet) action {
	if ingress {
		return r.tiers(d.Ingress, p, true)
	}
	return r.tiers(d.Egress, p, false)
}

func (r *renderedJudge) hostUntracked(node, name string, ingress bool, p Packet) action {
	if h := r.hostEndpoint(node, name); h != nil {
		return r.direction(&h.Untracked, ingress, p)
	}
	return undecided
}

func (r *renderedJudge) hostPreDNAT(node, name string, p Packet) action {
	if h := r.hostEndpoint(node, name); h != nil {
		return r.tiers(h.PreDNAT, p, true)
	}
	return undecided
}

func (r *renderedJudge) hostForward(node, name string, ingress bool, p Packet) action {
	if h := r.hostEndpoint(node, name); h != nil {
		return r.direction(&h.Forward, ingress, p)
	}
	return undecided
}

func (r *renderedJudge) hostLocal(node, name string, ingress bool, p Packet) action {
	if h := r.hostEndpoint(node, name); h != nil {
		return cmp.Or(r.direction(&h.Local, ingress, p), action(h.DefaultAction))
	}
	return undecided
}

func (r *renderedJudge) allHostsLocal(node string, p Packet) action {
	const all = "*" // no interface bears that name, so that none but the one for all of them is found
	return r.hostLocal(node, all, true, p)
}

func (r *renderedJudge) failsafe(node string, ingress, replies bool, p Packet) bool {
	s, far := r.settings(node), p.Destination
	own, other := s.FailsafeOutbound, s.FailsafeInbound
	if ingress {
		far, own, other = p.Source, other, own
	}
	in := func(ports []v1alpha1.FailsafePort, port int) bool {
		return slices.ContainsFunc(ports, func(f v1alpha1.FailsafePort) bool {
			return int(f.Protocol) == p.Protocol && int(f.Port) == port && (f.Net == "" || inAny([]string{f.Net}, far))
		})
	}
	return in(own, p.DestinationPort) || replies && in(other, p.SourcePort)
}

func (r *renderedJudge) tiers(tiers []v1alpha1.TierPolicies, p Packet, ingress bool) action {
	for _, tier := range tiers {
		verdict := v1alpha1.Action("")
		for _, name := range tier.Policies {
			program := r.Programs[name]
			if program == nil {
				return deny // a node that does not know the program lets nothing pass
			}
			rules := program.Spec.Egress
			if ingress {
				rules = program.Spec.Ingress
			}
			if verdict = r.decide(rules, p); verdict != "" {
				break
			}
		}
		if verdict == "" {
			verdict = tier.DefaultAction
		}
		switch verdict {
		case v1alpha1.Allow, v1alpha1.Deny:
			return action(verdict)
		case v1alpha1.Pass, v1alpha1.Log: // on to the next tier
		}
	}
	return undecided
}
