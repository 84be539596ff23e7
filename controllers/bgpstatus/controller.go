// Package bgpstatus tells users what became of their BGP objects: the conditions Accepted and Established, from what nodes report of
// their sessions, and the status of CalicoNodeStatus.
package bgpstatus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/controllers/looks"
)

const (
	// pause is how long changes are gathered: a session that comes up on all nodes must not cost a write for each of them.
	pause                 = 200 * time.Millisecond
	firstRetry, lastRetry = 10 * time.Millisecond, 30 * time.Second
)

// Reporter writes the conditions of BGP objects, on transitions only. All objects are looked at together, since one node has sessions of many
// peers.
type Reporter struct {
	Client client.Client
}

// Setup registers the reporter, and the one for CalicoNodeStatus. They run on the leader alone.
func Setup(mgr manager.Manager) error {
	err := looks.Setup(mgr, "bgpstatus", &Reporter{Client: mgr.GetClient()},
		looks.At(mgr, pause, &v3.BGPPeer{}), looks.At(mgr, pause, &v3.BGPFilter{}), looks.At(mgr, pause, &v3.BGPConfiguration{}),
		looks.At(mgr, pause, &v1alpha1.NodeState{}, predicate.TypedFuncs[*v1alpha1.NodeState]{UpdateFunc: sessionsChanged}))
	if err != nil {
		return err
	}
	return setupNodeStatus(mgr)
}

// sessionsChanged tells whether a node has other sessions, or they stand differently: most writes of NodeStates are about pods, and
// counts of prefixes are no news here.
func sessionsChanged(e event.TypedUpdateEvent[*v1alpha1.NodeState]) bool {
	return !slices.EqualFunc(sessions(e.ObjectOld), sessions(e.ObjectNew), func(a, b v1alpha1.BGPSession) bool { return a.Name == b.Name }) ||
		!slices.EqualFunc(groups(e.ObjectOld), groups(e.ObjectNew), func(a, b v1alpha1.BGPGroup) bool {
			return a.Session.Name == b.Session.Name && len(a.Members) == len(b.Members)
		}) || !slices.Equal(e.ObjectOld.Status.BGPGroups, e.ObjectNew.Status.BGPGroups) ||
		!slices.EqualFunc(e.ObjectOld.Status.BGPSessions, e.ObjectNew.Status.BGPSessions, func(a, b v1alpha1.BGPSessionStatus) bool {
			return a.Name == b.Name && a.State == b.State && a.Reason == b.Reason && a.Message == b.Message
		})
}

func sessions(state *v1alpha1.NodeState) []v1alpha1.BGPSession {
	if state.Spec.BGP == nil {
		return nil
	}
	return state.Spec.BGP.Sessions
}

func groups(state *v1alpha1.NodeState) []v1alpha1.BGPGroup {
	if state.Spec.BGP == nil {
		return nil
	}
	return state.Spec.BGP.Groups
}

// Reconcile brings the conditions of all BGP objects up to date. The objects of the cache are shared, and not changed.
func (r *Reporter) Reconcile(ctx context.Context, _ looks.Look) (reconcile.Result, error) {
	var stateList v1alpha1.NodeStateList
	var peers v3.BGPPeerList
	var filters v3.BGPFilterList
	var configurations v3.BGPConfigurationList
	for _, list := range []client.ObjectList{&stateList, &peers, &filters, &configurations} {
		if err := r.Client.List(ctx, list); err != nil {
			return reconcile.Result{}, fmt.Errorf("listing %T: %w", list, err)
		}
	}
	states := make([]*v1alpha1.NodeState, 0, len(stateList.Items))
	for i := range stateList.Items {
		states = append(states, &stateList.Items[i])
	}
	slices.SortFunc(states, func(a, b *v1alpha1.NodeState) int { return strings.Compare(a.Name, b.Name) })
	sums, meshSecret := summarize(states)

	var errs []error
	known := map[string]bool{}
	for i := range filters.Items {
		f := &filters.Items[i]
		known[f.Name] = true
		errs = append(errs, r.write(ctx, &v3.BGPFilter{}, f.Name, f.Status.Conditions, filterConditions(f)))
	}
	for i := range configurations.Items {
		c := &configurations.Items[i]
		errs = append(errs, r.write(ctx, &v3.BGPConfiguration{}, c.Name, c.Status.Conditions, configurationConditions(c, meshSecret)))
	}
	for i := range peers.Items {
		p := &peers.Items[i]
		errs = append(errs, r.write(ctx, &v3.BGPPeer{}, p.Name, p.Status.Conditions, peerConditions(p, known, sums[p.Name])))
	}
	return reconcile.Result{}, errors.Join(errs...)
}

// write sets the conditions of an object unless it has them.
func (r *Reporter) write(ctx context.Context, into client.Object, name string, before, now []metav1.Condition) error {
	if equality.Semantic.DeepEqual(before, now) {
		return nil
	}
	into.SetName(name)
	return patchStatus(ctx, r.Client, into, v3.BGPStatus{Conditions: now})
}

// patchStatus carries no resource version: the operator is the only writer of these statuses.
func patchStatus(ctx context.Context, c client.Client, into client.Object, status any) error {
	raw, err := json.Marshal(map[string]any{"status": status})
	if err != nil {
		return fmt.Errorf("encoding the status of %T %q: %w", into, into.GetName(), err)
	}
	err = c.Status().Patch(ctx, into, client.RawPatch(types.MergePatchType, raw))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("writing the status of %T %q: %w", into, into.GetName(), err)
	}
	return nil
}
