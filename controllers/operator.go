// Package controllers joins the operator's controllers: one per concern, in one process, one of which writes at a time.
package controllers

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"github.com/go-logr/logr"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	adminv1alpha1 "sigs.k8s.io/network-policy-api/apis/v1alpha1"
	clusterv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/controllers/bgpstatus"
	"github.com/manul-net/manul/controllers/defaults"
	"github.com/manul-net/manul/controllers/hostendpoints"
	"github.com/manul-net/manul/controllers/inputs"
	"github.com/manul-net/manul/controllers/leases"
	"github.com/manul-net/manul/controllers/loadbalancers"
	"github.com/manul-net/manul/controllers/nodeannotations"
	"github.com/manul-net/manul/controllers/podaddresses"
	"github.com/manul-net/manul/controllers/policystatus"
	"github.com/manul-net/manul/controllers/poolstatus"
	"github.com/manul-net/manul/controllers/rendered"
	"github.com/manul-net/manul/controllers/stream"
	"github.com/manul-net/manul/internal/live"
	"github.com/manul-net/manul/internal/policy"
)

// LeaderElectionID names the Lease that the writing replica holds.
const LeaderElectionID = "operator.manul.dev"

const (
	// cacheSync is how long the first listing of a kind may take. 150,000 pods on a slow API server take minutes.
	cacheSync = 10 * time.Minute
	// An operator that ends without notice is replaced within leaseDuration; agents go on without it meanwhile.
	leaseDuration, renewDeadline, retryPeriod = 10 * time.Second, 7 * time.Second, time.Second
	// Kinds that the API server does not serve yet are looked for again after a delay that doubles up to the longest.
	firstLook, longestLook = 100 * time.Millisecond, 5 * time.Second
)

// Options of the operator.
type Options struct {
	// MetricsAddress and HealthAddress are host:port to listen on; "0" for none.
	MetricsAddress, HealthAddress string
	// LeaderElect has replicas agree on the one that writes, by a Lease in LeaderElectionNamespace.
	LeaderElect             bool
	LeaderElectionNamespace string
	// DefaultIPv4Pool is the pool that a cluster without pools gets; the zero Prefix for none.
	DefaultIPv4Pool netip.Prefix
	// KeepDeniedConnections has nodes let connections go on that policies have come to deny. They are ended otherwise.
	KeepDeniedConnections bool
	// UseNodePodCIDRs has nodes give their pods addresses of their own spec.podCIDRs. No block is leased.
	UseNodePodCIDRs bool
	// AllowUnmanagedAddresses lets pods have the addresses of their annotation ipAddrsNoIpam.
	AllowUnmanagedAddresses bool
	// Version of the operator, for people to read.
	Version string
	Log     logr.Logger
	// Admission adds the check of what users write; nil for none. compiled is the cluster as the operator knows it.
	Admission func(mgr manager.Manager, compiled Compiled) error
	// Stream serves the agents; the zero value for no stream: they go by the API's objects alone.
	Stream Stream
}

// Compiled is the cluster as the operator knows it.
type Compiled interface {
	// IsOpen tells whether it knows the whole cluster.
	IsOpen() bool
	// Pods tells how selectors see the pods of a namespace that have a network of their own; of all namespaces with an empty one; and of
	// so many at most.
	Pods(namespace string, most int) []policy.EndpointLabels
}

// Stream says how agents are served.
type Stream struct {
	// Address to listen on, host:port; empty for none.
	Address string
	// Namespace of the agents' service account, manul-node.
	Namespace string
	// Certificate makes what gives the server's certificate.
	Certificate func(mgr manager.Manager) (func(*tls.ClientHelloInfo) (*tls.Certificate, error), error)
}

// AgentAccount is the agents' service account.
const AgentAccount = "manul-node"

// Run is the operator. It returns when ctx ends, with an error when it could not go on or lost the leadership.
func Run(ctx context.Context, cfg *rest.Config, opts Options) error {
	scheme, err := Scheme()
	if err != nil {
		return err
	}
	world := live.New()
	states := inputs.States{Known: world.State}
	informers, err := states.Informers(cfg, scheme)
	if err != nil {
		return err
	}
	mgr, err := manager.New(cfg, manager.Options{
		Scheme: scheme,
		Logger: opts.Log,
		Cache:  cache.Options{DefaultTransform: arriving(world), DefaultUnsafeDisableDeepCopy: new(true), NewInformer: informers},
		// The cache has no pods, but what the compiler goes by of them: who wants a whole one asks the API server.
		Client:                        client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&corev1.Pod{}}}},
		Metrics:                       metricsserver.Options{BindAddress: opts.MetricsAddress},
		HealthProbeBindAddress:        opts.HealthAddress,
		LeaderElection:                opts.LeaderElect,
		LeaderElectionID:              LeaderElectionID,
		LeaderElectionNamespace:       opts.LeaderElectionNamespace,
		LeaderElectionReleaseOnCancel: true,
		LeaseDuration:                 new(leaseDuration),
		RenewDeadline:                 new(renewDeadline),
		RetryPeriod:                   new(retryPeriod),
		Controller: config.Controller{
			CacheSyncTimeout: cacheSync,
			// Names need not be unique in the process: tests run two operators in one.
			SkipNameValidation: new(true),
		},
	})
	if err != nil {
		return fmt.Errorf("making the manager: %w", err)
	}
	if served, err := awaitKinds(ctx, mgr); err != nil || !served {
		return err // without an error: told to end before it began
	}
	world.KeepDeniedConnections(opts.KeepDeniedConnections)
	world.UseNodePodCIDRs(opts.UseNodePodCIDRs)
	world.AllowUnmanagedAddresses(opts.AllowUnmanagedAddresses)
	if err := register(mgr, world, opts); err != nil {
		return err
	}
	if err := mgr.Start(ctx); err != nil {
		return fmt.Errorf("running the controllers: %w", err)
	}
	return nil
}

