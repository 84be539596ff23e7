package fold

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/nodeagent/verdict"
)

const workload = "cali1"

// node is a folder with tables that are changed, and what a kernel would have that is told what changed and nothing else.
type node struct {
	// problems with what the folder told.
	problems []string
	desired  *tables.Policy
	folder   *Folder
	limits   Limits
	shapeOf  Shapes
	kernel   map[string]map[Element]bool
}

func newNode(limits Limits, shapeOf Shapes) *node {
	n := &node{desired: tables.NewPolicy(), limits: limits, shapeOf: shapeOf, kernel: map[string]map[Element]bool{}}
	n.folder = New(n.desired, true, limits, shapeOf)
	return n
}

func tierName(d Direction, t tables.Tier) string { return fmt.Sprint(d, t.Programs) }

// fit is what drivers find out: whether all sets are there that rules name.
func fit(p *tables.Policy, program tables.Program) bool {
	for _, id := range setsOf(slices.Concat(program.Ingress, program.Egress)) {
		if _, ok := p.Sets.Get(id); !ok {
			return false
		}
	}
	return true
}

func (n *node) dataplane() Dataplane {
	return Dataplane{Fit: func(_ string, program *tables.Program) bool { return fit(n.desired, *program) }, TierName: tierName}
}

// settle tells the folder of what changed, as drivers do, and takes what it says has to change.
func (n *node) settle() {
	n.folder.Tell(n.dataplane(), nil)
	n.take()
}

// take does in the kernel what the folder says has to change.
func (n *node) take() {
	f := n.folder
	for _, fold := range f.Changed() {
		switch {
		case fold.Active() && !fold.Exists():
			n.kernel[fold.Name] = map[Element]bool{}
			for e := range fold.Elements() {
				n.kernel[fold.Name][e] = true
			}
		case fold.Active():
			for e, came := range fold.Changes() {
				if n.kernel[fold.Name][e] == came {
					n.problems = append(n.problems, fmt.Sprintf("%s: element %v comes or goes twice", fold.Name, e))
				}
				if came {
					n.kernel[fold.Name][e] = true
				} else {
					delete(n.kernel[fold.Name], e)
				}
			}
		case fold.Exists():
			delete(n.kernel, fold.Name)
		}
	}
	for _, fold := range f.Gone() {
		delete(n.kernel, fold.Name)
	}
	f.Clean()
	n.desired.Clean()
}

// fresh is a node with the same tables that knows nothing of what came before.
func (n *node) fresh() *node {
	o := newNode(n.limits, n.shapeOf)
	for id, typ := range n.desired.Sets.All() {
		o.desired.Sets.Set(id, typ)
	}
	for m := range n.desired.Members.All() {
		o.desired.Members.Set(m, struct{}{})
	}
	for name, program := range n.desired.Programs.All() {
		o.desired.Programs.Set(name, program)
	}
	for name, e := range n.desired.Endpoints.All() {
		o.desired.Endpoints.Set(name, e)
	}
	o.folder.TellAll(o.dataplane())
	o.take()
	return o
}

// show is all that a driver can learn of a folder.
func (n *node) show() []string {
	var lines []string
	for name, t := range n.folder.tiers {
		line := "tier " + name + ":"
		for _, s := range t.steps {
			if s.Fold == nil {
				line += " " + s.Program
			} else {
				line += fmt.Sprint(" ", s.Fold.Name, s.Fold.Shapes())
			}
		}
		lines = append(lines, line)
	}
	for name, elements := range n.kernel {
		for e := range elements {
			lines = append(lines, fmt.Sprint("element of ", name, ": ", e))
		}
	}
	for d, programs := range n.folder.programs {
		for name, p := range programs {
			lines = append(lines, fmt.Sprint("program ", d, name, p.class, p.asItIs, p.folded, n.folder.Away(Key{Direction(d), name})))
		}
	}
	for id := range n.desired.Sets.All() {
		lines = append(lines, fmt.Sprint("set ", id, n.folder.SetAway(id)))
	}
	slices.Sort(lines)
	return lines
}

