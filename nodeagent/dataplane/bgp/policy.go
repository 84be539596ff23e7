package bgp

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	api "github.com/osrg/gobgp/v3/api"
	"google.golang.org/protobuf/proto"

	"github.com/manul-net/manul/nodeagent/tables"
)

const (
	// reserved is an AS number that nobody may use (RFC 7300): large communities of it are marks of this package's, which
	// never leave the node.
	reserved = 1<<32 - 1
	// markGeneration: the generation of the policies under which a route was last looked at.
	markGeneration = 1
	// markMetric: the metric that a filter set on a learned route; 0: none did.
	markMetric = 2
	// markImport and markExport: the rule that goes on in the next statements.
	markImport = 3
	markExport = 4

	importPolicy, exportPolicy = "import", "export"
	globalTable                = "global"
)

// generation of policies.
type generation uint32

func (g generation) community() *api.LargeCommunity {
	return &api.LargeCommunity{GlobalAdmin: reserved, LocalData1: markGeneration, LocalData2: uint32(g)}
}

func mark(kind, value uint32) string { return fmt.Sprintf("%d:%d:%d", uint32(reserved), kind, value) }

// policy is the speaker's in force.
type policy struct {
	generation generation
	set        bool
	// rules are what it was made of.
	rules rules
}

// rules are all that decides on routes, whatever generation of policies they are made into.
type rules struct {
	speaker tables.Speaker
	classes []class
	// links are the node's networks by interface, as far as rules look at them.
	links []network
}

// class are sessions whose routes are treated alike.
type class struct {
	peers []netip.Addr
	// alone: there is no other class, so that routes need not be matched with a list of peers, which may be long.
	alone bool
	// of is one of the sessions, less what is its own.
	of tables.BGPSession
}

// match is what statements for the class ask of a route's peer.
func (c *class) match() []netip.Addr {
	if c.alone {
		return nil
	}
	return c.peers
}

// needsPeers tells whether next hops depend on which peers share a network with the node.
func (c *class) needsPeers() bool { return !c.of.Internal() && c.of.NextHop == tables.NextHopAuto }

// network of an interface.
type network struct {
	name   string
	prefix netip.Prefix
}

// newRules sorts sessions into classes.
func newRules(desired *tables.BGP, links []network) rules {
	r := rules{speaker: *desired.Speaker}
	all := maps.Collect(desired.Sessions.All())
	for _, name := range slices.Sorted(maps.Keys(all)) {
		s := all[name]
		if !s.Address.IsValid() {
			continue
		}
		of := tables.BGPSession{
			ASNumber: 1, LocalASNumber: s.LocalASNumber, NextHop: s.NextHop, OtherFamily: s.OtherFamily,
			Import: s.Import, Export: s.Export, Address: netip.IPv4Unspecified(),
		}
		if s.Internal() {
			of.ASNumber = s.LocalASNumber
		} else if s.LocalASNumber == 1 {
			of.ASNumber = 2
		}
		if s.Address.Is6() {
			of.Address = netip.IPv6Unspecified()
		}
		i := slices.IndexFunc(r.classes, func(c class) bool { return reflect.DeepEqual(c.of, of) })
		if i < 0 {
			r.classes = append(r.classes, class{of: of})
			i = len(r.classes) - 1
		}
		r.classes[i].peers = append(r.classes[i].peers, s.Address)
	}
	for i := range r.classes {
		c := &r.classes[i]
		slices.SortFunc(c.peers, netip.Addr.Compare)
		// Without a need for the list, a peer that comes changes no policy: that would have every route looked at again.
		if c.alone = len(r.classes) == 1; c.alone && !c.needsPeers() {
			c.peers = nil
		}
	}
	if r.looksAtLinks() {
		r.links = links
	}
	return r
}

// looksAtLinks tells whether any rule depends on the node's networks: those about interfaces, and next hops that other
// routers on the peer's network can use themselves.
func (r *rules) looksAtLinks() bool {
	for i := range r.classes {
		of := &r.classes[i].of
		if r.classes[i].needsPeers() {
			return true
		}
		for _, rule := range slices.Concat(of.Import, of.Export) {
			if rule.Interface != "" {
				return true
			}
		}
	}
	return false
}

