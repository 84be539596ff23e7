package iptables

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/tables"
)

// The tables of the kernel that the driver has chains in.
const (
	filterTable = "filter"
	rawTable    = "raw"
	mangleTable = "mangle"
	natTable    = "nat"
)

// kernelTables in the order in which packets see them.
func kernelTables() []string { return []string{rawTable, mangleTable, natTable, filterTable} }

// policyTables are those in which there may be chains of policy.
func policyTables() []string { return []string{rawTable, mangleTable, filterTable} }

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
	floatingChain    = chainPrefix + "floating"
	allowChain       = chainPrefix + "allow"
	passChain        = chainPrefix + "pass"
)

// Chains that are there while host endpoints need them.
const (
	earlyChain       = chainPrefix + "early"
	clearChain       = chainPrefix + "clear"
	hostRawInChain   = chainPrefix + "host-raw-in"
	rawOutChain      = chainPrefix + "host-raw-out" // for tunnels, too
	hostPreChain     = chainPrefix + "host-pre"
	hostForwardChain = chainPrefix + "host-forward"
	hostInputChain   = chainPrefix + "host-input"
	hostOutputChain  = chainPrefix + "host-output"
	hostPostChain    = chainPrefix + "host-post"
)

// prefixRoot is the root of the tree that leads from a workload's interface to the CIDRs it may send from.
const prefixRoot = chainPrefix + "source"

// hooks that there may be.
func hooks() []hook {
	return []hook{
		{filterTable, "FORWARD", forwardChain},
		{filterTable, "INPUT", inputChain},
		{filterTable, "OUTPUT", hostOutputChain},
		{rawTable, "PREROUTING", preroutingChain},
		{rawTable, "OUTPUT", rawOutChain},
		{mangleTable, "PREROUTING", hostPreChain},
		{mangleTable, "POSTROUTING", hostPostChain},
		{natTable, "POSTROUTING", postroutingChain},
		{natTable, "PREROUTING", floatingChain},
		{natTable, "OUTPUT", floatingChain},
	}
}

// needed tells whether somebody needs the hook.
func (h hook) needed(u use) bool {
	switch h.to {
	case hostOutputChain, hostPostChain:
		return u.hosts
	case rawOutChain:
		return u.untracked || u.vxlan
	case hostPreChain:
		return u.preDNAT
	case floatingChain:
		return u.floating
	default:
		return true
	}
}

// layout renders the chains that depend on settings only.
type layout struct {
	fam      family
	prefix   string
	settings tables.Settings
	use      use
	floating []floating
}

// chains of one of the kernel's tables.
func (l layout) chains(table string) []*chain {
	switch table {
	case filterTable:
		list := append(deciding(), l.forward(), l.input())
		if l.use.hosts {
			list = append(list, newChain(clearChain, clearMark(allBits)), l.hostInput(), l.hostOutput())
		}
		if l.use.forward {
			list = append(list, l.hostForward())
		}
		return list
	case rawTable:
		list := []*chain{l.prerouting()}
		if l.use.untracked {
			list = append(append(list, newChain(earlyChain, changeMark(earlyBit, allBits)), l.rawIn(), l.rawOut()), deciding()...)
		} else if l.use.prefixes {
			list = append(list, deciding()...)
		}
		if l.use.vxlan && !l.use.untracked {
			list = append(list, l.rawOut())
		}
		if l.use.prefixes {
			list = append(list, newChain(clearChain, clearMark(markBits)))
		}
		return list
	case mangleTable:
		var list []*chain
		if l.use.hosts {
			list = append(deciding(), l.hostPostrouting())
		}
		if l.use.preDNAT {
			list = append(list, newChain(earlyChain, changeMark(earlyBit, allBits)), l.beforeDNAT())
		}
		return list
	default:
		list := []*chain{l.postrouting()}
		if l.use.floating {
			list = append(list, l.floatingDestination())
		}
		return list
	}
}

// deciding are the chains by which a program says what it decided.
func deciding() []*chain {
	return []*chain{newChain(allowChain, setMark(allowBit)), newChain(passChain, setMark(passBit))}
}

// workloads matches all workload interfaces.
func (l layout) workloads() string { return l.prefix + "+" }

// knownPass lets packets of known connections pass and drops those that belong to none and can't begin one. That are those
// of TCP without SYN, too, which the kernel would take for the middle of a connection that it does not know yet: a
// connection whose entry was removed because policy denies it now must not come back by a packet of its other end.
func (c *chain) knownPass() {
	c.add("-m conntrack --ctstate RELATED,ESTABLISHED", accept)
	c.add(invalid, drop)
	c.add("-p 6 -m conntrack --ctstate NEW -m tcp ! --tcp-flags SYN SYN", drop)
}

