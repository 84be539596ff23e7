package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/cni/protocol"
	"github.com/manul-net/manul/nodeagent/attachments"
	"github.com/manul-net/manul/nodeagent/source"
	"github.com/manul-net/manul/nodeagent/tables"
)

const node = "worker1"

// fakeSource is a source without a network: the test puts news into its sink.
type fakeSource struct {
	sink    source.Sink
	started chan struct{}
	mu      sync.Mutex
	reports []source.Report
}

func (s *fakeSource) Run(ctx context.Context, sink source.Sink) error {
	s.sink = sink
	close(s.started)
	<-ctx.Done()
	return nil
}

func (s *fakeSource) Report(r source.Report) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reports = append(s.reports, r)
}

func (s *fakeSource) last(t *testing.T) source.Report {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.reports) == 0 {
		t.Fatal("nothing was reported")
	}
	return s.reports[len(s.reports)-1]
}

// since are the reports after the first so many.
func (s *fakeSource) since(count int) []source.Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.reports[count:])
}

func (s *fakeSource) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.reports)
}

// fakePolicy is a kernel that holds endpoints and programs.
type fakePolicy struct {
	mu        sync.Mutex
	endpoints map[string]tables.Endpoint
	hosts     map[string]tables.HostEndpoint
	members   map[tables.Member]struct{}
	applies   int
	resyncs   int
	fail      error
	takes     atomic.Int64 // nanoseconds for each Apply
	changed   chan struct{}
	disturbed int64
}

func (p *fakePolicy) Apply(_ context.Context, desired *tables.Policy) error {
	if takes := p.takes.Load(); takes > 0 {
		pause(time.Duration(takes))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.applies++
	var item *tables.ItemError
	if p.fail != nil && !errors.As(p.fail, &item) {
		return p.fail
	}
	p.endpoints = maps.Collect(desired.Endpoints.All())
	p.hosts = maps.Collect(desired.HostEndpoints.All())
	p.members = maps.Collect(desired.Members.All())
	desired.Clean()
	return p.fail
}

func (p *fakePolicy) Resync()                  { p.mu.Lock(); p.resyncs++; p.mu.Unlock() }
func (p *fakePolicy) Changed() <-chan struct{} { return p.changed }
func (p *fakePolicy) Disturbances() int64      { p.mu.Lock(); defer p.mu.Unlock(); return p.disturbed }

func (p *fakePolicy) failWith(err error) { p.mu.Lock(); p.fail = err; p.mu.Unlock() }

func (p *fakePolicy) endpoint(iface string) (tables.Endpoint, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e, ok := p.endpoints[iface]
	return e, ok
}

func (p *fakePolicy) host(iface string) (tables.HostEndpoint, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h, ok := p.hosts[iface]
	return h, ok
}

func (p *fakePolicy) count() int { p.mu.Lock(); defer p.mu.Unlock(); return p.applies }

func (p *fakePolicy) resynced() int { p.mu.Lock(); defer p.mu.Unlock(); return p.resyncs }

type fakeRoutes struct {
	mu      sync.Mutex
	routes  map[netip.Prefix]tables.Route
	resyncs int
	fail    error
	changed chan struct{}

	disturbed int64
}

func (r *fakeRoutes) Apply(_ context.Context, desired *tables.Routes) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.routes = maps.Collect(desired.All())
	desired.Clean()
	return r.fail
}

func (r *fakeRoutes) failWith(err error) { r.mu.Lock(); r.fail = err; r.mu.Unlock() }

func (r *fakeRoutes) resynced() int { r.mu.Lock(); defer r.mu.Unlock(); return r.resyncs }

func (r *fakeRoutes) Resync()                  { r.mu.Lock(); r.resyncs++; r.mu.Unlock() }
func (r *fakeRoutes) Changed() <-chan struct{} { return r.changed }
func (r *fakeRoutes) Disturbances() int64      { r.mu.Lock(); defer r.mu.Unlock(); return r.disturbed }

// fakeInterfaces are those of a node.
type fakeInterfaces struct {
	mu        sync.Mutex
	addresses map[string][]netip.Addr
	changed   chan struct{}
}

func (i *fakeInterfaces) Addresses() map[string][]netip.Addr {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.addresses
}

func (i *fakeInterfaces) Changed() <-chan struct{} { return i.changed }

