package selector

import "slices"

// AbsentKeys are the keys whose absence can make the selector match, sorted: those of terms below an odd number of
// negations. Of every other key, a label that comes can only add to what the selector matches.
func (s *Selector) AbsentKeys() []string {
	keys := s.root.absentKeys(nil, false)
	slices.Sort(keys)
	return slices.Compact(keys)
}

func (n *node) absentKeys(keys []string, negated bool) []string {
	if n.key != "" && negated {
		keys = append(keys, n.key)
	}
	for i := range n.kids {
		keys = n.kids[i].absentKeys(keys, negated != (n.op == opNot))
	}
	return keys
}
