package iptables

import (
	"fmt"
	"strings"
)

// chain is what one chain should hold: rules in the syntax of iptables-restore, without "-A" and the chain's name.
type chain struct {
	name  string
	rules []string
}

func newChain(name string, rules ...string) *chain { return &chain{name: name, rules: rules} }

func (c *chain) add(words ...string) {
	c.rules = append(c.rules, strings.Join(words, " "))
}

// digest identifies the content.
func (c *chain) digest() digest { return digestOf("chain", c.rules...) }

// mark begins the comment that tells the driver's rules from others'.
const mark = "manul:"

// comment is what each rule carries: the digest of its chain's content, its own place and how many rules there are. By
// it a restarted driver knows a chain that is right, and one in which somebody removed, added or moved rules.
func (d digest) comment(place, of int) string {
	return fmt.Sprintf("%s%s %d/%d", mark, string(d), place, of)
}

// lines are the commands that fill the chain. A chain without rules gets one that does nothing but carry the comment.
func (c *chain) lines(content digest) []string {
	rules := c.rules
	if len(rules) == 0 {
		rules = []string{""}
	}
	out := make([]string, len(rules))
	for i, rule := range rules {
		out[i] = strings.TrimSpace("-A " + c.name + " -m comment --comment \"" + content.comment(i+1, len(rules)) + "\" " + rule)
	}
	return out
}

// Targets.
const (
	accept   = "-j ACCEPT"
	drop     = "-j DROP"
	goReturn = "-j RETURN"
)

func jump(to string) string           { return "-j " + to }
func goTo(to string) string           { return "-g " + to }
func inSet(name, flags string) string { return "-m set --match-set " + name + " " + flags }
func notInSet(name, flags string) string {
	return "-m set ! --match-set " + name + " " + flags
}

// Bits of the packet mark, within 0xffff0000. A program sets one of the first two to tell the chains that called it what it
// decided. They are cleared before policy and after it, so no packet leaves a table with them. The early bit tells later
// tables that policy for a host endpoint has allowed a packet, or that the node itself has sent it; it is cleared when a
// packet comes and before it leaves or arrives. Other bits,
// such as kube-proxy's 0x4000 and 0x8000, are left alone. They are not those of the nftables driver, whose rules are in
// force beside these while one takes the other's place.
const (
	allowBit = 0x00040000
	passBit  = 0x00080000
	earlyBit = 0x00100000
	markBits = allowBit | passBit
	allBits  = markBits | earlyBit
)

// changeMark gives the bits in mask those of value.
func changeMark(value, mask uint32) string {
	return fmt.Sprintf("-j MARK --set-xmark %#x/%#x", value, mask)
}
func setMark(bit uint32) string    { return changeMark(bit, markBits) }
func clearMark(bits uint32) string { return changeMark(0, bits) }
func hasMark(bit uint32) string    { return fmt.Sprintf("-m mark --mark %#x/%#x", bit, bit) }
func hasNotMark(bit uint32) string { return fmt.Sprintf("-m mark ! --mark %#x/%#x", bit, bit) }
func hasNoMark() string            { return fmt.Sprintf("-m mark --mark 0x0/%#x", uint32(markBits)) }

func hasAnyMark() string { return fmt.Sprintf("-m mark ! --mark 0x0/%#x", uint32(markBits)) }
