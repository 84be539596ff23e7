package render

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/policy"
	"github.com/manul-net/manul/internal/validate"
)

// set is a set of addresses that programs name.
type set struct {
	id   string
	what policy.Set
	// absent are the labels of endpoints whose absence can make an endpoint a member.
	absent []string
	// policies whose programs name the set.
	policies    map[*policyState]struct{}
	shard       *shard
	identities  map[*identity]struct{}
	networkSets map[*networkSet]struct{}
	// service whose endpoints the set holds; nil if it stands for a selector.
	service *service
	// nodes whose addresses it holds.
	nodes map[*node]struct{}
	// written is the version of the shard at which the set was first seen in the API; empty: not yet.
	written string
	// published is the version of NodeEndpoints by which its members were known under identities that the set lists.
	published string
}

// member is an identity or a network set.
type member struct {
	identity   *identity
	networkSet *networkSet
}

// shardOf is the name of the SetCatalog that holds a set.
func shardOf(setID string) string { return "sets-" + setID[:2] }

// useSet has p's program name the set.
func (c *Cluster) useSet(id string, what policy.Set, p *policyState) {
	s := c.sets[id]
	if s == nil {
		s = &set{
			id: id, what: what, policies: map[*policyState]struct{}{},
			identities: map[*identity]struct{}{}, networkSets: map[*networkSet]struct{}{}, nodes: map[*node]struct{}{},
		}
		s.shard = c.shard(shardOf(id))
		s.shard.sets[id] = s
		s.written = s.shard.versionOf(id)
		c.sets[id] = s
		c.touch(KindSetCatalog, s.shard.name)
		c.fillSet(s)
	}
	s.policies[p] = struct{}{}
}

// fillSet has a set follow what it stands for.
func (c *Cluster) fillSet(s *set) {
	if s.what.Nodes != nil {
		c.nodeSets.SetSelector(s, s.what.Nodes)
		return
	}
	if s.what.Selector == nil {
		s.service = c.service(s.what.Service)
		s.service.sets[s] = struct{}{}
		return
	}
	for _, key := range s.what.Selector.AbsentKeys() {
		if policy.OwnKey(key) {
			s.absent = append(s.absent, key)
		}
	}
	c.useKeys(s, 1)
	c.membership.SetSelector(s, s.what.Selector)
}

// emptySet ends that.
func (c *Cluster) emptySet(s *set) {
	if s.what.Nodes != nil {
		c.nodeSets.DeleteSelector(s)
		return
	}
	if s.service != nil {
		delete(s.service.sets, s)
		c.dropService(s.service)
		return
	}
	c.membership.DeleteSelector(s)
	for stranger := range s.identities {
		delete(stranger.sets, s)
	}
	c.useKeys(s, -1)
}

// leaveSet ends p's use of the set.
func (c *Cluster) leaveSet(id string, p *policyState) {
	s := c.sets[id]
	if s == nil {
		return
	}
	delete(s.policies, p)
	if len(s.policies) > 0 {
		return
	}
	c.emptySet(s)
	delete(c.sets, id)
	delete(s.shard.sets, id)
	c.touch(KindSetCatalog, s.shard.name)
	c.dropShard(s.shard)
}

// membershipChanged is called when an identity or network set begins or ceases to match a set's selector.
func (c *Cluster) membershipChanged(s *set, m member, matches bool) {
	if matches {
		c.memberJoins(m, s)
	} else {
		c.memberLeaves(m, s)
	}
}

// nodeMembershipChanged is called when a node begins or ceases to be in a set of nodes.
func (c *Cluster) nodeMembershipChanged(s *set, n *node, matches bool) {
	if matches {
		s.nodes[n] = struct{}{}
	} else {
		delete(s.nodes, n)
	}
	c.touch(KindSetCatalog, s.shard.name)
}

func (c *Cluster) memberJoins(m member, s *set) {
	if m.networkSet != nil {
		s.networkSets[m.networkSet] = struct{}{}
		c.touch(KindSetCatalog, s.shard.name)
		return
	}
	if !m.identity.canTell(s) {
		return
	}
	s.identities[m.identity] = struct{}{}
	m.identity.sets[s] = struct{}{}
	c.touch(KindSetCatalog, s.shard.name)
	c.transition.listed(m.identity, s.shard)
	c.checkFormer(m.identity)
}

func (c *Cluster) memberLeaves(m member, s *set) {
	c.touch(KindSetCatalog, s.shard.name)
	if m.networkSet != nil {
		delete(s.networkSets, m.networkSet)
		return
	}
	delete(s.identities, m.identity)
	delete(m.identity.sets, s)
	c.checkFormer(m.identity)
}

// render is the set as it should be in the API.
func (s *set) render() v1alpha1.Set {
	out := v1alpha1.Set{ID: s.id}
	var nets []netip.Prefix
	switch {
	case s.what.Nodes != nil:
		out.Nodes = s.what.Nodes.String()
		for n := range s.nodes {
			for _, addr := range n.sends() {
				nets = append(nets, netip.PrefixFrom(addr, addr.BitLen()))
			}
		}
	case s.service == nil:
		out.Selector = s.what.Selector.String()
		for i := range s.identities {
			out.Identities = append(out.Identities, i.id)
		}
		slices.Sort(out.Identities)
		for n := range s.networkSets {
			nets = append(nets, n.nets...)
		}
	case s.what.Ports:
		out.Service, out.OfPorts = s.what.Service.String(), true
		out.Members = s.service.members()
	default:
		out.Service = s.what.Service.String()
		nets = s.service.nets()
	}
	slices.SortFunc(nets, comparePrefixes)
	for _, net := range slices.Compact(nets) {
		out.CIDRs = append(out.CIDRs, net.String())
	}
	return out
}

func comparePrefixes(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

// networkSet is a NetworkSet, or a GlobalNetworkSet if it has no namespace.
type networkSet struct {
	name      objectName
	namespace *namespace
	labels    map[string]string
	nets      []netip.Prefix
}

func (c *Cluster) setNetworkSet(name objectName, labels map[string]string, texts []string) {
	var nets []netip.Prefix
	for _, text := range texts {
		// What is no CIDR is left out; one with bits behind the prefix means its masked form.
		if net, err := validate.ParseNet(text); err == nil || net.IsValid() {
			nets = append(nets, net)
		}
	}
	s := c.networkSets[name]
	if s == nil {
		s = &networkSet{name: name}
		c.networkSets[name] = s
		if name.namespace != "" {
			s.namespace = c.namespace(name.namespace)
			s.namespace.networkSets[s] = struct{}{}
		}
	} else if maps.Equal(s.labels, labels) && slices.Equal(s.nets, nets) {
		return
	}
	s.labels, s.nets = labels, nets
	c.enterNetworkSet(s)
	for in := range c.membership.Selectors(member{networkSet: s}) {
		c.touch(KindSetCatalog, in.shard.name)
	}
}

// enterNetworkSet looks up again in which sets a network set is.
func (c *Cluster) enterNetworkSet(s *networkSet) {
	view := &policy.EndpointLabels{Own: s.labels}
	if s.namespace != nil {
		view.Namespace, view.NamespaceLabels = s.namespace.name, s.namespace.labels()
	}
	c.membership.SetItem(member{networkSet: s}, view.Map())
}

func (c *Cluster) deleteNetworkSet(name objectName) {
	s := c.networkSets[name]
	if s == nil {
		return
	}
	c.membership.DeleteItem(member{networkSet: s})
	delete(c.networkSets, name)
	if s.namespace != nil {
		delete(s.namespace.networkSets, s)
		c.dropNamespace(s.namespace)
	}
}
