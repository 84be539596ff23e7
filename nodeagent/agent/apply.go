package agent

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/nodeagent/render"
	"github.com/manul-net/manul/nodeagent/source"
	"github.com/manul-net/manul/nodeagent/tables"
)

const (
	applyTimeout = 2 * time.Minute
	// hastyRetries is how often in a row news may bring on an attempt after a failure.
	hastyRetries = 3
)

// apply makes the kernel equal to the tables, when they changed or a retry or comparison is due.
//
// Policy comes before routes. A pod that arrives gets its route when its policy is there. Of one that departs, the
// policy goes first: an interface without policy drops everything, so there is no packet that a route could bring to it
// unjudged. Tunnels come before the routes that lead through them, and those that are not wanted go after them.
func (a *Agent) apply(ctx context.Context) {
	if !a.started {
		return
	}
	due := a.timers.apply.take()
	if !due && a.applyError != nil && a.attempts > hastyRetries {
		return // a retry is set; trying at every piece of news helps nobody
	}
	failed := false
	if due || a.state.Policy().HasDirty() || a.state.Routes().HasDirty() || a.tunnelsDirty() || a.bgpDirty() || a.besideDirty() || a.bandwidthDirty() {
		began := time.Now()
		failed = a.applyTables(ctx, due)
		a.compared(time.Since(began))
	}
	a.endDenied()
	if !failed {
		a.acknowledge()
	}
}

// applyTables tells whether it failed as a whole.
func (a *Agent) applyTables(ctx context.Context, both bool) bool {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	retried := both && a.resyncRefused(began)
	var policyItems, routeItems []*tables.ItemError
	var policyErr, routesErr error
	if both || a.state.Policy().HasDirty() {
		a.noteChanges()
		a.Metrics.timed("policy", func() { policyItems, policyErr = split(a.Policy.Apply(ctx, a.state.Policy())) })
		a.policyInEffect = policyErr == nil
	} else {
		policyItems = a.itemsOf(isPolicy)
	}
	devices := both || a.tunnelsDirty()
	tunnelItems := a.applyTunnels(ctx, devices)
	if devices || a.state.Routes().HasDirty() {
		a.Metrics.timed("routes", func() { routeItems, routesErr = split(a.Routes.Apply(ctx, a.state.Routes())) })
	} else {
		routeItems = a.itemsOf(isRoute)
	}
	if devices {
		tunnelItems = append(tunnelItems, a.sweepTunnels()...)
	}
	besideItems := a.applyPeering(ctx, both) // before BGP, which may listen there
	bgpItems := a.applyBGP(ctx, both)
	if a.endBridged() { // what BGP has come to route
		a.Metrics.timed("routes", func() { routeItems, routesErr = split(a.Routes.Apply(ctx, a.state.Routes())) })
		a.items = slices.Concat(slices.DeleteFunc(slices.Clone(a.items), isSession), bgpItems) // those that stand
		bgpItems = a.applyBGP(ctx, false)
	}
	besideItems = append(besideItems, a.applyLoops(ctx, both)...)
	limitItems := slices.Concat(a.applyBandwidth(ctx, both), a.applyPacketLimits(ctx, both))
	a.noteDisturbances()
	a.items = slices.Concat(policyItems, tunnelItems, routeItems, bgpItems, besideItems, limitItems)
	a.setFailures(a.items)
	err := errors.Join(policyErr, routesErr)
	failed := err != nil
	if failed && ctx.Err() == nil {
		a.Log.Error("the kernel is not what it should be", "error", err)
	}
	a.applyError = err
	if policyErr != nil {
		a.Policy.Resync()
	}
	if routesErr != nil {
		a.Routes.Resync()
	}
	a.setRetry(failed, retried, began)
	if failed {
		return true
	}
	if !a.appliedOnce {
		a.appliedOnce = true
		a.Log.Info("the kernel is equal to the rendered state", "refused_items", len(a.items))
	}
	if !a.pending.since.IsZero() {
		a.Metrics.effective(time.Since(a.pending.since))
	}
	return false
}

func isPolicy(e *tables.ItemError) bool {
	return !isRoute(e) && !isTunnel(e) && !isSession(e) && !isBeside(e) && !isLimit(e) && !isPacketLimit(e)
}

func isRoute(e *tables.ItemError) bool { return e.Kind == tables.KindRoute }

// itemsOf gives the known failures of a class: those of a dataplane that was not applied stand.
func (a *Agent) itemsOf(class func(*tables.ItemError) bool) []*tables.ItemError {
	var out []*tables.ItemError
	for _, e := range a.items {
		if class(e) {
			out = append(out, e)
		}
	}
	return out
}

// acknowledge notes that all that was received is in effect, but for what is held back.
func (a *Agent) acknowledge() {
	a.pending.since = time.Time{}
	if !a.appliedOnce {
		return
	}
	observed := int64(0)
	if a.nodeState != nil {
		observed = a.nodeState.Generation
		if observed == 0 { // newer than what was written so far
			observed = a.observed
		}
	}
	applied := maps.Clone(a.reached)
	for _, h := range a.state.Held() {
		switch h.Kind {
		case render.KindEndpoint, render.KindHostEndpoint:
			observed = min(a.observed, max(observed-1, 0))
		case render.KindPolicyProgram:
			if h.Version > 0 {
				applied[source.PolicyProgram] = min(applied[source.PolicyProgram], h.Version-1)
			} else { // at which version it was or will be written is not known
				applied[source.PolicyProgram] = min(applied[source.PolicyProgram], a.applied[source.PolicyProgram])
			}
		}
	}
	a.observed, a.applied = observed, applied
}

// split takes items that were refused alone apart from an error that concerns everything.
func split(err error) ([]*tables.ItemError, error) {
	var items []*tables.ItemError
	var rest []error
	var walk func(error)
	walk = func(err error) {
		if err == nil {
			return
		}
		if item, ok := err.(*tables.ItemError); ok { //nolint:errorlint // the tree is walked by hand
			items = append(items, item)
			return
		}
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			for _, e := range joined.Unwrap() {
				walk(e)
			}
			return
		}
		rest = append(rest, err)
	}
	walk(err)
	return items, errors.Join(rest...)
}

// setFailures lists what is not in effect, in the terms of the rendered state.
func (a *Agent) setFailures(items []*tables.ItemError) {
	a.failures = nil
	interfaces := map[string]string{}
	if len(items) > 0 {
		for o := range a.held {
			interfaces[render.HostInterface(o.Endpoint, o.Interface)] = o.Endpoint
		}
		if a.nodeState != nil {
			for i := range a.nodeState.Spec.Endpoints {
				id := a.nodeState.Spec.Endpoints[i].ID
				interfaces[render.InterfaceName(id)] = id
			}
		}
	}
	for _, e := range items {
		name := e.Name
		if id, ok := interfaces[name]; ok && (e.Kind == render.KindEndpoint || isLimit(e)) {
			name = id
		}
		if host := a.state.HostEndpoint(name); host != "" && e.Kind == render.KindHostEndpoint {
			name = host
		}
		kind := e.Kind
		if kind == tables.KindSet {
			kind = render.KindSetCatalog
		}
		a.failures = append(a.failures, v1alpha1.Failure{Kind: kind, Name: name, Message: e.Err.Error()})
	}
}