// set makes the node have one interface with one address.
func (i *fakeInterfaces) set(iface, addr string) {
	i.mu.Lock()
	i.addresses = map[string][]netip.Addr{iface: {netip.MustParseAddr(addr)}}
	i.mu.Unlock()
	i.changed <- struct{}{}
	synctest.Wait()
}

// fakeAddresses counts upwards within the first block.
type fakeAddresses struct {
	blocks   []v1alpha1.BlockLease
	leases   []v1alpha1.LeaseStatus
	lost     bool // the journal is new
	unsaved  atomic.Bool
	failures atomic.Int32
	failing  atomic.Bool
	saving   chan struct{}
	disk     func() error
	resting  []string
	next     netip.Addr
	held     map[owner][]netip.Addr
	attached map[string]owner
}

func newFakeAddresses() *fakeAddresses {
	return &fakeAddresses{held: map[owner][]netip.Addr{}, attached: map[string]owner{}, saving: make(chan struct{}, 1)}
}

func (f *fakeAddresses) Mark() int { return int(f.failures.Load()) }

func (f *fakeAddresses) Save(_ context.Context, since int) error {
	f.saving <- struct{}{} // no mutex: the test's own time goes on while somebody waits
	defer func() { <-f.saving }()
	if f.unsaved.Load() {
		failed := f.disk != nil && f.disk() != nil
		f.failing.Store(failed)
		if failed {
			f.failures.Add(1)
		}
	}
	f.unsaved.Store(false)
	if f.Mark() != since {
		return errFull
	}
	return nil
}

var errFull = errors.New("no space left on device")

func (f *fakeAddresses) Failing() error {
	if f.failing.Load() {
		return errFull
	}
	return nil
}

func (f *fakeAddresses) Unsaved() bool { return f.unsaved.Load() }

// setDisk has the disk take its time, or fail.
func (f *fakeAddresses) setDisk(disk func() error) {
	f.saving <- struct{}{}
	f.disk = disk
	<-f.saving
}

func (f *fakeAddresses) SetLeases(blocks []v1alpha1.BlockLease, _ []v1alpha1.BorrowedAddress, _ time.Duration) error {
	f.blocks = blocks
	if len(blocks) > 0 && !f.next.IsValid() {
		f.next = netip.MustParsePrefix(blocks[0].CIDR).Addr()
	}
	return nil
}

func (f *fakeAddresses) Leases() ([]v1alpha1.LeaseStatus, bool) { return f.leases, false }

func (f *fakeAddresses) NeedsAdoption() (bool, error) { return f.lost, nil }

func (f *fakeAddresses) Adopt(before []v1alpha1.EndpointStatus, resting []string) error {
	f.lost, f.resting = false, resting
	for _, e := range before {
		for _, addr := range e.Addresses {
			o := first(e.ID, string(e.UID))
			f.held[o] = append(f.held[o], netip.MustParseAddr(addr))
		}
	}
	return nil
}

func (f *fakeAddresses) AllocateTunnel(owner, _ string) (netip.Addr, error) {
	addrs, err := f.Allocate(owner, owner, v1alpha1.AddressRequest{})
	if err != nil {
		return netip.Addr{}, err
	}
	return addrs[0], nil
}

func (f *fakeAddresses) Allocate(endpoint, uid string, _ v1alpha1.AddressRequest) ([]netip.Addr, error) {
	o := first(endpoint, uid)
	if addrs, ok := f.held[o]; ok {
		return addrs, nil
	}
	if len(f.blocks) == 0 {
		return nil, errors.New("the node has no block")
	}
	f.held[o] = []netip.Addr{f.next}
	f.next = f.next.Next()
	f.unsaved.Store(true)
	return f.held[o], nil
}

func (f *fakeAddresses) AllocateAttached(o owner, _ v1alpha1.AddressRequest, attachment string) error {
	if len(f.blocks) == 0 {
		return errors.New("the node has no block")
	}
	f.held[o] = []netip.Addr{f.next}
	f.next = f.next.Next()
	return f.Attach(o, attachment)
}

func (f *fakeAddresses) Attach(o owner, attachment string) error {
	f.attached[attachment] = o
	f.unsaved.Store(true)
	return nil
}

