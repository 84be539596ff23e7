package iptables

import (
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/tables"
)

// hostHook is a place where host endpoints decide on packets.
type hostHook uint8

const (
	untrackedIn hostHook = iota
	untrackedOut
	preDNAT
	forwardIn
	forwardOut
	localIn
	localOut
	hostHooks
)

// root is the chain that leads from an interface to what its host endpoint says there.
func (h hostHook) root() string {
	return chainPrefix + [hostHooks]string{"hui", "huo", "hpd", "hfi", "hfo", "hli", "hlo"}[h]
}

// table is the kernel's table in which the hook is. What the node itself sends is judged in mangle, since only there, after
// its destination was translated and it was routed anew, it is known by which interface it leaves.
func (h hostHook) table() string {
	return [hostHooks]string{rawTable, rawTable, mangleTable, filterTable, filterTable, filterTable, mangleTable}[h]
}

// direction of the policies that decide there.
func (h hostHook) direction() direction {
	if h == untrackedOut || h == forwardOut || h == localOut {
		return egress
	}
	return ingress
}

// option matches the interface that the hook looks at.
func (h hostHook) option() string {
	if h.direction() == egress {
		return "-o "
	}
	return "-i "
}

// hostState is what the kernel has of a host endpoint.
type hostState struct {
	to    [hostHooks]string // the target in dispatch; goReturn leaves a packet alone
	lists [hostHooks]string // the chain that it leads to, if it is one
}

// use is what the chains that are not of single items must know of them: what nobody needs does not exist.
type use struct {
	hosts, untracked, preDNAT, forward bool
	// prefixes: workloads may send from others than their addresses.
	prefixes bool
	// floating: workloads have floating addresses.
	floating bool
	// vxlan: the node has an end of a VXLAN tunnel.
	vxlan bool
}

func (s *state) use() use {
	var u use
	for _, h := range s.hosts {
		u.hosts = true
		u.untracked = u.untracked || h.to[untrackedIn] != goReturn || h.to[untrackedOut] != goReturn
		u.preDNAT = u.preDNAT || h.to[preDNAT] != goReturn
		u.forward = u.forward || h.to[forwardIn] != goReturn || h.to[forwardOut] != goReturn
	}
	for _, e := range s.endpoints {
		u.prefixes = u.prefixes || e.prefixes != ""
	}
	return u
}

// needs tells whether a hook of host endpoints is needed.
func (u use) needs(h hostHook) bool {
	switch h {
	case untrackedIn, untrackedOut:
		return u.untracked
	case preDNAT:
		return u.preDNAT
	case forwardIn, forwardOut:
		return u.forward
	default:
		return u.hosts
	}
}

// loopback is the interface on which nothing is policed.
const loopback = "lo"

// notOurs lets packets pass that host endpoints have no say in: those of workloads and of the loopback interface.
func (l layout) notOurs(c *chain, option string) {
	c.add(option+loopback, goReturn)
	c.add(option+l.workloads(), goReturn)
}

// connectionsPass leaves packets of known connections to others' rules.
func (c *chain) connectionsPass() { c.add("-m conntrack --ctstate RELATED,ESTABLISHED", goReturn) }

// neighborDiscoveryPasses: without it no host reaches its neighbours (RFC 4861).
func (l layout) neighborDiscoveryPasses(c *chain) {
	for _, match := range l.discovery(routerSolicitation, routerAdvertisement, neighborSolicitation, neighborAdvertisement, redirect) {
		c.add(match, goReturn)
	}
}

// failsafe lets packets pass whose port at one end is in the list, and whose other end is in the entry's network. Entries
// of protocols without ports can't match.
func (l layout) failsafe(c *chain, list []tables.FailsafePort, at, other end) {
	type key struct {
		net      netip.Prefix
		protocol uint8
	}
	ports := map[key][]tables.PortRange{}
	for _, p := range list {
		k := key{protocol: p.Protocol}
		if p.Net.IsValid() {
			k.net = p.Net.Masked()
			if familyOf(k.net.Addr()) != l.fam {
				continue
			}
		}
		if hasPortNumbers(p.Protocol) {
			ports[k] = append(ports[k], tables.PortRange{First: p.Port, Last: p.Port})
		}
	}
	for _, k := range sortedKeys(ports, func(a, b key) int {
		if c := a.net.Compare(b.net); c != 0 {
			return c
		}
		return int(a.protocol) - int(b.protocol)
	}) {
		address := ""
		if k.net.IsValid() && k.net.Bits() > 0 {
			address = other.option + " " + k.net.String()
		}
		for _, match := range portMatches(at, ports[k], false) {
			c.add(join([]string{protocolMatch(k.protocol), address, match, goReturn}))
		}
	}
}

