// Package policing works out what the policies on the nodes do with a packet, and which of them decides. It goes by the rendered
// objects in the API, as the nodes' agents do, and evaluates them in memory: no packet is sent.
package policing

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/nodeagent/render"
	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/nodeagent/verdict"
)

// Rendered is what the nodes go by.
type Rendered struct {
	States    []v1alpha1.NodeState
	Endpoints []v1alpha1.NodeEndpoints
	Networks  []v1alpha1.NodeNetwork
	Programs  []v1alpha1.PolicyProgram
	Catalogs  []v1alpha1.SetCatalog
}

// Packet is the first of a connection.
type Packet struct {
	// From and To are "namespace/name" of pods, or addresses.
	From, To string
	// Protocol is the IANA number.
	Protocol uint8
	// SourcePort and Port, of protocols that have them; the source's is seldom of matter.
	SourcePort, Port uint16
	// ICMPType and ICMPCode, of ICMP and ICMPv6.
	ICMPType, ICMPCode uint8
	// IPv6: between pods that have both families, the packet is one of IPv6.
	IPv6 bool
}

// Answer says what happens to a packet.
type Answer struct {
	From End `json:"from"`
	To   End `json:"to"`
	// Allowed: it reaches its destination, as far as policy goes.
	Allowed bool `json:"allowed"`
	// Steps are the decisions, in the order of the packet's way. When it is dropped, the last one is why.
	Steps []Step `json:"steps"`
	// Behind are nodes of its way that have not yet put into effect all that counts here.
	Behind []string `json:"behind,omitempty"`
}

// End of a packet's way.
type End struct {
	// Pod is "namespace/name"; empty: it is none.
	Pod     string     `json:"pod,omitempty"`
	Address netip.Addr `json:"address"`
	// Node that has the pod, or is the end itself; empty: it is outside the cluster.
	Node string `json:"node,omitempty"`
}

// Step is a decision at one point of the way.
type Step struct {
	Node string `json:"node"`
	// Endpoint is the pod whose policies decide; empty: the node's own, or none.
	Endpoint  string `json:"endpoint,omitempty"`
	Point     string `json:"point"`
	Direction string `json:"direction"`
	Allowed   bool   `json:"allowed"`
	Reason    string `json:"reason"`
	Tier      string `json:"tier,omitempty"`
	// Policy that decides, and its rule: its place among the rules of the direction, from 1, and what it says.
	Policy *v1alpha1.PolicyReference `json:"policy,omitempty"`
	Rule   int                       `json:"rule,omitempty"`
	Match  *v1alpha1.Rule            `json:"match,omitempty"`
	// Passed are the tier's policies of which no rule matches, where the end of the tier decides.
	Passed []v1alpha1.PolicyReference `json:"passed,omitempty"`
}

// workloadPrefix begins the names of pods' interfaces.
const workloadPrefix = "cali"

// UnknownPodError says that no node has a pod of a name.
type UnknownPodError struct{ Pod string }

// Error implements error.
func (e *UnknownPodError) Error() string {
	return fmt.Sprintf("no node has given pod %s an address", e.Pod)
}

// Ask answers what happens to a packet.
func Ask(r *Rendered, p *Packet) (*Answer, error) {
	from, err := r.find(p.From)
	if err != nil {
		return nil, err
	}
	to, err := r.find(p.To)
	if err != nil {
		return nil, err
	}
	a := &Answer{From: from.End, To: to.End}
	if a.From.Address, a.To.Address, err = common(from, to, p.IPv6); err != nil {
		return nil, err
	}
	if from.Node == "" && to.Node == "" {
		return nil, fmt.Errorf("neither %s nor %s is a pod or a node of the cluster: Manul has no say in what they send each other", p.From, p.To)
	}
	packet := verdict.Packet{
		Protocol: p.Protocol, Source: a.From.Address, Destination: a.To.Address, SourcePort: p.SourcePort, DestinationPort: p.Port,
		ICMPType: p.ICMPType, ICMPCode: p.ICMPCode,
	}
	a.Allowed = true
	if a.From.Node != "" {
		n, err := r.node(a.From.Node)
		if err != nil {
			return nil, err
		}
		first := packet
		first.In, first.Out = n.iface(&a.From), n.iface(&a.To)
		n.evaluate(a, first)
		if packet.Source, err = n.translated(a); err != nil {
			return nil, err
		}
	}
	if a.Allowed && a.To.Node != "" && a.To.Node != a.From.Node {
		n, err := r.node(a.To.Node)
		if err != nil {
			return nil, err
		}
		packet.In, packet.Out = n.uplink(), n.iface(&a.To)
		n.evaluate(a, packet)
	}
	return a, nil
}

