package agent

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/manul-net/manul/nodeagent/tables"
)

// abandonWait bounds how long an ADD whose time is up waits to hear why.
const abandonWait = time.Second

// readiness tells whether pods can be served. It is safe for concurrent use.
type readiness struct{ shared *readinessState }

type readinessState struct {
	mu     sync.Mutex
	reason error
	first  chan struct{}
	once   sync.Once
}

func newReadiness() readiness {
	return readiness{&readinessState{reason: errors.New("starting"), first: make(chan struct{})}}
}

func (r readiness) set(reason error) {
	r.shared.mu.Lock()
	r.shared.reason = reason
	r.shared.mu.Unlock()
	if reason == nil {
		r.shared.once.Do(func() { close(r.shared.first) })
	}
}

func (r readiness) get() error {
	r.shared.mu.Lock()
	defer r.shared.mu.Unlock()
	return r.shared.reason
}

// FirstReady is closed once the kernel has been equal to the rendered state.
func (a *Agent) FirstReady() <-chan struct{} { return a.ready.shared.first }

// Ready says why pods can't be served; nil when they can.
func (a *Agent) Ready() error { return a.ready.get() }

// Alive returns nil when the loop answers before ctx ends.
func (a *Agent) Alive(ctx context.Context) error { return a.call(ctx, func() {}) }

func (a *Agent) readyNow() error {
	switch {
	case a.applyError != nil:
		return a.applyError
	case a.nodeState == nil:
		return errors.New("no NodeState of this node has been received yet")
	case !a.started:
		return errors.New("not received yet: " + strings.Join(a.missingKinds(), ", "))
	case !a.appliedOnce:
		return errors.New("nothing has been applied yet")
	}
	return nil
}

func programNames(tiers []tables.Tier) []string {
	var names []string
	for _, t := range tiers {
		names = append(names, t.Programs...)
	}
	return names
}
