package render

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/nodeagent/tables"
)

// peerRule is a rule that may be for one type of peers only.
type peerRule struct {
	tables.BGPRule
	peerType string
}

// newFilters reads filters. One that can't be understood is left out and told, and so are the sessions that name it.
func newFilters(in []v1alpha1.BGPRouteFilter) (map[string]filter, error) {
	out := map[string]filter{}
	var problem error
	for i := range in {
		importing, err := newRules("import", in[i].Import)
		exporting, exportErr := newRules("export", in[i].Export)
		if err = errors.Join(err, exportErr); err != nil {
			problem = errors.Join(problem, fmt.Errorf("filter %s: %w", in[i].Name, err))
			continue
		}
		out[in[i].Name] = filter{importing: importing, exporting: exporting}
	}
	return out, problem
}

func newRules(direction string, in []v1alpha1.BGPRouteRule) ([]peerRule, error) {
	var out []peerRule
	for i := range in {
		r, err := newRule(&in[i])
		if err != nil {
			return nil, fmt.Errorf("%s[%d]: %w", direction, i, err)
		}
		out = append(out, peerRule{BGPRule: r, peerType: in[i].PeerType})
	}
	return out, nil
}

func newRule(in *v1alpha1.BGPRouteRule) (tables.BGPRule, error) {
	bits := int32(32)
	if in.Family == 6 {
		bits = 128
	}
	out := tables.BGPRule{
		IPv6: in.Family == 6, Accept: in.Accept, MaxLength: uint8(bits), Learned: in.RemotePeers,
		Interface: in.Interface, Communities: in.Communities, Priority: uint32(in.Priority),
	}
	if in.Family != 4 && in.Family != 6 {
		return out, fmt.Errorf("family: got %d, want 4 or 6", in.Family)
	}
	switch in.Operator {
	case "":
	case "Equal":
		out.Operator = tables.EqualPrefix
	case "NotEqual":
		out.Operator = tables.NotEqualPrefix
	case "In":
		out.Operator = tables.InPrefix
	case "NotIn":
		out.Operator = tables.NotInPrefix
	default:
		return out, fmt.Errorf("operator: got %q, want Equal, NotEqual, In or NotIn", in.Operator)
	}
	if in.Operator != "" {
		cidr, err := netip.ParsePrefix(in.CIDR)
		if err != nil || cidr.Addr().Is6() != out.IPv6 {
			return out, fmt.Errorf("cidr: got %q, want a CIDR of the rule's family", in.CIDR)
		}
		out.CIDR = cidr.Masked()
	}
	for _, length := range []struct {
		from *int32
		to   *uint8
	}{{in.MinLength, &out.MinLength}, {in.MaxLength, &out.MaxLength}} {
		if length.from == nil {
			continue
		}
		if *length.from < 0 || *length.from > bits {
			return out, fmt.Errorf("prefix length: got %d, want 0 to %d", *length.from, bits)
		}
		*length.to = uint8(*length.from)
	}
	if in.PeerType != "" && in.PeerType != "eBGP" && in.PeerType != "iBGP" {
		return out, fmt.Errorf("peerType: got %q, want eBGP or iBGP", in.PeerType)
	}
	for _, as := range in.ASPathPrefix {
		out.ASPathPrefix = append(out.ASPathPrefix, uint32(as))
	}
	for _, o := range in.Operations {
		op := tables.BGPOperation{AddCommunity: o.AddCommunity, SetPriority: uint32(o.SetPriority)}
		for _, as := range o.PrependASPath {
			op.PrependASPath = append(op.PrependASPath, uint32(as))
		}
		out.Operations = append(out.Operations, op)
	}
	return out, nil
}

// rulesFor gives the rules that concern a session: the type of its peer is known.
func rulesFor(session *tables.BGPSession, rules []peerRule) []tables.BGPRule {
	var out []tables.BGPRule
	for _, r := range rules {
		if r.peerType == "" || (r.peerType == "iBGP") == session.Internal() {
			out = append(out, r.BGPRule)
		}
	}
	return out
}