func sortedKeys[K comparable, V any](m map[K]V, compare func(a, b K) int) []K {
	list := make([]K, 0, len(m))
	for k := range m {
		list = append(list, k)
	}
	slices.SortFunc(list, compare)
	return list
}

// rawIn: policy on what comes in before connections are tracked, and what it allows is not tracked. Failsafe ports are those
// of the node, and, for answers, those elsewhere.
func (l layout) rawIn() *chain {
	c := newChain(hostRawInChain)
	c.add("-i "+loopback, goReturn)
	l.neighborDiscoveryPasses(c)
	l.tunnelsPass(c)
	l.failsafe(c, l.settings.FailsafeInbound, destination(), source())
	l.failsafe(c, l.settings.FailsafeOutbound, source(), source())
	c.add(jump(untrackedIn.root()))
	c.add(hasMark(earlyBit), notrack)
	return c
}

// rawOut: policy on what the node sends before connections are tracked.
func (l layout) rawOut() *chain {
	c := newChain(rawOutChain)
	l.untrackedTunnel(c, "")
	if !l.use.untracked {
		return c
	}
	c.add(clearMark(earlyBit))
	l.notOurs(c, "-o ")
	l.neighborDiscoveryPasses(c)
	l.tunnelsPass(c)
	l.failsafe(c, l.settings.FailsafeOutbound, destination(), destination())
	l.failsafe(c, l.settings.FailsafeInbound, source(), destination())
	c.add(jump(untrackedOut.root()))
	c.add(hasMark(earlyBit), notrack)
	return c
}

// beforeDNAT: policy on what comes in before its destination is translated.
func (l layout) beforeDNAT() *chain {
	c := newChain(hostPreChain)
	if l.use.untracked {
		c.add(hasMark(earlyBit), goReturn) // policy has allowed it
	} else {
		c.add(clearMark(earlyBit))
	}
	l.notOurs(c, "-i ")
	c.connectionsPass()
	l.neighborDiscoveryPasses(c)
	l.tunnelsPass(c)
	l.failsafe(c, l.settings.FailsafeInbound, destination(), source())
	c.add(jump(preDNAT.root()))
	return c
}

// hostForward: policy on what the node passes on between interfaces of its own.
func (l layout) hostForward() *chain {
	c := newChain(hostForwardChain)
	c.connectionsPass()
	c.add(jump(forwardIn.root()))
	c.add(jump(forwardOut.root()))
	c.add(setMark(0))
	return c
}

// hostInput decides on what is for the node itself. What it allows is left to others' rules.
func (l layout) hostInput() *chain {
	c := newChain(hostInputChain)
	c.add("-i "+loopback, goReturn)
	c.connectionsPass()
	l.neighborDiscoveryPasses(c)
	l.failsafe(c, l.settings.FailsafeInbound, destination(), source())
	c.add(jump(localIn.root()))
	c.add(setMark(0))
	return c
}

// hostOutput marks what the node sends for hostPostrouting to decide on.
func (l layout) hostOutput() *chain {
	c := newChain(hostOutputChain)
	c.connectionsPass()
	if l.use.untracked { // policy has allowed it
		c.add("-m conntrack --ctstate UNTRACKED", hasMark(earlyBit), goTo(clearChain))
	}
	c.add(changeMark(earlyBit, earlyBit))
	return c
}

// hostPostrouting decides on what the node itself sends.
func (l layout) hostPostrouting() *chain {
	c := newChain(hostPostChain)
	c.add(hasNotMark(earlyBit), goReturn)
	c.add(clearMark(earlyBit))
	c.connectionsPass() // sent by a program that uses this bit for itself
	l.notOurs(c, "-o ")
	l.neighborDiscoveryPasses(c)
	l.tunnelsPass(c)
	l.failsafe(c, l.settings.FailsafeOutbound, destination(), destination())
	c.add(jump(localOut.root()))
	c.add(setMark(0))
	return c
}

// notrack keeps a packet from being tracked, and goes on to the next rule.
const notrack = "-j CT --notrack"

func protocolMatch(protocol uint8) string {
	return map[uint8]string{unix.IPPROTO_TCP: "-p 6", unix.IPPROTO_UDP: "-p 17", unix.IPPROTO_SCTP: "-p 132"}[protocol]
}
