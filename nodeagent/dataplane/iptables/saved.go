package iptables

import (
	"fmt"
	"strings"
)

// saved is what one of the kernel's tables holds, as far as it concerns the driver.
type saved struct {
	// chains that are the driver's by their names, with the digests of their content; empty where somebody changed it.
	chains map[string]digest
	// others are the rules that lead from others' chains to the driver's, and the first rule of each of others' chains.
	others []savedRule
	first  map[string]string
}

// savedRule is a rule in somebody else's chain, in the syntax of iptables-restore without "-A" and the chain's name.
type savedRule struct{ chain, rule string }

// parseSaved reads the output of iptables-save for one table.
func parseSaved(out []byte) *saved {
	s := &saved{chains: map[string]digest{}, first: map[string]string{}}
	seen := map[string]*progress{}
	for line := range strings.Lines(string(out)) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, ":"+chainPrefix):
			name, _, _ := strings.Cut(line[1:], " ")
			seen[name] = &progress{}
		case strings.HasPrefix(line, "-A "):
			name, rule, _ := strings.Cut(line[len("-A "):], " ")
			if p := seen[name]; p != nil {
				p.see(commentOf(rule))
				continue
			}
			if _, ok := s.first[name]; !ok {
				s.first[name] = rule
			}
			if leadsToUs(rule) {
				s.others = append(s.others, savedRule{name, rule})
			}
		}
	}
	for name, p := range seen {
		s.chains[name] = p.result()
	}
	return s
}

// holds tells whether a rule of others, the hooks and their kind apart, leads to a chain.
func (s *saved) holds(table, chain string) bool {
	for _, r := range s.others {
		if (strings.HasSuffix(r.rule, " "+chain) || strings.Contains(r.rule, " "+chain+" ")) && !inHookChain(table, r.chain) {
			return true
		}
	}
	return false
}

// leadsToUs tells whether a rule jumps to a chain of the driver's.
func leadsToUs(rule string) bool {
	return strings.Contains(" "+rule, " -j "+chainPrefix) || strings.Contains(" "+rule, " -g "+chainPrefix)
}

// commentOf is the driver's comment in a rule.
func commentOf(rule string) string {
	const option = "--comment \"" + mark
	_, rest, found := strings.Cut(rule, option)
	if !found {
		return ""
	}
	comment, _, _ := strings.Cut(rest, "\"")
	return comment
}

// progress checks that the rules of a chain are those that the driver wrote: each bears the same digest, its place and
// their number.
type progress struct {
	digest     digest
	place, of  int
	unexpected bool
}

func (p *progress) see(comment string) {
	var content string
	var place, of int
	if n, err := fmt.Sscanf(comment, "%16s %d/%d", &content, &place, &of); err != nil || n != 3 {
		p.unexpected = true
		return
	}
	p.place++
	if p.place == 1 {
		p.digest, p.of = digest(content), of
	}
	if place != p.place || of != p.of || digest(content) != p.digest {
		p.unexpected = true
	}
}

func (p *progress) result() digest {
	if p.unexpected || p.place != p.of {
		return ""
	}
	return p.digest
}