// applyPolicy makes the speaker's policies what they should be, and has all routes looked at again that they concern.
//
// The speaker withdraws a route that an export policy comes to reject only if the policy still accepts its former form. So
// routes bear a mark of the generation of policies, and while all of them get the new one, both generations are in force, each for
// routes of its own.
func (d *Driver) applyPolicy(ctx context.Context, desired *tables.BGP) error {
	if d.policy.set && !desired.SpeakerDirty && !desired.Sessions.HasDirty() && !d.policy.rules.looksAtLinks() {
		return nil
	}
	next := newRules(desired, networks())
	if d.policy.set && reflect.DeepEqual(d.policy.rules, next) {
		return nil
	}
	old := d.policy
	now := policy{generation: old.generation + 1, set: true, rules: next}
	if !old.set {
		if err := d.setPolicies(ctx, now, nil); err != nil {
			return err
		}
		for name, direction := range map[string]api.PolicyDirection{importPolicy: api.PolicyDirection_IMPORT, exportPolicy: api.PolicyDirection_EXPORT} {
			assignment := &api.PolicyAssignment{
				Name: globalTable, Direction: direction, Policies: []*api.Policy{{Name: name}}, DefaultAction: api.RouteAction_REJECT,
			}
			if err := d.server.SetPolicyAssignment(ctx, &api.SetPolicyAssignmentRequest{Assignment: assignment}); err != nil {
				return fmt.Errorf("putting BGP policies into force: %w", err)
			}
		}
		d.policy = now
		return nil
	}
	if err := d.setPolicies(ctx, now, &old); err != nil {
		return err
	}
	d.policy = now
	for p, e := range d.exports {
		if err := d.advertise(ctx, p, e); err != nil {
			return fmt.Errorf("advertising %s again: %w", p, err)
		}
	}
	again := &api.ResetPeerRequest{Address: "all", Soft: true, Direction: api.ResetPeerRequest_IN}
	if err := d.server.ResetPeer(ctx, again); err != nil {
		return fmt.Errorf("looking at learned routes again: %w", err)
	}
	return d.setPolicies(ctx, now, nil)
}

// setPolicies replaces all policies at once. With old, routes that bear its generation's mark are exported by its rules.
func (d *Driver) setPolicies(ctx context.Context, now policy, old *policy) error {
	b := &builder{}
	b.importing(&now)
	importing := b.take()
	if old != nil {
		b.generation = &old.generation
		b.exporting(&old.rules)
		b.generation = &now.generation
	}
	b.exporting(&now.rules)
	request := &api.SetPoliciesRequest{DefinedSets: b.sets, Policies: []*api.Policy{
		{Name: importPolicy, Statements: importing}, {Name: exportPolicy, Statements: b.take()},
	}}
	if err := d.server.SetPolicies(ctx, request); err != nil {
		return fmt.Errorf("setting BGP policies: %w", err)
	}
	return nil
}

// builder makes statements.
type builder struct {
	sets       []*api.DefinedSet
	statements []*api.Statement
	marks      uint32
	// generation of the routes that the statements are for; nil: all.
	generation *generation
}

func (b *builder) take() []*api.Statement {
	out := b.statements
	b.statements = nil
	return out
}

// set makes a named set.
func (b *builder) set(s *api.DefinedSet) string {
	for _, old := range b.sets {
		s.Name = old.Name
		if proto.Equal(old, s) {
			return old.Name
		}
	}
	s.Name = fmt.Sprintf("set%d", len(b.sets))
	b.sets = append(b.sets, s)
	return s.Name
}

// when is what a statement asks of a route.
type when struct {
	peers      []netip.Addr
	v6         *bool
	prefixes   []*api.Prefix
	origin     api.Conditions_RouteType
	hops       []netip.Prefix
	plain      []string
	large      []string
	asPath     string
	unlessLand bool // the prefixes are those that the route must not lie in
}

