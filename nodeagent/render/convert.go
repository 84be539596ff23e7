package render

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"unique"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/nodeagent/tables"
)

const defaultVXLANPort = 4789 // RFC 7348, section 5

func settings(s v1alpha1.AgentSettings) (tables.Settings, error) {
	out := tables.Settings{
		Dataplane:  tables.Dataplane(s.Dataplane),
		VXLANPort:  uint16(cmp.Or(s.VXLANPort, defaultVXLANPort)),
		AllowVXLAN: s.AllowVXLANFromPods,
		AllowIPIP:  s.AllowIPIPFromPods,
	}
	switch s.EndpointToHostAction {
	case "Accept":
		out.EndpointToHost = tables.HostAccept
	case "Return":
		out.EndpointToHost = tables.HostReturn
	default:
		out.EndpointToHost = tables.HostDrop
	}
	var errs [2]error
	out.FailsafeInbound, errs[0] = failsafePorts("failsafeInbound", s.FailsafeInbound)
	out.FailsafeOutbound, errs[1] = failsafePorts("failsafeOutbound", s.FailsafeOutbound)
	return out, errors.Join(errs[:]...)
}

// failsafePorts reads ports that stay open, in order and without repetition. What can't be read is left out and told.
func failsafePorts(field string, in []v1alpha1.FailsafePort) ([]tables.FailsafePort, error) {
	var out []tables.FailsafePort
	var problem error
	for _, p := range in {
		if p.Protocol < 1 || p.Protocol > 255 || p.Port < 1 || p.Port > 65535 {
			problem = errors.Join(problem, fmt.Errorf("%s: got protocol %d and port %d, want 1 to 255 and 1 to 65535", field, p.Protocol, p.Port))
			continue
		}
		port := tables.FailsafePort{Protocol: uint8(p.Protocol), Port: uint16(p.Port)}
		if p.Net != "" {
			net, err := netip.ParsePrefix(p.Net)
			if err != nil {
				problem = errors.Join(problem, fmt.Errorf("%s: reading CIDR: %w", field, err))
				continue
			}
			port.Net = net.Masked()
		}
		out = append(out, port)
	}
	slices.SortFunc(out, func(a, b tables.FailsafePort) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port), a.Net.Compare(b.Net))
	})
	return slices.Compact(out), problem
}

// newList reads what applies to an endpoint. The error tells what could not be read and is left out.
func newList(e *v1alpha1.Endpoint) (*list, error) {
	l := &list{
		uid:      string(e.UID),
		identity: e.Identity,
		ingress:  tiers(e.Ingress),
		egress:   tiers(e.Egress),
		ports:    e.Ports,
		floating: e.Floating,
		limits:   limits(e.Bandwidth),
		packets:  packetLimits(e.Packets),
	}
	var err error
	if l.sourcePrefixes, err = prefixes(e.SourcePrefixes); err != nil {
		err = fmt.Errorf("sourcePrefixes: %w", err)
	}
	return l, err
}

func limits(in *v1alpha1.Bandwidth) tables.Limits {
	var out tables.Limits
	if in == nil {
		return out
	}
	set := func(l *v1alpha1.BandwidthLimit, to *tables.Limit) {
		if l != nil && l.BitsPerSecond > 0 {
			*to = tables.Limit{
				BitsPerSecond: uint64(l.BitsPerSecond), BurstBits: uint64(max(l.BurstBits, 0)),
				PeakBitsPerSecond: uint64(max(l.PeakBitsPerSecond, 0)), MinBurstBytes: uint32(min(max(l.MinBurstBytes, 0), math.MaxUint32)),
			}
		}
	}
	set(in.Ingress, &out.Ingress)
	set(in.Egress, &out.Egress)
	return out
}

func packetLimits(in *v1alpha1.PacketLimits) tables.PacketLimits {
	var out tables.PacketLimits
	if in == nil {
		return out
	}
	set := func(l *v1alpha1.PacketLimit, to *tables.PacketLimit) {
		if l == nil {
			return
		}
		*to = tables.PacketLimit{
			PacketsPerSecond: uint64(max(l.PacketsPerSecond, 0)), Burst: uint32(min(max(l.Burst, 0), math.MaxUint32)),
			Connections: uint32(min(max(l.Connections, 0), math.MaxUint32)),
		}
	}
	set(in.Ingress, &out.Ingress)
	set(in.Egress, &out.Egress)
	return out
}

