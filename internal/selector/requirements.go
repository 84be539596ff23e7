package selector

import "slices"

// Requirement is a condition on one label that every match of a selector fulfils.
type Requirement struct {
	// Key of the label, which has to be there.
	Key string
	// Values that the label may have, sorted. None: any value.
	Values []string
}

// Requirements are conditions on single labels that each match fulfils, though fulfilling them all need not be enough for a
// match. They are for finding candidates by an index. A selector such as !has(k), which may match anything, has none.
func (s *Selector) Requirements() []Requirement { return s.root.requirements() }

// IsNone tells whether it is plain from the selector itself that it matches nothing, as in k in {}.
func (s *Selector) IsNone() bool { return s.root.op == opNone }

func (n *node) requirements() []Requirement {
	switch n.op {
	case opIn:
		return []Requirement{{Key: n.key, Values: n.values}}
	case opHas, opContains, opStarts, opEnds:
		return []Requirement{{Key: n.key}}
	case opAnd:
		var all []Requirement
		for i := range n.kids {
			all = append(all, n.kids[i].requirements()...)
		}
		return all
	case opOr:
		return n.commonRequirements()
	case opAll, opNone, opGlobal, opNot:
	}
	return nil
}

// commonRequirements are those on keys that every operand of an || has a requirement on: one value or another.
func (n *node) commonRequirements() []Requirement {
	common := n.kids[0].requirements()
	for i := 1; i < len(n.kids) && len(common) > 0; i++ {
		other := n.kids[i].requirements()
		var kept []Requirement
		for _, a := range common {
			for _, b := range other {
				if a.Key == b.Key {
					kept = append(kept, a.or(b))
					break
				}
			}
		}
		common = kept
	}
	return common
}

func (r Requirement) or(other Requirement) Requirement {
	if len(r.Values) == 0 || len(other.Values) == 0 {
		return Requirement{Key: r.Key}
	}
	values := slices.Concat(r.Values, other.Values)
	slices.Sort(values)
	return Requirement{Key: r.Key, Values: slices.Compact(values)}
}
