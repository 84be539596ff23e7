package selector

// Rename gives every key of a selector the name that rename returns for it. Selectors over different kinds of labels,
// such as those of pods and of their namespaces, can so be combined into one. global() has no keys and stays.
func Rename(s *Selector, rename func(key string) string) *Selector {
	return finish(renameNode(s.root, rename))
}

// renameNode builds the node anew, because the order of operands depends on the keys.
func renameNode(n node, rename func(key string) string) node {
	kids := make([]node, len(n.kids))
	for i := range n.kids {
		kids[i] = renameNode(n.kids[i], rename)
	}
	switch n.op {
	case opNot:
		return notNode(kids[0])
	case opAnd, opOr:
		return joinNodes(n.op, kids)
	case opAll, opNone, opGlobal, opIn, opHas, opContains, opStarts, opEnds:
	}
	if n.key != "" {
		n.key = rename(n.key)
	}
	return n
}
