package render

import (
	"fmt"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/nodeagent/tables"
)

// program is what is known of one policy.
type program struct {
	// accepted is the last form of which all sets were known: in force or ready to be. nil: none yet.
	accepted *form
	// pending is a newer form that waits for sets.
	pending *form
	// current: the operator has the program, and accepted is a form of it. A program that is gone may be kept, but
	// nothing new begins to use it.
	current bool
	// refs counts the endpoints and host endpoints whose list in force names the program.
	refs int
}

// form is one version of a program.
type form struct {
	version  uint64
	rules    tables.Program
	sets     []string // IDs of catalog sets
	portSets []string // IDs of sets of named ports
}

// SetProgram takes news of a program and tells whether it concerns an endpoint of the node.
func (s *State) SetProgram(name string, version uint64, spec *v1alpha1.PolicyProgramSpec) bool {
	p := s.programs[name]
	if p == nil {
		p = &program{}
		s.programs[name] = p
	}
	s.dropPending(name, p)
	f, err := newForm(version, spec)
	if err != nil {
		s.problem(KindPolicyProgram, name, fmt.Errorf("reading rules: %w", err))
		s.forgetProgramIfUnused(name, p)
		return true
	}
	s.problem(KindPolicyProgram, name, nil)
	if missing := s.missingSets(f); len(missing) > 0 {
		s.hold(name, p, f, missing)
	} else {
		s.accept(name, p, f)
	}
	return p.refs > 0 || len(s.waitingForProgram[name]) > 0 || len(s.hostsWaiting[name]) > 0
}

// DeleteProgram takes the news that a program is gone and tells whether it concerns an endpoint of the node.
func (s *State) DeleteProgram(name string) bool {
	s.problem(KindPolicyProgram, name, nil)
	p := s.programs[name]
	if p == nil {
		return false
	}
	s.dropPending(name, p)
	p.current = false
	s.forgetProgramIfUnused(name, p)
	return p.refs > 0
}

// hold keeps f until the missing sets come.
func (s *State) hold(name string, p *program, f *form, missing []string) {
	p.pending = f
	for _, id := range missing {
		s.waitingForSet.add(id, name)
	}
}

func (s *State) missingSets(f *form) []string {
	var missing []string
	for _, id := range f.sets {
		if set := s.sets[id]; set == nil || !set.current {
			missing = append(missing, id)
		}
	}
	return missing
}

func (s *State) dropPending(name string, p *program) {
	if p.pending == nil {
		return
	}
	for _, id := range p.pending.sets {
		s.waitingForSet.remove(id, name)
	}
	p.pending = nil
}

// accept makes f the form to use, all of whose sets are known.
func (s *State) accept(name string, p *program, f *form) {
	s.dropPending(name, p)
	old := p.accepted
	for _, id := range f.sets {
		s.sets[id].refs++
	}
	p.accepted, p.current = f, true
	if p.refs > 0 {
		s.enforce(name, f)
		s.unuseSets(old)
	}
	s.releaseSets(old)
	for _, id := range s.waitingForProgram.sorted(name) {
		s.resolve(id)
	}
	if len(s.hostsWaiting[name]) > 0 {
		s.resolveHosts()
	}
}

// enforce puts a form into the tables, its sets first.
func (s *State) enforce(name string, f *form) {
	for _, id := range f.sets {
		s.useSet(id)
	}
	for _, id := range f.portSets {
		s.members.usePorts(id, s.policy.Sets)
	}
	s.policy.Programs.Set(name, f.rules)
}

func (s *State) unuseSets(f *form) {
	for _, id := range f.sets {
		s.unuseSet(id)
	}
	for _, id := range f.portSets {
		s.members.unusePorts(id, s.policy.Sets)
	}
}

// releaseSets lets go of the sets that a form kept known.
func (s *State) releaseSets(f *form) {
	if f == nil {
		return
	}
	for _, id := range f.sets {
		set := s.sets[id]
		set.refs--
		s.forgetSetIfUnused(id, set)
	}
}

// useProgram counts one more endpoint or host endpoint whose list in force names the program.
func (s *State) useProgram(name string) {
	p := s.programs[name]
	p.refs++
	if p.refs == 1 {
		s.enforce(name, p.accepted)
	}
}

func (s *State) unuseProgram(name string) {
	p := s.programs[name]
	p.refs--
	if p.refs > 0 {
		return
	}
	s.policy.Programs.Delete(name)
	s.unuseSets(p.accepted)
	s.forgetProgramIfUnused(name, p)
}

func (s *State) forgetProgramIfUnused(name string, p *program) {
	if p.current || p.refs > 0 {
		return
	}
	s.releaseSets(p.accepted)
	p.accepted = nil
	if p.pending == nil {
		delete(s.programs, name)
	}
}
