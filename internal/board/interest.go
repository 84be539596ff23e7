package board

import (
	"slices"

	"github.com/manul-net/manul/internal/render"
)

// concerns tells whether an item is the node's business.
func (s *Subscription) concerns(i *Item) bool {
	switch i.Kind {
	case render.KindNodeState:
		return i.Name == s.node
	case render.KindNodeNetwork:
		return true
	case render.KindPolicyProgram:
		_, ok := s.programs[i.Name]
		return ok
	case render.KindSetCatalog:
		return s.sets[i.ID] > 0
	case render.KindNodeEndpoints:
		e := i.endpoint()
		if slices.ContainsFunc(e.Identities, s.knows) {
			return true
		}
		for _, p := range e.Ports {
			if s.ports[p.Name] > 0 {
				return true
			}
		}
	}
	return false
}

// knows tells whether a set that concerns the node lists an identity.
func (s *Subscription) knows(identity string) bool {
	listing := s.board.listing[identity]
	if len(listing) > len(s.sets) {
		for set := range s.sets {
			if _, ok := listing[set]; ok {
				return true
			}
		}
		return false
	}
	for set := range listing {
		if s.sets[set] > 0 {
			return true
		}
	}
	return false
}

// concern makes programs those that concern the node.
func (s *Subscription) concern(programs map[string]struct{}) {
	b := s.board
	none := refs{}
	before := s.programs
	s.programs = programs
	// What is gained comes first: what stays is not marked.
	for name := range programs {
		if _, was := before[name]; was {
			continue
		}
		b.byProgram.add(name, s)
		s.mark(ItemKey{Key: render.Key{Kind: render.KindPolicyProgram, Name: name}})
		if o := b.objects[render.Key{Kind: render.KindPolicyProgram, Name: name}]; o != nil {
			s.exchange(none, o.refs)
		}
	}
	for name := range before {
		if _, stays := programs[name]; stays {
			continue
		}
		b.byProgram.remove(name, s)
		s.mark(ItemKey{Key: render.Key{Kind: render.KindPolicyProgram, Name: name}})
		if o := b.objects[render.Key{Kind: render.KindPolicyProgram, Name: name}]; o != nil {
			s.exchange(o.refs, none)
		}
	}
}

// all gives all that concerns the node, but the networks of nodes.
func (s *Subscription) all() []*Item {
	b := s.board
	var out []*Item
	items := func(kind render.Kind, name string) {
		if o := b.objects[render.Key{Kind: kind, Name: name}]; o != nil {
			for _, item := range o.items {
				out = append(out, item)
			}
		}
	}
	items(render.KindNodeState, s.node)
	for name := range s.programs {
		items(render.KindPolicyProgram, name)
	}
	endpoints := map[*Item]struct{}{}
	learn := func(of map[*Item]struct{}) {
		for item := range of {
			if _, known := endpoints[item]; !known {
				endpoints[item] = struct{}{}
				out = append(out, item)
			}
		}
	}
	for id := range s.sets {
		if set := b.sets[id]; set != nil {
			out = append(out, set)
			for _, identity := range set.members() {
				learn(b.holders[identity])
			}
		}
	}
	for port := range s.ports {
		learn(b.portHolders[port])
	}
	return out
}

// exchange replaces what a program names.
func (s *Subscription) exchange(before, after refs) {
	for id := range after.sets {
		if s.sets[id]++; s.sets[id] == 1 {
			s.board.bySet.add(id, s)
			s.markSet(id)
		}
	}
	for name := range after.ports {
		if s.ports[name]++; s.ports[name] == 1 {
			s.board.byPort.add(name, s)
			s.markPort(name)
		}
	}
	for id := range before.sets {
		if s.sets[id]--; s.sets[id] == 0 {
			delete(s.sets, id)
			s.board.bySet.remove(id, s)
			s.markSet(id)
		}
	}
	for name := range before.ports {
		if s.ports[name]--; s.ports[name] == 0 {
			delete(s.ports, name)
			s.board.byPort.remove(name, s)
			s.markPort(name)
		}
	}
}

// markSet marks a set that began or ceased to concern the node, and the endpoints in it that no other set gives it.
func (s *Subscription) markSet(id string) {
	item := s.board.sets[id]
	if item == nil {
		return
	}
	s.mark(item.ItemKey)
	for _, identity := range item.members() {
		if s.knowsBeside(identity, id) {
			continue
		}
		for e := range s.board.holders[identity] {
			s.learn(e)
		}
	}
}

// learn marks an endpoint that came into a set, or with it. That may be the effect of a change of identities which has yet to be written: then
// the operator will wait for the node's word.
func (s *Subscription) learn(e *Item) {
	s.mark(e.ItemKey)
	if o := s.board.objects[e.Key]; o != nil && o.unwritten {
		o.moved[s.node] = struct{}{}
	}
}

// knowsBeside tells whether another set gives the node the endpoints with an identity.
func (s *Subscription) knowsBeside(identity, but string) bool {
	for set := range s.board.listing[identity] {
		if set != but && s.sets[set] > 0 {
			return true
		}
	}
	return false
}

func (s *Subscription) markPort(name string) {
	for e := range s.board.portHolders[name] {
		s.mark(e.ItemKey)
	}
}
