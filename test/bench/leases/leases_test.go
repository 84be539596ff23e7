// Package leases measures how long the operator takes to lease blocks of addresses to many nodes:
//
//	go test -run xxx -bench . -benchtime 1x ./test/bench/leases
//
// BenchmarkPlan calculates alone; BenchmarkLeases writes to a real API server.
package leases

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	ctrlcache "sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/cluster"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/controllers/leases"
	"github.com/manul-net/manul/controllers/looks"
	"github.com/manul-net/manul/internal/ipam"
	"github.com/manul-net/manul/internal/live"
	"github.com/manul-net/manul/test/apiserver"
)

func TestMain(m *testing.M) { os.Exit(apiserver.Main(m)) }

// The cluster: a pool of 8,192 blocks, and pods on each node when it is in use.
const (
	nodeCount, podsPerNode = 5_000, 30
	cidr                   = "10.48.0.0/13"
	blockBits              = 26
)

func nodeName(i int) string { return fmt.Sprintf("node-%04d", i) }

// input is that of a plan for all nodes, the first leased of which have their block and pods on it.
func input(leased int) ipam.Input {
	pool := ipam.Pool{CIDR: netip.MustParsePrefix(cidr), BlockBits: blockBits}
	in := ipam.Input{Pools: []ipam.Pool{pool}}
	for i := range nodeCount {
		in.Nodes = append(in.Nodes, ipam.Node{Name: nodeName(i), Reports: true})
	}
	if leased == 0 {
		return in
	}
	for i, l := range ipam.MakePlan(in).Lease {
		if i >= leased {
			break
		}
		in.Leases = append(in.Leases, l)
		var n *ipam.Node
		for j := range in.Nodes {
			if in.Nodes[j].Name == l.Node {
				n = &in.Nodes[j]
			}
		}
		for offset := range podsPerNode {
			n.Used = append(n.Used, ipam.AddrAt(l.Block, uint64(offset)))
		}
	}
	return in
}

// BenchmarkPlan is the calculation alone: for a cluster whose nodes all are new, for one that is in use, and for one more node.
func BenchmarkPlan(b *testing.B) {
	for _, bench := range []struct {
		name         string
		leased, want int
	}{
		{"of 5000 new nodes", 0, nodeCount},
		{"of 5000 nodes with 150000 pods", nodeCount, 0},
		{"of one new node beside 4999", nodeCount - 1, 1},
	} {
		b.Run(bench.name, func(b *testing.B) {
			in := input(bench.leased)
			for b.Loop() {
				if got := len(ipam.MakePlan(in).Lease); got != bench.want {
					b.Fatalf("%d blocks are leased, want %d", got, bench.want)
				}
			}
		})
	}
}

// BenchmarkLeases is the time from the first plan for 5,000 nodes that have nothing, until each has a block in the API (an IPAMBlock and a
// BlockAffinity); and of the plan for one more node. As in the operator, what is read comes from a cache, and each write goes to the API server.
func BenchmarkLeases(b *testing.B) {
	log.SetLogger(logr.Discard())
	server := apiserver.Start(b)
	server.InstallProjectCRDs(b)
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v3.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			b.Fatal(err)
		}
	}
	c := server.Client(b, scheme)
	ctx := b.Context()
	pool := &v3.IPPool{ObjectMeta: metav1.ObjectMeta{Name: "pool"}, Spec: v3.IPPoolSpec{CIDR: cidr, BlockSize: blockBits, NodeSelector: "all()"}}
	if err := c.Create(ctx, pool); err != nil {
		b.Fatal(err)
	}
	writers, _ := errgroup.WithContext(ctx)
	writers.SetLimit(16)
	for i := range nodeCount {
		writers.Go(func() error { return c.Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName(i)}}) })
	}
	if err := writers.Wait(); err != nil {
		b.Fatal(err)
	}
	cached := cache(ctx, b, server, scheme)
	for b.Loop() {
		world := live.New()
		world.Open()
		ahead := time.Duration(0) // between plans the operator rests, which is not what is measured
		lessor := leases.New(cached, world, func() time.Time { return time.Now().Add(ahead) })
		plan := func(want int) time.Duration {
			ahead += time.Hour
			began := time.Now()
			if _, err := lessor.Reconcile(ctx, looks.Look{}); err != nil {
				b.Fatal(err)
			}
			took := time.Since(began)
			b.StopTimer()
			defer b.StartTimer()
			seen(ctx, b, cached, want)
			return took
		}
		b.ReportMetric(plan(nodeCount).Seconds(), "s/5000-nodes")
		b.StopTimer()
		if err := c.Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "one-more"}}); err != nil {
			b.Fatal(err)
		}
		until(ctx, b, func() bool { return cached.Get(ctx, client.ObjectKey{Name: "one-more"}, &corev1.Node{}) == nil })
		b.StartTimer()
		b.ReportMetric(float64(plan(nodeCount+1).Milliseconds()), "ms/one-more")
		b.StopTimer()
		if err := c.Delete(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "one-more"}}); err != nil {
			b.Fatal(err)
		}
		for _, kind := range []client.Object{&v3.IPAMBlock{}, &v3.BlockAffinity{}} {
			if err := c.DeleteAllOf(ctx, kind); err != nil {
				b.Fatal(err)
			}
		}
		seen(ctx, b, cached, 0)
		b.StartTimer()
	}
}

// cache is a client that reads from a cache, as the operator's does, and knows all that there is.
func cache(ctx context.Context, b *testing.B, server *apiserver.Server, scheme *runtime.Scheme) client.Client {
	b.Helper()
	cl, err := cluster.New(server.Config, func(o *cluster.Options) { o.Scheme = scheme })
	if err != nil {
		b.Fatal(err)
	}
	for _, kind := range []client.Object{
		&v3.IPPool{}, &corev1.Node{}, &v3.IPAMBlock{}, &v3.BlockAffinity{}, &v1alpha1.NodeState{}, &v3.IPReservation{}, &v3.IPAMConfiguration{}, &corev1.Pod{},
	} {
		if _, err := cl.GetCache().GetInformer(ctx, kind, ctrlcache.BlockUntilSynced(false)); err != nil {
			b.Fatal(err)
		}
	}
	go func() {
		if err := cl.Start(ctx); err != nil {
			b.Error(err)
		}
	}()
	if !cl.GetCache().WaitForCacheSync(ctx) {
		b.Fatal("the cache does not fill")
	}
	return cl.GetClient()
}

// seen waits until each node has its block and its affinity, as the cache knows.
func seen(ctx context.Context, b *testing.B, c client.Client, want int) {
	b.Helper()
	until(ctx, b, func() bool {
		var blocks v3.IPAMBlockList
		var affinities v3.BlockAffinityList
		for _, list := range []client.ObjectList{&blocks, &affinities} {
			if err := c.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
				b.Fatal(err)
			}
		}
		return len(blocks.Items) == want && len(affinities.Items) == want
	})
}

func until(ctx context.Context, b *testing.B, done func() bool) {
	b.Helper()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			b.Fatal("the cache does not come to know what was written")
		case <-tick.C:
		}
	}
}