// place is an end with all its addresses.
type place struct {
	End

	addresses []netip.Addr
}

// Has tells whether a node has given a pod an address.
func (r *Rendered) Has(pod string) bool {
	_, err := r.find(pod)
	return err == nil
}

// find looks for a pod or an address among what nodes have.
func (r *Rendered) find(name string) (place, error) {
	addr, err := netip.ParseAddr(name)
	isAddress := err == nil
	addr = addr.Unmap()
	for i := range r.States {
		s := &r.States[i]
		for j := range s.Status.Endpoints {
			e := &s.Status.Endpoints[j]
			addresses := parse(e.Addresses)
			if !isAddress && e.ID == name && len(addresses) > 0 {
				return place{End{Pod: e.ID, Node: s.Name}, addresses}, nil
			}
			if isAddress && slices.Contains(addresses, addr) {
				return place{End{Pod: e.ID, Node: s.Name}, []netip.Addr{addr}}, nil
			}
		}
	}
	if !isAddress {
		return place{}, &UnknownPodError{name}
	}
	for i := range r.Networks {
		if slices.Contains(parse(r.Networks[i].Spec.Addresses), addr) {
			return place{End{Node: r.Networks[i].Name}, []netip.Addr{addr}}, nil
		}
	}
	return place{End{}, []netip.Addr{addr}}, nil
}

func parse(texts []string) []netip.Addr {
	var out []netip.Addr
	for _, text := range texts {
		if a, err := netip.ParseAddr(text); err == nil {
			out = append(out, a.Unmap())
		}
	}
	return out
}

// common are addresses of one family of both ends: of IPv4 where both have one and nothing else is asked for.
func common(from, to place, wantIPv6 bool) (source, destination netip.Addr, err error) {
	for _, v6 := range [...]bool{wantIPv6, !wantIPv6} {
		a, b := ofFamily(from.addresses, v6), ofFamily(to.addresses, v6)
		if a.IsValid() && b.IsValid() {
			return a, b, nil
		}
	}
	return source, destination, fmt.Errorf("%v and %v are of different families: there is no packet between them", from.addresses, to.addresses)
}

func ofFamily(addresses []netip.Addr, v6 bool) netip.Addr {
	for _, a := range addresses {
		if a.Is6() == v6 {
			return a
		}
	}
	return netip.Addr{}
}

// node is a node's tables, made of what it is told.
type node struct {
	*Rendered

	state *v1alpha1.NodeState
	own   []netip.Addr
	*render.State
	interfaces map[string]string // name -> pod
}

// node makes the tables of a node.
func (r *Rendered) node(name string) (*node, error) {
	i := slices.IndexFunc(r.States, func(s v1alpha1.NodeState) bool { return s.Name == name })
	if i < 0 {
		return nil, fmt.Errorf("node %q has no NodeState: no agent of Manul runs there, or the operator has not rendered it yet", name)
	}
	n := &node{Rendered: r, state: &r.States[i], State: render.New(name), interfaces: map[string]string{}}
	for i := range r.Catalogs {
		n.SetCatalog(r.Catalogs[i].Name, &r.Catalogs[i].Spec)
	}
	for i := range r.Endpoints {
		n.SetEndpoints(r.Endpoints[i].Name, &r.Endpoints[i].Spec)
	}
	for i := range r.Programs {
		version, err := strconv.ParseUint(r.Programs[i].ResourceVersion, 10, 64)
		if err != nil {
			version = 0 // of no matter here
		}
		n.SetProgram(r.Programs[i].Name, version, &r.Programs[i].Spec)
	}
	for i := range r.Networks {
		n.SetNetwork(r.Networks[i].Name, &r.Networks[i].Spec)
		if r.Networks[i].Name == name {
			n.own = parse(r.Networks[i].Spec.Addresses)
		}
	}
	n.SetInterfaces(map[string][]netip.Addr{n.uplink(): n.own})
	n.SetNodeState(&n.state.Spec)
	for i := range n.state.Spec.Endpoints {
		n.interfaces[render.InterfaceName(n.state.Spec.Endpoints[i].ID)] = n.state.Spec.Endpoints[i].ID
	}
	for i := range n.state.Status.Endpoints {
		e := &n.state.Status.Endpoints[i]
		n.interfaces[render.InterfaceName(e.ID)] = e.ID
		n.SetLocal(e.ID, string(e.UID), parse(e.Addresses))
	}
	return n, nil
}

