package render

import (
	"maps"
	"slices"
	"strings"

	"github.com/manul-net/manul/api/v1alpha1"
)

// A node learns of NodeEndpoints and SetCatalogs on separate watches: at any time it may know an old form of the one and a
// new form of the other. So when an endpoint changes identity, the change is spread over time:
//
//  1. Sets list the new identity. The endpoint bears its new identity and goes on bearing the old one.
//  2. Once every node has acknowledged SetCatalogs that list the new identity, the endpoint bears it alone.
//  3. Once every node has acknowledged NodeEndpoints that no longer name the old identity, sets no longer list it.
//
// In each step every form of the one kind that a node may still know goes together with every form of the other.
//
// An old identity stays only if it is in no set that the endpoint has to leave. That always holds when the keys in use
// change, since then the endpoint itself has not changed; when its labels change, leaving a set at once is more important.
//
// What nodes may know is read off the objects in the API and off what was handed out to be written, never off what this
// process remembers having computed; so a transition survives a restart of the operator.

// maxFormer bounds how many former identities an endpoint bears. A node that never acknowledges would let them grow.
const maxFormer = 7

// maxRetiring bounds how many identities without endpoints are kept for nodes that have not acknowledged.
const maxRetiring = 2000

// transition is the state of these changes.
type transition struct {
	// bearers counts the nodes whose NodeEndpoints name an identity, or may name it, by the identity's ID.
	bearers map[string]int
	// appeared are IDs that objects in the API may name for the first time.
	appeared map[string]struct{}
	// changed are endpoints whose former identities may have changed, bridging those that bear any or may.
	changed  map[*endpoint]struct{}
	bridging map[*endpoint]struct{}
	// bearing are those that bridge, by the IDs of the identities that they have or may be known by; carrying those that bear former ones.
	bearing  map[string]map[*endpoint]struct{}
	carrying map[*endpoint]struct{}
	// unpublished are endpoints that nodes know, but not by their identity of now.
	unpublished map[*endpoint]struct{}
	// retired are identities that may have lost their last endpoint, retiring those that nodes may still know.
	retired  map[*identity]struct{}
	retiring map[*identity]struct{}
	// shards whose content in the API, or whose members, changed.
	shards map[*shard]struct{}
	// seen is what all nodes had acknowledged when steps were taken last.
	seen acknowledgedByAll
	// catalogs and endpoints: up to where all nodes have put SetCatalogs and NodeEndpoints into effect.
	catalogs, endpoints acknowledged
}

// acknowledgedByAll are the versions up to which all nodes have put SetCatalogs and NodeEndpoints into effect, if there are any nodes.
type acknowledgedByAll struct {
	anybody             bool
	catalogs, endpoints string
}

func newTransition() transition {
	return transition{
		bearers: map[string]int{}, appeared: map[string]struct{}{},
		changed: map[*endpoint]struct{}{}, bridging: map[*endpoint]struct{}{},
		bearing: map[string]map[*endpoint]struct{}{}, carrying: map[*endpoint]struct{}{},
		unpublished: map[*endpoint]struct{}{}, retired: map[*identity]struct{}{}, retiring: map[*identity]struct{}{}, shards: map[*shard]struct{}{},
	}
}

// bearing is what an identity knows of its own transition.
type bearing struct {
	// waiting are shards that list the identity newly and have not been seen in the API like that.
	waiting map[*shard]struct{}
	// listed is the version by which all sets of the identity listed it in the API.
	listed string
	// dropped is the version of the NodeEndpoints that was the last to drop it.
	dropped string
}

// offered is what was handed out to be written as a node's NodeEndpoints and was not seen in the API since.
type offered struct {
	last *v1alpha1.NodeEndpointsSpec
	// identities of endpoints, by ID of the endpoint.
	identities map[string][]string
}

func (t *transition) forget(e *endpoint) {
	delete(t.changed, e)
	t.bridge(e, nil)
	delete(t.unpublished, e)
}

// bridge notes by which identities, beside that of now, nodes may know an endpoint.
func (t *transition) bridge(e *endpoint, borne []string) {
	for _, id := range e.bridged {
		delete(t.bearing[id], e)
		if len(t.bearing[id]) == 0 {
			delete(t.bearing, id)
		}
	}
	e.bridged = borne
	if len(borne) == 0 {
		delete(t.bridging, e)
		delete(t.carrying, e)
		return
	}
	t.bridging[e] = struct{}{}
	for _, id := range borne {
		if t.bearing[id] == nil {
			t.bearing[id] = map[*endpoint]struct{}{}
		}
		t.bearing[id][e] = struct{}{}
	}
}