func (f *fakeAddresses) AttachmentsOf(o owner) []string {
	var names []string
	for name, of := range f.attached {
		if of == o {
			names = append(names, name)
		}
	}
	return names
}

func (f *fakeAddresses) Detach(attachment string) error {
	delete(f.attached, attachment)
	f.unsaved.Store(true)
	return nil
}

func (f *fakeAddresses) Retain(uids []string) error {
	maps.DeleteFunc(f.held, func(o owner, _ []netip.Addr) bool {
		return (!slices.Contains(uids, o.UID) || o.Interface != "") && !slices.Contains(slices.Collect(maps.Values(f.attached)), o)
	})
	return nil
}

func (f *fakeAddresses) KeepAttachments(keep []string) error {
	maps.DeleteFunc(f.attached, func(a string, _ owner) bool { return !slices.Contains(keep, a) })
	return nil
}

func (f *fakeAddresses) Attached(attachment string) (owner, bool) {
	o, ok := f.attached[attachment]
	return o, ok
}

func (f *fakeAddresses) Take(o owner, addrs []netip.Addr, attachment string, _ bool) error {
	f.held[o] = addrs
	return f.Attach(o, attachment)
}

func (f *fakeAddresses) Drop(endpoint, uid string) (bool, error) {
	o := first(endpoint, uid)
	if slices.Contains(slices.Collect(maps.Values(f.attached)), o) {
		return false, nil
	}
	delete(f.held, o)
	return true, nil
}

func (f *fakeAddresses) EachAttachment(each func(attachment string, of attachments.Held)) error {
	for name, o := range f.attached {
		each(name, attachments.Held{Owner: o, Addresses: f.held[o]})
	}
	return nil
}

func (f *fakeAddresses) Held(each func(attachments.Held)) error {
	for o, addrs := range f.held {
		each(attachments.Held{Owner: o, Addresses: addrs})
	}
	return nil
}

// fakeCheckpoint is a disk in memory.
type fakeCheckpoint struct {
	mu      sync.Mutex
	objects map[string]source.Object
	kinds   map[string]source.Kind
	pending int
	flushes int
	// slow is how long a Flush takes.
	slow atomic.Int64
	// forgetful: nothing is kept.
	forgetful atomic.Bool
}

func newFakeCheckpoint() *fakeCheckpoint {
	return &fakeCheckpoint{objects: map[string]source.Object{}, kinds: map[string]source.Kind{}}
}

func (c *fakeCheckpoint) Set(kind source.Kind, o source.Object) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := string(kind) + " " + o.GetName()
	if c.forgetful.Load() {
		return
	}
	c.objects[key], c.kinds[key] = o, kind
	c.pending++
}

func (c *fakeCheckpoint) Delete(kind source.Kind, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.objects, string(kind)+" "+name)
	c.pending++
}

func (c *fakeCheckpoint) HasPending() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.pending > 0 }

func (c *fakeCheckpoint) Flush() error {
	c.mu.Lock()
	if c.pending > 0 {
		c.flushes++
	}
	c.pending = 0
	c.mu.Unlock()
	if slow := c.slow.Load(); slow > 0 {
		pause(time.Duration(slow))
	}
	return nil
}

func (c *fakeCheckpoint) Load(each func(source.Kind, source.Object)) error {
	for key, o := range c.objects {
		each(c.kinds[key], o)
	}
	return nil
}

// lab is an agent with fakes around it.
type lab struct {
	agent       *Agent
	source      *fakeSource
	policy      *fakePolicy
	routes      *fakeRoutes
	addresses   *fakeAddresses
	checkpoint  *fakeCheckpoint
	interfaces  *fakeInterfaces
	connections *fakeConnections
	version     int
	stop        func()
}

// newLab begins an agent inside a bubble of the test's own time.
func newLab(t *testing.T, checkpoint *fakeCheckpoint, addresses *fakeAddresses, change ...func(*Options)) *lab {
	t.Helper()
	l := &lab{
		source:      &fakeSource{started: make(chan struct{})},
		policy:      &fakePolicy{changed: make(chan struct{}, 1)},
		routes:      &fakeRoutes{changed: make(chan struct{}, 1)},
		addresses:   addresses,
		checkpoint:  checkpoint,
		interfaces:  &fakeInterfaces{changed: make(chan struct{})},
		connections: &fakeConnections{},
		version:     100,
	}
	o := Options{
		Node: node, Version: "test", Dataplane: func() string { return "fake" },
		Source: l.source, Policy: l.policy, Routes: l.routes, Addresses: l.addresses, Checkpoint: checkpoint, Interfaces: l.interfaces, Connections: l.connections,
		MTU: func([]netip.Addr, string) (int, error) { return 1450, nil },
		Log: slog.New(slog.DiscardHandler),
	}
	for _, f := range change {
		f(&o)
	}
	l.agent = New(o)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.agent.Run(ctx) }()
	<-l.source.started
	l.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	}
	return l
}

