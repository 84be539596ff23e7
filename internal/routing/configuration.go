package routing

import (
	"cmp"
	"maps"
	"math"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/validate"
)

// What holds when a BGPConfiguration says nothing.
const (
	DefaultASNumber = 64512
	DefaultPort     = 179
)

// The BGPConfigurations that count: one for all nodes, and one for each node of which it bears the name.
const (
	DefaultConfiguration = "default"
	NodeConfiguration    = "node."
)

// configuration is a BGPConfiguration, read.
type configuration struct {
	settings
}

// settings are what a BGPConfiguration says. What is absent is zero.
type settings struct {
	as                   int64
	listenPort           int32
	mesh                 *bool
	bindMode             string
	meshPassword         *v1alpha1.SecretKey
	meshRestart          int32
	ignored              []string
	metric4, metric6     int32
	workload4, workload6 string
	// program is programClusterRoutes.
	program string

	clusterIPs, externalIPs, loadBalancerIPs []netip.Prefix
	aggregation                              string

	// names of communities, and the communities of prefixes by name or value.
	communities map[string]string
	prefixes    []prefixCommunities
}

type prefixCommunities struct {
	cidr   netip.Prefix
	values []string
}

// SetConfiguration takes in a BGPConfiguration; nil when it is gone.
func (p *Plan) SetConfiguration(name string, spec *v3.BGPConfigurationSpec) {
	node, ofNode := strings.CutPrefix(name, NodeConfiguration)
	if name != DefaultConfiguration && !ofNode {
		return
	}
	var next *configuration
	if spec != nil {
		next = &configuration{settings: readSettings(spec)}
	}
	if reflect.DeepEqual(p.configurations[name], next) {
		return
	}
	if next == nil {
		delete(p.configurations, name)
	} else {
		p.configurations[name] = next
	}
	if ofNode {
		// What a node advertises of a service may depend on whether any node aggregates.
		p.sortServices()
		p.touch(node, staleSessions|staleServices|staleSettings)
		if n := p.nodes[node]; n != nil {
			p.touchNeighbours(n)
		}
		return
	}
	p.sortServices()
	p.touchAll(staleSessions | staleServices | staleSettings)
}

func readSettings(spec *v3.BGPConfigurationSpec) settings {
	s := settings{
		mesh: spec.NodeToNodeMeshEnabled, listenPort: int32(spec.ListenPort),
		meshPassword: secretOf(spec.NodeMeshPassword), meshRestart: seconds(spec.NodeMeshMaxRestartTime),
		ignored: sorted(spec.IgnoredInterfaces), workload4: spec.LocalWorkloadPeeringIPV4, workload6: spec.LocalWorkloadPeeringIPV6,
		aggregation: spec.ServiceLoadBalancerAggregation, communities: map[string]string{},
	}
	if spec.ASNumber != nil {
		s.as = int64(*spec.ASNumber)
	}
	if spec.BindMode != nil {
		s.bindMode = *spec.BindMode
	}
	if spec.ProgramClusterRoutes != nil {
		s.program = *spec.ProgramClusterRoutes
	}
	if spec.IPv4NormalRoutePriority != nil {
		s.metric4 = int32(*spec.IPv4NormalRoutePriority)
	}
	if spec.IPv6NormalRoutePriority != nil {
		s.metric6 = int32(*spec.IPv6NormalRoutePriority)
	}
	for _, b := range spec.ServiceClusterIPs {
		s.clusterIPs = appendCIDR(s.clusterIPs, b.CIDR)
	}
	for _, b := range spec.ServiceExternalIPs {
		s.externalIPs = appendCIDR(s.externalIPs, b.CIDR)
	}
	for _, b := range spec.ServiceLoadBalancerIPs {
		s.loadBalancerIPs = appendCIDR(s.loadBalancerIPs, b.CIDR)
	}
	for _, c := range spec.Communities {
		s.communities[c.Name] = c.Value
	}
	for _, a := range spec.PrefixAdvertisements {
		if cidr, err := validate.ParseNet(a.CIDR); cidr.IsValid() && (err == nil || cidr.IsValid()) {
			s.prefixes = append(s.prefixes, prefixCommunities{cidr, a.Communities})
		}
	}
	return s
}

// appendCIDR adds what can be read. What can't be is a finding on the BGPConfiguration.
func appendCIDR(list []netip.Prefix, text string) []netip.Prefix {
	if cidr, _ := validate.ParseNet(text); cidr.IsValid() {
		return append(list, cidr)
	}
	return list
}

func sorted(list []string) []string {
	out := slices.Clone(list)
	slices.Sort(out)
	return slices.Compact(out)
}

