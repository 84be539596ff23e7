package iptables

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

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
	// present: it has a chain.
	present
)

// setTypes tells the type of a set; false when there is no such set.
type setTypes func(id string) (tables.SetType, bool)

// renderer turns the rules of a program into those of one family.
type renderer struct {
	fam   family
	types setTypes
	// lists are the lists of CIDRs that rules match by sets of their own, by name.
	lists map[string][]netip.Prefix
}

// program renders the rules of a program for one direction, together with the lists that they need.
func program(fam family, types setTypes, name string, rules []tables.Rule) (*chain, map[string][]netip.Prefix, error) {
	r := renderer{fam: fam, types: types, lists: map[string][]netip.Prefix{}}
	c := newChain(name)
	if err := checkRules(types, rules); err != nil {
		return nil, nil, err
	}
	for i := range rules {
		c.rules = append(c.rules, r.rule(&rules[i])...)
	}
	return c, r.lists, nil
}

// checkRules tells why rules can't be rendered.
func checkRules(types setTypes, rules []tables.Rule) error {
	for i := range rules {
		if err := checkRule(types, &rules[i]); err != nil {
			return fmt.Errorf("rule %d %w", i+1, err)
		}
	}
	return nil
}

func checkRule(types setTypes, rule *tables.Rule) error {
	if rule.Action < tables.Allow || rule.Action > tables.Log {
		return fmt.Errorf("has the action %d, which is none of Allow, Deny, Pass, Log", rule.Action)
	}
	for _, m := range []*tables.ICMP{rule.ICMP, rule.NotICMP} {
		if err := checkICMP(m); err != nil {
			return fmt.Errorf("can't be matched: %w", err)
		}
	}
	for _, e := range []*tables.Entity{&rule.Source, &rule.Destination} {
		for _, ids := range [][]string{e.Sets, e.NotSets, e.PortSets, e.NotPortSets} {
			for _, id := range ids {
				if _, ok := types(id); !ok {
					return fmt.Errorf("names set %q, which does not exist", id)
				}
			}
		}
	}
	return nil
}

// logAction logs as users of the API know it: at the level notice, with the prefix that they look for.
const logAction = "-j LOG --log-prefix \"calico-packet: \" --log-level 5"

func action(a tables.Action) string {
	switch a {
	case tables.Allow:
		return goTo(allowChain)
	case tables.Pass:
		return goTo(passChain)
	case tables.Log:
		return logAction
	default:
		return drop
	}
}

// rule renders one rule: once for each way in which protocol and ports can match. All else is in all of them.
func (r renderer) rule(rule *tables.Rule) []string {
	common, possible := r.common(rule)
	if !possible {
		return nil
	}
	var out []string
	for _, protocol := range r.protocols(rule) {
		for _, from := range r.portWays(&rule.Source, source(), protocol) {
			for _, to := range r.portWays(&rule.Destination, destination(), protocol) {
				matches := append([]string{protocol, from, to}, common...)
				out = append(out, join(append(cheapFirst(matches), action(rule.Action))))
			}
		}
	}
	return out
}

// cheapFirst puts look-ups in sets, which cost a packet most, behind all other matches, of which one may not match.
func cheapFirst(matches []string) []string {
	isLookUp := func(match string) int {
		if strings.HasPrefix(match, "-m set ") {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(matches, func(a, b string) int { return isLookUp(a) - isLookUp(b) })
	return matches
}

// join leaves out what is empty.
func join(words []string) string {
	return strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), " ")
}

// protocols are the matches of the protocols that the rule can match; none if it can't match any packet.
func (r renderer) protocols(rule *tables.Rule) []string {
	var candidates []uint8
	icmp := rule.ICMP != nil || rule.NotICMP != nil
	ports := hasPorts(&rule.Source) || hasPorts(&rule.Destination)
	switch {
	case icmp && ports:
		return nil
	case icmp:
		if rule.Protocol != 0 && rule.Protocol != r.fam.icmp() {
			return nil
		}
		candidates = []uint8{r.fam.icmp()}
	case rule.Protocol != 0 && ports && !hasPortNumbers(rule.Protocol):
		return nil
	case rule.Protocol != 0:
		candidates = []uint8{rule.Protocol}
	case ports:
		candidates = []uint8{unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_SCTP}
	case rule.NotProtocol != 0:
		return []string{fmt.Sprintf("! -p %d", rule.NotProtocol)}
	default:
		return []string{""}
	}
	var out []string
	for _, p := range candidates {
		if p != rule.NotProtocol {
			out = append(out, fmt.Sprintf("-p %d", p))
		}
	}
	return out
}

