// Package leases gives nodes the address blocks that they need, and takes back those of nodes that are gone. A lease is an
// IPAMBlock with the node's affinity, and a BlockAffinity for people and tools to read.
package leases

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/controllers/looks"
	"github.com/manul-net/manul/internal/blocks"
	"github.com/manul-net/manul/internal/ipam"
	"github.com/manul-net/manul/internal/live"
)

// unseen is how long a lease that was made counts although its object has not come back through the watch.
const unseen = time.Minute

// A plan looks at the whole cluster. The next one waits rest times as long as the last one took, so that planning takes
// a small share of a processor however fast pods come and go: the blocks that nodes have reach further than that.
const rest = 10

// New returns a lessor that knows of no lease made before.
func New(c client.Client, world *live.World, now func() time.Time) *Lessor {
	return &Lessor{Client: c, World: world, Now: now, made: map[string]madeLease{}}
}

// Lessor plans and writes the leases. It runs on the leader alone.
type Lessor struct {
	Client client.Client
	World  *live.World
	Now    func() time.Time

	// made are leases that were written and not seen yet, by the block's name. There is one worker, and mu is for those that write at a time.
	mu   sync.Mutex
	made map[string]madeLease
	// idle is since when something has been dispensable that may go back.
	idle map[string]time.Time
	// lost is since when nodes have been gone that had blocks.
	lost map[string]time.Time
	// notBefore is when the next plan may be made.
	notBefore time.Time
}

type madeLease struct {
	ipam.Lease
	at time.Time
}

// Setup registers the lessor.
func Setup(mgr manager.Manager, world *live.World) error {
	demand := func(_ context.Context, q workqueue.TypedRateLimitingInterface[looks.Look]) error {
		world.OnDemand(func() { q.Add(looks.Look{}) })
		return nil
	}
	return looks.Setup(mgr, "leases", New(mgr.GetClient(), world, time.Now),
		source.TypedFunc[looks.Look](demand),
		looks.At(mgr, 0, &v3.IPPool{}),
		looks.At(mgr, 0, &v3.IPAMConfiguration{}),
		looks.At(mgr, 0, &v3.IPReservation{}),
		looks.At(mgr, 0, &v3.IPAMBlock{}),
		looks.At(mgr, 0, &v3.BlockAffinity{}),
		looks.At(mgr, 0, &v1alpha1.NodeState{}, ofAddresses()))
}

// ofAddresses lets through what matters to addresses: which pools endpoints ask for, what they hold, and what nodes agree to.
func ofAddresses() predicate.TypedFuncs[*v1alpha1.NodeState] {
	return predicate.TypedFuncs[*v1alpha1.NodeState]{UpdateFunc: func(e event.TypedUpdateEvent[*v1alpha1.NodeState]) bool {
		before, after := e.ObjectOld, e.ObjectNew
		return before.Generation != after.Generation ||
			!equality.Semantic.DeepEqual(before.Status.Leases, after.Status.Leases) ||
			!equality.Semantic.DeepEqual(before.Status.Network, after.Status.Network) ||
			!equality.Semantic.DeepEqual(before.Status.Endpoints, after.Status.Endpoints)
	}}
}

// Reconcile brings leases, and what is said about pools, up to date.
func (l *Lessor) Reconcile(ctx context.Context, _ looks.Look) (reconcile.Result, error) {
	if err := l.World.Wait(ctx); err != nil {
		return reconcile.Result{}, err
	}
	started := l.Now()
	if wait := l.notBefore.Sub(started); wait > 0 {
		return reconcile.Result{RequeueAfter: wait}, nil
	}
	s, err := l.gather(ctx)
	if err != nil {
		return reconcile.Result{}, err
	}
	d := decide(s)
	l.idle, l.lost = s.idle, s.lost
	l.notBefore = l.Now().Add(rest * l.Now().Sub(started))
	errs := []error{l.leaseAll(ctx, d.lease)}
	for _, h := range d.change {
		errs = append(errs, l.change(ctx, s, h))
	}
	for _, lease := range d.confirm {
		errs = append(errs, l.confirm(ctx, lease))
	}
	for _, lease := range d.release {
		errs = append(errs, l.release(ctx, s, lease))
	}
	for _, name := range d.forget {
		errs = append(errs, remove(ctx, l.Client, &v3.BlockAffinity{}, name))
	}
	for i := range s.pools {
		errs = append(errs, l.report(ctx, &s.pools[i], d.findings[s.pools[i].Name]))
	}
	return reconcile.Result{RequeueAfter: d.again}, errors.Join(errs...)
}

func (l *Lessor) gather(ctx context.Context) (*state, error) {
	var pools v3.IPPoolList
	var nodes corev1.NodeList
	var blockList v3.IPAMBlockList
	var affinities v3.BlockAffinityList
	var nodeStates v1alpha1.NodeStateList
	var reservations v3.IPReservationList
	for _, list := range []client.ObjectList{&pools, &nodes, &blockList, &affinities, &nodeStates, &reservations} {
		// They are read only, and may be many.
		if err := l.Client.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
			return nil, fmt.Errorf("listing %T: %w", list, err)
		}
	}
	settings := v3.IPAMConfiguration{Spec: standardSettings()}
	if err := l.Client.Get(ctx, types.NamespacedName{Name: SettingsName}, &settings); client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("reading IPAMConfiguration %q: %w", SettingsName, err)
	}
	for i := range blockList.Items {
		delete(l.made, blockList.Items[i].Name)
	}
	s := &state{
		pools: pools.Items, nodes: nodes.Items, blocks: blockList.Items, affinities: affinities.Items, reservations: reservations.Items,
		nodeStates: nodeStates.Items, settings: settings.Spec, demand: l.World.Demand(),
		now: l.Now(), idle: l.idle, lost: l.lost,
	}
	s.unwritten = l.World.Present(s.early())
	if gone := s.gone(); len(gone) > 0 {
		s.bound = l.World.Bound(gone)
	}
	for name, lease := range l.made {
		if l.Now().Sub(lease.at) > unseen {
			delete(l.made, name)
			continue
		}
		s.made = append(s.made, lease.Lease)
	}
	return s, nil
}

