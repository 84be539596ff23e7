package stream

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/nodeagent/render"
	"github.com/manul-net/manul/nodeagent/source"
)

// mirror is a node agent whose kernel is its tables: what it is told is in effect at once, and it says so.
type mirror struct {
	t    *testing.T
	node string
	src  source.Source
	// check is called after each piece of news with the members of all sets in force.
	check func(members map[string]bool)

	mu       sync.Mutex
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

func newMirror(t *testing.T, node string) *mirror {
	t.Helper()
	m := &mirror{t: t, node: node, state: render.New(node), objects: map[source.Kind]map[string]source.Object{}, versions: map[source.Kind]uint64{}, listed: map[source.Kind]bool{}, local: map[string]string{}}
	for _, kind := range source.Kinds() {
		m.objects[kind] = map[string]source.Object{}
	}
	return m
}

// open is the mirror while its lock is held.
type open struct{ *mirror }

func (m *mirror) Together(give func(source.Sink)) {
	m.mu.Lock()
	give(open{m})
	m.news++
	if p := m.state.Policy(); p.HasDirty() {
		m.changed++
		p.Clean()
	}
	report := m.status()
	if m.check != nil && len(m.listed) == len(source.Kinds()) {
		m.check(m.members())
	}
	m.mu.Unlock()
	if m.src != nil && report != nil {
		m.src.Report(source.Report{Status: *report, Urgent: true})
	}
}

// status is what the node says; nil as long as it does not know its state. The lock is held.
func (m *mirror) status() *v1alpha1.NodeStateStatus {
	own, ok := m.objects[source.NodeState][m.node].(*v1alpha1.NodeState)
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
		s.Endpoints = append(s.Endpoints, v1alpha1.EndpointStatus{ID: e.ID, UID: e.UID, Addresses: []string{addressOf(e.ID)}})
	}
	return s
}

// addressOf is the address of a pod by its number: "team/red-17".
func addressOf(id string) string {
	i := strings.LastIndexByte(id, '-')
	n, err := strconv.Atoi(id[i+1:])
	if err != nil {
		return "192.0.2.255" // none of these tests' pods
	}
	return netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}).String()
}

// members are those of all sets in force: "<set> <address>". The lock is held.
func (m *mirror) members() map[string]bool {
	out := map[string]bool{}
	for member := range m.state.Policy().Members.All() {
		out[member.Set+" "+member.Prefix.Addr().String()] = true
	}
	return out
}

// tables are the node's tables as text, sorted.
func (m *mirror) tables() []string {
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

// own counts the pods of the node. The lock is held.
func (m *mirror) own() int {
	if own, ok := m.objects[source.NodeState][m.node].(*v1alpha1.NodeState); ok {
		return len(own.Spec.Endpoints)
	}
	return 0
}

func (m *mirror) Replace(kind source.Kind, objects []source.Object, version string) {
	m.Together(func(s source.Sink) { s.Replace(kind, objects, version) })
}

func (m *mirror) Set(kind source.Kind, o source.Object) {
	m.Together(func(s source.Sink) { s.Set(kind, o) })
}

func (m *mirror) Delete(kind source.Kind, name, version string) {
	m.Together(func(s source.Sink) { s.Delete(kind, name, version) })
}

func (m *mirror) Reached(kind source.Kind, version string) {
	m.Together(func(s source.Sink) { s.Reached(kind, version) })
}

func (m *mirror) Awaited(kind source.Kind, version string) { m.Reached(kind, version) }

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
		if x.Name == o.node {
			o.state.SetNodeState(&x.Spec)
			for id, uid := range o.local {
				o.state.DeleteLocal(id, uid)
			}
			clear(o.local)
			for i := range x.Spec.Endpoints {
				id := x.Spec.Endpoints[i].ID
				o.local[id] = string(x.Spec.Endpoints[i].UID)
				o.state.SetLocal(id, string(x.Spec.Endpoints[i].UID), []netip.Addr{netip.MustParseAddr(addressOf(id))})
			}
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