func tiers(in []v1alpha1.TierPolicies) []tables.Tier {
	var out []tables.Tier
	for _, t := range in {
		tier := tables.Tier{Name: t.Tier, Default: tables.Deny, Programs: slices.Clone(t.Policies)}
		if t.DefaultAction == v1alpha1.Pass {
			tier.Default = tables.Pass
		}
		out = append(out, tier)
	}
	return out
}

// newForm compiles a program. An error means that nothing of it may be used: a rule that is only half understood could
// allow what the policy denies.
func newForm(version uint64, spec *v1alpha1.PolicyProgramSpec) (*form, error) {
	f := &form{version: version}
	var err error
	if f.rules.Ingress, err = f.compile("ingress", spec.Ingress); err != nil {
		return nil, err
	}
	if f.rules.Egress, err = f.compile("egress", spec.Egress); err != nil {
		return nil, err
	}
	f.sets, f.portSets = once(f.sets), once(f.portSets)
	return f, nil
}

// once gives names in order and without repetition, in no more memory than they take.
func once(names []string) []string {
	slices.Sort(names)
	return slices.Clone(slices.Compact(names))
}

// shared gives a copy of names of which each is kept once, however many rules of however many policies say it.
func shared(names []string) []string {
	if len(names) == 0 {
		return nil
	}
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = unique.Make(n).Value()
	}
	return out
}

func (f *form) compile(direction string, in []v1alpha1.Rule) ([]tables.Rule, error) {
	if len(in) == 0 {
		return nil, nil
	}
	out := make([]tables.Rule, 0, len(in)) // a rule takes some 400 bytes: none to spare
	for i := range in {
		r, err := f.rule(&in[i])
		if err != nil {
			return nil, fmt.Errorf("%s[%d]: %w", direction, i, err)
		}
		out = append(out, r)
	}
	return out, nil
}

func (f *form) rule(in *v1alpha1.Rule) (tables.Rule, error) {
	var out tables.Rule
	var errs [8]error
	out.Action, errs[0] = action(in.Action)
	out.IPVersion, errs[1] = ipVersion(in.IPVersion)
	out.Protocol, errs[2] = protocol(in.Protocol)
	out.NotProtocol, errs[3] = protocol(in.NotProtocol)
	out.ICMP, errs[4] = icmp(in.ICMP)
	out.NotICMP, errs[5] = icmp(in.NotICMP)
	out.Source, errs[6] = f.entity("source", &in.Source)
	out.Destination, errs[7] = f.entity("destination", &in.Destination)
	return out, errors.Join(errs[:]...)
}

func action(a v1alpha1.Action) (tables.Action, error) {
	switch a {
	case v1alpha1.Allow:
		return tables.Allow, nil
	case v1alpha1.Deny:
		return tables.Deny, nil
	case v1alpha1.Pass:
		return tables.Pass, nil
	case v1alpha1.Log:
		return tables.Log, nil
	}
	return 0, fmt.Errorf("action: got %q, want Allow, Deny, Pass or Log", a)
}

func ipVersion(v int32) (uint8, error) {
	if v != 0 && v != 4 && v != 6 {
		return 0, fmt.Errorf("ipVersion: got %d, want 4, 6 or 0 for both", v)
	}
	return uint8(v), nil
}

func protocol(p *int32) (uint8, error) {
	if p == nil {
		return 0, nil
	}
	if *p < 1 || *p > 255 {
		return 0, fmt.Errorf("protocol: got %d, want 1 to 255", *p)
	}
	return uint8(*p), nil
}

