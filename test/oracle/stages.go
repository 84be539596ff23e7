package oracle

// action of a rule that matched or of a tier that ended, or undecided.
type action string

const (
	undecided action = ""
	allow     action = "Allow"
	deny      action = "Deny"
	pass      action = "Pass"
)

// judge answers what is decided at one place of a packet's way through a node.
type judge interface {
	// pod is what the policies of a pod decide on what it sends or gets.
	pod(id string, ingress bool, p Packet) action
	// maySend tells whether a pod may send a packet at all: from that address, in that encapsulation.
	maySend(id string, p Packet) bool
	// hostUntracked, hostPreDNAT, hostForward and hostLocal are what the host endpoint of a node's interface decides; undecided if there is none.
	hostUntracked(node, name string, ingress bool, p Packet) action
	hostPreDNAT(node, name string, p Packet) action
	hostForward(node, name string, ingress bool, p Packet) action
	hostLocal(node, name string, ingress bool, p Packet) action
	// allHostsLocal is hostLocal of the host endpoint for all interfaces, which also sees what pods send to their node.
	allHostsLocal(node string, p Packet) action
	// failsafe tells whether host endpoints leave a packet alone. With replies, those of failsafe ports count too.
	failsafe(node string, ingress, replies bool, p Packet) bool
	// podToHost is what happens to what a pod may send to its own node: Drop, Accept or Return.
	podToHost(node string) string
	// masquerades is that of hooks.
	masquerades(node string, p Packet) bool
}

// stages puts what a judge decides in the order of the kernel's hooks.
type stages struct{ judge }

// stay is one packet at one node.
type stay struct {
	judge
	node string
	passage
	decision
	// early: what is decided before the route is known allowed the packet.
	early bool
}

func (s stages) through(node string, p passage) decision {
	x := &stay{judge: s.judge, node: node, passage: p}
	switch none := (link{}); {
	case p.in == none:
		x.passed = x.output()
	case !x.prerouting():
	case p.out == none:
		x.passed = x.input()
	default:
		x.passed = x.forwarded()
	}
	return x.decision
}

// goesOn notes what was decided and tells whether the packet goes on.
func (x *stay) goesOn(l link, what string, a action) bool {
	if a != undecided {
		x.steps = append(x.steps, "node "+x.node+", "+l.String()+", "+what+": "+string(a))
	}
	return a != deny
}

// prerouting is what happens before the destinations of services are translated.
func (x *stay) prerouting() bool {
	p := x.original
	if x.in.pod != "" {
		if !x.maySend(x.in.pod, p) {
			return x.goesOn(x.in, "a pod may not send this", deny)
		}
		return true
	}
	if !x.failsafe(x.node, true, true, p) {
		a := x.hostUntracked(x.node, x.in.name, true, p)
		x.untracked = a == allow
		if !x.goesOn(x.in, "untracked ingress", a) {
			return false
		}
	}
	if !x.untracked && !x.failsafe(x.node, true, false, p) {
		a := x.hostPreDNAT(x.node, x.in.name, p)
		x.early = a == allow
		return x.goesOn(x.in, "preDNAT", a)
	}
	return true
}

// input is what happens to packets for the node itself.
func (x *stay) input() bool {
	if x.in.pod == "" {
		return x.untracked || x.early || x.localIngress(func() action { return x.hostLocal(x.node, x.in.name, true, x.packet) })
	}
	if !x.goesOn(x.in, "egress", x.pod(x.in.pod, false, x.packet)) {
		return false
	}
	switch x.podToHost(x.node) {
	case "Accept":
		return true
	case "Return":
		return x.localIngress(func() action { return x.allHostsLocal(x.node, x.packet) })
	}
	return x.goesOn(x.in, "to the pod's own node", deny)
}

func (x *stay) localIngress(decide func() action) bool {
	if x.failsafe(x.node, true, false, x.packet) {
		return x.goesOn(x.in, "failsafe", allow)
	}
	return x.goesOn(x.in, "local ingress", decide())
}

// forwarded is what happens to packets that the node passes on.
func (x *stay) forwarded() bool {
	p := x.packet
	if x.in.pod != "" {
		if !x.goesOn(x.in, "egress", x.pod(x.in.pod, false, p)) {
			return false
		}
	} else if !x.goesOn(x.in, "forward ingress", x.hostForward(x.node, x.in.name, true, p)) {
		return false
	}
	if x.out.pod != "" {
		return x.goesOn(x.out, "ingress", x.pod(x.out.pod, true, p))
	}
	return x.goesOn(x.out, "forward egress", x.hostForward(x.node, x.out.name, false, p))
}

// output is what happens to packets of the node itself: those to its own addresses go over the loopback interface, which is
// never policed, and those to its own pods are always allowed.
func (x *stay) output() bool {
	if x.firstOut.name != "" && !x.failsafe(x.node, false, true, x.original) {
		a := x.hostUntracked(x.node, x.firstOut.name, false, x.original)
		x.untracked = a == allow
		if !x.goesOn(x.firstOut, "untracked egress", a) {
			return false
		}
	}
	switch {
	case x.out.name == "", x.untracked:
		return true
	case x.failsafe(x.node, false, false, x.packet):
		return x.goesOn(x.out, "failsafe", allow)
	}
	return x.goesOn(x.out, "local egress", x.hostLocal(x.node, x.out.name, false, x.packet))
}
