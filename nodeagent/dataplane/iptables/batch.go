package iptables

import (
	"slices"
	"strings"
)

// batch is one transaction in one of the kernel's tables.
type batch struct {
	table string
	// written are chains that are made, or emptied where they exist, and filled.
	written []written
	// hooks: commands that change rules in others' chains.
	hooks []string
	// removed are chains that nothing refers to any more. They are emptied first, since they may refer to one another.
	removed []string
}

// written is a chain and the commands that fill it.
type written struct {
	name  string
	lines []string
}

func newBatch(table string) *batch { return &batch{table: table} }

func (b *batch) empty() bool {
	return len(b.written)+len(b.hooks)+len(b.removed) == 0
}

// write makes a chain hold its rules.
func (b *batch) write(c *chain, content digest) {
	b.written = append(b.written, written{c.name, c.lines(content)})
}

// remove takes a chain away, whatever was to be written to it.
func (b *batch) remove(name string) {
	b.written = slices.DeleteFunc(b.written, func(w written) bool { return w.name == name })
	b.removed = append(b.removed, name)
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
	for _, w := range b.written {
		line(":", w.name, " - [0:0]")
	}
	for _, name := range b.removed {
		line(":", name, " - [0:0]")
	}
	for _, w := range b.written {
		for _, command := range w.lines {
			line(command)
		}
	}
	for _, command := range b.hooks {
		line(command)
	}
	for _, name := range b.removed {
		line("-X ", name)
	}
	line("COMMIT")
	return s.String()
}
