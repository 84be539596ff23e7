package hollow

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"sync"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/nodeagent/render"
	"github.com/manul-net/manul/nodeagent/source"
	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/nodeagent/verdict"
)

// Mirror is a node agent whose kernel is its tables: what it is told is in effect at once, and it says so. It is a source.Sink.
type Mirror struct {
	Node string
	// AddressOf is the address of a pod of the node, by its ID.
	AddressOf func(id string) string

	mu sync.Mutex
	// src hears what the node says; nil: nobody does.
	src source.Source
	// check is called after each piece of news with the members of all sets in force.
	check func(members map[string]bool)
	// apply is called after each piece of news that changed the tables of policy, before the marks of what changed are cleaned.
	apply func(*tables.Policy)

	state    *render.State
	objects  map[source.Kind]map[string]source.Object
	versions map[source.Kind]uint64
	observed int64
	local    map[string]string // pods that hold addresses: ID -> UID
	listed   map[source.Kind]bool
	news     int
	resets   int
	changed  int // kernel changes
}

// NewMirror makes an agent of a node that knows nothing yet.
func NewMirror(node string, addressOf func(id string) string) *Mirror {
	m := &Mirror{Node: node, AddressOf: addressOf, state: render.New(node), objects: map[source.Kind]map[string]source.Object{}, versions: map[source.Kind]uint64{}, listed: map[source.Kind]bool{}, local: map[string]string{}}
	for _, kind := range source.Kinds() {
		m.objects[kind] = map[string]source.Object{}
	}
	return m
}

// open is the Mirror while its lock is held.
type open struct{ *Mirror }

// Together implements source.Sink.
func (m *Mirror) Together(give func(source.Sink)) {
	m.mu.Lock()
	give(open{m})
	m.news++
	if p := m.state.Policy(); p.HasDirty() {
		m.changed++
		if m.apply != nil {
			m.apply(p)
		}
		p.Clean()
	}
	report := m.status()
	if m.check != nil && len(m.listed) == len(source.Kinds()) {
		m.check(m.members())
	}
	src := m.src
	m.mu.Unlock()
	if src != nil && report != nil {
		src.Report(source.Report{Status: *report, Urgent: true})
	}
}

// status is what the node says; nil as long as it does not know its state. The lock is held.
func (m *Mirror) status() *v1alpha1.NodeStateStatus {
	own, ok := m.objects[source.NodeState][m.Node].(*v1alpha1.NodeState)
	if !ok || len(m.listed) < len(source.Kinds()) {
		return nil
	}
	if own.Generation > 0 {
		m.observed = own.Generation
	}
	s := &v1alpha1.NodeStateStatus{ObservedGeneration: m.observed, Applied: map[string]string{}}
	for kind, v := range m.versions {
		if kind != source.NodeState {
			s.Applied[string(kind)] = strconv.FormatUint(v, 10)
		}
	}
	for i := range own.Spec.Endpoints {
		e := &own.Spec.Endpoints[i]
		s.Endpoints = append(s.Endpoints, v1alpha1.EndpointStatus{ID: e.ID, UID: e.UID, Addresses: []string{m.AddressOf(e.ID)}})
	}
	return s
}

// members are those of all sets in force: "<set> <address>". The lock is held.
func (m *Mirror) members() map[string]bool {
	out := map[string]bool{}
	for member := range m.state.Policy().Members.All() {
		out[member.Set+" "+member.Prefix.Addr().String()] = true
	}
	return out
}

// Tables are the node's tables as text, sorted.
func (m *Mirror) Tables() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.state.Policy()
	var out []string
	for name, e := range p.Endpoints.All() {
		out = append(out, fmt.Sprintf("endpoint %s %+v", name, e))
	}
	for name, x := range p.Programs.All() {
		out = append(out, fmt.Sprintf("program %s %+v", name, x))
	}
	for name, x := range p.Sets.All() {
		out = append(out, fmt.Sprintf("set %s %+v", name, x))
	}
	for member := range p.Members.All() {
		out = append(out, fmt.Sprintf("member %+v", member))
	}
	for prefix, r := range m.state.Routes().All() {
		out = append(out, fmt.Sprintf("route %v %+v", prefix, r))
	}
	slices.Sort(out)
	return out
}

// Say has the node say what it has in effect to a source, from now on.
func (m *Mirror) Say(to source.Source) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.src = to
}

// Check has f called after each piece of news, once the node knows everything, with the members of all sets in force
// ("<set> <address>"), and how many pods the node has.
func (m *Mirror) Check(f func(members map[string]bool, own int)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.check = nil
	if f != nil {
		m.check = func(members map[string]bool) { f(members, m.own()) }
	}
}

