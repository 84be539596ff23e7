package render

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/nodeagent/tables"
)

// set is what is known of one set of the catalog.
type set struct {
	content
	// current: the catalog has the set. One that is gone is kept while an accepted form names it.
	current bool
	// refs counts the accepted forms that name the set, used those of them that are in the tables.
	refs, used int
}

// content of a set: identities and nets, or ports if it is one of ports.
type content struct {
	identities []identity
	nets       []netip.Prefix
	ports      []port
	ofPorts    bool
}

func newContent(in *v1alpha1.Set) (content, error) {
	if in.OfPorts {
		ports, err := setPorts(in.Members)
		return content{ports: ports, ofPorts: true}, err
	}
	nets, err := prefixes(in.CIDRs)
	return content{identities: intern(in.Identities), nets: nets}, err
}

func (x *content) equal(y *content) bool {
	return x.ofPorts == y.ofPorts && slices.Equal(x.identities, y.identities) && slices.Equal(x.nets, y.nets) && slices.Equal(x.ports, y.ports)
}

func (x *content) kind() tables.SetType {
	if x.ofPorts {
		return tables.NamedPorts
	}
	for _, n := range x.nets {
		if !n.IsSingleIP() {
			return tables.Nets
		}
	}
	return tables.Addresses
}

// SetCatalog takes news of one shard of sets and tells whether the shard has a set that an endpoint of the node needs.
func (s *State) SetCatalog(shard string, spec *v1alpha1.SetCatalogSpec) bool {
	concerns := false
	var problem error
	ids := make([]string, 0, len(spec.Sets))
	for i := range spec.Sets {
		news := &spec.Sets[i]
		now, err := newContent(news)
		if err != nil {
			problem = fmt.Errorf("set %s: %w", news.ID, err)
		}
		ids = append(ids, news.ID)
		concerns = s.setSet(news.ID, &now) || concerns
	}
	s.problem(KindSetCatalog, shard, problem)
	slices.Sort(ids)
	return s.replaceShard(shard, slices.Compact(ids)) || concerns
}

// DeleteCatalog takes the news that a shard is gone and tells whether it had a set that an endpoint of the node needs.
func (s *State) DeleteCatalog(shard string) bool {
	s.problem(KindSetCatalog, shard, nil)
	concerns := s.replaceShard(shard, nil)
	delete(s.shards, shard)
	return concerns
}

// replaceShard notes which sets a shard has. Sets that it no longer has are gone.
func (s *State) replaceShard(shard string, ids []string) bool {
	concerns := false
	for _, id := range s.shards[shard] {
		if _, stays := slices.BinarySearch(ids, id); stays {
			continue
		}
		gone := s.sets[id]
		concerns = concerns || gone.used > 0
		gone.current = false
		s.forgetSetIfUnused(id, gone)
	}
	s.shards[shard] = ids
	return concerns
}

func (s *State) setSet(id string, now *content) bool {
	x := s.sets[id]
	if x == nil {
		x = &set{}
		s.sets[id] = x
	}
	if !x.equal(now) {
		s.changeSet(id, x, now)
	}
	concerns := x.used > 0
	if !x.current {
		x.current = true
		for _, name := range s.waitingForSet.sorted(id) {
			concerns = s.retry(name) || concerns
		}
	}
	return concerns
}

// retry accepts a program's pending form if all its sets are known now, and tells whether that concerns an endpoint.
func (s *State) retry(name string) bool {
	p := s.programs[name]
	f := p.pending
	s.dropPending(name, p)
	missing := s.missingSets(f)
	if len(missing) == 0 {
		s.accept(name, p, f)
		return p.refs > 0
	}
	s.hold(name, p, f, missing)
	return false
}

// changeSet adds the new members before it takes the old ones away: those that stay do not change.
func (s *State) changeSet(id string, x *set, now *content) {
	old := x.content
	x.content = *now
	if x.used == 0 {
		return
	}
	s.members.attach(id, now)
	s.members.detach(id, &old)
	if s.policy.Sets.Set(id, x.kind()) {
		// The kernel's set of another type begins empty.
		s.members.touch(id, now)
	}
}

func (s *State) useSet(id string) {
	x := s.sets[id]
	x.used++
	if x.used == 1 {
		s.policy.Sets.Set(id, x.kind())
		s.members.attach(id, &x.content)
	}
}

func (s *State) unuseSet(id string) {
	x := s.sets[id]
	x.used--
	if x.used == 0 {
		s.members.detach(id, &x.content)
		s.policy.Sets.Delete(id)
	}
}

func (s *State) forgetSetIfUnused(id string, x *set) {
	if !x.current && x.refs == 0 {
		delete(s.sets, id)
	}
}