// bubble runs a test with a new agent in its own time.
func bubble(t *testing.T, test func(t *testing.T, l *lab)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, newFakeCheckpoint(), newFakeAddresses())
		test(t, l)
		l.stop()
	})
}

// pause lets the test's own time pass.
func pause(d time.Duration) { <-time.After(d) }

func (l *lab) meta(name string, generation int64) metav1.ObjectMeta {
	l.version++
	return metav1.ObjectMeta{Name: name, UID: types.UID("uid-" + name), Generation: generation, ResourceVersion: strconv.Itoa(l.version)}
}

// sync gives empty lists of all kinds but those given.
func (l *lab) sync(objects ...source.Object) {
	byKind := map[source.Kind][]source.Object{}
	for _, o := range objects {
		byKind[kindOf(o)] = append(byKind[kindOf(o)], o)
	}
	for _, kind := range source.Kinds() {
		l.source.sink.Replace(kind, byKind[kind], strconv.Itoa(l.version))
	}
	synctest.Wait()
}

func (l *lab) set(o source.Object) {
	l.source.sink.Set(kindOf(o), o)
	synctest.Wait()
}

func kindOf(o source.Object) source.Kind {
	switch o.(type) {
	case *v1alpha1.NodeState:
		return source.NodeState
	case *v1alpha1.NodeEndpoints:
		return source.NodeEndpoints
	case *v1alpha1.NodeNetwork:
		return source.NodeNetwork
	case *v1alpha1.PolicyProgram:
		return source.PolicyProgram
	case *v1alpha1.SetCatalog:
		return source.SetCatalog
	}
	return ""
}

// state makes a NodeState with one block and pods that fall under the policies.
func (l *lab) state(generation int64, policies []string, pods ...string) *v1alpha1.NodeState {
	s := &v1alpha1.NodeState{ObjectMeta: l.meta(node, generation)}
	s.Spec.Blocks = []v1alpha1.BlockLease{{CIDR: "10.48.0.0/26", Pool: "10.48.0.0/16"}}
	for _, pod := range pods {
		e := v1alpha1.Endpoint{ID: pod, UID: types.UID("uid-" + pod), Identity: "i1"}
		if len(policies) > 0 {
			e.Ingress = []v1alpha1.TierPolicies{{Tier: "default", DefaultAction: v1alpha1.Deny, Policies: policies}}
		}
		s.Spec.Endpoints = append(s.Spec.Endpoints, e)
	}
	return s
}

func (l *lab) program(name string, generation int64, sets ...string) *v1alpha1.PolicyProgram {
	return &v1alpha1.PolicyProgram{ObjectMeta: l.meta(name, generation), Spec: v1alpha1.PolicyProgramSpec{
		Ingress: []v1alpha1.Rule{{Action: v1alpha1.Allow, Source: v1alpha1.EntityMatch{Sets: sets}}},
	}}
}

func (l *lab) catalog(generation int64, ids ...string) *v1alpha1.SetCatalog {
	c := &v1alpha1.SetCatalog{ObjectMeta: l.meta("sets-aa", generation)}
	for _, id := range ids {
		c.Spec.Sets = append(c.Spec.Sets, v1alpha1.Set{ID: id, Identities: []string{"i1"}})
	}
	return c
}

func addRequest(pod, uid, container string) protocol.AddRequest {
	var namespace, name string
	if _, err := fmt.Sscanf(pod, "%1s/%s", &namespace, &name); err != nil {
		namespace, name = pod, pod
	}
	return protocol.AddRequest{
		Attachment: protocol.Attachment{ContainerID: container, IfName: "eth0"},
		Netns:      "/run/netns/x", PodNamespace: namespace, PodName: name, PodUID: uid,
	}
}
