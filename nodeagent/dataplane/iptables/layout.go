package iptables

import (
	"cmp"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/tables"
)

// The tables of the kernel that the driver has chains in. They are made true in this order.
const (
	filterTable = "filter"
	rawTable    = "raw"
	natTable    = "nat"
)

func kernelTables() []string { return []string{filterTable, rawTable, natTable} }

// hook is the rule that leads packets from one of the kernel's own chains to one of the driver's. It is the first there.
type hook struct{ table, from, to string }

func (h hook) rule() string {
	return "-m comment --comment \"" + mark + "hook\" -j " + h.to
}

// inHookChain tells whether a chain is one that a hook is in.
func inHookChain(table, chain string) bool {
	for _, h := range hooks() {
		if h.table == table && h.from == chain {
			return true
		}
	}
	return false
}

// is tells whether a rule that was read is the hook. Some versions print quotes that others leave out.
func (h hook) is(rule string) bool {
	bare := func(s string) string { return strings.ReplaceAll(s, "\"", "") }
	return bare(rule) == bare(h.rule())
}

// Chains that are always there.
const (
	forwardChain     = chainPrefix + "forward"
	inputChain       = chainPrefix + "input"
	preroutingChain  = chainPrefix + "prerouting"
	postroutingChain = chainPrefix + "postrouting"
	allowChain       = chainPrefix + "allow"
	passChain        = chainPrefix + "pass"
)

func hooks() []hook {
	return []hook{
		{filterTable, "FORWARD", forwardChain},
		{filterTable, "INPUT", inputChain},
		{rawTable, "PREROUTING", preroutingChain},
		{natTable, "POSTROUTING", postroutingChain},
	}
}

// layout renders the chains that depend on settings only.
type layout struct {
	fam      family
	prefix   string
	settings tables.Settings
}

// chains of one of the kernel's tables.
func (l layout) chains(table string) []*chain {
	switch table {
	case filterTable:
		return []*chain{
			newChain(allowChain, setMark(allowBit)),
			newChain(passChain, setMark(passBit)),
			l.forward(), l.input(),
		}
	case rawTable:
		return []*chain{l.prerouting()}
	default:
		return []*chain{l.postrouting()}
	}
}

// workloads matches all workload interfaces.
func (l layout) workloads() string { return l.prefix + "+" }

// knownPass lets packets of known connections pass and drops those that belong to none and can't begin one.
func (c *chain) knownPass() {
	c.add("-m conntrack --ctstate RELATED,ESTABLISHED", accept)
	c.add("-m conntrack --ctstate INVALID", drop)
}

// forward applies the egress policy of the workload that sends and the ingress policy of the one that receives. The
// chains of policy return when they allow, and drop otherwise.
func (l layout) forward() *chain {
	c := newChain(forwardChain)
	c.add("! -i", l.workloads(), "! -o", l.workloads(), goReturn) // none of our business
	c.knownPass()
	c.add("-i", l.workloads(), jump(dispatchRoot(egress)))
	c.add("-o", l.workloads(), jump(dispatchRoot(ingress)))
	c.add(setMark(0))
	c.add(accept)
	return c
}

// input applies egress policy to what workloads send to their own node, and the setting to what it allows.
func (l layout) input() *chain {
	c := newChain(inputChain)
	c.add("! -i", l.workloads(), goReturn)
	c.knownPass()
	for _, match := range l.discovery() {
		c.add(match, accept)
	}
	c.add(jump(dispatchRoot(egress)))
	c.add(setMark(0))
	switch l.settings.EndpointToHost {
	case tables.HostAccept:
		c.add(accept)
	case tables.HostReturn:
		c.add(goReturn)
	default:
		c.add(drop)
	}
	return c
}

// Types of ICMPv6 by which a workload finds its router and neighbours (RFC 4861). Router advertisements and redirects
// are not for workloads to send.
const (
	routerSolicitation    = 133
	neighborSolicitation  = 135
	neighborAdvertisement = 136
)

// discovery matches the ICMPv6 that a workload needs to reach its node at all.
func (l layout) discovery() []string {
	if l.fam != ipv6 {
		return nil
	}
	var out []string
	for _, typ := range []int{routerSolicitation, neighborSolicitation, neighborAdvertisement} {
		out = append(out, fmt.Sprintf("-p %d -m icmp6 --icmpv6-type %d", unix.IPPROTO_ICMPV6, typ))
	}
	return out
}

// vxlanPort is the UDP port of VXLAN when none is set (RFC 7348).
const vxlanPort = 4789

// prerouting sees that workloads send from their own addresses only, and no encapsulated packets.
func (l layout) prerouting() *chain {
	c := newChain(preroutingChain)
	c.add("! -i", l.workloads(), goReturn)
	if !l.settings.AllowIPIP {
		c.add(fmt.Sprintf("-p %d", unix.IPPROTO_IPIP), drop)
	}
	if !l.settings.AllowVXLAN {
		c.add(fmt.Sprintf("-p %d -m udp --dport %d", unix.IPPROTO_UDP, cmp.Or(l.settings.VXLANPort, vxlanPort)), drop)
	}
	c.add(inSet(sourceSet(l.fam), "src,src"), goReturn)
	// Neighbour discovery from link-local addresses, and from none while an address is being tried (RFC 4862).
	for _, from := range []string{"fe80::/10", "::/128"} {
		for _, match := range l.discovery() {
			c.add("-s", from, match, goReturn)
		}
	}
	c.add(drop)
	return c
}

// postrouting gives what leaves the pods' network the node's address.
func (l layout) postrouting() *chain {
	c := newChain(postroutingChain)
	// Ports at random: two flows that choose the same port at the same time would lose a packet.
	c.add(inSet(natSet(l.fam), "src"), notInSet(poolSet(l.fam), "dst"), "-j MASQUERADE --random-fully")
	return c
}