func hasPortNumbers(protocol uint8) bool {
	return protocol == unix.IPPROTO_TCP || protocol == unix.IPPROTO_UDP || protocol == unix.IPPROTO_SCTP
}

func hasPorts(e *tables.Entity) bool {
	return len(e.Ports)+len(e.PortSets)+len(e.NotPorts)+len(e.NotPortSets) > 0
}

// portWays are the alternatives by which the port of one end can match: some of the listed ports, or a set of named
// ports. A rule without ports has one way, which matches always.
func (r renderer) portWays(e *tables.Entity, at end, protocol string) []string {
	if len(e.Ports)+len(e.PortSets) == 0 {
		return []string{""}
	}
	ways := portMatches(at, e.Ports, false)
	if merged := tables.MergedPorts(e.Ports); len(merged) == 1 {
		ways = []string{portMatch(at, protocol, merged[0])}
	}
	for _, id := range e.PortSets {
		ways = append(ways, inSet(r.set(id), at.pair))
	}
	return ways
}

// common renders all matches but those of protocols and of ports that are listed; false if no packet of the family can
// match.
func (r renderer) common(rule *tables.Rule) ([]string, bool) {
	if rule.IPVersion == 4 && r.fam != ipv4 || rule.IPVersion == 6 && r.fam != ipv6 {
		return nil, false
	}
	var out []string
	if rule.ICMP != nil {
		out = append(out, icmpMatch(r.fam, *rule.ICMP, false))
	}
	if rule.NotICMP != nil {
		out = append(out, icmpMatch(r.fam, *rule.NotICMP, true))
	}
	for _, x := range []struct {
		e  *tables.Entity
		at end
	}{{&rule.Source, source()}, {&rule.Destination, destination()}} {
		words, possible := r.entity(x.e, x.at)
		if !possible {
			return nil, false
		}
		out = append(out, words...)
	}
	return out, true
}

// entity matches one end of a packet but for the ports that are listed.
func (r renderer) entity(e *tables.Entity, at end) ([]string, bool) {
	var out []string
	addressed := false // a rule has one address for each end
	if len(e.Nets) > 0 {
		nets := tables.Greatest(ofFamily(e.Nets, r.fam))
		if len(nets) == 0 {
			return nil, false
		}
		if nets[0].Bits() > 0 {
			addressed = len(nets) == 1
			out = append(out, r.nets(nets, at, false, addressed))
		}
	}
	if nets := tables.Greatest(ofFamily(e.NotNets, r.fam)); len(nets) > 0 {
		if nets[0].Bits() == 0 {
			return nil, false
		}
		out = append(out, r.nets(nets, at, true, len(nets) == 1 && !addressed))
	}
	for _, id := range e.Sets {
		out = append(out, inSet(r.set(id), at.set))
	}
	for _, id := range e.NotSets {
		out = append(out, notInSet(r.set(id), at.set))
	}
	out = append(out, portMatches(at, e.NotPorts, true)...)
	for _, id := range e.NotPortSets {
		out = append(out, notInSet(r.set(id), at.pair))
	}
	return out, true
}

// nets matches addresses in (invert: outside) CIDRs: directly, or by a set, which costs one look-up for any number.
func (r renderer) nets(nets []netip.Prefix, at end, invert, directly bool) string {
	if directly {
		return negated(invert) + at.option + " " + nets[0].String()
	}
	name := listName(nets, r.fam)
	r.lists[name] = nets
	if invert {
		return notInSet(name, at.set)
	}
	return inSet(name, at.set)
}

// set is the name of a set that check found to exist.
func (r renderer) set(id string) string {
	typ, _ := r.types(id)
	return setName(id, typ, r.fam)
}