func icmp(m *v1alpha1.ICMPMatch) (*tables.ICMP, error) {
	if m == nil || m.Type == nil && m.Code == nil {
		return nil, nil //nolint:nilnil // no match is asked for
	}
	if m.Type == nil {
		return nil, errors.New("icmp: a code needs a type")
	}
	out := &tables.ICMP{Type: int16(*m.Type), Code: -1}
	if m.Code != nil {
		out.Code = int16(*m.Code)
	}
	if *m.Type < 0 || *m.Type > 255 || m.Code != nil && (*m.Code < 0 || *m.Code > 255) {
		return nil, errors.New("icmp: type and code are 0 to 255")
	}
	return out, nil
}

func (f *form) entity(what string, in *v1alpha1.EntityMatch) (tables.Entity, error) {
	out := tables.Entity{
		Sets:        shared(in.Sets),
		NotSets:     shared(in.NotSets),
		PortSets:    portSets(in.NamedPorts),
		NotPortSets: portSets(in.NotNamedPorts),
	}
	ofPorts := shared(in.PortSets)
	f.sets = append(append(append(f.sets, out.Sets...), out.NotSets...), ofPorts...)
	f.portSets = append(append(f.portSets, out.PortSets...), out.NotPortSets...)
	out.PortSets = append(out.PortSets, ofPorts...)
	var errs [4]error
	out.Nets, errs[0] = prefixes(in.Nets)
	out.NotNets, errs[1] = prefixes(in.NotNets)
	out.Ports, errs[2] = ports(in.Ports)
	out.NotPorts, errs[3] = ports(in.NotPorts)
	if err := errors.Join(errs[:]...); err != nil {
		return out, fmt.Errorf("%s: %w", what, err)
	}
	return out, nil
}

func portSets(names []string) []string {
	ids := make([]string, len(names))
	for i, n := range names {
		ids[i] = portSet(n)
	}
	return shared(ids)
}

func ports(in []v1alpha1.PortRange) ([]tables.PortRange, error) {
	if len(in) == 0 {
		return nil, nil
	}
	out := make([]tables.PortRange, 0, len(in))
	for _, p := range in {
		if p.First < 0 || p.Last > 65535 || p.First > p.Last {
			return nil, fmt.Errorf("ports: got %d to %d, want an ascending range within 0 to 65535", p.First, p.Last)
		}
		out = append(out, tables.PortRange{First: uint16(p.First), Last: uint16(p.Last)})
	}
	return out, nil
}

// prefixes reads CIDRs in order and without repetition. What can't be read is left out and told.
func prefixes(in []string) ([]netip.Prefix, error) {
	if len(in) == 0 {
		return nil, nil
	}
	out := make([]netip.Prefix, 0, len(in))
	var problem error
	for _, s := range in {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			problem = errors.Join(problem, fmt.Errorf("reading CIDR: %w", err))
			continue
		}
		out = append(out, p.Masked())
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out), problem
}

// setPorts reads the members of a set of ports, in order and without repetition. What can't be read is left out and told.
func setPorts(in []v1alpha1.PortMembers) ([]port, error) {
	var out []port
	var problem error
	for _, m := range in {
		if m.Protocol < 1 || m.Protocol > 255 || m.Port < 1 || m.Port > 65535 {
			problem = errors.Join(problem, fmt.Errorf("members: got protocol %d and port %d, want 1 to 255 and 1 to 65535", m.Protocol, m.Port))
			continue
		}
		addrs, err := addresses(m.Addresses)
		problem = errors.Join(problem, err)
		for _, addr := range addrs {
			out = append(out, port{addr: addr, protocol: uint8(m.Protocol), number: uint16(m.Port)})
		}
	}
	slices.SortFunc(out, func(a, b port) int {
		return cmp.Or(a.addr.Compare(b.addr), cmp.Compare(a.protocol, b.protocol), cmp.Compare(a.number, b.number))
	})
	return slices.Compact(out), problem
}

// addresses reads addresses in order. What can't be read is left out and told.
func addresses(in []string) ([]netip.Addr, error) {
	var out []netip.Addr
	var problem error
	for _, s := range in {
		a, err := netip.ParseAddr(s)
		if err != nil {
			problem = errors.Join(problem, fmt.Errorf("reading address: %w", err))
			continue
		}
		out = append(out, a.Unmap())
	}
	return out, problem
}