// check has the former identities of an endpoint looked at again.
func (t *transition) check(e *endpoint) { t.changed[e] = struct{}{} }

// listed notes that an identity joined a set of a shard.
func (t *transition) listed(i *identity, s *shard) {
	if i.bearing.waiting == nil {
		i.bearing.waiting = map[*shard]struct{}{}
	}
	i.bearing.waiting[s] = struct{}{}
	s.waiting[i] = struct{}{}
	t.shards[s] = struct{}{}
}

// checkFormer has the endpoints that bear an identity, or may, looked at again: it joined or left a set, or is now listed wherever it
// belongs.
func (c *Cluster) checkFormer(i *identity) {
	maps.Copy(c.transition.changed, c.transition.bearing[i.id])
}

// retire notes that an identity may have lost its last endpoint.
func (c *Cluster) retire(i *identity) {
	if i.endpoints == 0 {
		c.transition.retired[i] = struct{}{}
	}
}

// identities that the endpoint bears, its own first.
func (e *endpoint) identities() []string {
	out := []string{e.identity.id}
	for _, i := range e.former {
		out = append(out, i.id)
	}
	return out
}

// observeNodeEndpoints takes in a NodeEndpoints as it is in the API; nil when it is gone.
func (c *Cluster) observeNodeEndpoints(name string, o *v1alpha1.NodeEndpoints) {
	n := c.node(name)
	before := n.named()
	n.endpointsObject = o
	version := ""
	if o != nil {
		version = o.ResourceVersion
		if n.offered.last != nil && Same(n.offered.last, &o.Spec) {
			n.offered = offered{}
		}
	}
	n.published = nil
	c.recount(before, n.named(), version)
	for _, of := range [2]map[string]*endpoint{n.endpoints, n.hosts} {
		for _, e := range of {
			c.transition.check(e)
		}
	}
	c.pending.compare[Key{KindNodeEndpoints, name}] = struct{}{}
	c.dropNode(n)
}

// offerEndpoints notes that spec is handed out to be written.
func (c *Cluster) offerEndpoints(n *node, spec *v1alpha1.NodeEndpointsSpec) {
	if n.offered.last == nil && n.endpointsObject != nil && Same(&n.endpointsObject.Spec, spec) {
		return // it is there already
	}
	before := n.named()
	n.offered.last = spec
	if n.offered.identities == nil {
		n.offered.identities = map[string][]string{}
	}
	for i := range spec.Endpoints {
		e := &spec.Endpoints[i]
		all := n.offered.identities[e.ID]
		for _, id := range e.Identities {
			if !slices.Contains(all, id) {
				all = append(all, id)
			}
		}
		if len(all) > maxFormer+1 {
			all = all[len(all)-maxFormer-1:]
		}
		n.offered.identities[e.ID] = all
	}
	c.recount(before, n.named(), "")
}

// named are the IDs of identities that the node's NodeEndpoints names, or may name.
func (n *node) named() map[string]struct{} {
	out := map[string]struct{}{}
	if n.endpointsObject != nil {
		for i := range n.endpointsObject.Spec.Endpoints {
			for _, id := range n.endpointsObject.Spec.Endpoints[i].Identities {
				out[id] = struct{}{}
			}
		}
	}
	for _, ids := range n.offered.identities {
		for _, id := range ids {
			out[id] = struct{}{}
		}
	}
	return out
}

// recount counts the change of one node's NodeEndpoints from before to after, seen at version.
func (c *Cluster) recount(before, after map[string]struct{}, version string) {
	for id := range after {
		if _, ok := before[id]; ok {
			continue
		}
		c.transition.bearers[id]++
		if c.transition.bearers[id] == 1 {
			c.transition.appeared[id] = struct{}{}
		}
	}
	for id := range before {
		if _, ok := after[id]; ok {
			continue
		}
		c.transition.bearers[id]--
		if c.transition.bearers[id] == 0 {
			delete(c.transition.bearers, id)
		}
		if i := c.identities[id]; i != nil {
			i.bearing.dropped = laterVersion(i.bearing.dropped, version)
			c.retire(i)
		}
	}
}

