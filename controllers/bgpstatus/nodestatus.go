package bgpstatus

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
)

// defaultPeriod is how often a CalicoNodeStatus is brought up to date that does not say how often.
const defaultPeriod = 10 * time.Second

// NodeReporter answers CalicoNodeStatus.
type NodeReporter struct {
	Client client.Client
}

func setupNodeStatus(mgr manager.Manager) error {
	c, err := controller.NewTyped("caliconodestatus", mgr, controller.TypedOptions[string]{
		Reconciler:              &NodeReporter{Client: mgr.GetClient()},
		MaxConcurrentReconciles: 1,
		RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[string](firstRetry, lastRetry),
	})
	if err != nil {
		return fmt.Errorf("making the reporter on nodes: %w", err)
	}
	enqueue := handler.TypedEnqueueRequestsFromMapFunc(func(_ context.Context, s *v3.CalicoNodeStatus) []string { return []string{s.Name} })
	asked := predicate.TypedFuncs[*v3.CalicoNodeStatus]{
		UpdateFunc: func(e event.TypedUpdateEvent[*v3.CalicoNodeStatus]) bool {
			return e.ObjectOld.Generation != e.ObjectNew.Generation
		},
	}
	if err := c.Watch(source.TypedKind(mgr.GetCache(), &v3.CalicoNodeStatus{}, enqueue, asked)); err != nil {
		return fmt.Errorf("watching for CalicoNodeStatus: %w", err)
	}
	answered := predicate.TypedFuncs[*v1alpha1.NodeState]{
		UpdateFunc: func(e event.TypedUpdateEvent[*v1alpha1.NodeState]) bool {
			now := e.ObjectNew.Status.Report
			return now != nil && (e.ObjectOld.Status.Report == nil || !e.ObjectOld.Status.Report.At.Equal(&now.At))
		},
	}
	if err := c.Watch(source.TypedKind(mgr.GetCache(), &v1alpha1.NodeState{}, handler.TypedEnqueueRequestsFromMapFunc(askers(mgr.GetClient())), answered)); err != nil {
		return fmt.Errorf("watching for the answers of nodes: %w", err)
	}
	return nil
}

// askers names the CalicoNodeStatuses that ask a node.
func askers(c client.Client) func(context.Context, *v1alpha1.NodeState) []string {
	return func(ctx context.Context, state *v1alpha1.NodeState) []string {
		if state.Status.Report == nil {
			return nil
		}
		var all v3.CalicoNodeStatusList
		if err := c.List(ctx, &all); err != nil {
			return nil // the period brings it up again
		}
		var names []string
		for i := range all.Items {
			if all.Items[i].Spec.Node == state.Name {
				names = append(names, all.Items[i].Name)
			}
		}
		return names
	}
}

// Reconcile answers one CalicoNodeStatus with the node's last report, when there is a newer one and the period is over. A period of 0
// stops that.
func (r *NodeReporter) Reconcile(ctx context.Context, name string) (reconcile.Result, error) {
	asked := &v3.CalicoNodeStatus{}
	if err := r.Client.Get(ctx, client.ObjectKey{Name: name}, asked); apierrors.IsNotFound(err) {
		return reconcile.Result{}, nil
	} else if err != nil {
		return reconcile.Result{}, fmt.Errorf("reading CalicoNodeStatus %q: %w", name, err)
	}
	period := defaultPeriod
	if p := asked.Spec.UpdatePeriodSeconds; p != nil {
		period = time.Duration(*p) * time.Second
	}
	if period == 0 {
		return reconcile.Result{}, nil
	}
	state := &v1alpha1.NodeState{}
	if err := r.Client.Get(ctx, client.ObjectKey{Name: asked.Spec.Node}, state); apierrors.IsNotFound(err) {
		return reconcile.Result{RequeueAfter: period}, nil // there is no such node yet
	} else if err != nil {
		return reconcile.Result{}, fmt.Errorf("reading NodeState %q: %w", asked.Spec.Node, err)
	}
	report := state.Status.Report
	if report == nil || !asked.Status.LastUpdated.IsZero() && !asked.Status.LastUpdated.Before(&report.At) {
		return reconcile.Result{RequeueAfter: period}, nil // the node's next report comes by the watch
	}
	// Others may want reports more often.
	if early := period - report.At.Sub(asked.Status.LastUpdated.Time); early > 0 && !asked.Status.LastUpdated.IsZero() {
		return reconcile.Result{RequeueAfter: early}, nil
	}
	var peers v3.BGPPeerList
	if err := r.Client.List(ctx, &peers); err != nil {
		return reconcile.Result{}, fmt.Errorf("listing BGPPeers: %w", err)
	}
	global := map[string]bool{}
	for i := range peers.Items {
		global[peers.Items[i].Name] = peers.Items[i].Spec.Node == "" && peers.Items[i].Spec.NodeSelector == ""
	}
	status := answer(asked.Spec.Classes, state, global)
	status.LastUpdated = report.At
	return reconcile.Result{RequeueAfter: period}, patchStatus(ctx, r.Client, &v3.CalicoNodeStatus{ObjectMeta: metav1.ObjectMeta{Name: name}}, whole(&status))
}

