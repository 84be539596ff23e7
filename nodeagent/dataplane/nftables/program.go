package nftables

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/tables"
)

// shape is what a tier's chain must know of a program in one direction.
type shape uint8

const (
	// missing: the program is not in force in any form; endpoints that need it drop.
	missing shape = iota
	// empty: it has no rules, and no chain.
	empty
	// plain: its chain either decides or returns.
	plain
	// passing: its chain may also return with the pass mark.
	passing
)

func shapeOf(rules []tables.Rule) shape {
	if len(rules) == 0 {
		return empty
	}
	for i := range rules {
		if rules[i].Action == tables.Pass {
			return passing
		}
	}
	return plain
}

// setTypes tells the type of a set; false when there is no such set.
type setTypes func(id string) (tables.SetType, bool)

// rulesDigest identifies the chain that rules become, the names of sets included.
func rulesDigest(rules []tables.Rule, types setTypes, use inUse) (digest, error) {
	d := newDigester("program")
	d.flag(use.v6)
	for i := range rules {
		r := &rules[i]
		if r.Action < tables.Allow || r.Action > tables.Log {
			return "", fmt.Errorf("rule %d: action %d is none of Allow, Deny, Pass, Log", i+1, r.Action)
		}
		for _, n := range []uint64{uint64(r.Action), uint64(r.IPVersion), uint64(r.Protocol), uint64(r.NotProtocol)} {
			d.number(n)
		}
		for _, m := range []*tables.ICMP{r.ICMP, r.NotICMP} {
			if m == nil {
				d.number(0)
				continue
			}
			d.number(1)
			d.number(uint64(uint16(m.Type)))
			d.number(uint64(uint16(m.Code)))
		}
		for _, e := range []*tables.Entity{&r.Source, &r.Destination} {
			for _, ids := range [][]string{e.Sets, e.NotSets, e.PortSets, e.NotPortSets} {
				d.texts(ids)
				for _, id := range ids {
					typ, ok := types(id)
					if !ok {
						return "", fmt.Errorf("rule %d names set %q, which does not exist", i+1, id)
					}
					d.number(uint64(typ))
				}
			}
			d.prefixes(e.Nets)
			d.prefixes(e.NotNets)
			d.ports(e.Ports)
			d.ports(e.NotPorts)
		}
	}
	return d.sum(), nil
}

// renderer turns rules into nftables'.
type renderer struct {
	types setTypes
	inUse inUse
	setID *uint32
}

func (r renderer) builder() *ruleBuilder { return &ruleBuilder{setID: r.setID} }

// program renders the rules of a program for one direction.
func (r renderer) program(rules []tables.Rule) []*ruleBuilder {
	var out []*ruleBuilder
	for i := range rules {
		out = append(out, r.rule(&rules[i])...)
	}
	return out
}

// rule renders one rule: as one of nftables' where that suffices, as one for each family where addresses matter, and
// as one for each way in which ports can match.
func (r renderer) rule(rule *tables.Rule) []*ruleBuilder {
	rule = withICMPProtocol(rule)
	if !portsCanMatch(rule) {
		return nil
	}
	var out []*ruleBuilder
	if !familyMatters(rule) {
		return r.variants(rule, families)
	}
	for _, fam := range r.inUse.families() {
		if canMatch(rule, fam) {
			out = append(out, r.variants(rule, fam)...)
		}
	}
	return out
}

// withICMPProtocol gives a rule that matches ICMP types but no protocol the protocol that its IP version has. It stays
// without when it may match both.
func withICMPProtocol(rule *tables.Rule) *tables.Rule {
	if rule.ICMP == nil && rule.NotICMP == nil || rule.Protocol != 0 || rule.IPVersion == 0 {
		return rule
	}
	clone := *rule
	clone.Protocol = ipv4.icmp()
	if rule.IPVersion == 6 {
		clone.Protocol = ipv6.icmp()
	}
	return &clone
}

func hasPorts(e *tables.Entity) bool {
	return len(e.Ports)+len(e.PortSets)+len(e.NotPorts)+len(e.NotPortSets) > 0
}

// portsCanMatch is false for a rule with ports whose protocol has none.
func portsCanMatch(rule *tables.Rule) bool {
	if !hasPorts(&rule.Source) && !hasPorts(&rule.Destination) {
		return true
	}
	switch rule.Protocol {
	case 0, unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_SCTP:
		return true
	}
	return false
}

// familyMatters tells whether the rule looks at anything that only one family has, or has in its own way.
func familyMatters(rule *tables.Rule) bool {
	if rule.IPVersion != 0 || rule.ICMP != nil || rule.NotICMP != nil {
		return true
	}
	for _, e := range []*tables.Entity{&rule.Source, &rule.Destination} {
		if len(e.Sets)+len(e.NotSets)+len(e.Nets)+len(e.NotNets)+len(e.PortSets)+len(e.NotPortSets) > 0 {
			return true
		}
	}
	return false
}

// canMatch is false when no packet of the family can match the rule.
func canMatch(rule *tables.Rule, fam family) bool {
	if rule.IPVersion == 4 && fam != ipv4 || rule.IPVersion == 6 && fam != ipv6 {
		return false
	}
	if (rule.ICMP != nil || rule.NotICMP != nil) && rule.Protocol != 0 && rule.Protocol != fam.icmp() {
		return false
	}
	for _, e := range []*tables.Entity{&rule.Source, &rule.Destination} {
		if len(e.Nets) > 0 && len(ofFamily(e.Nets, fam)) == 0 {
			return false
		}
	}
	return true
}

