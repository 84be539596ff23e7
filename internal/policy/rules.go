package policy

import (
	"cmp"
	"slices"

	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/selector"
	"github.com/manul-net/manul/internal/validate"
)

// ruleCompiler compiles rules that validation has let pass.
type ruleCompiler struct {
	// namespace of the policy; empty in a global policy.
	namespace string
	// sets collects the sets that rules name.
	sets map[string]Set
	// http collects the rules that match on HTTP requests. No packet tells what request it is part of, so they match nothing.
	http []*field.Path
}

func (c *ruleCompiler) rules(path *field.Path, rules []v3.Rule) []v1alpha1.Rule {
	out := make([]v1alpha1.Rule, 0, len(rules))
	for i := range rules {
		if rules[i].HTTP != nil {
			c.http = append(c.http, path.Index(i))
			continue
		}
		out = append(out, c.rule(&rules[i]))
	}
	return out
}

func (c *ruleCompiler) rule(r *v3.Rule) v1alpha1.Rule {
	out := v1alpha1.Rule{
		Action:      v1alpha1.Action(r.Action),
		Protocol:    protocol(r.Protocol),
		NotProtocol: protocol(r.NotProtocol),
		ICMP:        icmp(r.ICMP),
		NotICMP:     icmp(r.NotICMP),
		Source:      c.entity(&r.Source, false),
		Destination: c.entity(&r.Destination, true),
	}
	if r.IPVersion != nil {
		out.IPVersion = int32(*r.IPVersion)
	}
	if out.IPVersion == 0 && out.Protocol != nil {
		// Each version of IP has an ICMP of its own.
		switch *out.Protocol {
		case validate.ProtocolICMP:
			out.IPVersion = 4
		case validate.ProtocolICMPv6:
			out.IPVersion = 6
		}
	}
	return out
}

// entity compiles one end of a rule. A service is matched by its endpoints' addresses alone where packets come from, and
// with their ports where packets go to.
func (c *ruleCompiler) entity(e *v3.EntityRule, destination bool) v1alpha1.EntityMatch {
	out := v1alpha1.EntityMatch{Nets: nets(e.Nets), NotNets: nets(e.NotNets)}
	if peer := c.peer(e); peer.Selector != nil {
		out.Sets = []string{c.set(peer)}
	}
	if e.Services != nil {
		service := Service{Namespace: cmp.Or(e.Services.Namespace, c.namespace), Name: e.Services.Name}
		id := c.set(Set{Service: service, Ports: destination})
		if destination {
			out.PortSets = []string{id}
		} else {
			out.Sets = []string{id}
		}
	}
	if e.NotSelector != "" {
		out.NotSets = []string{c.set(Set{Selector: parsed(e.NotSelector)})}
	}
	out.Ports, out.NamedPorts = ports(e.Ports)
	out.NotPorts, out.NotNamedPorts = ports(e.NotPorts)
	return out
}

// peer is the selector that the address must belong to: one for namespace, labels and service account together, because
// they must hold of one and the same endpoint. Without a selector: any address, those outside the cluster included.
func (c *ruleCompiler) peer(e *v3.EntityRule) Set {
	var out Set
	var parts []*selector.Selector
	switch {
	case e.NamespaceSelector != "":
		parts = append(parts, inNamespaces(parsed(e.NamespaceSelector)))
	case c.namespace != "" && (e.Selector != "" || e.NotSelector != "" || e.ServiceAccounts != nil):
		out.Namespace = c.namespace
		parts = append(parts, inNamespace(c.namespace))
	}
	if e.Selector != "" {
		parts = append(parts, parsed(e.Selector))
	}
	if e.ServiceAccounts != nil {
		if len(e.ServiceAccounts.Names) > 0 {
			parts = append(parts, selector.In(serviceAccountKey(LabelName), e.ServiceAccounts.Names...))
		}
		if e.ServiceAccounts.Selector != "" {
			parts = append(parts, withServiceAccount(parsed(e.ServiceAccounts.Selector)))
		}
	}
	if len(parts) > 0 {
		out.Selector = selector.And(parts[0], parts[1:]...)
	}
	return out
}

// set names the set s.
func (c *ruleCompiler) set(s Set) string {
	id := s.ID()
	c.sets[id] = s
	return id
}

func protocol(p *intstr.IntOrString) *int32 {
	if p == nil {
		return nil
	}
	number, err := validate.ParseProtocol(*p)
	if err != nil {
		return nil // validation has refused it
	}
	return &number
}

func icmp(m *v3.ICMPFields) *v1alpha1.ICMPMatch {
	if m == nil {
		return nil
	}
	return &v1alpha1.ICMPMatch{Type: int32Of(m.Type), Code: int32Of(m.Code)}
}

func int32Of(n *int) *int32 {
	if n == nil {
		return nil
	}
	v := int32(*n)
	return &v
}

func nets(texts []string) []string {
	var out []string
	for _, text := range texts {
		net, err := validate.ParseNet(text)
		if err == nil && !slices.Contains(out, net.String()) {
			out = append(out, net.String())
		}
	}
	return out
}

func ports(list []intstr.IntOrString) (ranges []v1alpha1.PortRange, names []string) {
	for _, p := range list {
		port, err := validate.ParsePort(p)
		switch {
		case err != nil: // validation has refused it
		case port.Name != "":
			names = append(names, port.Name)
		default:
			ranges = append(ranges, v1alpha1.PortRange{First: port.First, Last: port.Last})
		}
	}
	return ranges, names
}
