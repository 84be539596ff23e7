package nftables

import (
	"slices"

	"github.com/manul-net/manul/nodeagent/tables"
)

// Endpoints reach their programs by three steps, each of which endpoints share when it is the same for them: the
// verdict map leads from the interface to a list chain, which jumps to the chain of each tier in order, which jumps to
// the chain of each program in order. List and tier chains are named by a digest of what they lead to.
//
// The verdict map jumps rather than goes to a list chain: should a packet ever come out of it undecided, the base chain's
// next rule drops it.

// tierChain is the chain of one tier as some endpoints see it.
type tierChain struct {
	direction direction
	programs  []string
	fallback  tables.Action // Deny or Pass
	refs      int           // list chains that jump to it
}

func newTierChain(d direction, t tables.Tier) (string, *tierChain) {
	h := newDigester("tier" + d.letter())
	h.texts(t.Programs)
	h.number(uint64(t.Default))
	return "t" + d.letter() + "-" + string(h.sum()), &tierChain{direction: d, programs: slices.Clone(t.Programs), fallback: t.Default}
}

// digest identifies the rules of the chain, which depend on the shapes of its programs.
func (t *tierChain) digest(shapes func(string) shape) digest {
	h := newDigester("tier rules")
	for _, name := range t.programs {
		h.text(programChain(t.direction, name))
		h.number(uint64(shapes(name)))
	}
	h.number(uint64(t.fallback))
	return h.sum()
}

func (t *tierChain) rules(shapes func(string) shape, setID *uint32) []*ruleBuilder {
	var list []*ruleBuilder
	add := func() *ruleBuilder {
		b := &ruleBuilder{setID: setID}
		list = append(list, b)
		return b
	}
	if slices.ContainsFunc(t.programs, func(name string) bool { return shapes(name) == passing }) {
		add().setPassMark(false) // it may have been set by someone else
	}
	for _, name := range t.programs {
		switch shapes(name) {
		case missing:
			add().drop()
		case empty:
		case plain:
			add().jump(programChain(t.direction, name))
		case passing:
			add().jump(programChain(t.direction, name))
			b := add()
			b.hasPassMark()
			b.setPassMark(false)
			b.goBack()
		}
	}
	if t.fallback == tables.Pass {
		add().goBack()
	} else {
		add().drop()
	}
	return list
}

// listChain jumps to the chains of tiers, in order.
type listChain struct {
	tiers []string
	refs  int // endpoints that the verdict map leads to it
}

func newListChain(d direction, tiers []string) (string, *listChain) {
	h := newDigester("list" + d.letter())
	h.texts(tiers)
	return "l" + d.letter() + "-" + string(h.sum()), &listChain{tiers: tiers}
}

func (l *listChain) digest() digest {
	h := newDigester("list rules")
	h.texts(l.tiers)
	return h.sum()
}

func (l *listChain) rules(setID *uint32) []*ruleBuilder {
	list := make([]*ruleBuilder, 0, len(l.tiers)+1)
	for _, tier := range l.tiers {
		b := &ruleBuilder{setID: setID}
		b.jump(tier)
		list = append(list, b)
	}
	// No tier decided: a pod's profile allows.
	b := &ruleBuilder{setID: setID}
	b.accept()
	return append(list, b)
}