// uplink is the name of the interface by which the node reaches others: the first that a HostEndpoint names, or a name that none does.
func (n *node) uplink() string {
	for i := range n.state.Spec.HostEndpoints {
		if name := n.state.Spec.HostEndpoints[i].Interface; name != "" && name != tables.AllInterfaces {
			return name
		}
	}
	return "eth0"
}

// iface is the interface that leads to an end; empty: the node itself.
func (n *node) iface(e *End) string {
	switch {
	case e.Node != n.state.Name:
		return n.uplink()
	case e.Pod != "":
		return render.InterfaceName(e.Pod)
	}
	return ""
}

// translated is the source that other nodes see: the node's own where pools are masqueraded.
func (n *node) translated(a *Answer) (netip.Addr, error) {
	from, to := n.pool(a.From.Address), n.pool(a.To.Address)
	if from == nil || !from.NATOutgoing || to != nil || a.To.Node == n.state.Name {
		return a.From.Address, nil
	}
	if own := ofFamily(n.own, a.From.Address.Is6()); own.IsValid() {
		return own, nil
	}
	return netip.Addr{}, errors.New("node " + n.state.Name + " has no address of the packet's family to masquerade with")
}

func (n *node) pool(a netip.Addr) *tables.Pool {
	for cidr, pool := range n.Policy().Pools.All() {
		if cidr.Contains(a) {
			return &pool
		}
	}
	return nil
}

// evaluate adds what the node decides on a packet.
func (n *node) evaluate(a *Answer, p verdict.Packet) {
	v := verdict.New(n.Policy(), workloadPrefix).Evaluate(p)
	a.Allowed = a.Allowed && v.Allowed
	for i := range v.Decisions {
		a.Steps = append(a.Steps, n.step(&v.Decisions[i]))
	}
	if n.state.Status.ObservedGeneration != n.state.Generation || len(n.state.Status.Failures) > 0 {
		a.Behind = append(a.Behind, n.state.Name)
	}
}

func (n *node) step(d *verdict.Decision) Step {
	s := Step{
		Node: n.state.Name, Endpoint: n.interfaces[d.Interface], Point: string(d.Point), Direction: d.Direction.String(), Allowed: d.Allowed,
		Reason: string(d.Reason), Tier: d.Tier,
	}
	if program := n.program(d.Program); program != nil {
		s.Policy = &program.Spec.Policy
		rules := program.Spec.Ingress
		if d.Direction == verdict.Egress {
			rules = program.Spec.Egress
		}
		if d.Rule >= 0 && d.Rule < len(rules) {
			s.Rule, s.Match = d.Rule+1, &rules[d.Rule]
		}
	}
	if d.Reason == verdict.ByTier {
		for _, name := range n.tier(d) {
			if program := n.program(name); program != nil {
				s.Passed = append(s.Passed, program.Spec.Policy)
			}
		}
	}
	return s
}

func (n *node) program(name string) *v1alpha1.PolicyProgram {
	i := slices.IndexFunc(n.Programs, func(p v1alpha1.PolicyProgram) bool { return p.Name == name })
	if i < 0 {
		return nil
	}
	return &n.Programs[i]
}

// tier lists the policies of the tier that decided, as the endpoint has them.
func (n *node) tier(d *verdict.Decision) []string {
	var tiers []tables.Tier
	pick := func(x tables.Directions) {
		if tiers = x.Ingress; d.Direction == verdict.Egress {
			tiers = x.Egress
		}
	}
	if e, ok := n.Policy().Endpoints.Get(d.Interface); ok {
		pick(tables.Directions{Ingress: e.Ingress, Egress: e.Egress})
	} else if h, ok := n.Policy().HostEndpoints.Get(d.Interface); ok {
		switch d.Point {
		case verdict.Untracked:
			pick(h.Untracked)
		case verdict.PreDNAT:
			tiers = h.PreDNAT
		case verdict.Forward:
			pick(h.Forward)
		default:
			pick(h.Local)
		}
	}
	for _, t := range tiers {
		if t.Name == d.Tier {
			return t.Programs
		}
	}
	return nil
}