func (b *builder) add(w when, actions *api.Actions) {
	c := &api.Conditions{RouteType: w.origin, RpkiResult: -1}
	if b.generation != nil {
		w.large = append(slices.Clone(w.large), mark(markGeneration, uint32(*b.generation)))
	}
	if w.peers != nil {
		list := make([]string, len(w.peers))
		for i, p := range w.peers {
			list[i] = netip.PrefixFrom(p, p.BitLen()).String()
		}
		c.NeighborSet = &api.MatchSet{Name: b.set(&api.DefinedSet{DefinedType: api.DefinedType_NEIGHBOR, List: list})}
	}
	if w.v6 != nil {
		c.AfiSafiIn = []*api.Family{family(*w.v6)}
	}
	if w.prefixes != nil {
		c.PrefixSet = &api.MatchSet{Name: b.set(&api.DefinedSet{DefinedType: api.DefinedType_PREFIX, Prefixes: w.prefixes})}
		if w.unlessLand {
			c.PrefixSet.Type = api.MatchSet_INVERT
		}
	}
	for _, hop := range w.hops {
		c.NextHopInList = append(c.NextHopInList, hop.String())
	}
	if w.plain != nil {
		c.CommunitySet = &api.MatchSet{Type: api.MatchSet_ALL, Name: b.set(&api.DefinedSet{DefinedType: api.DefinedType_COMMUNITY, List: exactly(w.plain)})}
	}
	if w.large != nil {
		c.LargeCommunitySet = &api.MatchSet{Type: api.MatchSet_ALL, Name: b.set(&api.DefinedSet{DefinedType: api.DefinedType_LARGE_COMMUNITY, List: exactly(w.large)})}
	}
	if w.asPath != "" {
		c.AsPathSet = &api.MatchSet{Name: b.set(&api.DefinedSet{DefinedType: api.DefinedType_AS_PATH, List: []string{w.asPath}})}
	}
	b.statements = append(b.statements, &api.Statement{Name: fmt.Sprintf("s%d-%d", len(b.sets), b.nextMark()), Conditions: c, Actions: actions})
}

func (b *builder) nextMark() uint32 { b.marks++; return b.marks }

// exactly makes patterns of communities.
func exactly(values []string) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = "^" + v + "$"
	}
	return out
}

// unmark takes all marks from a route.
func unmark() *api.CommunityAction {
	return &api.CommunityAction{Type: api.CommunityAction_REMOVE, Communities: []string{fmt.Sprintf("^%d:", uint32(reserved))}}
}

func learnedOnly() []api.Conditions_RouteType {
	return []api.Conditions_RouteType{api.Conditions_ROUTE_TYPE_INTERNAL, api.Conditions_ROUTE_TYPE_EXTERNAL}
}

// importing makes the import policy.
func (b *builder) importing(now *policy) {
	// The node's own routes bear their marks.
	b.add(when{origin: api.Conditions_ROUTE_TYPE_LOCAL}, &api.Actions{RouteAction: api.RouteAction_ACCEPT})
	b.add(when{}, &api.Actions{LargeCommunity: unmark()}) // nobody else's count
	marks := func(metric uint32) []string {
		return []string{mark(markGeneration, uint32(now.generation)), mark(markMetric, metric)}
	}
	for i := range now.rules.classes {
		c := &now.rules.classes[i]
		for j := range c.of.Import {
			b.rule(&now.rules, c, &c.of.Import[j], marks)
		}
	}
	b.add(when{}, &api.Actions{
		LargeCommunity: &api.CommunityAction{Communities: marks(0)}, RouteAction: api.RouteAction_ACCEPT,
	})
}

// inside gives the prefixes of a family, with all that lies in them.
func inside(list []netip.Prefix, v6 bool) []*api.Prefix {
	var out []*api.Prefix
	for _, p := range list {
		if p.Addr().Is6() == v6 {
			out = append(out, lengths(p, p.Bits(), p.Addr().BitLen()))
		}
	}
	return out
}

func lengths(p netip.Prefix, low, high int) *api.Prefix {
	return &api.Prefix{IpPrefix: p.String(), MaskLengthMin: uint32(low), MaskLengthMax: uint32(high)}
}

