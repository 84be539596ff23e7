package iptables

import (
	"net/netip"
	"slices"

	"github.com/manul-net/manul/nodeagent/fold"
	"github.com/manul-net/manul/nodeagent/tables"
)

// Endpoints reach their programs by three steps, each of which endpoints share when it is the same for them: dispatch
// leads from the interface to a list chain, which jumps to the chain of each tier in order, which jumps to the chain of
// each program in order. List and tier chains are named by a digest of what they lead to.
//
// A chain of policy that returns without a bit in the packet's mark did not decide. A list chain that returns allows, but for
// those of kind earlyList and untrackedList.

// ref names a chain of a list or a tier, or a program, in one of the kernel's tables.
type ref struct{ table, name string }

// tierChain is the chain of one tier as some endpoints see it.
type tierChain struct {
	direction direction
	programs  []string
	fallback  tables.Action // Deny or Pass
	refs      int           // list chains of its table that jump to it
}

// tierName is the name of a tier's chain.
func tierName(d direction, t tables.Tier) string {
	h := newDigester("tier" + d.letter())
	h.texts(t.Programs)
	h.number(uint64(t.Default))
	return chainPrefix + "t" + d.letter() + "-" + string(h.sum())
}

func newTierChain(d direction, t tables.Tier) (string, *tierChain) {
	return tierName(d, t), &tierChain{direction: d, programs: slices.Clone(t.Programs), fallback: t.Default}
}

// jumpsToReturn is the number of jumps to programs after which a tier's chain returns where one of them decided.
const jumpsToReturn = 16

// render renders the chain for one family. folded are its steps; none when it has no folds.
func (t *tierChain) render(name string, fam family, shapes func(string) shape, folded []fold.Step) *chain {
	r := tierRules{c: newChain(name), direction: t.direction}
	if len(folded) == 0 {
		for _, program := range t.programs {
			r.program(program, shapes(program))
		}
	}
	for _, step := range folded {
		if step.Fold == nil {
			r.program(step.Program, shapes(step.Program))
			continue
		}
		for _, set := range foldSetsOf(step.Fold, fam) {
			r.undecided()
			r.c.add(set.lookUp(t.direction), goTo(allowChain))
		}
	}
	if t.fallback != tables.Pass {
		r.undecided()
		r.c.add(drop)
	}
	return r.c
}

// tierRules are the rules of a tier's chain. A program can't return from the chain that leads to it, so the next rules must know
// whether it decided: the jump to the next program does, and after some of those a rule that returns.
type tierRules struct {
	c         *chain
	direction direction
	jumps     int // since it was certain that no program has decided
}

// program leads to a program.
func (r *tierRules) program(name string, s shape) {
	switch s {
	case missing:
		r.undecided()
		r.c.add(drop)
	case empty:
	case present:
		if r.jumps == jumpsToReturn {
			r.undecided()
		}
		to := jump(programChain(r.direction, name))
		if r.jumps > 0 {
			to = hasNoMark() + " " + to
		}
		r.c.add(to)
		r.jumps++
	}
}

// undecided has the rules that follow apply only to packets on which no program has decided.
func (r *tierRules) undecided() {
	if r.jumps > 0 {
		r.c.add(hasAnyMark(), goReturn)
	}
	r.jumps = 0
}

// listKind tells what is around the tiers of a list.
type listKind uint8

const (
	// podList: what no tier decides is allowed; a pod's profile allows.
	podList listKind = iota
	// hostList: the same for host endpoints, and packets that belong to no connection and can't begin one are dropped.
	hostList
	// denyList: the same, but what no tier decides is dropped.
	denyList
	// earlyList: what is allowed goes on with the early mark, what no tier decides without it.
	earlyList
	// untrackedList: the same before connections are known.
	untrackedList
)

// listChain jumps to the chains of tiers, in order.
type listChain struct {
	kind  listKind
	tiers []string
	// prefixes of a chain that allows packets by their source, and has no tiers.
	prefixes []netip.Prefix
	refs     int // endpoints that dispatch leads to it
}

func newListChain(d direction, kind listKind, tiers []string) (string, *listChain) {
	h := newDigester("list" + d.letter())
	h.number(uint64(kind))
	h.texts(tiers)
	return chainPrefix + "l" + d.letter() + "-" + string(h.sum()), &listChain{kind: kind, tiers: tiers}
}

// newPrefixChain makes the chain of the CIDRs that a workload may send from.
func newPrefixChain(prefixes []netip.Prefix) (string, *listChain) {
	h := newDigester("prefixes")
	for _, p := range prefixes {
		h.text(p.String())
	}
	return chainPrefix + "s-" + string(h.sum()), &listChain{prefixes: prefixes}
}

func (l *listChain) render(name string, fam family) *chain {
	c := newChain(name)
	if l.prefixes != nil {
		for _, p := range ofFamily(l.prefixes, fam) {
			c.add("-s", p.String(), goTo(allowChain))
		}
		return c
	}
	if l.kind != podList && l.kind != untrackedList {
		c.add(invalid, drop)
	}
	early := l.kind == earlyList || l.kind == untrackedList
	for i, tier := range l.tiers {
		c.add(setMark(0)) // at first somebody else's, then what the tier before said
		c.add(jump(tier))
		switch {
		case early:
			c.add(hasMark(allowBit), goTo(earlyChain))
		case i < len(l.tiers)-1 || l.kind == denyList:
			c.add(hasMark(allowBit), goReturn)
		}
	}
	// No tier decided.
	switch {
	case early:
		c.add(setMark(0))
	case l.kind == denyList:
		c.add(drop)
	}
	return c
}