// unfolded are the tables in which each fold is a program that allows what its elements in the kernel say.
func (n *node) unfolded() *tables.Policy {
	p := tables.NewPolicy()
	for id, typ := range n.desired.Sets.All() {
		p.Sets.Set(id, typ)
	}
	for m := range n.desired.Members.All() {
		p.Members.Set(m, struct{}{})
	}
	for name, program := range n.desired.Programs.All() {
		if n.folder.Away(Key{Ingress, name}) {
			program.Ingress = nil
		}
		if n.folder.Away(Key{Egress, name}) {
			program.Egress = nil
		}
		p.Programs.Set(name, program)
	}
	for name, elements := range n.kernel {
		var program tables.Program
		shapes := n.folder.folds[name].Shapes()
		for e := range elements {
			if !slices.Contains(shapes, n.shapeOf(e)) {
				continue // no rule looks for it
			}
			r := tables.Rule{Action: tables.Allow, Protocol: e.Protocol}
			if e.Port != 0 {
				r.Destination.Ports = []tables.PortRange{{First: e.Port, Last: e.Port}}
			}
			in, out := r, r
			in.Source.Nets = []netip.Prefix{e.Prefix}
			out.Destination.Nets = []netip.Prefix{e.Prefix}
			program.Ingress, program.Egress = append(program.Ingress, in), append(program.Egress, out)
		}
		p.Programs.Set(name, program)
	}
	for name, e := range n.desired.Endpoints.All() {
		for d, tiers := range [directions]*[]tables.Tier{&e.Ingress, &e.Egress} {
			*tiers = slices.Clone(*tiers)
			for i := range *tiers {
				t := &(*tiers)[i]
				steps := n.folder.Steps(tierName(Direction(d), *t))
				if steps == nil {
					continue
				}
				t.Programs = nil
				for _, s := range steps {
					if s.Fold != nil {
						s.Program = s.Fold.Name
					}
					t.Programs = append(t.Programs, s.Program)
				}
			}
		}
		p.Endpoints.Set(name, e)
	}
	return p
}

func addresses() []string {
	return []string{"10.0.0.1", "10.0.0.2", "10.0.1.1", "11.0.0.1", "fd00::1", "fd00::2", "fd01::1"}
}

func samples() []verdict.Packet {
	var out []verdict.Packet
	for _, a := range addresses() {
		for _, port := range []uint16{80, 81} {
			for _, protocol := range []uint8{protocolTCP, protocolUDP, 1, 58} {
				in := verdict.Packet{In: "eth0", Out: workload, Protocol: protocol, Source: netip.MustParseAddr(a), Destination: netip.MustParseAddr("10.9.9.9"), DestinationPort: port, SourcePort: 1000}
				if in.Source.Is6() {
					in.Destination = netip.MustParseAddr("fd09::9")
				}
				back := in
				back.In, back.Out, back.Source, back.Destination = workload, "eth0", in.Destination, in.Source
				out = append(out, in, back)
			}
		}
	}
	return out
}

// differences are the packets on which folding changes the verdict.
func differences(desired, folded *tables.Policy) []string {
	var out []string
	before, after := verdict.New(desired, "cali"), verdict.New(folded, "cali")
	for _, p := range samples() {
		if want, got := before.Evaluate(p).Allowed, after.Evaluate(p).Allowed; want != got {
			out = append(out, fmt.Sprintf("%+v: allowed %v, folded %v", p, want, got))
		}
	}
	return out
}

func randomNet() *rapid.Generator[netip.Prefix] {
	return rapid.Custom(func(t *rapid.T) netip.Prefix {
		a := netip.MustParseAddr(rapid.SampledFrom(addresses()).Draw(t, "address"))
		bits := rapid.SampledFrom([]int{0, 8, 24, 31, 32}).Draw(t, "bits")
		if a.Is6() {
			bits = rapid.SampledFrom([]int{0, 16, 127, 128}).Draw(t, "bits")
		}
		return netip.PrefixFrom(a, bits).Masked()
	})
}

