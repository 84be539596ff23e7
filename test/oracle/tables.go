package oracle

import (
	"cmp"
	"fmt"
	"net/netip"

	"github.com/manul-net/manul/nodeagent/render"
	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/nodeagent/verdict"
)

// NodeState is what a node agent makes of the rendered objects, on a node of that network.
func (r *Rendered) NodeState(n *Network, node string) *render.State {
	s := render.New(node)
	interfaces := map[string][]netip.Addr{}
	for _, l := range n.Interfaces {
		if l.Node == node {
			interfaces[l.Name] = l.Addresses
		}
	}
	s.SetInterfaces(interfaces)
	if state := r.States[node]; state != nil {
		s.SetNodeState(&state.Spec)
		uids := map[string]string{}
		for i := range state.Spec.Endpoints {
			uids[state.Spec.Endpoints[i].ID] = string(state.Spec.Endpoints[i].UID)
		}
		for _, pod := range n.Pods {
			if uid, named := uids[pod.ID]; named && pod.Node == node {
				s.SetLocal(pod.ID, uid, pod.Addresses)
			}
		}
	}
	for name, o := range r.Endpoints {
		s.SetEndpoints(name, &o.Spec)
	}
	for name, o := range r.Catalogs {
		s.SetCatalog(name, &o.Spec)
	}
	for name, o := range r.Programs {
		s.SetProgram(name, 1, &o.Spec)
	}
	return s
}

// Tables are the desired kernels of nodes, by name.
type Tables map[string]*tables.Policy

// Tables are what the node agents of that network make of the rendered objects.
func (r *Rendered) Tables(n *Network) (Tables, error) {
	out := Tables{}
	for _, l := range n.Interfaces {
		if out[l.Node] != nil {
			continue
		}
		s := r.NodeState(n, l.Node)
		for item, problem := range s.Problems() {
			if item.Kind == render.KindHostEndpoint {
				continue // another one stands for its interface, or it has none
			}
			return nil, fmt.Errorf("node %s does not understand %s %s: %s", l.Node, item.Kind, item.Name, problem)
		}
		for _, held := range s.Held() {
			return nil, fmt.Errorf("node %s holds back %s %s, which waits for %s", l.Node, held.Kind, held.Name, held.WaitsFor)
		}
		out[l.Node] = s.Policy()
	}
	return out, nil
}

// workloadPrefix begins the names of pods' interfaces.
const workloadPrefix = "cali"

// Evaluator evaluates the tables.
func (t Tables) Evaluator(n *Network) *Evaluator {
	h := tableHooks{tables: t, evaluators: map[string]*verdict.Evaluator{}}
	for node, policy := range t {
		h.evaluators[node] = verdict.New(policy, workloadPrefix)
	}
	return &Evaluator{network: n, hooks: h}
}

// tableHooks has the node agent's own evaluator say what happens at a node.
type tableHooks struct {
	tables     Tables
	evaluators map[string]*verdict.Evaluator
}

func (h tableHooks) through(node string, p passage) decision {
	k := verdict.Packet{
		In: interfaceName(p.in), Out: interfaceName(p.out), Protocol: uint8(p.packet.Protocol),
		Source: p.packet.Source, Destination: p.packet.Destination,
		SourcePort: uint16(p.packet.SourcePort), DestinationPort: uint16(p.packet.DestinationPort),
		ICMPType: uint8(p.packet.ICMPType), ICMPCode: uint8(p.packet.ICMPCode),
	}
	if p.packet != p.original {
		k.Original = netip.AddrPortFrom(p.original.Destination, uint16(p.original.DestinationPort))
		k.OriginalOut = cmp.Or(interfaceName(p.firstOut), "lo")
	}
	v := h.evaluators[node].Evaluate(k)
	d := decision{passed: v.Allowed}
	for _, x := range v.Decisions {
		d.steps = append(d.steps, "node "+node+": "+x.String())
		d.untracked = d.untracked || x.Point == verdict.Untracked && x.Allowed && x.Reason == verdict.ByRule
	}
	return d
}

func interfaceName(l link) string {
	if l.pod != "" {
		return render.InterfaceName(l.pod)
	}
	return l.name
}

func (h tableHooks) masquerades(node string, p Packet) bool {
	from, inside := false, false
	for prefix, pool := range h.tables[node].Pools.All() {
		from = from || pool.NATOutgoing && prefix.Contains(p.Source)
		inside = inside || prefix.Contains(p.Destination)
	}
	return from && !inside
}
