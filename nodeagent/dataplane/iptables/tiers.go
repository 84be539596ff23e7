package iptables

import (
	"slices"

	"github.com/manul-net/manul/nodeagent/tables"
)

// Endpoints reach their programs by three steps, each of which endpoints share when it is the same for them: dispatch
// leads from the interface to a list chain, which jumps to the chain of each tier in order, which jumps to the chain of
// each program in order. List and tier chains are named by a digest of what they lead to.
//
// A chain of policy that returns without a bit in the packet's mark did not decide. A list chain that returns allows.

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
	return chainPrefix + "t" + d.letter() + "-" + string(h.sum()), &tierChain{direction: d, programs: slices.Clone(t.Programs), fallback: t.Default}
}

func (t *tierChain) render(name string, shapes func(string) shape) *chain {
	c := newChain(name)
	for _, program := range t.programs {
		switch shapes(program) {
		case missing:
			c.add(drop)
		case empty:
		case present:
			c.add(jump(programChain(t.direction, program)))
			c.add(hasAnyMark(), goReturn)
		}
	}
	if t.fallback != tables.Pass {
		c.add(drop)
	}
	return c
}

// listChain jumps to the chains of tiers, in order.
type listChain struct {
	tiers []string
	refs  int // endpoints that dispatch leads to it
}

func newListChain(d direction, tiers []string) (string, *listChain) {
	h := newDigester("list" + d.letter())
	h.texts(tiers)
	return chainPrefix + "l" + d.letter() + "-" + string(h.sum()), &listChain{tiers: tiers}
}

func (l *listChain) render(name string) *chain {
	c := newChain(name)
	for i, tier := range l.tiers {
		c.add(setMark(0)) // at first somebody else's, then what the tier before said
		c.add(jump(tier))
		if i < len(l.tiers)-1 {
			c.add(hasMark(allowBit), goReturn)
		}
	}
	return c // no tier decided: a pod's profile allows
}