func randomEntity(t *rapid.T, name string) tables.Entity {
	var e tables.Entity
	if rapid.Bool().Draw(t, name+" in sets") {
		e.Sets = rapid.SliceOfN(rapid.SampledFrom([]string{"s0", "s1", "s2"}), 0, 2).Draw(t, name+" sets")
	} else {
		e.Nets = rapid.SliceOfN(randomNet(), 0, 2).Draw(t, name+" nets")
	}
	switch rapid.IntRange(0, 20).Draw(t, name+" not") {
	case 0:
		e.NotSets = []string{"s1"}
	case 1:
		e.NotNets = []netip.Prefix{randomNet().Draw(t, name+" not net")}
	case 2:
		e.NotPorts = []tables.PortRange{{First: 80, Last: 80}}
	}
	return e
}

func randomRule(d Direction) *rapid.Generator[tables.Rule] {
	return rapid.Custom(func(t *rapid.T) tables.Rule {
		actions := []tables.Action{tables.Deny, tables.Pass, tables.Log}
		r := tables.Rule{Action: tables.Allow, Protocol: rapid.SampledFrom([]uint8{0, protocolTCP, protocolTCP, protocolUDP, 1}).Draw(t, "protocol")}
		if rapid.IntRange(0, 7).Draw(t, "another action") == 0 {
			r.Action = rapid.SampledFrom(actions).Draw(t, "action")
		}
		peer, other := &r.Source, &r.Destination
		if d == Egress {
			peer, other = other, peer
		}
		*peer = randomEntity(t, "peer")
		switch rapid.IntRange(0, 20).Draw(t, "more") {
		case 0:
			*other = randomEntity(t, "other")
		case 1:
			r.IPVersion = rapid.SampledFrom([]uint8{4, 6}).Draw(t, "version")
		case 2:
			r.NotProtocol = protocolTCP
		case 3:
			r.Source.Ports = []tables.PortRange{{First: 80, Last: 80}}
		case 4:
			r.ICMP = &tables.ICMP{Type: 8, Code: -1}
		}
		r.Destination.Ports = rapid.SampledFrom([][]tables.PortRange{nil, {{First: 80, Last: 80}}, {{First: 79, Last: 81}}, {{First: 81, Last: 81}, {First: 80, Last: 80}}, {{First: 9, Last: 1}}, {{First: 0, Last: 65535}}}).Draw(t, "ports")
		return r
	})
}

func programNames() []string { return []string{"a", "b", "c", "d", "e", "f", "g"} }

// change makes one random change.
func change(t *rapid.T, p *tables.Policy) {
	gone := rapid.IntRange(0, 4).Draw(t, "gone") == 0
	names := rapid.SampledFrom(programNames())
	switch rapid.IntRange(0, 5).Draw(t, "what") {
	case 0:
		tiers := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) tables.Tier {
			return tables.Tier{Name: "t", Programs: rapid.SliceOfNDistinct(names, 0, 7, rapid.ID).Draw(t, "programs"), Default: rapid.SampledFrom([]tables.Action{tables.Deny, tables.Pass}).Draw(t, "default")}
		}), 0, 2)
		name := rapid.SampledFrom([]string{workload, "cali2"}).Draw(t, "endpoint")
		if gone {
			p.Endpoints.Delete(name)
			return
		}
		own := []netip.Addr{netip.MustParseAddr("10.9.9.9"), netip.MustParseAddr("fd09::9")}
		p.Endpoints.Set(name, tables.Endpoint{Addresses: own, Ingress: tiers.Draw(t, "ingress"), Egress: tiers.Draw(t, "egress")})
	case 1, 2:
		name := names.Draw(t, "program")
		if gone {
			p.Programs.Delete(name)
			return
		}
		p.Programs.Set(name, tables.Program{Ingress: rapid.SliceOfN(randomRule(Ingress), 0, 3).Draw(t, "in"), Egress: rapid.SliceOfN(randomRule(Egress), 0, 3).Draw(t, "out")})
	case 3:
		id := rapid.SampledFrom([]string{"s0", "s1", "s2"}).Draw(t, "set")
		typ := rapid.SampledFrom([]tables.SetType{tables.Addresses, tables.Nets}).Draw(t, "type")
		if typ == tables.Addresses {
			for m := range p.Members.Of(id) {
				if !m.Prefix.IsSingleIP() {
					return
				}
			}
		}
		p.Sets.Set(id, typ)
	default:
		m := tables.Member{Set: rapid.SampledFrom([]string{"s0", "s1", "s2"}).Draw(t, "set"), Prefix: randomNet().Draw(t, "net")}
		if typ, _ := p.Sets.Get(m.Set); typ == tables.Addresses {
			m.Prefix = netip.PrefixFrom(m.Prefix.Addr(), m.Prefix.Addr().BitLen())
		}
		if gone {
			p.Members.Delete(m)
		} else {
			p.Members.Set(m, struct{}{})
		}
	}
}

