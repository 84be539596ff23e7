package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"github.com/manul-net/manul/cni/conflist"
	"github.com/manul-net/manul/cni/protocol"
	"github.com/manul-net/manul/nodeagent/addresses"
	"github.com/manul-net/manul/nodeagent/agent"
	"github.com/manul-net/manul/nodeagent/checkpoint"
	"github.com/manul-net/manul/nodeagent/cniserver"
	"github.com/manul-net/manul/nodeagent/conntrack"
	"github.com/manul-net/manul/nodeagent/dataplane/bandwidth"
	"github.com/manul-net/manul/nodeagent/dataplane/packetlimits"
	"github.com/manul-net/manul/nodeagent/dataplane/routes"
	"github.com/manul-net/manul/nodeagent/install"
	"github.com/manul-net/manul/nodeagent/interfaces"
	"github.com/manul-net/manul/nodeagent/source"
)

// gcPercent trades a little work for memory: the agent lives beside what the node is for, and little of what it
// allocates lasts.
const gcPercent = 40

// run is the node agent until ctx ends. It leaves the kernel, the plugin and the network configuration as they are: pods
// keep their network and can be deleted while no agent runs.
func run(ctx context.Context, o *options, log *slog.Logger) (err error) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	klog.SetSlogLogger(log.With("part", "client"))
	log.Info("starting", "version", o.version, "node", o.node, "standalone", o.standalone)

	if !o.standalone {
		if err := install.Forwarding("/proc"); err != nil {
			log.Warn("packets may not be passed on between pods and nodes", "error", err)
		}
	}
	config, err := clientConfig(o)
	if err != nil {
		return err
	}
	news, err := openSource(config, o, log.With("part", "source"))
	if err != nil {
		return err
	}
	var resources closers
	defer func() { err = errors.Join(err, resources.close()) }()
	file, err := checkpoint.Open(filepath.Join(o.state, "checkpoint.db"))
	if err != nil {
		return err
	}
	resources.add(file.Close)
	var given agent.Addresses = addresses.None{}
	if !o.standalone {
		journal, err := OpenAddresses(filepath.Join(o.state, "addresses.db"))
		if err != nil {
			return err
		}
		resources.add(journal.Close)
		given = journal
	}
	policy := openPolicy(o.dataplane, log) //nolint:contextcheck // it works until it is closed
	resources.add(policy.Close)
	routing, err := routes.New(routes.Options{
		WorkloadPrefix: protocol.InterfacePrefix, Protocol: protocol.RouteProtocol, LearnedProtocol: protocol.LearnedRouteProtocol, Log: log.With("part", "routes"),
	})
	if err != nil {
		return err
	}
	resources.add(routing.Close)
	own, err := interfaces.New(interfaces.Options{WorkloadPrefix: protocol.InterfacePrefix, Mark: protocol.InterfaceMark, Log: log.With("part", "interfaces")})
	if err != nil {
		return err
	}
	resources.add(own.Close)

	ends, err := openTunnels(o, &resources, log)
	if err != nil {
		return err
	}
	tracked, err := conntrack.Open()
	if err != nil {
		return err
	}
	resources.add(tracked.Close)

	speaker, learned, err := openBGP(o, config, &resources, log)
	if err != nil {
		return err
	}
	limits, err := bandwidth.New(bandwidth.Options{WorkloadPrefix: protocol.InterfacePrefix, Log: log.With("part", "bandwidth")})
	if err != nil {
		return err
	}
	resources.add(limits.Close)
	packets, err := packetlimits.New(packetlimits.Options{WorkloadPrefix: protocol.InterfacePrefix})
	if err != nil {
		return err
	}
	resources.add(packets.Close)
	prevented, err := openLoops(o, &resources)
	if err != nil {
		return err
	}
	forPods, err := openPeering(o, &resources)
	if err != nil {
		return err
	}
	listed, err := openLister(o, &resources)
	if err != nil {
		return err
	}
	pools, external, err := o.addressing()
	if err != nil {
		return err
	}
	a := agent.New(agent.Options{
		Pools: pools, ExternalIPAM: external,
		Bandwidth: limits, PacketLimits: packets,
		BGP: speaker, Learned: learned, Tunnels: ends, KernelRoutes: listed, Loops: prevented, Peering: forPods,
		Node: o.node, Version: o.version, Standalone: o.standalone, Dataplane: func() string { return string(policy.Using()) },
		Source: news, Policy: policy, Routes: routing, Addresses: given, Checkpoint: file, Interfaces: own, Attachments: own, KeepForgotten: o.keepForgotten, Connections: tracked,
		MTU: nodeMTU, Subnet: own.Subnet, Log: log, Metrics: agent.NewMetrics(), AddWait: o.addWait,
	})
	return serve(ctx, o, a, log)
}

