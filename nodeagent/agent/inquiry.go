package agent

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/nodeagent/tables"
)

const (
	// leastPeriod bounds how often a report is made, whatever the inquiry says: each costs a write.
	leastPeriod = time.Second
	// maxSaid bounds what a reported session may say: there are many.
	maxSaid = 128
)

// asking is what the loop knows of an inquiry.
type asking struct {
	asked *v1alpha1.Inquiry
	// started is when the agent began, configured when BGP was last given something else to do.
	started, configured time.Time
	// listing: routes are being listed, by another goroutine.
	listing bool
	report  *v1alpha1.Report
}

// answer sees to it that the inquiry is answered, when it is new and after its period. Routes are listed outside the loop: that takes
// time in proportion to their number, which nothing else waits for.
func (a *Agent) answer(ctx context.Context) {
	q := &a.asking
	var asked *v1alpha1.Inquiry
	if a.nodeState != nil {
		asked = a.nodeState.Spec.Inquiry
	}
	isNew := (asked == nil) != (q.asked == nil) || asked != nil && *asked != *q.asked
	q.asked = asked
	if asked == nil {
		q.report = nil
		return
	}
	if !a.timers.inquiry.take() && !isNew || q.listing || !a.appliedOnce {
		if isNew {
			a.timers.inquiry.within(leastPeriod)
		}
		return
	}
	a.timers.inquiry.within(max(leastPeriod, time.Duration(asked.PeriodSeconds)*time.Second))
	next := &v1alpha1.Report{At: transition(time.Now()), Started: transition(q.started)}
	if !q.configured.IsZero() {
		next.Configured = transition(q.configured)
	}
	if asked.Sessions && a.BGP != nil {
		next.Sessions = reportedSessions(a.BGP.Sessions(ctx))
	}
	if !asked.Routes || a.KernelRoutes == nil {
		q.report = next
		return
	}
	q.listing = true
	go a.listRoutes(ctx, next)
}

// listRoutes completes a report.
func (a *Agent) listRoutes(ctx context.Context, report *v1alpha1.Report) {
	kernel, err := a.KernelRoutes()
	var paths []tables.BGPPath
	if a.BGP != nil {
		var pathsErr error
		paths, pathsErr = a.BGP.Paths(ctx)
		err = errors.Join(err, pathsErr)
	}
	listed := mergeRoutes(kernel, paths)
	done := func() {
		a.asking.listing = false
		if a.asking.asked == nil {
			return // nobody asks any more
		}
		mesh := a.meshPeers()
		for i := range listed[:min(len(listed), v1alpha1.MaxReportedRoutes)] {
			report.Routes = append(report.Routes, listed[i].status(mesh))
		}
		report.RoutesTotal = int32(len(listed))
		if err != nil {
			report.Message = clip(err.Error())
		}
		a.asking.report = report
	}
	select {
	case a.calls <- done:
	case <-ctx.Done():
	}
}

// meshPeers are the addresses of the peers in the mesh.
func (a *Agent) meshPeers() map[netip.Addr]bool {
	out := map[netip.Addr]bool{}
	for _, s := range a.state.BGP().Sessions.All() {
		if s.Group == v1alpha1.MeshGroup {
			out[s.Address] = true
		}
	}
	return out
}

func reportedSessions(states []tables.BGPSessionState) []v1alpha1.BGPSessionStatus {
	var out []v1alpha1.BGPSessionStatus
	for i := range states[:min(len(states), v1alpha1.MaxReportedSessions)] {
		s := sessionStatus(&states[i])
		s.Message = s.Message[:min(len(s.Message), maxSaid)]
		out = append(out, s)
	}
	return out
}

// listedRoute is a way to a destination, of the kernel or of BGP alone.
type listedRoute struct {
	tables.KernelRoute
	installed bool
	// byBGP: BGP knows it, from peer if that is valid.
	byBGP bool
	peer  netip.Addr
}

// mergeRoutes joins the kernel's routes with the speaker's, in order. Of a learned route the gateway need not be the next hop: that
// may lie behind it.
func mergeRoutes(kernel []tables.KernelRoute, paths []tables.BGPPath) []listedRoute {
	byPrefix := map[netip.Prefix][]int{}
	for i, p := range paths {
		byPrefix[p.Destination] = append(byPrefix[p.Destination], i)
	}
	used := make([]bool, len(paths))
	out := make([]listedRoute, 0, len(kernel)+len(paths))
	for _, k := range kernel {
		r := listedRoute{KernelRoute: k, installed: true, byBGP: k.Origin == tables.FromBGP}
		candidates := byPrefix[k.Destination]
		pick := func(fits func(*tables.BGPPath) bool) bool {
			for _, i := range candidates {
				if !used[i] && fits(&paths[i]) {
					used[i], r.peer = true, paths[i].Peer
					return true
				}
			}
			return false
		}
		switch {
		case !r.byBGP: // what the node itself advertises of it is no other route
			pick(func(p *tables.BGPPath) bool { return !p.Peer.IsValid() })
		case pick(func(p *tables.BGPPath) bool { return p.Best && p.NextHop == k.Gateway }):
		default:
			pick(func(p *tables.BGPPath) bool { return p.Best && p.Peer.IsValid() })
		}
		out = append(out, r)
	}
	for i, p := range paths {
		if !used[i] {
			out = append(out, listedRoute{KernelRoute: tables.KernelRoute{Destination: p.Destination, Gateway: p.NextHop}, byBGP: true, peer: p.Peer})
		}
	}
	slices.SortFunc(out, func(a, b listedRoute) int {
		installed := 0
		if a.installed != b.installed {
			installed = 1
			if a.installed {
				installed = -1
			}
		}
		return cmp.Or(
			cmp.Compare(a.Destination.Addr().BitLen(), b.Destination.Addr().BitLen()), a.Destination.Compare(b.Destination), installed,
			a.Gateway.Compare(b.Gateway), strings.Compare(a.Interface, b.Interface), a.peer.Compare(b.peer),
		)
	})
	return out
}

// The sources of routes, as CalicoNodeStatus names them.
const (
	sourceKernel = "Kernel"
	sourceStatic = "Static"
	sourceDirect = "Direct"
	sourceMesh   = "NodeMesh"
	sourcePeer   = "BGPPeer"
)

// status is the route as it is reported. mesh are the peers in the mesh.
func (r *listedRoute) status(mesh map[netip.Addr]bool) v1alpha1.RouteStatus {
	out := v1alpha1.RouteStatus{Destination: r.Destination.String(), Interface: r.Interface, Installed: r.installed}
	if r.Gateway.IsValid() {
		out.Gateway = r.Gateway.String()
	}
	switch {
	case r.byBGP && r.peer.IsValid():
		out.Source, out.Peer = sourcePeer, r.peer.String()
		if mesh[r.peer] {
			out.Source = sourceMesh
		}
	case r.byBGP && r.installed:
		out.Source = sourcePeer // of a peer that has just gone
	case r.byBGP, r.Nowhere && r.Origin == tables.FromAgent:
		out.Source = sourceStatic // advertised by the node itself
	case r.Origin == tables.FromNetwork:
		out.Source = sourceDirect
	default:
		out.Source = sourceKernel
	}
	return out
}
