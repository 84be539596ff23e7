package connections

import (
	"net/netip"
	"slices"

	"github.com/manul-net/manul/nodeagent/tables"
)

// Tracker learns from the changes of tables which connections they can have made to be denied. It is not safe for concurrent
// use.
type Tracker struct {
	scope Scope
	began bool
	// programs: what they do with which sets; sets: how many of the programs do so.
	programs map[string]map[use]struct{}
	sets     map[string]*harm
}

// use is one way in which a program uses a set.
type use struct {
	set string
	// added, removed: a member that comes, or goes, can make the program deny what it allowed.
	added, removed bool
}

// harm counts the uses of a set by which it can make programs stricter.
type harm struct{ added, removed int }

// NewTracker makes a tracker that takes all connections for concerned, until it has seen tables for the first time: they may
// date from before this process.
func NewTracker() *Tracker {
	return &Tracker{programs: map[string]map[use]struct{}{}, sets: map[string]*harm{}}
}

// Note takes the changes of tables that are still marked as such: before a driver puts them into effect and cleans the marks.
// It does no harm to note a change again.
func (t *Tracker) Note(p *tables.Policy) {
	changed := map[string]bool{}
	for name := range p.Programs.Dirty() {
		program, ok := p.Programs.Get(name)
		if t.index(name, program); ok && p.Programs.Had(name) {
			changed[name] = true
		}
	}
	if !t.began || p.SettingsDirty || p.HostEndpoints.HasDirty() {
		t.began = true
		t.scope.AddAll()
	}
	if t.scope.all {
		return
	}
	// A new endpoint, too: somebody may still send to an earlier one that had its address, as the kernel remembers.
	for iface := range p.Endpoints.Dirty() {
		if e, ok := p.Endpoints.Get(iface); ok {
			t.addEndpoint(&e)
		}
	}
	t.addUsers(p, changed)
	for m := range p.Members.Dirty() {
		_, is := p.Members.Get(m)
		h, had := t.sets[m.Set], p.Members.Had(m)
		if h != nil && (is && !had && h.added > 0 || !is && had && h.removed > 0) {
			t.scope.add(m.Prefix)
		}
	}
}

// Take gives what has been noted since the last call.
func (t *Tracker) Take() Scope {
	s := t.scope
	t.scope = Scope{}
	return s
}

// All makes all connections concerned.
func (t *Tracker) All() { t.scope.AddAll() }

func (t *Tracker) addEndpoint(e *tables.Endpoint) {
	for _, a := range e.Addresses {
		t.scope.addAddr(a)
	}
	for _, p := range e.SourcePrefixes {
		t.scope.add(p)
	}
}

// addUsers adds the endpoints that changed programs apply to.
func (t *Tracker) addUsers(p *tables.Policy, changed map[string]bool) {
	if len(changed) == 0 {
		return
	}
	names := func(lists ...[]tables.Tier) bool {
		for _, tiers := range lists {
			for i := range tiers {
				if slices.ContainsFunc(tiers[i].Programs, func(name string) bool { return changed[name] }) {
					return true
				}
			}
		}
		return false
	}
	for _, h := range p.HostEndpoints.All() {
		if names(h.Local.Ingress, h.Local.Egress, h.Forward.Ingress, h.Forward.Egress, h.PreDNAT, h.Untracked.Ingress, h.Untracked.Egress) {
			t.scope.AddAll()
			return
		}
	}
	for _, e := range p.Endpoints.All() {
		if names(e.Ingress, e.Egress) {
			t.addEndpoint(&e)
		}
	}
}

// index notes how a program uses sets.
func (t *Tracker) index(name string, program tables.Program) {
	for u := range t.programs[name] {
		t.count(u, -1)
	}
	delete(t.programs, name)
	uses := usesOf(program)
	for u := range uses {
		t.count(u, 1)
	}
	if len(uses) > 0 {
		t.programs[name] = uses
	}
}

func (t *Tracker) count(u use, n int) {
	h := t.sets[u.set]
	if h == nil {
		h = &harm{}
		t.sets[u.set] = h
	}
	if u.added {
		h.added += n
	}
	if u.removed {
		h.removed += n
	}
	if *h == (harm{}) {
		delete(t.sets, u.set)
	}
}

// usesOf lists the ways in which a program's sets can make it stricter. A member more makes a rule match more, or less where
// the rule excludes the set. More of what allows is no harm, less of it is; of what denies, the other way round; and what
// passes goes on to an unknown end, so that either may be.
func usesOf(program tables.Program) map[use]struct{} {
	uses := map[use]struct{}{}
	for _, rules := range [...][]tables.Rule{program.Ingress, program.Egress} {
		for i := range rules {
			r := &rules[i]
			if r.Action == tables.Log {
				continue
			}
			more, less := r.Action != tables.Allow, r.Action != tables.Deny
			for _, e := range [...]*tables.Entity{&r.Source, &r.Destination} {
				for _, set := range slices.Concat(e.Sets, e.PortSets) {
					uses[use{set: set, added: more, removed: less}] = struct{}{}
				}
				for _, set := range slices.Concat(e.NotSets, e.NotPortSets) {
					uses[use{set: set, added: less, removed: more}] = struct{}{}
				}
			}
		}
	}
	return uses
}

// Workloads gives the interfaces of all workloads by their addresses.
func Workloads(p *tables.Policy) map[netip.Addr]string {
	out := make(map[netip.Addr]string, p.Endpoints.Len())
	for iface, e := range p.Endpoints.All() {
		for _, a := range e.Addresses {
			out[a] = iface
		}
	}
	return out
}