const invalid = "-m conntrack --ctstate INVALID"

// forward applies the egress policy of the workload that sends and the ingress policy of the one that receives; where there
// is an interface of the node instead, that of its host endpoint. The
// chains of policy return when they allow, and drop otherwise.
func (l layout) forward() *chain {
	c := newChain(forwardChain)
	others := goReturn // none of our business
	if l.use.hosts {
		c.add(clearMark(earlyBit))
	}
	if l.use.forward {
		others = goTo(hostForwardChain)
	}
	c.add("! -i", l.workloads(), "! -o", l.workloads(), others)
	c.knownPass()
	if l.use.forward {
		c.add("! -i", l.workloads(), jump(forwardIn.root()))
	}
	c.add("-i", l.workloads(), jump(dispatchRoot(egress)))
	c.add("-o", l.workloads(), jump(dispatchRoot(ingress)))
	if l.use.forward {
		c.add("! -o", l.workloads(), jump(forwardOut.root()))
	}
	c.add(setMark(0))
	c.add(accept)
	return c
}

// input applies egress policy to what workloads send to their own node, and the setting to what it allows.
func (l layout) input() *chain {
	c := newChain(inputChain)
	others := goReturn
	if l.use.hosts {
		others = goTo(hostInputChain)
	}
	l.onlyNodesTunnel(c)
	if l.use.untracked || l.use.preDNAT {
		c.add(hasMark(earlyBit), goTo(clearChain)) // policy has allowed it
	}
	c.add("! -i", l.workloads(), others)
	c.knownPass()
	for _, match := range l.discovery(workloadDiscovery()...) {
		c.add(match, accept)
	}
	c.add(jump(dispatchRoot(egress)))
	c.add(setMark(0))
	l.failsafe(c, l.settings.PeeringPorts, destination(), destination())
	switch l.settings.EndpointToHost {
	case tables.HostAccept:
		c.add(accept)
	case tables.HostReturn:
		c.add(others)
	default:
		c.add(drop)
	}
	return c
}

// Types of ICMPv6 by which hosts find their routers and neighbours (RFC 4861).
const (
	routerSolicitation    = 133
	routerAdvertisement   = 134
	neighborSolicitation  = 135
	neighborAdvertisement = 136
	redirect              = 137
)

// workloadDiscovery are the types that a workload needs to reach its node at all. Router advertisements and redirects are
// not for workloads to send.
func workloadDiscovery() []int {
	return []int{routerSolicitation, neighborSolicitation, neighborAdvertisement}
}

// discovery matches ICMPv6 of the types.
func (l layout) discovery(types ...int) []string {
	if l.fam != ipv6 {
		return nil
	}
	var out []string
	for _, typ := range types {
		out = append(out, fmt.Sprintf("-p %d -m icmp6 --icmpv6-type %d", unix.IPPROTO_ICMPV6, typ))
	}
	return out
}

// vxlanPort is the UDP port of VXLAN when none is set (RFC 7348).
const vxlanPort = 4789

// prerouting sees that workloads send from their own addresses only, and no encapsulated packets.
func (l layout) prerouting() *chain {
	c := newChain(preroutingChain)
	others := goReturn
	if l.use.untracked {
		c.add(clearMark(earlyBit))
		others = goTo(hostRawInChain)
	}
	l.untrackedTunnel(c, "-m addrtype --dst-type LOCAL")
	c.add("! -i", l.workloads(), others)
	if !l.settings.AllowIPIP {
		c.add(fmt.Sprintf("-p %d", unix.IPPROTO_IPIP), drop)
	}
	if !l.settings.AllowVXLAN {
		c.add(l.vxlanPackets(), drop)
	}
	c.add(inSet(sourceSet(l.fam), "src,src"), goReturn)
	if l.use.prefixes {
		c.add(setMark(0)) // it may have been set by someone else
		c.add(jump(prefixRoot))
		c.add(hasMark(allowBit), goTo(clearChain))
	}
	// Neighbour discovery from link-local addresses, and from none while an address is being tried (RFC 4862).
	for _, from := range []string{"fe80::/10", "::/128"} {
		for _, match := range l.discovery(workloadDiscovery()...) {
			c.add("-s", from, match, goReturn)
		}
	}
	c.add(drop)
	return c
}

// postrouting gives what leaves the pods' network the node's address.
func (l layout) postrouting() *chain {
	c := newChain(postroutingChain)
	l.floatingHairpin(c)
	l.tunnelSource(c)
	// Ports at random: two flows that choose the same port at the same time would lose a packet.
	c.add(inSet(natSet(l.fam), "src"), notInSet(poolSet(l.fam), "dst"), "-j MASQUERADE --random-fully")
	return c
}
