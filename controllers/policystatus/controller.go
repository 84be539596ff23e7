// Package policystatus tells users what became of their policies: the conditions Accepted, Enforced and Degraded on the policy and on
// its PolicyProgram, and events on transitions.
package policystatus

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
	adminv1alpha1 "sigs.k8s.io/network-policy-api/apis/v1alpha1"
	clusterv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/announce"
	"github.com/manul-net/manul/internal/live"
	"github.com/manul-net/manul/internal/policy"
	"github.com/manul-net/manul/internal/render"
)

const (
	// writers is how many policies are reported on at a time: few, since rendered state has precedence.
	writers = 2
	// writesPerSecond bounds the writes of statuses of all policies together, and atOnce how many of them may come without a pause: a
	// node that comes or fails, or a change of operator, concerns every policy of a cluster.
	writesPerSecond = 200
	atOnce          = 200

	firstRetry, lastRetry = 10 * time.Millisecond, 30 * time.Second
)

// Reporter writes the status of policies. It writes on transitions only.
type Reporter struct {
	Client client.Client
	World  *live.World
	Events events.EventRecorder
	Now    func() time.Time
	// Pace bounds writes.
	Pace *rate.Limiter

	mu sync.Mutex
	// waiting holds since when a difference has been seen that is not worth a write yet (see patience).
	waiting map[render.PolicyRef]time.Time

	announced announce.Limiter[render.PolicyRef]
}

// Setup registers the reporter. It runs on the leader alone.
func Setup(mgr manager.Manager, world *live.World) error {
	c, err := controller.NewTyped("policystatus", mgr, options(mgr.GetClient(), world, mgr.GetEventRecorder("manul-operator")))
	if err != nil {
		return fmt.Errorf("making the reporter on policies: %w", err)
	}
	return follow(c, world)
}

// options of the controller that reports.
func options(c client.Client, world *live.World, recorder events.EventRecorder) controller.TypedOptions[render.PolicyRef] {
	return controller.TypedOptions[render.PolicyRef]{
		Reconciler: &Reporter{
			Client: c, World: world, Events: recorder, Now: time.Now, Pace: rate.NewLimiter(writesPerSecond, atOnce),
		},
		MaxConcurrentReconciles: writers,
		RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[render.PolicyRef](firstRetry, lastRetry),
	}
}

// follow has a controller look at the policies whose reports change.
func follow(c controller.TypedController[render.PolicyRef], world *live.World) error {
	listen := func(_ context.Context, q workqueue.TypedRateLimitingInterface[render.PolicyRef]) error {
		world.OnPolicies(func(refs []render.PolicyRef) {
			for _, ref := range refs {
				q.Add(ref)
			}
		})
		return nil
	}
	if err := c.Watch(source.TypedFunc[render.PolicyRef](listen)); err != nil {
		return fmt.Errorf("following the compiler: %w", err)
	}
	return nil
}

// Reconcile reports on one policy.
func (r *Reporter) Reconcile(ctx context.Context, ref render.PolicyRef) (reconcile.Result, error) {
	if err := r.World.Wait(ctx); err != nil {
		return reconcile.Result{}, err
	}
	report, ok := r.World.Policy(ref)
	if !ok {
		r.settled(ref)
		return reconcile.Result{}, nil
	}
	p, err := r.published(ctx, ref, report.Program)
	if err != nil {
		return reconcile.Result{}, err
	}
	before := p.primary()
	if before == nil {
		return reconcile.Result{}, nil // gone, or not written yet; the compiler tells when that changes
	}
	now := statusOf(&report, before.Conditions)
	if p.conditionsOnly {
		now.Enforced = ""
	}
	if same(before, &now) {
		r.settled(ref)
	} else if left := r.waitFor(ref, patience(before, &now)); left > 0 {
		return reconcile.Result{RequeueAfter: left}, nil
	} else if err := r.writePolicy(ctx, ref, p, before, &now); err != nil {
		return reconcile.Result{}, err
	}
	if err := r.writeProgram(ctx, p, &report); err != nil {
		return reconcile.Result{}, err
	}
	r.settled(ref)
	return reconcile.Result{}, nil
}

// published is what the API holds about a policy.
type published struct {
	object  client.Object           // the user's; nil when it is gone
	status  *v3.PolicyStatus        // its status; nil when its kind has none
	program *v1alpha1.PolicyProgram // nil when there is none yet
	// conditionsOnly: the status of its kind has conditions and nothing else.
	conditionsOnly bool
}

// primary is the status that decides when to write: the user's object's, or the program's when the user's has none.
func (p *published) primary() *v3.PolicyStatus {
	switch {
	case p.object == nil:
		return nil
	case p.status != nil:
		return p.status
	case p.program != nil:
		return &v3.PolicyStatus{Enforced: p.program.Status.Enforced, Conditions: p.program.Status.Conditions}
	}
	return nil
}