// publishedAs is what the NodeEndpoints in the API says of an endpoint; nil: nothing.
func (n *node) publishedAs(e *endpoint) *v1alpha1.RemoteEndpoint {
	if n.published == nil && n.endpointsObject != nil {
		n.published = make(map[string]*v1alpha1.RemoteEndpoint, len(n.endpointsObject.Spec.Endpoints))
		for i := range n.endpointsObject.Spec.Endpoints {
			p := &n.endpointsObject.Spec.Endpoints[i]
			n.published[p.ID] = p
		}
	}
	p := n.published[e.id]
	if p == nil || !overlap(p.Addresses, n.addressesOf(e)) {
		return nil // nodes may know another pod of that name, but not this one
	}
	return p
}

// borne are the identities that nodes may know the endpoint by.
func (n *node) borne(e *endpoint) []string {
	out := slices.Clone(n.offered.identities[e.id])
	if p := n.publishedAs(e); p != nil {
		out = append(out, p.Identities...)
	}
	return out
}

func overlap(a, b []string) bool {
	return slices.ContainsFunc(a, func(s string) bool { return slices.Contains(b, s) })
}

// updateTransition takes the steps that have become possible.
func (c *Cluster) updateTransition() {
	t := &c.transition
	c.meetStrangers()
	c.confirmShards()
	catalogs, anybody := c.acknowledgedBy(KindSetCatalog)
	endpoints, _ := c.acknowledgedBy(KindNodeEndpoints)
	c.lookAtAcknowledged(acknowledgedByAll{anybody: anybody, catalogs: catalogs, endpoints: endpoints})
	if len(t.changed) == 0 && len(t.retired) == 0 {
		return
	}
	for e := range t.changed {
		c.bridge(e, catalogs, anybody)
		c.publish(e)
	}
	t.changed = emptied(t.changed)
	for i := range t.retired {
		switch {
		case i.endpoints > 0:
			delete(t.retiring, i)
		case !anybody, t.bearers[i.id] == 0 && !versionLess(endpoints, i.bearing.dropped):
			delete(t.retiring, i)
			c.removeIdentity(i)
		default:
			t.retiring[i] = struct{}{}
		}
	}
	t.retired = emptied(t.retired)
	c.boundRetiring()
}

// lookAtAcknowledged has those looked at again that wait for what all nodes have now acknowledged. A node that comes with less than the
// others takes back what they acknowledged.
func (c *Cluster) lookAtAcknowledged(now acknowledgedByAll) {
	t := &c.transition
	if now == t.seen {
		return
	}
	switch {
	case now.anybody != t.seen.anybody, versionLess(now.catalogs, t.seen.catalogs):
		maps.Copy(t.changed, t.bridging)
	case now.catalogs != t.seen.catalogs:
		for e := range t.carrying {
			if e.identity.settled(now.catalogs) {
				t.changed[e] = struct{}{}
			}
		}
	}
	if now.anybody != t.seen.anybody || now.endpoints != t.seen.endpoints {
		maps.Copy(t.retired, t.retiring)
	}
	t.seen = now
}

// boundRetiring lets go of the identities that have been retiring longest when a node that never acknowledges has let
// their number grow.
func (c *Cluster) boundRetiring() {
	t := &c.transition
	if len(t.retiring) <= maxRetiring {
		return
	}
	oldest := slices.SortedFunc(maps.Keys(t.retiring), func(a, b *identity) int {
		switch {
		case versionLess(a.bearing.dropped, b.bearing.dropped):
			return -1
		case versionLess(b.bearing.dropped, a.bearing.dropped):
			return 1
		default:
			return strings.Compare(a.id, b.id)
		}
	})
	for _, i := range oldest[:len(oldest)-maxRetiring/2] {
		if t.bearers[i.id] == 0 {
			delete(t.retiring, i)
			c.removeIdentity(i)
		}
	}
}