// writers is how many leases are written at a time: a cluster of thousands of nodes is not to wait for one write after the other.
const writers = 16

// few leases are written one after the other, in their order.
const few = 8

// leaseAll writes leases, the most urgent first. One that fails keeps no other back.
func (l *Lessor) leaseAll(ctx context.Context, leases []ipam.Lease) error {
	errs := make([]error, len(leases))
	var group errgroup.Group
	group.SetLimit(writers)
	if len(leases) <= few {
		group.SetLimit(1)
	}
	for i, lease := range leases {
		group.Go(func() error {
			errs[i] = l.lease(ctx, lease)
			return nil
		})
	}
	return errors.Join(group.Wait(), errors.Join(errs...))
}

// lease creates the block first: that is what makes the lease safe. The affinity follows; should the operator end in
// between, the next one confirms it.
func (l *Lessor) lease(ctx context.Context, lease ipam.Lease) error {
	block := blockObject(lease, l.Now())
	if err := l.Client.Create(ctx, block); apierrors.IsAlreadyExists(err) {
		return nil // somebody was faster; the watch brings their block, and planning goes on with it
	} else if err != nil {
		return fmt.Errorf("leasing block %s to node %q: %w", lease.Block, lease.Node, err)
	}
	l.mu.Lock()
	l.made[block.Name] = madeLease{Lease: lease, at: l.Now()}
	l.mu.Unlock()
	log.FromContext(ctx).Info("Leased a block", "block", lease.Block, "node", lease.Node)
	return l.confirm(ctx, lease)
}

func (l *Lessor) confirm(ctx context.Context, lease ipam.Lease) error {
	if err := l.Client.Create(ctx, affinityObject(lease)); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("confirming the lease of block %s to node %q: %w", lease.Block, lease.Node, err)
	}
	return nil
}

// change writes a block in its next form, if it is still as it was when that was decided. Otherwise the watch brings what it has
// become, and planning goes on with that.
func (l *Lessor) change(ctx context.Context, s *state, h ipam.Holding) error {
	known := s.object(h.Block)
	if known == nil {
		return nil
	}
	block := known.DeepCopy()
	blocks.Write(h, &block.Spec)
	if err := l.Client.Update(ctx, block); apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil
	} else if err != nil {
		return fmt.Errorf("changing the lease of block %s to node %q: %w", h.Block, h.Node, err)
	}
	log.FromContext(ctx).V(1).Info("Changed a lease", "block", h.Block, "node", h.Node, "withdrawn", h.Withdrawn, "loans", len(h.Loans))
	return nil
}

// object is the object that stands for a block.
func (s *state) object(block netip.Prefix) *v3.IPAMBlock {
	i := slices.IndexFunc(s.blocks, func(b v3.IPAMBlock) bool { return b.Name == ipam.Name(block) })
	if i < 0 {
		return nil
	}
	return &s.blocks[i]
}

// release undoes lease in reverse: while the block's object is there, nobody else gets the block. It goes only in the form in which
// it was seen: another operator may have leased the block anew.
func (l *Lessor) release(ctx context.Context, s *state, lease ipam.Lease) error {
	known := s.object(lease.Block)
	if known == nil {
		return nil
	}
	if err := remove(ctx, l.Client, &v3.BlockAffinity{}, affinityName(lease)); err != nil {
		return err
	}
	log.FromContext(ctx).Info("Taking back a block", "block", lease.Block, "node", lease.Node)
	block := &v3.IPAMBlock{ObjectMeta: metav1.ObjectMeta{Name: known.Name}}
	err := l.Client.Delete(ctx, block, client.Preconditions{UID: &known.UID, ResourceVersion: &known.ResourceVersion})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("taking back block %s of node %q: %w", lease.Block, lease.Node, err)
	}
	return nil
}

func remove(ctx context.Context, c client.Client, obj client.Object, name string) error {
	obj.SetName(name)
	if err := client.IgnoreNotFound(c.Delete(ctx, obj)); err != nil {
		return fmt.Errorf("deleting %T %q: %w", obj, name, err)
	}
	return nil
}

// report writes the condition Allocatable when it changed. How full the pool is stands there as well, with a condition that another
// controller writes: so only onto what was looked at. When the pool has changed since, its watch has it looked at again.
func (l *Lessor) report(ctx context.Context, pool *v3.IPPool, f finding) error {
	conditions := append([]metav1.Condition(nil), pool.Status.Conditions...)
	if !meta.SetStatusCondition(&conditions, f.condition(pool.Generation)) {
		return nil
	}
	raw, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": pool.ResourceVersion}, "status": v3.IPPoolStatus{Conditions: conditions},
	})
	if err != nil {
		return fmt.Errorf("encoding the status of IPPool %q: %w", pool.Name, err)
	}
	into := &v3.IPPool{ObjectMeta: metav1.ObjectMeta{Name: pool.Name}}
	err = l.Client.Status().Patch(ctx, into, client.RawPatch(types.MergePatchType, raw))
	if client.IgnoreNotFound(err) != nil && !apierrors.IsConflict(err) {
		return fmt.Errorf("writing the status of IPPool %q: %w", pool.Name, err)
	}
	return nil
}