// arriving prepares objects for the cache.
func arriving(world *live.World) toolscache.TransformFunc {
	trim := inputs.NewTrim()
	return func(in any) (any, error) {
		out, err := trim(in)
		if obj, ok := out.(runtime.Object); ok && err == nil {
			world.Arrives(obj)
		}
		return out, err
	}
}

// register adds everything that the operator does to the manager.
func register(mgr manager.Manager, world *live.World, opts Options) error {
	setups := []func() error{
		func() error { return inputs.Setup(mgr, world) },
		func() error { return rendered.Setup(mgr, world) },
		func() error { return policystatus.Setup(mgr, world) },
		func() error {
			if opts.UseNodePodCIDRs {
				return nil
			}
			return leases.Setup(mgr, world)
		},
		func() error { return poolstatus.Setup(mgr) },
		func() error { return podaddresses.Setup(mgr) },
		func() error { return nodeannotations.Setup(mgr) },
		func() error { return hostendpoints.Setup(mgr) },
		func() error { return bgpstatus.Setup(mgr) },
		func() error { return loadbalancers.Setup(mgr) },
		func() error { return defaults.SetupTiers(mgr) },
		func() error { return defaults.SetupSettings(mgr) },
		func() error { return defaults.SetupInformation(mgr, opts.Version) },
		func() error { return defaults.SetupPool(mgr, opts.DefaultIPv4Pool) },
		func() error { return mgr.AddHealthzCheck("ping", healthz.Ping) },
		func() error { return mgr.AddReadyzCheck("compiled", compiled(world)) },
	}
	if opts.Stream.Address != "" {
		setups = append(setups, func() error { return serveStream(mgr, world, &opts.Stream) })
	}
	if opts.Admission != nil {
		setups = append(setups, func() error { return opts.Admission(mgr, world) })
	}
	for _, setup := range setups {
		if err := setup(); err != nil {
			return err
		}
	}
	return nil
}

func serveStream(mgr manager.Manager, world *live.World, opts *Stream) error {
	certificate, err := opts.Certificate(mgr)
	if err != nil {
		return err
	}
	return stream.Setup(mgr, world, stream.Options{
		Address: opts.Address, Account: "system:serviceaccount:" + opts.Namespace + ":" + AgentAccount, GetCertificate: certificate, Namespace: opts.Namespace,
	})
}

// Scheme knows every kind that the operator reads or writes.
func Scheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		authenticationv1.AddToScheme, corev1.AddToScheme, discoveryv1.AddToScheme, eventsv1.AddToScheme, networkingv1.AddToScheme, adminv1alpha1.Install, clusterv1alpha2.Install, v3.AddToScheme, v1alpha1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("registering the API's kinds: %w", err)
		}
	}
	return scheme, nil
}

// compiled is ready once the compiler knows the whole cluster.
func compiled(world *live.World) healthz.Checker {
	return func(*http.Request) error {
		if !world.IsOpen() {
			return errors.New("not all objects of the cluster are known yet")
		}
		return nil
	}
}

// awaitKinds returns true once the API server serves every kind that the operator watches, false when ctx ends first. The
// operator may start before the CustomResourceDefinitions are established, and before the API server answers at all.
func awaitKinds(ctx context.Context, mgr manager.Manager) (bool, error) {
	delay := firstLook
	for _, obj := range append(inputs.Kinds(), &v3.KubeControllersConfiguration{}, &v3.CalicoNodeStatus{}) {
		gvk, err := apiutil.GVKForObject(obj, mgr.GetScheme())
		if err != nil {
			return false, fmt.Errorf("looking for the kind of %T: %w", obj, err)
		}
		for {
			_, err := mgr.GetRESTMapper().RESTMapping(gvk.GroupKind(), gvk.Version)
			if err == nil {
				break
			}
			mgr.GetLogger().Info("Waiting for the API server to serve a kind", "kind", gvk, "reason", err.Error())
			select {
			case <-ctx.Done():
				return false, nil
			case <-time.After(delay):
			}
			delay = min(2*delay, longestLook)
		}
	}
	return true, nil
}