// openSource follows the operator's stream where there is a token for it.
func openSource(config *rest.Config, o *options, log *slog.Logger) (source.Source, error) {
	if o.token == "" {
		return source.NewAPI(config, o.node, log)
	}
	return source.NewCarriers(config, source.StreamOptions{
		Node: o.node, Version: o.version, Namespace: o.namespace, Token: o.token, Log: log,
	})
}

// closers are closed in reverse order.
type closers []func() error

func (c *closers) add(f func() error) { *c = append(*c, f) }

func (c *closers) close() error {
	var errs []error
	for _, f := range slices.Backward(*c) {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

func clientConfig(o *options) (*rest.Config, error) {
	var config *rest.Config
	var err error
	if o.kubeconfig == "" {
		config, err = rest.InClusterConfig()
	} else {
		config, err = clientcmd.BuildConfigFromFlags("", o.kubeconfig)
	}
	if err != nil {
		return nil, fmt.Errorf("reading how to reach the API server: %w", err)
	}
	config.UserAgent = "manul-node/" + o.version
	return config, nil
}

// serve runs the loop and all that asks it. Whoever asks stops before the loop does.
func serve(ctx context.Context, o *options, a *agent.Agent, log *slog.Logger) error {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	registry.MustRegister(a.Metrics.Collectors()...)
	cni := cniserver.Options{
		Socket:        o.socket,
		Queue:         protocol.Queue{Dir: filepath.Join(o.state, "cni", "deferred")},
		ShutdownGrace: 3 * time.Second, // the manifest gives five in all
	}
	if !o.standalone {
		var err error
		if cni.Observe, err = cniserver.Observer(registry); err != nil {
			return err
		}
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", o.address)
	if err != nil {
		return fmt.Errorf("listening for health and metrics: %w", err)
	}

	loop, stopLoop := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLoop()
	ended := make(chan error, 1)
	go func() { ended <- a.Run(loop) }()

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return health{alive: a.Alive, ready: a.Ready, metrics: registry}.serve(ctx, listener, log)
	})
	if !o.standalone {
		group.Go(func() error { return cniserver.Serve(ctx, a, log.With("part", "cni"), cni) })
		group.Go(func() error { return installWhenReady(ctx, o, a.FirstReady(), log) })
	}
	group.Go(func() error {
		select {
		case <-ctx.Done():
		case <-a.FirstReady():
			debug.FreeOSMemory() // the first lists were the largest that there will be
		}
		return nil
	})
	group.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case err := <-ended:
			ended <- nil
			return errors.Join(err, errors.New("the agent's loop has ended"))
		}
	})
	err = group.Wait()
	log.Info("stopping; the kernel keeps what it has")
	stopLoop()
	return errors.Join(err, <-ended)
}

// installWhenReady lets the runtime know of the network once it would be served. The kubelet then takes the node for
// ready.
func installWhenReady(ctx context.Context, o *options, ready <-chan struct{}, log *slog.Logger) error {
	if o.plugin == "" {
		return nil
	}
	if err := install.Plugin(o.plugin, o.cniBin); err != nil {
		return err
	}
	left, err := install.StandardPlugins(o.standard, o.cniBin, filepath.Join(o.state, "cni", "installed.json"))
	if err != nil {
		return err
	}
	if len(left) > 0 {
		log.Info("the node has CNI plugins of its own, which stay", "plugins", left)
	}
	select {
	case <-ctx.Done():
		return nil
	case <-ready:
	}
	network := conflist.Options{Sysctls: o.sysctls, IPAM: []byte(o.ipam)}
	if o.socket != protocol.DefaultSocket {
		network.Socket = o.socket
	}
	if err := install.Configuration(o.cniConf, o.cniBin, network); err != nil {
		return err
	}
	log.Info("the CNI plugin and its configuration are installed")
	return nil
}