func secretOf(password *v3.BGPPassword) *v1alpha1.SecretKey {
	if password == nil || password.SecretKeyRef == nil {
		return nil
	}
	return &v1alpha1.SecretKey{Name: password.SecretKeyRef.Name, Key: password.SecretKeyRef.Key}
}

// seconds are those of a duration, rounded up. One that can't be read is 0.
func seconds(d *v3.Duration) int32 {
	if d == nil {
		return 0
	}
	span, err := d.Parse()
	if err != nil {
		return 0
	}
	return int32(min((span+time.Second-1)/time.Second, math.MaxInt32))
}

// settingsOf are those that hold for a node: field by field, its own before those of all.
func (p *Plan) settingsOf(name string) *settings {
	var s settings
	if general := p.configurations[DefaultConfiguration]; general != nil {
		s = general.settings
	}
	own := p.configurations[NodeConfiguration+name]
	if own == nil {
		return &s
	}
	return own.over(&s)
}

func (s *settings) over(general *settings) *settings {
	out := settings{
		as:              cmp.Or(s.as, general.as),
		listenPort:      cmp.Or(s.listenPort, general.listenPort),
		mesh:            cmp.Or(s.mesh, general.mesh),
		bindMode:        cmp.Or(s.bindMode, general.bindMode),
		meshPassword:    general.meshPassword, // both ends need the same
		meshRestart:     cmp.Or(s.meshRestart, general.meshRestart),
		ignored:         orList(s.ignored, general.ignored),
		metric4:         cmp.Or(s.metric4, general.metric4),
		metric6:         cmp.Or(s.metric6, general.metric6),
		workload4:       cmp.Or(s.workload4, general.workload4),
		workload6:       cmp.Or(s.workload6, general.workload6),
		program:         general.program, // all nodes must agree
		clusterIPs:      orList(s.clusterIPs, general.clusterIPs),
		externalIPs:     orList(s.externalIPs, general.externalIPs),
		loadBalancerIPs: orList(s.loadBalancerIPs, general.loadBalancerIPs),
		aggregation:     general.aggregation,
		prefixes:        orList(s.prefixes, general.prefixes),
		communities:     map[string]string{},
	}
	// The API server writes Enabled into every object, so that a node's Enabled says nothing.
	if s.aggregation == aggregationDisabled {
		out.aggregation = s.aggregation
	}
	maps.Copy(out.communities, general.communities)
	maps.Copy(out.communities, s.communities)
	return &out
}

func orList[T any](a, b []T) []T {
	if len(a) > 0 {
		return a
	}
	return b
}

// serviceRanges are the CIDRs of all kinds of service addresses, in order.
func (s *settings) serviceRanges() []string {
	ranges := slices.Concat(s.clusterIPs, s.externalIPs, s.loadBalancerIPs)
	slices.SortFunc(ranges, netip.Prefix.Compare)
	var out []string
	for _, p := range slices.Compact(ranges) {
		out = append(out, p.String())
	}
	return out
}

const aggregationDisabled = "Disabled"

func (s *settings) aggregates() bool { return s.aggregation != aggregationDisabled }

func (s *settings) port() int32 { return cmp.Or(s.listenPort, DefaultPort) }

func (s *settings) hasMesh() bool { return s.mesh == nil || *s.mesh }

func (s *settings) bindsNode() bool { return s.bindMode == "NodeIP" }

// advertised are the communities of routes, in order of CIDR. A name that stands for none is left out.
func (s *settings) advertised() []v1alpha1.BGPCommunities {
	byCIDR := map[netip.Prefix][]string{}
	for _, a := range s.prefixes {
		for _, value := range a.values {
			if named, ok := s.communities[value]; ok {
				value = named
			}
			if validate.Community(value) == nil {
				byCIDR[a.cidr] = append(byCIDR[a.cidr], value)
			}
		}
	}
	var out []v1alpha1.BGPCommunities
	for _, cidr := range sortedPrefixes(byCIDR) {
		out = append(out, v1alpha1.BGPCommunities{CIDR: cidr.String(), Values: sorted(byCIDR[cidr])})
	}
	return out
}

// RoutesByBGP tells whether the routes to a pool's addresses on other nodes are those that BGP learns. Of a pool with VXLAN they
// never are: BGP does not know the ends of its tunnels.
func (p *Plan) RoutesByBGP(ipip, vxlan bool) bool {
	general := p.configurations[DefaultConfiguration]
	if general == nil || vxlan {
		return false
	}
	switch general.program {
	case "Enabled":
		return true
	case "EnabledIPIPOnly":
		return ipip
	case "EnabledNoEncapOnly":
		return !ipip
	}
	return false
}
