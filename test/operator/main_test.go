// Package operator tests the operator as it is, against a real API server. What a cluster would do besides (scheduling,
// kubelets, node agents) the tests do themselves.
package operator

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/controllers"
	"github.com/manul-net/manul/test/apiserver"
	"github.com/manul-net/manul/test/bgp"
)

func TestMain(m *testing.M) {
	if os.Getenv(bgp.NodeVariable) != "" {
		if err := bgp.Serve(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(apiserver.Main(m))
}

// patience is how long a test waits for what takes milliseconds, or, of blocks that go back, half a minute.
const patience = 3 * time.Minute

// cluster is an API server with the project's kinds and nothing in it.
type cluster struct {
	t      *testing.T
	server *apiserver.Server
	client client.WithWatch
}

// newCluster empties the package's API server. Tests of the operator can't share a cluster: it looks at all of it.
func newCluster(t *testing.T) *cluster {
	t.Helper()
	server := apiserver.Start(t)
	server.InstallProjectCRDs(t)
	k := connect(t, server)
	k.install()
	k.clear()
	return k
}

// bareCluster is an API server of the test's own, without the project's kinds.
func bareCluster(t *testing.T) *cluster {
	t.Helper()
	t.Setenv("MANUL_TEST_APISERVER", "")
	return connect(t, apiserver.Start(t))
}

func connect(t *testing.T, server *apiserver.Server) *cluster {
	t.Helper()
	scheme, err := controllers.Scheme()
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.NewWithWatch(server.Config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	return &cluster{t: t, server: server, client: c}
}

// contents are all kinds that a test may leave something of.
func contents() []client.Object {
	return []client.Object{
		&corev1.Pod{}, &corev1.Node{}, &discoveryv1.EndpointSlice{}, &networkingv1.NetworkPolicy{}, &v3.NetworkPolicy{}, &v3.GlobalNetworkPolicy{},
		&v3.StagedNetworkPolicy{}, &v3.StagedGlobalNetworkPolicy{}, &v3.StagedKubernetesNetworkPolicy{}, &v3.NetworkSet{}, &v3.GlobalNetworkSet{},
		&v3.HostEndpoint{}, &v3.KubeControllersConfiguration{},
		&v3.Tier{}, &v3.IPPool{}, &v3.IPAMBlock{}, &v3.BlockAffinity{}, &v3.FelixConfiguration{}, &v3.ClusterInformation{}, &v3.IPAMConfiguration{}, &v3.IPReservation{},
		&v3.BGPPeer{}, &v3.BGPFilter{}, &v3.BGPConfiguration{}, &v3.CalicoNodeStatus{},
		&v1alpha1.NodeState{}, &v1alpha1.NodeEndpoints{}, &v1alpha1.NodeNetwork{}, &v1alpha1.PolicyProgram{}, &v1alpha1.SetCatalog{},
	}
}

func (k *cluster) clear() {
	k.t.Helper()
	namespaces := &corev1.NamespaceList{}
	if err := k.client.List(k.t.Context(), namespaces); err != nil {
		k.t.Fatal(err)
	}
	for _, obj := range contents() {
		gvk, err := k.client.GroupVersionKindFor(obj)
		if err != nil {
			k.t.Fatal(err)
		}
		in := []client.DeleteAllOfOption{client.GracePeriodSeconds(0)}
		if namespaced, err := k.client.IsObjectNamespaced(obj); err != nil {
			k.t.Fatal(err)
		} else if !namespaced {
			k.must(k.client.DeleteAllOf(k.t.Context(), obj, in...), "clearing "+gvk.Kind)
			continue
		}
		for _, ns := range namespaces.Items {
			k.must(k.client.DeleteAllOf(k.t.Context(), obj, append(in, client.InNamespace(ns.Name))...), "clearing "+gvk.Kind)
		}
	}
}

func (k *cluster) must(err error, doing string) {
	k.t.Helper()
	if err != nil {
		k.t.Fatalf("%s: %v", doing, err)
	}
}

// create makes objects and, of pods and nodes, the status as well.
func (k *cluster) create(objs ...client.Object) {
	k.t.Helper()
	for _, obj := range objs {
		status, _ := obj.DeepCopyObject().(client.Object)
		k.must(k.client.Create(k.t.Context(), obj), "creating "+obj.GetName())
		switch obj := obj.(type) {
		case *corev1.Node:
			obj.Status = status.(*corev1.Node).Status
			k.must(k.client.Status().Update(k.t.Context(), obj), "writing the status of a node")
		case *corev1.Pod:
			obj.Status.Phase = corev1.PodPending
		}
	}
}

func (k *cluster) delete(objs ...client.Object) {
	k.t.Helper()
	for _, obj := range objs {
		k.must(k.client.Delete(k.t.Context(), obj, client.GracePeriodSeconds(0)), "deleting "+obj.GetName())
	}
}

// get reads an object anew and tells whether it is there.
func (k *cluster) get(obj client.Object) bool {
	k.t.Helper()
	err := k.client.Get(k.t.Context(), client.ObjectKeyFromObject(obj), obj)
	if apierrors.IsNotFound(err) {
		return false
	}
	k.must(err, "reading "+obj.GetName())
	return true
}

// edit changes an object as it is now; the operator may be writing its status at the same time.
func (k *cluster) edit(obj client.Object, change func()) {
	k.t.Helper()
	k.must(retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		k.get(obj)
		change()
		return k.client.Update(k.t.Context(), obj)
	}), "editing "+obj.GetName())
}

// eventually asks until ask has nothing to complain about.
func (k *cluster) eventually(what string, ask func() error) {
	k.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask()
		if err == nil {
			return
		}
		select {
		case <-k.t.Context().Done():
			k.t.Fatalf("%s: the test ended: %v", what, err)
		case <-deadline.C:
			k.t.Fatalf("%s: not within %s: %v", what, patience, err)
		case <-tick.C:
		}
	}
}

// operator starts an operator with the rights of the install manifest and returns a function that stops it; it is stopped at the end of the test at the latest.
func (k *cluster) operator(opts controllers.Options) (stop func()) {
	k.t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(k.t.Context()))
	done := make(chan error, 1)
	opts.MetricsAddress, opts.HealthAddress = "0", "0"
	opts.LeaderElectionNamespace = "manul-system"
	opts.Log = logOf(k.t)
	go func() { done <- controllers.Run(ctx, k.as(operatorAccount, nil), opts) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			if err != nil && !errors.Is(err, context.Canceled) {
				k.t.Errorf("the operator ended with: %v", err)
			}
		case <-time.After(patience):
			k.t.Error("the operator did not end")
		}
	}
	k.t.Cleanup(stop)
	return stop
}

// logOf is a log that is the test's until it ends. Goroutines of libraries may outlive the operator that started them by a moment, and say so;
// a test that is over must not be written to.
func logOf(t *testing.T) logr.Logger {
	t.Helper()
	var mu sync.Mutex
	over := false
	t.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		over = true
	})
	return funcr.New(func(prefix, args string) {
		mu.Lock()
		defer mu.Unlock()
		if !over {
			t.Log(prefix, args)
		}
	}, funcr.Options{})
}
