package oracle

import "fmt"

// hooks are what one node decides on a packet.
type hooks interface {
	// through tells whether a packet passes a node that gets it by one link and sends it out by another. A link that is not
	// given is the node itself.
	through(node string, p passage) decision
	// masquerades tells whether what leaves a node takes the node's address.
	masquerades(node string, p Packet) bool
}

// passage of a packet through a node.
type passage struct {
	in, out link
	// original is the packet as it came, packet what it is once services are translated.
	original, packet Packet
	// firstOut is the link by which the node itself would send the original.
	firstOut link
}

// decision of a node.
type decision struct {
	passed bool
	// untracked: the packet goes on without connection tracking, so that services are not translated.
	untracked bool
	steps     []string
}

// Evaluator tells what becomes of packets.
type Evaluator struct {
	network *Network
	hooks   hooks
}

// On is the evaluator in a network that differs in nothing that policies ask about.
func (e *Evaluator) On(n *Network) *Evaluator { return &Evaluator{network: n, hooks: e.hooks} }

// Verdict follows a packet from node to node.
func (e *Evaluator) Verdict(f Flow) Verdict {
	w := &walk{Evaluator: e, packet: f.Packet}
	switch {
	case f.From.Pod != "":
		for i := range e.network.Pods {
			if e.network.Pods[i].ID == f.From.Pod {
				return w.node(e.network.Pods[i].Node, link{pod: f.From.Pod})
			}
		}
		return w.drop(f.From, "there is no such pod")
	case f.From.Interface != "":
		return w.node(f.From.Node, link{name: f.From.Interface})
	}
	return w.node(f.From.Node, link{})
}

// walk is one packet on its way.
type walk struct {
	*Evaluator
	packet Packet
	steps  []string
	hops   int
}

func (w *walk) drop(at Place, why ...string) Verdict {
	return Verdict{Place: at, Packet: w.packet, Steps: append(w.steps, why...)}
}

func (w *walk) delivered(to Place) Verdict {
	return Verdict{Arrived: true, Place: to, Packet: w.packet, Steps: w.steps}
}

// node follows the packet through a node that gets it by a link, or sends it itself.
func (w *walk) node(node string, in link) Verdict {
	const most = 8
	here := Place{Node: node}
	if w.hops++; w.hops > most {
		return w.drop(here, "the packet goes round in circles")
	}
	p := passage{in: in, original: w.packet}
	first, _, routed := w.out(node, w.packet)
	p.firstOut = first
	packet, translation := w.network.translated(w.packet)
	p.packet = packet
	out, next, ok := w.out(node, packet)
	if !ok || translation != nil && in == (link{}) && !routed {
		return w.drop(here, "node "+node+": no route")
	}
	p.out = out
	d := w.through(node, p)
	if d.untracked && translation != nil {
		p.packet, translation = p.original, nil
		if p.out, next, ok = w.out(node, p.packet); !ok {
			return w.drop(here, "node "+node+": no route")
		}
		d = w.through(node, p)
	}
	w.steps = append(w.steps, d.steps...)
	if !d.passed {
		return w.drop(here)
	}
	if w.packet = p.packet; translation != nil {
		w.steps = append(w.steps, fmt.Sprintf("node %s: service translated, now %s", node, w.packet))
	}
	return w.leave(here, p.out, next, !d.untracked && (translation != nil && translation.Masquerade || w.masquerades(node, w.packet)))
}

func (w *walk) through(node string, p passage) decision { return w.hooks.through(node, p) }
func (w *walk) masquerades(node string, p Packet) bool  { return w.hooks.masquerades(node, p) }
func (w *walk) out(node string, p Packet) (link, string, bool) {
	return w.network.out(node, p.Destination)
}

// leave sends a packet out by a link; without one it is where it should be.
func (w *walk) leave(here Place, out link, next string, masquerade bool) Verdict {
	if out == (link{}) {
		return w.delivered(here)
	}
	from := w.network.named(here.Node, out.name)
	if masquerade {
		if from != nil {
			w.packet.Source = from.address(w.packet.Source.Is4())
		} else {
			w.packet.Source = w.network.mainAddress(here.Node, w.packet.Source.Is4())
		}
		if w.network.MasqueradePort != 0 && w.packet.SourcePort != 0 {
			w.packet.SourcePort = w.network.MasqueradePort
		}
		w.steps = append(w.steps, fmt.Sprintf("node %s: masqueraded, now %s", here.Node, w.packet))
	}
	switch {
	case out.pod != "":
		return w.delivered(Place{Pod: out.pod})
	case next != "":
		return w.node(next, link{name: w.network.entry(next, from)})
	}
	return w.delivered(Place{Node: here.Node, Interface: out.name})
}
