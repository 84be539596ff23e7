package nftables

import (
	"net/netip"
	"slices"

	"github.com/manul-net/manul/nodeagent/fold"
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

// tierName is the name of a tier's chain.
func tierName(d direction, t tables.Tier) string {
	h := newDigester("tier" + d.letter())
	h.texts(t.Programs)
	h.number(uint64(t.Default))
	return "t" + d.letter() + "-" + string(h.sum())
}

func newTierChain(d direction, t tables.Tier) (string, *tierChain) {
	return tierName(d, t), &tierChain{direction: d, programs: slices.Clone(t.Programs), fallback: t.Default}
}

// stepsOf are what the chain consists of: its programs, unless it has folds.
func (t *tierChain) stepsOf(folded []fold.Step) func(func(fold.Step) bool) {
	if len(folded) > 0 {
		return slices.Values(folded)
	}
	return func(yield func(fold.Step) bool) {
		for _, name := range t.programs {
			if !yield(fold.Step{Program: name}) {
				return
			}
		}
	}
}

// digest identifies the rules of the chain, which depend on the shapes of its programs and of its folds.
func (t *tierChain) digest(shapes func(string) shape, folded []fold.Step) digest {
	h := newDigester("tier rules")
	for step := range t.stepsOf(folded) {
		if step.Fold == nil {
			h.text(programChain(t.direction, step.Program))
			h.number(uint64(shapes(step.Program)))
			continue
		}
		h.text("fold " + step.Fold.Name)
		for _, s := range step.Fold.Shapes() {
			h.flag(s.IPv6)
			h.number(uint64(s.Bits))
			h.flag(s.Protocol)
			h.flag(s.Port)
		}
		h.text("")
	}
	h.number(uint64(t.fallback))
	return h.sum()
}

func (t *tierChain) rules(shapes func(string) shape, folded []fold.Step, setID *uint32) []*ruleBuilder {
	var list []*ruleBuilder
	add := func() *ruleBuilder {
		b := &ruleBuilder{setID: setID}
		list = append(list, b)
		return b
	}
	for step := range t.stepsOf(folded) {
		if step.Fold == nil && shapes(step.Program) == passing {
			add().setMark(passMark, false) // it may have been set by someone else
			break
		}
	}
	for step := range t.stepsOf(folded) {
		if step.Fold != nil {
			for _, shape := range step.Fold.Shapes() {
				add().foldLookUp(step.Fold, shape)
			}
			continue
		}
		switch name := step.Program; shapes(name) {
		case missing:
			add().drop()
		case empty:
		case plain:
			add().jump(programChain(t.direction, name))
		case passing:
			add().jump(programChain(t.direction, name))
			b := add()
			b.hasMark(passMark, false)
			b.setMark(passMark, false)
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

// listKind tells what is around the tiers of a list.
type listKind uint8

const (
	// podList: what no tier decides is allowed; a pod's profile allows.
	podList listKind = iota
	// forwardList: the same for host endpoints, and packets that belong to no connection and can't begin one are dropped.
	forwardList
	// allowList and denyList: the same, with what happens to traffic of the node itself on which no tier decides.
	allowList
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
	// prefixes of a chain that accepts packets by their source, and has no tiers.
	prefixes []netip.Prefix
	refs     int // elements of verdict maps that lead to it
}

func newListChain(d direction, kind listKind, tiers []string) (string, *listChain) {
	h := newDigester("list" + d.letter())
	h.number(uint64(kind))
	h.texts(tiers)
	return "l" + d.letter() + "-" + string(h.sum()), &listChain{kind: kind, tiers: tiers}
}

// newSourceChain makes the chain of the CIDRs that a workload may send from.
func newSourceChain(prefixes []netip.Prefix) (string, *listChain) {
	l := &listChain{prefixes: prefixes}
	return "s-" + string(l.digest()), l
}

func (l *listChain) digest() digest {
	h := newDigester("list rules")
	h.number(uint64(l.kind))
	h.texts(l.tiers)
	h.prefixes(l.prefixes)
	return h.sum()
}

func (l *listChain) rules(setID *uint32) []*ruleBuilder {
	var list []*ruleBuilder
	add := func() *ruleBuilder {
		b := &ruleBuilder{setID: setID}
		list = append(list, b)
		return b
	}
	if len(l.prefixes) > 0 {
		for _, p := range l.prefixes {
			b := add()
			b.family(familyOf(p.Addr()))
			b.net(familyOf(p.Addr()), source, p, false)
			b.accept()
		}
		return list
	}
	if l.kind != podList && l.kind != untrackedList {
		b := add()
		b.ctState(ctInvalid)
		b.drop()
	}
	early := l.kind == earlyList || l.kind == untrackedList
	if early {
		add().setMark(earlyMark, true)
	}
	for _, tier := range l.tiers {
		add().jump(tier)
	}
	if early {
		add().setMark(earlyMark, false)
	}
	if l.kind == denyList {
		add().drop()
	} else {
		add().accept()
	}
	return list
}