// answer is what a node reports, as far as it is asked for. global are the BGPPeers for all nodes.
func answer(classes []v3.NodeStatusClass, state *v1alpha1.NodeState, global map[string]bool) v3.CalicoNodeStatusStatus {
	var out v3.CalicoNodeStatusStatus
	report := state.Status.Report
	if report == nil {
		report = &v1alpha1.Report{}
	}
	if slices.Contains(classes, v3.NodeStatusClassAgent) && state.Spec.BGP != nil {
		daemon := v3.BGPDaemonStatus{State: v3.BGPDaemonNotReady, Version: state.Status.AgentVersion, RouterID: state.Spec.BGP.RouterID}
		if meta.IsStatusConditionTrue(state.Status.Conditions, "Ready") {
			daemon.State = v3.BGPDaemonReady
		}
		daemon.LastBootTime, daemon.LastReconfigurationTime = timeOf(report.Started), timeOf(report.Configured)
		for _, text := range state.Spec.BGP.Addresses {
			if addr, err := netip.ParseAddr(text); err == nil && addr.Is4() {
				out.Agent.BIRDV4 = daemon
			} else if err == nil {
				out.Agent.BIRDV6 = daemon
			}
		}
	}
	if slices.Contains(classes, v3.NodeStatusClassBGP) {
		counted := map[string]bool{}
		for _, g := range state.Status.BGPGroups {
			counted[g.Name] = true
			established, others := &out.BGP.NumberEstablishedV4, &out.BGP.NumberNotEstablishedV4
			if g.Family == familyIPv6 {
				established, others = &out.BGP.NumberEstablishedV6, &out.BGP.NumberNotEstablishedV6
			}
			*established += int(g.Established)
			*others += int(g.Sessions - g.Established)
		}
		for i := range state.Status.BGPSessions {
			if s := &state.Status.BGPSessions[i]; !counted[peerOf(s.Name)] || state.Spec.BGP != nil && isListed(state.Spec.BGP, s.Name) {
				countSession(&out.BGP, s)
			}
		}
		for i := range report.Sessions {
			listSession(&out.BGP, &report.Sessions[i], global)
		}
	}
	if slices.Contains(classes, v3.NodeStatusClassRoutes) {
		for i := range report.Routes {
			addRoute(&out.Routes, &report.Routes[i])
		}
	}
	return out
}

func timeOf(t metav1.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func addRoute(out *v3.NodeRouteStatus, r *v1alpha1.RouteStatus) {
	route := v3.NodeRoute{
		Type: "RIB", Destination: r.Destination, Gateway: r.Gateway, Interface: r.Interface,
		LearnedFrom: v3.NodeRouteSource{SourceType: r.Source, PeerIP: r.Peer},
	}
	if r.Installed {
		route.Type = "FIB"
	}
	if strings.Contains(r.Destination, ":") {
		out.RoutesV6 = append(out.RoutesV6, route)
	} else {
		out.RoutesV4 = append(out.RoutesV4, route)
	}
}

const familyIPv6 = 6

// countSession counts a session that is none of a group's.
func countSession(out *v3.NodeBGPStatus, s *v1alpha1.BGPSessionStatus) {
	addr, err := netip.ParseAddr(s.Address)
	up := s.State == stateEstablished
	switch {
	case err != nil: // a pod that has no address yet
	case addr.Unmap().Is4() && up:
		out.NumberEstablishedV4++
	case addr.Unmap().Is4():
		out.NumberNotEstablishedV4++
	case up:
		out.NumberEstablishedV6++
	default:
		out.NumberNotEstablishedV6++
	}
}

func listSession(out *v3.NodeBGPStatus, s *v1alpha1.BGPSessionStatus, global map[string]bool) {
	addr, err := netip.ParseAddr(s.Address)
	if err != nil {
		return
	}
	peer := v3.NodePeer{PeerIP: s.Address, Type: "NodePeer", State: s.State, Since: timeOf(s.Since)}
	switch {
	case strings.HasPrefix(s.Name, meshSession):
		peer.Type = "NodeMesh"
	case global[peerOf(s.Name)]:
		peer.Type = "GlobalPeer"
	}
	if addr.Unmap().Is4() {
		out.PeersV4 = append(out.PeersV4, peer)
	} else {
		out.PeersV6 = append(out.PeersV6, peer)
	}
}

// whole is a status of which nothing stays that stood there before: what is absent of a patch would.
func whole(status *v3.CalicoNodeStatusStatus) map[string]any {
	list := func(empty bool, list any) any {
		if empty {
			return nil
		}
		return list
	}
	daemon := func(d v3.BGPDaemonStatus) any { return list(d == v3.BGPDaemonStatus{}, d) }
	b, r := &status.BGP, &status.Routes
	return map[string]any{
		"lastUpdated": status.LastUpdated,
		"agent":       map[string]any{"birdV4": daemon(status.Agent.BIRDV4), "birdV6": daemon(status.Agent.BIRDV6)},
		"bgp": map[string]any{
			"numberEstablishedV4": b.NumberEstablishedV4, "numberNotEstablishedV4": b.NumberNotEstablishedV4,
			"numberEstablishedV6": b.NumberEstablishedV6, "numberNotEstablishedV6": b.NumberNotEstablishedV6,
			"peersV4": list(len(b.PeersV4) == 0, b.PeersV4), "peersV6": list(len(b.PeersV6) == 0, b.PeersV6),
		},
		"routes": map[string]any{
			"routesV4": list(len(r.RoutesV4) == 0, r.RoutesV4), "routesV6": list(len(r.RoutesV6) == 0, r.RoutesV6),
		},
	}
}