func (r *Reporter) published(ctx context.Context, ref render.PolicyRef, program string) (*published, error) {
	var p published
	key := types.NamespacedName{Namespace: ref.Namespace, Name: ref.Name}
	if p.object, p.status = empty(ref.Kind); p.object == nil {
		return nil, fmt.Errorf("reporting on %s: %q is not a kind of policy", ref, ref.Kind)
	}
	if err := r.Client.Get(ctx, key, p.object); apierrors.IsNotFound(err) {
		p.object, p.status = nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("reading policy %s: %w", ref, err)
	}
	if conditions, only := conditionsOf(p.object); only {
		p.status, p.conditionsOnly = &v3.PolicyStatus{Conditions: conditions}, true
	}
	if program == "" {
		return &p, nil
	}
	p.program = &v1alpha1.PolicyProgram{}
	if err := r.Client.Get(ctx, types.NamespacedName{Name: program}, p.program); apierrors.IsNotFound(err) {
		p.program = nil
	} else if err != nil {
		return nil, fmt.Errorf("reading PolicyProgram %q: %w", program, err)
	}
	return &p, nil
}

// conditionsOf returns the conditions of an object whose status has nothing else, and whether its kind is such a one.
func conditionsOf(obj client.Object) ([]metav1.Condition, bool) {
	switch o := obj.(type) {
	case *clusterv1alpha2.ClusterNetworkPolicy:
		return o.Status.Conditions, true
	case *adminv1alpha1.AdminNetworkPolicy:
		return o.Status.Conditions, true
	case *adminv1alpha1.BaselineAdminNetworkPolicy:
		return o.Status.Conditions, true
	}
	return nil, false
}

// empty returns an object of a kind of policies, and its status if the kind has one.
func empty(kind string) (client.Object, *v3.PolicyStatus) {
	switch kind {
	case policy.KindGlobalNetworkPolicy:
		obj := &v3.GlobalNetworkPolicy{}
		return obj, &obj.Status
	case policy.KindNetworkPolicy:
		obj := &v3.NetworkPolicy{}
		return obj, &obj.Status
	case policy.KindKubernetesNetworkPolicy:
		return &networkingv1.NetworkPolicy{}, nil
	case policy.KindClusterNetworkPolicy:
		return &clusterv1alpha2.ClusterNetworkPolicy{}, nil // its status is of another form
	case policy.KindAdminNetworkPolicy:
		return &adminv1alpha1.AdminNetworkPolicy{}, nil
	case policy.KindBaselineAdminNetworkPolicy:
		return &adminv1alpha1.BaselineAdminNetworkPolicy{}, nil
	case policy.KindStagedGlobalNetworkPolicy:
		obj := &v3.StagedGlobalNetworkPolicy{}
		return obj, &obj.Status
	case policy.KindStagedNetworkPolicy:
		obj := &v3.StagedNetworkPolicy{}
		return obj, &obj.Status
	case policy.KindStagedKubernetesNetworkPolicy:
		obj := &v3.StagedKubernetesNetworkPolicy{}
		return obj, &obj.Status
	}
	return nil, nil
}

// writePolicy writes the status of the user's object, and events on what is news.
func (r *Reporter) writePolicy(ctx context.Context, ref render.PolicyRef, p *published, before, now *v3.PolicyStatus) error {
	r.announce(ref, p.object, news(before, now))
	if p.status == nil {
		return nil
	}
	into, _ := empty(ref.Kind)
	into.SetName(ref.Name)
	into.SetNamespace(ref.Namespace)
	return r.patchStatus(ctx, into, now)
}

// writeProgram writes the status of the policy's program when it changed.
func (r *Reporter) writeProgram(ctx context.Context, p *published, report *render.PolicyReport) error {
	if p.program == nil {
		return nil
	}
	before := &p.program.Status
	now := programStatus(report, p.program)
	if sameProgram(before, &now) {
		return nil
	}
	into := &v1alpha1.PolicyProgram{}
	into.SetName(p.program.Name)
	return r.patchStatus(ctx, into, &now)
}

// patchStatus carries no resource version: the operator is the only writer of these statuses.
func (r *Reporter) patchStatus(ctx context.Context, into client.Object, status any) error {
	raw, err := json.Marshal(map[string]any{"status": status})
	if err != nil {
		return fmt.Errorf("encoding the status of %T %q: %w", into, into.GetName(), err)
	}
	// With so few writers the wait is short, and what is written as new as can be: the queue holds the others.
	if err := r.Pace.Wait(ctx); err != nil {
		return fmt.Errorf("waiting for the status of %T %q to be written: %w", into, into.GetName(), err)
	}
	err = r.Client.Status().Patch(ctx, into, client.RawPatch(types.MergePatchType, raw))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("writing the status of %T %q: %w", into, into.GetName(), err)
	}
	return nil
}

// waitFor returns how much longer a difference has to last before it is written.
func (r *Reporter) waitFor(ref render.PolicyRef, patience time.Duration) time.Duration {
	if patience == 0 {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting == nil {
		r.waiting = make(map[render.PolicyRef]time.Time)
	}
	since, ok := r.waiting[ref]
	if !ok {
		since = r.Now()
		r.waiting[ref] = since
	}
	return max(0, patience-r.Now().Sub(since))
}

// settled forgets that something was waited for.
func (r *Reporter) settled(ref render.PolicyRef) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.waiting, ref)
}
