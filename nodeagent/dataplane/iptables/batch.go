package iptables

import (
	"slices"
	"strings"
)

// batch is one transaction in one of the kernel's tables.
type batch struct {
	table string
	// flush: chains that are made, or emptied where they exist.
	flush []string
	// rules: commands that fill chains.
	rules []string
	// hooks: commands that change rules in others' chains.
	hooks []string
	// remove: chains that nothing refers to any more; they are emptied first, since they may refer to one another.
	remove []string
}

func newBatch(table string) *batch { return &batch{table: table} }

func (b *batch) empty() bool {
	return len(b.flush)+len(b.rules)+len(b.hooks)+len(b.remove) == 0
}

// write makes a chain hold its rules.
func (b *batch) write(c *chain, content digest) {
	b.flush = append(b.flush, c.name)
	b.rules = append(b.rules, c.lines(content)...)
}

// text is the input of iptables-restore. All chains are named before any rule can refer to them.
func (b *batch) text() string {
	var s strings.Builder
	line := func(words ...string) {
		for _, w := range words {
			s.WriteString(w)
		}
		s.WriteByte('\n')
	}
	line("*", b.table)
	for _, name := range slices.Concat(b.flush, b.remove) {
		line(":", name, " - [0:0]")
	}
	for _, command := range slices.Concat(b.rules, b.hooks) {
		line(command)
	}
	for _, name := range b.remove {
		line("-X ", name)
	}
	line("COMMIT")
	return s.String()
}