// bridge decides which former identities an endpoint bears.
func (c *Cluster) bridge(e *endpoint, catalogs string, anybody bool) {
	var former []*identity
	var foreign []string
	borne := e.node.borne(e)
	settled := !anybody || e.identity.settled(catalogs)
	for _, id := range borne {
		if id == e.identity.id {
			continue
		}
		foreign = append(foreign, id)
		if i := c.identities[id]; i != nil && !settled && !slices.Contains(former, i) && subset(i.sets, e.identity.sets) {
			former = append(former, i)
		}
	}
	if len(foreign) > 0 {
		foreign = append(foreign, e.identity.id)
	}
	c.transition.bridge(e, foreign)
	slices.SortFunc(former, func(a, b *identity) int { return strings.Compare(a.id, b.id) })
	if len(former) > maxFormer {
		former = former[:maxFormer]
	}
	if len(former) > 0 {
		c.transition.carrying[e] = struct{}{}
	} else {
		delete(c.transition.carrying, e)
	}
	if !slices.Equal(former, e.former) {
		e.former = former
		c.touch(KindNodeEndpoints, e.node.name)
	}
}

// publish notes whether nodes can know the endpoint by its identity of now.
func (c *Cluster) publish(e *endpoint) {
	p := e.node.publishedAs(e)
	if p != nil && !slices.Contains(p.Identities, e.identity.id) {
		c.transition.unpublished[e] = struct{}{}
		return
	}
	if _, was := c.transition.unpublished[e]; !was {
		return
	}
	delete(c.transition.unpublished, e)
	for s := range e.identity.sets {
		if p != nil {
			s.published = laterVersion(s.published, e.node.endpointsObject.ResourceVersion)
		}
		for p := range s.policies {
			c.pending.policies[p] = struct{}{}
		}
	}
}

// isPublished tells whether a node knows all members of a set, as far as they are known at all, under identities that the set
// lists. A policy that brings a label key into use depends on it.
func (c *Cluster) isPublished(s *set, n *node) bool {
	for e := range c.transition.unpublished {
		if _, member := e.identity.sets[s]; member {
			return false
		}
	}
	return !versionLess(n.applied(KindNodeEndpoints), s.published)
}

// settled tells whether all nodes have put SetCatalogs into effect that list the identity wherever it belongs.
func (i *identity) settled(catalogs string) bool {
	return len(i.bearing.waiting) == 0 && !versionLess(catalogs, i.bearing.listed)
}

func subset(a, b map[*set]struct{}) bool {
	if len(a) > len(b) {
		return false
	}
	for s := range a {
		if _, ok := b[s]; !ok {
			return false
		}
	}
	return true
}

// confirmShards notes which shards are in the API as they should be.
func (c *Cluster) confirmShards() {
	for s := range c.transition.shards {
		if len(s.waiting) == 0 || s.object == nil || s.offered != nil {
			continue
		}
		if spec := s.render(); !Same(&spec, &s.object.Spec) {
			continue
		}
		for i := range s.waiting {
			delete(i.bearing.waiting, s)
			i.bearing.listed = laterVersion(i.bearing.listed, s.object.ResourceVersion)
			if len(i.bearing.waiting) == 0 {
				c.checkFormer(i)
			}
		}
		clear(s.waiting)
	}
	c.transition.shards = emptied(c.transition.shards)
}

// meetStrangers makes room for identities that objects in the API name and nobody here has: they date from before this
// process began. They stay in the sets that list them until they can go.
func (c *Cluster) meetStrangers() {
	strangers := map[string]*identity{}
	for id := range c.transition.appeared {
		if c.identities[id] == nil {
			strangers[id] = &identity{id: id, sets: map[*set]struct{}{}}
		}
	}
	c.transition.appeared = emptied(c.transition.appeared)
	if len(strangers) == 0 {
		return
	}
	// Which NodeEndpoints dropped a stranger is not known; at the latest it was the newest.
	newest := ""
	for _, n := range c.nodes {
		if n.endpointsObject != nil {
			newest = laterVersion(newest, n.endpointsObject.ResourceVersion)
		}
	}
	for id, i := range strangers {
		i.bearing.dropped = newest
		c.identities[id] = i
		c.retire(i)
	}
	for _, s := range c.shards {
		if s.object == nil {
			continue
		}
		for _, written := range s.object.Spec.Sets {
			set := c.sets[written.ID]
			if set == nil {
				continue
			}
			for _, id := range written.Identities {
				if i := strangers[id]; i != nil {
					set.identities[i] = struct{}{}
					i.sets[set] = struct{}{}
				}
			}
		}
	}
}
