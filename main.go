// The operator of Manul: it compiles the cluster's network and policies into rendered state, which the node agents follow.
package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/manul-net/manul/controllers"
	"github.com/manul-net/manul/controllers/defaults"
	"github.com/manul-net/manul/internal/wire"
	"github.com/manul-net/manul/webhooks"
)

// version is set when the program is linked: -ldflags "-X main.version=v0.1.0".
var version = "dev"

func main() {
	if err := command().ExecuteContext(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "manul-operator:", err)
		os.Exit(1)
	}
}

type flags struct {
	metrics, health      string
	webhook              string
	webhookNamespace     string
	stream               string
	streamNamespace      string
	leaderElect          bool
	leaderElectNamespace string
	pool                 string
	keepDenied           bool
	unmanaged            bool
	podCIDRs             bool
	logLevel             string
	kubeconfig           string
}

func command() *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:           "manul-operator",
		Short:         "The operator of Manul, a Kubernetes network",
		Version:       version,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return f.run(cmd.Context()) },
	}
	p := cmd.Flags()
	p.StringVar(&f.metrics, "metrics-bind-address", "127.0.0.1:8080", "address of the metrics endpoint, host:port; 0 for none")
	p.StringVar(&f.health, "health-probe-bind-address", "127.0.0.1:8081", "address of /healthz and /readyz, host:port; 0 for none")
	p.StringVar(&f.webhook, "webhook-bind-address", "0", "address of the admission webhook, host:port; 0 for none")
	p.StringVar(&f.webhookNamespace, "webhook-namespace", "manul-system", "namespace of the webhook's Service and of the Secret with its certificate")
	p.StringVar(&f.stream, "stream-bind-address", "0", "address of the stream that node agents follow, host:port; 0 for none: they go by the API's objects")
	p.StringVar(&f.streamNamespace, "stream-namespace", "manul-system", "namespace of the agents, and of the Secret and ConfigMap with the stream's certificate")
	p.BoolVar(&f.leaderElect, "leader-elect", false, "agree with other replicas on the one that writes")
	p.StringVar(&f.leaderElectNamespace, "leader-elect-namespace", "manul-system", "namespace of the Lease that replicas agree by")
	p.StringVar(&f.pool, "default-ipv4-pool", "", "CIDR of the address pool to create in a cluster that has none; empty for none")
	p.BoolVar(&f.keepDenied, "keep-denied-connections", false, "let connections go on that policies have come to deny; they are ended otherwise")
	p.BoolVar(&f.unmanaged, "allow-unmanaged-addresses", false, "let pods have the addresses of their annotation cni.projectcalico.org/ipAddrsNoIpam, whosever they are")
	p.BoolVar(&f.podCIDRs, "use-node-pod-cidrs", false, "nodes give their pods addresses of their own spec.podCIDRs; no blocks of pools are leased")
	p.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	p.StringVar(&f.kubeconfig, "kubeconfig", "", "how to reach the API server; empty inside a cluster")
	return cmd
}

func (f *flags) run(ctx context.Context) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	go controllers.SaveMemory(ctx)
	log, err := logger(f.logLevel)
	if err != nil {
		return err
	}
	pool, err := defaults.ParsePool(f.pool)
	if err != nil {
		return fmt.Errorf("--default-ipv4-pool: %w", err)
	}
	cfg, err := f.restConfig()
	if err != nil {
		return err
	}
	log.Info("Starting", "version", version, "apiServer", cfg.Host)
	return controllers.Run(ctx, cfg, controllers.Options{
		MetricsAddress:          f.metrics,
		HealthAddress:           f.health,
		LeaderElect:             f.leaderElect,
		LeaderElectionNamespace: f.leaderElectNamespace,
		DefaultIPv4Pool:         pool,
		KeepDeniedConnections:   f.keepDenied,
		AllowUnmanagedAddresses: f.unmanaged,
		UseNodePodCIDRs:         f.podCIDRs,
		Version:                 version,
		Log:                     log,
		Admission:               f.admission(),
		Stream:                  f.streaming(),
	})
}

// admission returns what adds the webhook to the operator; nil for none.
func (f *flags) admission() func(manager.Manager, controllers.Compiled) error {
	if f.webhook == "0" {
		return nil
	}
	return func(mgr manager.Manager, compiled controllers.Compiled) error {
		return webhooks.Setup(mgr, webhooks.Options{
			Address: f.webhook, Namespace: f.webhookNamespace, Ready: compiled.IsOpen, Pods: compiled.Pods,
		})
	}
}

// streaming says how agents are served; the zero value for no stream.
func (f *flags) streaming() controllers.Stream {
	if f.stream == "0" {
		return controllers.Stream{}
	}
	return controllers.Stream{
		Address: f.stream, Namespace: f.streamNamespace,
		Certificate: func(mgr manager.Manager) (func(*tls.ClientHelloInfo) (*tls.Certificate, error), error) {
			return webhooks.StreamCertificate(mgr, f.streamNamespace, wire.ServerName(f.streamNamespace), wire.ServiceName, wire.Trusted)
		},
	}
}

// restConfig says how to reach the API server. There is no limit of requests on this side: a change is written at once,
// and the API server's own priority and fairness sees to it that nobody starves.
func (f *flags) restConfig() (*rest.Config, error) {
	var cfg *rest.Config
	var err error
	if f.kubeconfig != "" {
		cfg, err = clientcmd.BuildConfigFromFlags("", f.kubeconfig)
	} else {
		cfg, err = rest.InClusterConfig()
	}
	if err != nil {
		return nil, fmt.Errorf("finding the API server (--kubeconfig names a file outside a cluster): %w", err)
	}
	cfg.QPS = -1
	cfg.UserAgent = "manul-operator/" + version
	return cfg, nil
}

func logger(level string) (logr.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return logr.Logger{}, fmt.Errorf("--log-level %q: want debug, info, warn or error", level)
	}
	handler := slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: l, ReplaceAttr: readable})
	log := logr.FromSlogHandler(handler)
	ctrllog.SetLogger(log)
	klog.SetLogger(log)
	return log, nil
}

// readable writes durations with their unit.
func readable(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		return slog.String(a.Key, a.Value.Duration().String())
	}
	return a
}
