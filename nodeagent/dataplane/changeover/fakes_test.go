package changeover_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/manul-net/manul/nodeagent/dataplane/changeover"
	"github.com/manul-net/manul/nodeagent/tables"
)

// node is a kernel with two dataplanes, of which it remembers what was done with them.
type node struct {
	t      *testing.T
	driver *changeover.Driver

	mu     sync.Mutex
	events []string
	fail   map[string]error // by event
	planes map[tables.Dataplane]*plane
	proxy  tables.Dataplane
}

// plane is a driver of one dataplane.
type plane struct {
	node      *node
	name      tables.Dataplane
	changed   chan struct{}
	disturbed int64
}

func newNode(t *testing.T, options changeover.Options) *node {
	t.Helper()
	n := &node{t: t, fail: map[string]error{}, planes: map[tables.Dataplane]*plane{}}
	options.NFTables, options.IPTables = n.kind(tables.NFTables), n.kind(tables.IPTables)
	if options.Detect == nil {
		options.Detect = func(context.Context) tables.Dataplane {
			n.mu.Lock()
			defer n.mu.Unlock()
			return n.proxy
		}
	}
	n.driver = changeover.New(options)
	t.Cleanup(func() {
		if err := n.driver.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	return n
}

func (n *node) kind(name tables.Dataplane) changeover.Kind {
	return changeover.Kind{
		Open: func(context.Context) (changeover.Plane, error) {
			if err := n.did("open " + string(name)); err != nil {
				return nil, err
			}
			p := &plane{node: n, name: name, changed: make(chan struct{}, 1)}
			n.mu.Lock()
			defer n.mu.Unlock()
			n.planes[name] = p
			return p, nil
		},
		Remove: func(context.Context) error { return n.did("remove " + string(name)) },
	}
}

func (n *node) did(event string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.events = append(n.events, event)
	return n.fail[event]
}

func (p *plane) Apply(_ context.Context, desired *tables.Policy) error {
	err := p.node.did("apply " + string(p.name))
	if err == nil || errors.As(err, new(*tables.ItemError)) {
		desired.Clean()
	}
	return err
}
func (p *plane) Resync()                  { _ = p.node.did("resync " + string(p.name)) }
func (p *plane) Changed() <-chan struct{} { return p.changed }
func (p *plane) Close() error             { return p.node.did("close " + string(p.name)) }

func (p *plane) Disturbances() int64 {
	p.node.mu.Lock()
	defer p.node.mu.Unlock()
	return p.disturbed
}

// apply applies tables with a setting, and tells what was done.
func (n *node) apply(setting tables.Dataplane) ([]string, error) {
	n.t.Helper()
	p := tables.NewPolicy()
	p.Settings.Dataplane, p.SettingsDirty = setting, true
	n.mu.Lock()
	n.events = nil
	n.mu.Unlock()
	err := n.driver.Apply(n.t.Context(), p)
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.events), err
}

// wants checks what applying does, and which dataplane is in force then.
func (n *node) wants(setting, using tables.Dataplane, events ...string) {
	n.t.Helper()
	got, err := n.apply(setting)
	if err != nil {
		n.t.Errorf("applying: %v", err)
	}
	if diff := cmp.Diff(events, got); diff != "" {
		n.t.Errorf("done (-want +got):\n%s", diff)
	}
	if got := n.driver.Using(); got != using {
		n.t.Errorf("using %q, want %q", got, using)
	}
}

// wantsItem checks that applying reports a dataplane, and what it does.
func (n *node) wantsItem(setting, using, about tables.Dataplane, events ...string) {
	n.t.Helper()
	got, err := n.apply(setting)
	if item := (*tables.ItemError)(nil); !errors.As(err, &item) || item.Kind != tables.KindDataplane || item.Name != string(about) {
		n.t.Errorf("Apply = %v, want an error about the dataplane %s", err, about)
	}
	if diff := cmp.Diff(events, got); diff != "" {
		n.t.Errorf("done (-want +got):\n%s", diff)
	}
	if got := n.driver.Using(); got != using {
		n.t.Errorf("using %q, want %q", got, using)
	}
}

// failing makes something fail; nil: no longer.
func (n *node) failing(event string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fail[event] = err
}

// kubeProxy changes its mode.
func (n *node) kubeProxy(to tables.Dataplane) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.proxy = to
}

// plane is the driver of a dataplane that was opened last.
func (n *node) plane(name tables.Dataplane) *plane {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.planes[name]
}

// changed waits until the driver wants to be applied.
func (n *node) changed() {
	n.t.Helper()
	const wait = 30 * time.Second // kube-proxy is asked about every 10 s
	select {
	case <-n.driver.Changed():
	case <-time.After(wait):
		n.t.Fatal("the driver tells of no change")
	}
}

// pause lets the bubble's time pass.
func pause(d time.Duration) { <-time.After(d) }