func ofFamily(nets []netip.Prefix, fam family) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range nets {
		if familyOf(p.Addr()) == fam {
			out = append(out, p)
		}
	}
	return out
}

// A list of CIDRs or ports becomes as many rules when it is short, and an anonymous set when it is not. The kernel looks
// through all sets of a table, one by one, for each set that is made and for each rule that names one; so thousands of
// short lists must not be sets.
const (
	maxListed   = 4
	maxVariants = 16
)

// way is one of the ways in which a part of a rule can match.
type way func(*ruleBuilder)

// variants renders the rule for one family, or for both when fam is families: once for each combination of ways in
// which its lists of CIDRs and ports can match. The ways exclude one another, named ports apart.
func (r renderer) variants(rule *tables.Rule, fam family) []*ruleBuilder {
	ways := r.ways(rule, fam, maxListed)
	if combinations(ways) > maxVariants {
		ways = r.ways(rule, fam, 1)
	}
	out := make([]*ruleBuilder, 0, combinations(ways))
	var combine func(chosen []way)
	combine = func(chosen []way) {
		if len(chosen) < len(ways) {
			for _, w := range ways[len(chosen)] {
				combine(append(chosen, w))
			}
			return
		}
		b := r.builder()
		r.common(b, rule, fam)
		r.entity(b, &rule.Source, fam, source)
		r.entity(b, &rule.Destination, fam, destination)
		for _, w := range chosen {
			w(b)
		}
		b.action(rule.Action)
		out = append(out, b)
	}
	combine(make([]way, 0, len(ways)))
	return out
}

func combinations(ways [][]way) int {
	n := 1
	for _, w := range ways {
		n *= len(w)
	}
	return n
}

// ways are the ways in which each list of the rule can match; lists of more than listed are one way, as a set.
func (r renderer) ways(rule *tables.Rule, fam family, listed int) [][]way {
	var out [][]way
	for at, e := range [...]*tables.Entity{source: &rule.Source, destination: &rule.Destination} {
		if list := ofFamily(e.Nets, fam); len(list) > 0 {
			out = append(out, netWays(fam, end(at), tables.Greatest(list), listed))
		}
		if len(e.Ports)+len(e.PortSets) > 0 {
			out = append(out, r.portWays(e, fam, end(at), listed))
		}
	}
	return out
}

func netWays(fam family, at end, list []netip.Prefix, listed int) []way {
	if len(list) > listed {
		return []way{func(b *ruleBuilder) { b.netSet(fam, at, list, false) }}
	}
	ways := make([]way, 0, len(list))
	for _, p := range list {
		ways = append(ways, func(b *ruleBuilder) { b.net(fam, at, p, false) })
	}
	return ways
}

func (r renderer) portWays(e *tables.Entity, fam family, at end, listed int) []way {
	var ways []way
	merged := tables.MergedPorts(e.Ports)
	if len(merged) > listed {
		ways = append(ways, func(b *ruleBuilder) { b.portRangeSet(at, merged, false) })
	} else {
		for _, p := range merged {
			ways = append(ways, func(b *ruleBuilder) { b.portRange(at, p, false) })
		}
	}
	for _, id := range e.PortSets {
		ways = append(ways, func(b *ruleBuilder) { b.portSet(fam, at, r.set(id, fam), false) })
	}
	return ways
}

func (r renderer) common(b *ruleBuilder, rule *tables.Rule, fam family) {
	if fam != families {
		b.family(fam)
	}
	switch {
	case rule.Protocol != 0:
		b.protocol(rule.Protocol, false)
	case rule.ICMP != nil || rule.NotICMP != nil:
		b.protocol(fam.icmp(), false)
	case hasPorts(&rule.Source) || hasPorts(&rule.Destination):
		b.withPorts()
	}
	if rule.NotProtocol != 0 {
		b.protocol(rule.NotProtocol, true)
	}
	if rule.ICMP != nil {
		b.icmp(*rule.ICMP, false)
	}
	if rule.NotICMP != nil {
		b.icmp(*rule.NotICMP, true)
	}
}

// entity matches what must hold of one end of a packet in any case.
func (r renderer) entity(b *ruleBuilder, e *tables.Entity, fam family, at end) {
	if list := tables.Greatest(ofFamily(e.NotNets, fam)); len(list) > maxListed {
		b.netSet(fam, at, list, true)
	} else {
		for _, p := range list {
			b.net(fam, at, p, true)
		}
	}
	for _, id := range e.Sets {
		b.address(fam, at, register)
		b.lookUp(register, r.set(id, fam), 0, false)
	}
	for _, id := range e.NotSets {
		b.address(fam, at, register)
		b.lookUp(register, r.set(id, fam), 0, true)
	}
	if list := tables.MergedPorts(e.NotPorts); len(list) > maxListed {
		b.portRangeSet(at, list, true)
	} else {
		for _, p := range list {
			b.portRange(at, p, true)
		}
	}
	for _, id := range e.NotPortSets {
		b.portSet(fam, at, r.set(id, fam), true)
	}
}

// set is the name of a set that rulesDigest found to exist.
func (r renderer) set(id string, fam family) string {
	typ, _ := r.types(id)
	return setName(id, typ, fam)
}

func (r *ruleBuilder) action(action tables.Action) {
	switch action {
	case tables.Allow:
		r.accept()
	case tables.Deny:
		r.drop()
	case tables.Pass:
		r.setMark(passMark, true)
		r.goBack()
	case tables.Log:
		r.log()
	}
}