func start(t *rapid.T) *node {
	shapeOf := ShapeByFields
	if rapid.Bool().Draw(t, "shapes by protocol") {
		shapeOf = ShapeByProtocol
	}
	n := newNode(Limits{
		MinPrograms: rapid.IntRange(1, 3).Draw(t, "programs"), MaxMembers: rapid.IntRange(1, 4).Draw(t, "members"),
		MeanChunk: rapid.IntRange(1, 3).Draw(t, "chunk"), PerShape: rapid.IntRange(0, 1).Draw(t, "shape"),
		MaxElements: rapid.SampledFrom([]int{4, 1000}).Draw(t, "elements"),
	}, shapeOf)
	for _, id := range []string{"s0", "s1", "s2"} {
		n.desired.Sets.Set(id, tables.Addresses)
	}
	return n
}

// populate gives a node policies most of which fold.
func (n *node) populate() {
	p := n.desired
	for set, member := range map[string]string{"s0": "10.0.0.1/32", "s1": "fd00::1/128", "s2": "10.0.1.1/32"} {
		p.Members.Set(tables.Member{Set: set, Prefix: netip.MustParsePrefix(member)}, struct{}{})
	}
	http := []tables.PortRange{{First: 80, Last: 80}}
	allow := func(name string, protocol uint8, ports []tables.PortRange, peer tables.Entity) {
		in := tables.Rule{Action: tables.Allow, Protocol: protocol, Source: peer, Destination: tables.Entity{Ports: ports}}
		out := tables.Rule{Action: tables.Allow, Protocol: protocol, Destination: peer}
		out.Destination.Ports = ports
		p.Programs.Set(name, tables.Program{Ingress: []tables.Rule{in}, Egress: []tables.Rule{out}})
	}
	allow("a", protocolTCP, http, tables.Entity{Sets: []string{"s0"}})
	allow("b", protocolTCP, nil, tables.Entity{Nets: []netip.Prefix{netip.MustParsePrefix("10.0.1.0/24")}})
	allow("c", protocolUDP, http, tables.Entity{Sets: []string{"s1"}})
	allow("e", protocolTCP, http, tables.Entity{Nets: []netip.Prefix{netip.MustParsePrefix("fd00::/16")}})
	allow("f", 1, nil, tables.Entity{Sets: []string{"s2"}})
	allow("g", protocolUDP, http, tables.Entity{Nets: []netip.Prefix{netip.MustParsePrefix("10.0.0.2/31")}})
	deny := tables.Rule{Action: tables.Deny, Protocol: protocolTCP}
	p.Programs.Set("d", tables.Program{Ingress: []tables.Rule{deny}, Egress: []tables.Rule{deny}})
	all := []tables.Tier{{Name: "t", Programs: programNames(), Default: tables.Deny}}
	p.Endpoints.Set(workload, tables.Endpoint{Addresses: []netip.Addr{netip.MustParseAddr("10.9.9.9"), netip.MustParseAddr("fd09::9")}, Ingress: all, Egress: all})
}

