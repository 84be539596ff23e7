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
	Now    func() time.Time
}

func setupNodeStatus(mgr manager.Manager) error {
	c, err := controller.NewTyped("caliconodestatus", mgr, controller.TypedOptions[string]{
		Reconciler:              &NodeReporter{Client: mgr.GetClient(), Now: time.Now},
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
	return nil
}

// Reconcile answers one CalicoNodeStatus, and again after its period. A period of 0 stops that.
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
	var peers v3.BGPPeerList
	if err := r.Client.List(ctx, &peers); err != nil {
		return reconcile.Result{}, fmt.Errorf("listing BGPPeers: %w", err)
	}
	global := map[string]bool{}
	for i := range peers.Items {
		global[peers.Items[i].Name] = peers.Items[i].Spec.Node == "" && peers.Items[i].Spec.NodeSelector == ""
	}
	status := answer(asked.Spec.Classes, state, global)
	status.LastUpdated = metav1.NewTime(r.Now())
	return reconcile.Result{RequeueAfter: period}, patchStatus(ctx, r.Client, &v3.CalicoNodeStatus{ObjectMeta: metav1.ObjectMeta{Name: name}}, status)
}

// answer is what a node reports, as far as it is asked for. global are the BGPPeers for all nodes.
func answer(classes []v3.NodeStatusClass, state *v1alpha1.NodeState, global map[string]bool) v3.CalicoNodeStatusStatus {
	var out v3.CalicoNodeStatusStatus
	if slices.Contains(classes, v3.NodeStatusClassAgent) && state.Spec.BGP != nil {
		daemon := v3.BGPDaemonStatus{State: v3.BGPDaemonNotReady, Version: state.Status.AgentVersion, RouterID: state.Spec.BGP.RouterID}
		if meta.IsStatusConditionTrue(state.Status.Conditions, "Ready") {
			daemon.State = v3.BGPDaemonReady
		}
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
			s := &state.Status.BGPSessions[i]
			addSession(&out.BGP, s, global, counted[peerOf(s.Name)] && (state.Spec.BGP == nil || !isListed(state.Spec.BGP, s.Name)))
		}
	}
	return out
}

const familyIPv6 = 6

// addSession adds a session to the list and, unless it was counted with its group, to the count.
func addSession(out *v3.NodeBGPStatus, s *v1alpha1.BGPSessionStatus, global map[string]bool, counted bool) {
	addr, err := netip.ParseAddr(s.Address)
	if err != nil {
		return // a pod that has no address yet
	}
	peer := v3.NodePeer{PeerIP: s.Address, Type: "NodePeer", State: s.State}
	switch {
	case strings.HasPrefix(s.Name, meshSession):
		peer.Type = "NodeMesh"
	case global[peerOf(s.Name)]:
		peer.Type = "GlobalPeer"
	}
	if !s.Since.IsZero() {
		peer.Since = s.Since.UTC().Format(time.RFC3339)
	}
	up := s.State == stateEstablished
	list, established, others := &out.PeersV6, &out.NumberEstablishedV6, &out.NumberNotEstablishedV6
	if addr.Unmap().Is4() {
		list, established, others = &out.PeersV4, &out.NumberEstablishedV4, &out.NumberNotEstablishedV4
	}
	*list = append(*list, peer)
	switch {
	case counted:
	case up:
		*established++
	default:
		*others++
	}
}
