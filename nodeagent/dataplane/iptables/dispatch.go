package iptables

import (
	"slices"
	"strings"
)

// Packets find their endpoint's chains by the name of their interface, a few characters at a time: each chain of the
// tree leads on by the next character in which names differ, and the last compares whole names. The cost grows with the
// length of names and hardly with their number.
const (
	// leafSize is the number of names that one chain compares.
	leafSize = 6
	// maxDepth bounds the chains on one path, since the kernel bounds how deep jumps may go (16 in nftables). A leaf at
	// that depth compares however many names there are.
	maxDepth = 5
)

// dispatchRoot is the chain at the root of the tree for one direction.
func dispatchRoot(d direction) string {
	if d == ingress {
		return chainPrefix + "to"
	}
	return chainPrefix + "from"
}

// workloadTree leads to the policies of workloads. An interface that is nobody's drops everything.
func workloadTree(d direction) tree {
	option := "-i "
	if d == ingress {
		option = "-o "
	}
	return tree{option: option, root: dispatchRoot(d), rest: drop}
}

// target is where the packets of one interface go.
type target struct {
	name string
	// rule is a target in the syntax of rules.
	rule string
}

// tree leads packets to the targets of the interfaces that they come in by or leave by.
type tree struct {
	// option matches an interface.
	option string
	// root is the chain that begins the tree. The others bear its name and what begins the interfaces'.
	root string
	// rest is the target of all that belongs to no interface in the list.
	rest   string
	chains []*chain
}

// render gives the chains of the tree.
func (t tree) render(list []target) []*chain {
	slices.SortFunc(list, func(a, b target) int { return strings.Compare(a.name, b.name) })
	t.node(t.root, list, 0)
	return t.chains
}

// node renders the chain for names that are sorted.
func (t *tree) node(name string, list []target, depth int) {
	c := newChain(name)
	t.chains = append(t.chains, c)
	if len(list) <= leafSize || depth == maxDepth {
		for _, to := range list {
			c.add(t.option+to.name, to.rule)
		}
		c.add(t.rest)
		return
	}
	common := commonPrefix(list[0].name, list[len(list)-1].name)
	for len(list) > 0 {
		if list[0].name == common {
			c.add(t.option+common, list[0].rule)
			list = list[1:]
			continue
		}
		begin := list[0].name[:len(common)+1]
		n := len(list)
		if i := slices.IndexFunc(list, func(to target) bool { return !strings.HasPrefix(to.name, begin) }); i >= 0 {
			n = i
		}
		if n == 1 {
			c.add(t.option+list[0].name, list[0].rule)
		} else {
			next := t.root + "-" + begin
			c.add(t.option+begin+"+", goTo(next))
			t.node(next, list[:n], depth+1)
		}
		list = list[n:]
	}
	c.add(t.rest)
}

func commonPrefix(a, b string) string {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return a[:n]
}