// Folding changes no verdict, and whatever way leads to a state, what is folded is what a fresh folder makes of it.
func TestFoldingChangesNoVerdict(t *testing.T) {
	folds := 0
	rapid.Check(t, func(t *rapid.T) {
		n := start(t)
		if rapid.Bool().Draw(t, "populated") {
			n.populate()
		}
		for range rapid.IntRange(1, 5).Draw(t, "states") {
			for range rapid.IntRange(1, 12).Draw(t, "changes") {
				change(t, n.desired)
			}
			n.settle()
			folds += len(n.kernel)
			if len(n.problems) > 0 {
				t.Fatal(n.problems)
			}
			if diff := cmp.Diff(n.fresh().show(), n.show()); diff != "" {
				t.Fatalf("not what a fresh folder makes (-fresh +got):\n%s", diff)
			}
			if list := differences(n.desired, n.unfolded()); len(list) > 0 {
				t.Fatalf("folding changes verdicts:\n%s\n%s", strings.Join(list, "\n"), strings.Join(n.show(), "\n"))
			}
		}
	})
	if folds == 0 {
		t.Error("nothing was folded")
	}
}

// A mistake in what is folded is seen by the verdicts on packets.
func TestMistakesAreSeen(t *testing.T) {
	anyOf := func(n *node, seed int) (map[Element]bool, Element, bool) {
		for _, name := range slices.Sorted(maps.Keys(n.kernel)) {
			elements := slices.SortedFunc(maps.Keys(n.kernel[name]), func(a, b Element) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
			if len(elements) > 0 {
				return n.kernel[name], elements[seed%len(elements)], true
			}
		}
		return nil, Element{}, false
	}
	onElement := func(mistake func(Element) (Element, bool)) func(*node, int) bool {
		return func(n *node, seed int) bool {
			elements, e, ok := anyOf(n, seed)
			if !ok {
				return false
			}
			wrong, add := mistake(e)
			delete(elements, e)
			if add {
				elements[wrong] = true
			}
			return true
		}
	}
	for name, mistake := range map[string]func(*node, int) bool{
		"an element lost": onElement(func(e Element) (Element, bool) { return e, false }),
		"a protocol lost": onElement(func(e Element) (Element, bool) { e.Protocol, e.Port = 0, 0; return e, true }),
		"a port lost":     onElement(func(e Element) (Element, bool) { e.Port = 0; return e, true }),
		"another port":    onElement(func(e Element) (Element, bool) { e.Port ^= 1; return e, e.Port > 1 }),
		"a longer prefix": onElement(func(e Element) (Element, bool) {
			return Element{netip.PrefixFrom(e.Prefix.Addr(), e.Prefix.Addr().BitLen()), e.Protocol, e.Port}, true
		}),
		"a shorter prefix": onElement(func(e Element) (Element, bool) {
			return Element{netip.PrefixFrom(e.Prefix.Addr(), 0).Masked(), e.Protocol, e.Port}, true
		}),
		"the other protocol": onElement(func(e Element) (Element, bool) { e.Protocol ^= protocolTCP ^ protocolUDP; return e, true }),
		"a fold before what decides first": func(n *node, _ int) bool {
			for _, t := range n.folder.tiers {
				for i := 1; i < len(t.steps); i++ {
					if t.steps[i].Fold != nil && t.steps[i-1].Fold == nil {
						t.steps[i], t.steps[i-1] = t.steps[i-1], t.steps[i]
						return true
					}
				}
			}
			return false
		},
		"a fold too much": func(n *node, _ int) bool {
			for _, t := range n.folder.tiers {
				if len(t.steps) > 1 && t.steps[0].Fold != nil {
					t.steps = t.steps[1:]
					return true
				}
			}
			return false
		},
	} {
		t.Run(name, func(t *testing.T) {
			seen, made := 0, 0
			rapid.Check(t, func(t *rapid.T) {
				n := start(t)
				n.populate()
				change(t, n.desired)
				n.settle()
				if mistake(n, rapid.IntRange(0, 1000).Draw(t, "where")) {
					made++
					if len(differences(n.desired, n.unfolded())) > 0 {
						seen++
					}
				}
			})
			if seen == 0 {
				t.Errorf("the mistake was made %d times, and never seen", made)
			}
		})
	}
}