// rule makes the statements of one rule for one class of sessions. importMarks are the marks of routes that are accepted on
// import, by their metric; nil: the rule is one for export.
func (b *builder) rule(r *rules, c *class, rule *tables.BGPRule, importMarks func(uint32) []string) {
	exporting := importMarks == nil
	w := when{peers: c.match(), v6: &rule.IPv6}
	var possible bool
	if w.prefixes, possible = prefixesOf(rule); !possible {
		return
	}
	w.plain, w.large = byKind(rule.Communities)
	w.asPath = asPath(rule, c, exporting)
	if rule.Interface != "" {
		for _, n := range r.links {
			if matches(rule.Interface, n.name) && n.prefix.Addr().Is6() == rule.IPv6 {
				w.hops = append(w.hops, n.prefix)
			}
		}
		if w.hops == nil {
			return
		}
	}
	origins := []api.Conditions_RouteType{api.Conditions_ROUTE_TYPE_NONE}
	if exporting && (rule.Learned || rule.Interface != "" || rule.Priority > 0) {
		origins = learnedOnly()
	}
	if rule.Priority > 0 {
		switch metric := r.speaker.Metric(rule.IPv6); {
		case !exporting && rule.Priority != metric:
			return // what is learned has the metric of all
		case exporting && rule.Priority == metric:
			w.large = append(w.large, mark(markMetric, 0))
		case exporting:
			w.large = append(w.large, mark(markMetric, rule.Priority))
		}
	}
	for _, origin := range origins {
		w.origin = origin
		if !rule.Accept {
			b.add(w, &api.Actions{RouteAction: api.RouteAction_REJECT})
			continue
		}
		b.accept(w, rule.Operations, importMarks)
	}
}

// byKind tells plain communities from large ones.
func byKind(communities []string) (plain, large []string) {
	for _, value := range communities {
		if isLarge(value) {
			large = append(large, value)
		} else {
			plain = append(plain, value)
		}
	}
	return plain, large
}

// asPath is the pattern of the paths that a rule matches; empty: any.
func asPath(rule *tables.BGPRule, c *class, exporting bool) string {
	if len(rule.ASPathPrefix) == 0 {
		return ""
	}
	var pattern strings.Builder
	pattern.WriteByte('^')
	if exporting && !c.of.Internal() {
		fmt.Fprintf(&pattern, "%d_", c.of.LocalASNumber) // the speaker has put its own in front
	}
	for _, as := range rule.ASPathPrefix {
		fmt.Fprintf(&pattern, "%d_", as)
	}
	return pattern.String()
}

// accept makes the statements that accept a route and change it. A statement has one action of a kind: what it takes more of
// goes on in the next ones, for routes with a mark.
func (b *builder) accept(w when, operations []tables.BGPOperation, importMarks func(uint32) []string) {
	var plain, large []string
	var path []uint32 // as it is to begin
	metric := uint32(0)
	for _, o := range operations {
		switch {
		case o.AddCommunity != "" && isLarge(o.AddCommunity):
			large = append(large, o.AddCommunity)
		case o.AddCommunity != "":
			plain = append(plain, o.AddCommunity)
		case len(o.PrependASPath) > 0:
			path = slices.Concat(o.PrependASPath, path)
		}
		metric = cmp.Or(o.SetPriority, metric)
	}
	var steps []*api.Actions
	first := &api.Actions{}
	if plain != nil {
		first.Community = &api.CommunityAction{Communities: plain}
	}
	if importMarks != nil {
		large = append(large, importMarks(metric)...)
	}
	if large != nil {
		first.LargeCommunity = &api.CommunityAction{Communities: large}
	}
	steps = append(steps, first)
	for len(path) > 0 { // from its end, in runs of one number
		as, repeat := path[len(path)-1], uint32(0)
		for len(path) > 0 && path[len(path)-1] == as {
			path, repeat = path[:len(path)-1], repeat+1
		}
		step := steps[len(steps)-1]
		if step.AsPrepend != nil {
			step = &api.Actions{}
			steps = append(steps, step)
		}
		step.AsPrepend = &api.AsPrependAction{Asn: as, Repeat: repeat}
	}
	kind := uint32(markImport)
	if importMarks == nil {
		kind = markExport
		if last := steps[len(steps)-1]; last.LargeCommunity != nil {
			steps = append(steps, &api.Actions{})
		}
		steps[len(steps)-1].LargeCommunity = unmark()
	}
	steps[len(steps)-1].RouteAction = api.RouteAction_ACCEPT
	if len(steps) > 1 {
		goesOn := mark(kind, b.nextMark())
		if first.LargeCommunity == nil {
			first.LargeCommunity = &api.CommunityAction{}
		}
		first.LargeCommunity.Communities = append(first.LargeCommunity.Communities, goesOn)
		b.add(w, first)
		w = when{large: []string{goesOn}}
		steps = steps[1:]
	}
	for _, step := range steps {
		b.add(w, step)
	}
}
