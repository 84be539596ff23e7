package defaults

import (
	"context"
	"fmt"
	"net/netip"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	v3 "github.com/manul-net/manul/api/v3"
)

// PoolName is the name of the pool that a cluster without pools gets.
const PoolName = "default-ipv4-ippool"

// blockSize of the default pool: 64 addresses.
const blockSize = 26

// Pool creates the default pool in a cluster that has none, once per start: who deletes the last pool means it.
type Pool struct {
	Client client.Client
	CIDR   netip.Prefix
}

// ParsePool reads the CIDR of the default pool. Empty means that there is to be none.
func ParsePool(s string) (netip.Prefix, error) {
	if s == "" {
		return netip.Prefix{}, nil
	}
	cidr, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return netip.Prefix{}, fmt.Errorf("default IPv4 pool %q: want a CIDR such as 10.48.0.0/16: %w", s, err)
	case !cidr.Addr().Is4():
		return netip.Prefix{}, fmt.Errorf("default IPv4 pool %q: want an IPv4 CIDR such as 10.48.0.0/16", s)
	case cidr != cidr.Masked():
		return netip.Prefix{}, fmt.Errorf("default IPv4 pool %q has bits beyond its prefix length: write %s", s, cidr.Masked())
	case cidr.Bits() > blockSize:
		return netip.Prefix{}, fmt.Errorf("default IPv4 pool %q is smaller than one block: at most /%d", s, blockSize)
	}
	return cidr, nil
}

// SetupPool registers the controller of the default pool, unless cidr is none.
func SetupPool(mgr manager.Manager, cidr netip.Prefix) error {
	if !cidr.IsValid() {
		return nil
	}
	c, err := controller.New("default-pool", mgr, controller.Options{Reconciler: &Pool{Client: mgr.GetClient(), CIDR: cidr}})
	if err != nil {
		return fmt.Errorf("making the controller of the default pool: %w", err)
	}
	if err := c.Watch(once(PoolName)); err != nil {
		return fmt.Errorf("starting with the default pool: %w", err)
	}
	return nil
}

// Reconcile creates the default pool when there is no pool at all.
func (p *Pool) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	var pools v3.IPPoolList
	if err := p.Client.List(ctx, &pools); err != nil {
		return reconcile.Result{}, fmt.Errorf("listing IPPools: %w", err)
	}
	if len(pools.Items) > 0 {
		return reconcile.Result{}, nil
	}
	log.FromContext(ctx).Info("The cluster has no address pool: creating the default one", "pool", PoolName, "cidr", p.CIDR)
	return reconcile.Result{}, ignoreExists(p.Client.Create(ctx, defaultPool(p.CIDR)), "creating IPPool %q", PoolName)
}

func defaultPool(cidr netip.Prefix) *v3.IPPool {
	return &v3.IPPool{
		ObjectMeta: metav1.ObjectMeta{Name: PoolName},
		Spec: v3.IPPoolSpec{
			CIDR:           cidr.String(),
			BlockSize:      blockSize,
			NATOutgoing:    true,
			VXLANMode:      v3.EncapNever,
			IPIPMode:       v3.EncapNever,
			NodeSelector:   "all()",
			AssignmentMode: v3.AssignmentAutomatic,
		},
	}
}