// Apply has f called with the tables of policy whenever they changed, before the marks of what changed are cleaned. At once too, with
// all that there is.
func (m *Mirror) Apply(f func(*tables.Policy)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.apply = f
	f(m.state.Policy())
	m.state.Policy().Clean()
}

// With has f look at the tables of policy while they do not change.
func (m *Mirror) With(f func(*tables.Policy)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(m.state.Policy())
}

// Members are those of all sets in force: "<set> <address>".
func (m *Mirror) Members() map[string]bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.members()
}

// News counts what the node was told: pieces of news, those that gave everything, and those that changed its tables of policy.
func (m *Mirror) News() (pieces, everything, changes int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.news, m.resets, m.changed
}

// Knows tells whether the node has been told everything once.
func (m *Mirror) Knows() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.listed) == len(source.Kinds())
}

// own counts the pods of the node. The lock is held.
func (m *Mirror) own() int {
	if own, ok := m.objects[source.NodeState][m.Node].(*v1alpha1.NodeState); ok {
		return len(own.Spec.Endpoints)
	}
	return 0
}

// Replace implements source.Sink.
func (m *Mirror) Replace(kind source.Kind, objects []source.Object, version string) {
	m.Together(func(s source.Sink) { s.Replace(kind, objects, version) })
}

// Set implements source.Sink.
func (m *Mirror) Set(kind source.Kind, o source.Object) {
	m.Together(func(s source.Sink) { s.Set(kind, o) })
}

// Delete implements source.Sink.
func (m *Mirror) Delete(kind source.Kind, name, version string) {
	m.Together(func(s source.Sink) { s.Delete(kind, name, version) })
}

// Reached implements source.Sink.
func (m *Mirror) Reached(kind source.Kind, version string) {
	m.Together(func(s source.Sink) { s.Reached(kind, version) })
}

// Awaited implements source.Sink.
func (m *Mirror) Awaited(kind source.Kind, version string) { m.Reached(kind, version) }

func (o open) Together(give func(source.Sink)) { give(o) }

func (o open) Reached(kind source.Kind, version string) {
	if v, err := strconv.ParseUint(version, 10, 64); err == nil {
		o.versions[kind] = max(o.versions[kind], v)
	}
}

func (o open) Awaited(kind source.Kind, version string) { o.Reached(kind, version) }

func (o open) Replace(kind source.Kind, objects []source.Object, version string) {
	o.listed[kind] = true
	if kind == source.NodeState {
		o.resets++
	}
	there := map[string]bool{}
	for _, object := range objects {
		there[object.GetName()] = true
		o.Set(kind, object)
	}
	for name := range maps.Clone(o.objects[kind]) {
		if !there[name] {
			o.Delete(kind, name, "")
		}
	}
	o.Reached(kind, version)
}

func (o open) Set(kind source.Kind, object source.Object) {
	o.objects[kind][object.GetName()] = object
	o.Reached(kind, object.GetResourceVersion())
	switch x := object.(type) {
	case *v1alpha1.NodeState:
		if x.Name == o.Node {
			o.state.SetNodeState(&x.Spec)
			there := map[string]string{}
			for i := range x.Spec.Endpoints {
				there[x.Spec.Endpoints[i].ID] = string(x.Spec.Endpoints[i].UID)
			}
			for id, uid := range o.local {
				if there[id] != uid {
					o.state.DeleteLocal(id, uid)
				}
			}
			for id, uid := range there {
				if o.local[id] != uid {
					o.state.SetLocal(id, uid, []netip.Addr{netip.MustParseAddr(o.AddressOf(id))})
				}
			}
			o.local = there
		}
	case *v1alpha1.NodeEndpoints:
		o.state.SetEndpoints(x.Name, &x.Spec)
	case *v1alpha1.NodeNetwork:
		o.state.SetNetwork(x.Name, &x.Spec)
	case *v1alpha1.PolicyProgram:
		o.state.SetProgram(x.Name, 0, &x.Spec)
	case *v1alpha1.SetCatalog:
		o.state.SetCatalog(x.Name, &x.Spec)
	}
}

func (o open) Delete(kind source.Kind, name, _ string) {
	delete(o.objects[kind], name)
	switch kind {
	case source.NodeEndpoints:
		o.state.DeleteEndpoints(name)
	case source.NodeNetwork:
		o.state.DeleteNetwork(name)
	case source.PolicyProgram:
		o.state.DeleteProgram(name)
	case source.SetCatalog:
		o.state.DeleteCatalog(name)
	case source.NodeState: // a node goes on as it was told last
	}
}

// Judge has f ask what the node does with packets, by its tables of now. workloadPrefix begins the names of pods' interfaces.
func (m *Mirror) Judge(workloadPrefix string, f func(*verdict.Evaluator)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(verdict.New(m.state.Policy(), workloadPrefix))
}
