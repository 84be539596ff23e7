package routing

import (
	"reflect"
	"slices"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/validate"
)

// filter is a BGPFilter, read.
type filter struct {
	spec  *v3.BGPFilterSpec
	rules v1alpha1.BGPRouteFilter
}

// SetFilter takes in a BGPFilter; nil when it is gone. The specification must not be changed afterwards.
func (p *Plan) SetFilter(name string, spec *v3.BGPFilterSpec) {
	before := p.filters[name]
	if before == nil && spec == nil || before != nil && reflect.DeepEqual(before.spec, spec) {
		return
	}
	if spec == nil {
		delete(p.filters, name)
	} else {
		p.filters[name] = &filter{spec: spec, rules: readFilter(name, spec)}
	}
	for _, o := range p.peers {
		if slices.Contains(o.common.Filters, name) {
			p.touchPeer(o)
		}
	}
}

// filtersOf are the filters that sessions name, in order of their name.
func (p *Plan) filtersOf(sessions []v1alpha1.BGPSession) []v1alpha1.BGPRouteFilter {
	var names []string
	for i := range sessions {
		names = append(names, sessions[i].Filters...)
	}
	var out []v1alpha1.BGPRouteFilter
	for _, name := range sorted(names) {
		if f := p.filters[name]; f != nil {
			out = append(out, f.rules)
		} else {
			out = append(out, closed(name))
		}
	}
	return out
}

// closed lets no route pass. It stands for a filter that is not there or can't be read: to pass everything meanwhile would
// spread routes that the filter is to hold back.
func closed(name string) v1alpha1.BGPRouteFilter {
	none := []v1alpha1.BGPRouteRule{{Family: 4}, {Family: 6}}
	return v1alpha1.BGPRouteFilter{Name: name, Import: none, Export: none}
}

func readFilter(name string, spec *v3.BGPFilterSpec) v1alpha1.BGPRouteFilter {
	if len(validate.BGPFilter(&v3.BGPFilter{Spec: *spec})) > 0 {
		return closed(name)
	}
	out := v1alpha1.BGPRouteFilter{Name: name}
	for i := range spec.ImportV4 {
		out.Import = append(out.Import, rulesV4(&spec.ImportV4[i])...)
	}
	for i := range spec.ImportV6 {
		out.Import = append(out.Import, rulesV6(&spec.ImportV6[i])...)
	}
	for i := range spec.ExportV4 {
		out.Export = append(out.Export, rulesV4(&spec.ExportV4[i])...)
	}
	for i := range spec.ExportV6 {
		out.Export = append(out.Export, rulesV6(&spec.ExportV6[i])...)
	}
	return out
}

func rulesV4(r *v3.BGPFilterRuleV4) []v1alpha1.BGPRouteRule {
	var low, high *int32
	if r.PrefixLength != nil {
		low, high = r.PrefixLength.Min, r.PrefixLength.Max
	}
	return rules(4, &r.BGPFilterMatch, r.CIDR, low, high)
}

func rulesV6(r *v3.BGPFilterRuleV6) []v1alpha1.BGPRouteRule {
	var low, high *int32
	if r.PrefixLength != nil {
		low, high = r.PrefixLength.Min, r.PrefixLength.Max
	}
	return rules(6, &r.BGPFilterMatch, r.CIDR, low, high)
}

// rules are what one rule of a BGPFilter comes to. The prefix length belongs to the CIDR: NotIn with a length matches what is
// not in the CIDR or has another length, which takes a rule for each.
func rules(family int32, m *v3.BGPFilterMatch, cidr string, low, high *int32) []v1alpha1.BGPRouteRule {
	r := v1alpha1.BGPRouteRule{
		Family: family, Accept: m.Action == "Accept", RemotePeers: m.Source == "RemotePeers", Interface: m.Interface, PeerType: m.PeerType,
	}
	if m.Communities != nil {
		for _, value := range m.Communities.Values {
			r.Communities = append(r.Communities, string(value))
		}
	}
	for _, as := range m.ASPathPrefix {
		r.ASPathPrefix = append(r.ASPathPrefix, int64(as))
	}
	if m.Priority != nil {
		r.Priority = int32(*m.Priority)
	}
	for i := range m.Operations {
		r.Operations = append(r.Operations, operation(&m.Operations[i]))
	}
	if cidr == "" {
		return []v1alpha1.BGPRouteRule{r}
	}
	net, _ := validate.ParseNet(cidr)
	inside := r
	inside.Operator, inside.CIDR = m.MatchOperator, net.String()
	if m.MatchOperator != "NotIn" {
		inside.MinLength, inside.MaxLength = low, high
		return []v1alpha1.BGPRouteRule{inside}
	}
	out := []v1alpha1.BGPRouteRule{inside}
	if low != nil && *low > 0 {
		shorter := r
		shorter.MaxLength = new(*low - 1)
		out = append(out, shorter)
	}
	if high != nil && int(*high) < net.Addr().BitLen() {
		longer := r
		longer.MinLength = new(*high + 1)
		out = append(out, longer)
	}
	return out
}

func operation(o *v3.BGPFilterOperation) v1alpha1.BGPRouteOperation {
	var out v1alpha1.BGPRouteOperation
	switch {
	case o.AddCommunity != nil:
		out.AddCommunity = string(o.AddCommunity.Value)
	case o.PrependASPath != nil:
		for _, as := range o.PrependASPath.Prefix {
			out.PrependASPath = append(out.PrependASPath, int64(as))
		}
	case o.SetPriority != nil:
		out.SetPriority = int32(o.SetPriority.Value)
	}
	return out
}
