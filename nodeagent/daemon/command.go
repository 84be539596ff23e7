// Package daemon assembles the node agent: flags, clients, drivers, the loop, the socket of the CNI plugin, and what
// others ask of it about its health.
package daemon

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/manul-net/manul/cni/conflist"
	"github.com/manul-net/manul/cni/protocol"
)

// options of the node agent.
type options struct {
	version string

	node       string
	namespace  string
	standalone bool
	kubeconfig string
	token      string
	logLevel   string
	address    string
	socket     string
	state      string
	plugin     string
	cniBin     string
	cniConf    string
	addWait    time.Duration
	standard   string
	sysctls    map[string]string
	ipam       string
	dataplane  string
	// keepForgotten: addresses of containers that are gone are reported, not given back.
	keepForgotten bool
}

// Command is the node agent's command line.
func Command(version string) *cobra.Command {
	o := &options{version: version}
	c := &cobra.Command{
		Use:           "manul-node",
		Short:         "Keeps one node's network equal to what the operator rendered, and answers the CNI plugin",
		Version:       version,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.validate(); err != nil {
				return err
			}
			// The kernel's state outlives the process on purpose: see Run.
			ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			log, err := newLog(c.ErrOrStderr(), o.logLevel)
			if err != nil {
				return err
			}
			return run(ctx, o, log)
		},
	}
	f := c.Flags()
	f.StringVar(&o.node, "node", os.Getenv("NODE_NAME"), "name of this node [NODE_NAME]")
	f.StringVar(&o.namespace, "namespace", cmp.Or(os.Getenv("POD_NAMESPACE"), "manul-system"), "namespace of the agents, which holds the Secrets with passwords of BGP sessions [POD_NAMESPACE]")
	f.BoolVar(&o.standalone, "standalone", false, "this host is no node of the cluster: HostEndpoints alone, no pods and no CNI plugin")
	f.StringVar(&o.kubeconfig, "kubeconfig", os.Getenv("KUBECONFIG"), "kubeconfig file; empty: the pod's service account [KUBECONFIG]")
	f.StringVar(&o.token, "stream-token", os.Getenv("STREAM_TOKEN"), "file with the token for the operator's stream; empty: the API's objects alone are followed [STREAM_TOKEN]")
	f.StringVar(&o.logLevel, "log-level", cmp.Or(os.Getenv("LOG_LEVEL"), "info"), "debug, info, warn or error [LOG_LEVEL]")
	f.StringVar(&o.address, "health-address", cmp.Or(os.Getenv("HEALTH_ADDRESS"), ":9091"), "address of /healthz, /readyz and /metrics [HEALTH_ADDRESS]")
	f.StringVar(&o.socket, "socket", protocol.DefaultSocket, "unix socket for the CNI plugin")
	f.StringVar(&o.state, "state-dir", "/var/lib/manul", "folder for addresses in use, the checkpoint and deferred DELs")
	f.StringVar(&o.plugin, "plugin", "/opt/manul/bin/manul", "the CNI plugin's program, to be installed; empty: install nothing")
	f.StringVar(&o.cniBin, "cni-bin-dir", "/opt/cni/bin", "folder in which the container runtime looks for plugins")
	f.StringVar(&o.cniConf, "cni-conf-dir", "/etc/cni/net.d", "folder in which the container runtime looks for networks")
	f.StringVar(&o.standard, "standard-plugins", "/opt/manul/cni", "folder with plugins of the CNI project (portmap, tuning, bandwidth, host-local), which are installed unless the node has its own")
	f.StringToStringVar(&o.sysctls, "pod-sysctl", nil, "sysctl under net that every pod has, as name=value; repeat for more")
	f.StringVar(&o.ipam, "ipam", os.Getenv("CNI_IPAM"), `ipam section of the network configuration, in JSON: {"type": "manul-ipam", "ipv4_pools": [...]}, or that of an IPAM plugin; empty: addresses of the pools that serve each pod [CNI_IPAM]`)
	f.StringVar(&o.dataplane, "dataplane", cmp.Or(os.Getenv("DATAPLANE"), autoDataplane), "nftables, iptables, or auto: as FelixConfiguration nftablesMode says, else that of kube-proxy [DATAPLANE]")
	f.BoolVar(&o.keepForgotten, "keep-forgotten", false, "only report the addresses of containers that are gone and that the runtime never ended; without it they go back after five minutes")
	f.DurationVar(&o.addWait, "add-wait", 10*time.Second, "how long an ADD may wait for the pod's policies")
	return c
}

func (o *options) validate() error {
	var problems []error
	if o.node == "" {
		problems = append(problems, errors.New("--node: empty; give the node's name, or set NODE_NAME from spec.nodeName"))
	}
	paths := map[string]string{"--state-dir": o.state}
	if !o.standalone {
		paths["--socket"], paths["--cni-bin-dir"], paths["--cni-conf-dir"] = o.socket, o.cniBin, o.cniConf
	}
	if o.standalone && o.kubeconfig == "" {
		problems = append(problems, errors.New("--kubeconfig: empty; --standalone needs one, for a host that is no node has no pod's service account"))
	}
	for flag, path := range paths {
		if !filepath.IsAbs(path) {
			problems = append(problems, fmt.Errorf("%s: got %q, want an absolute path", flag, path))
		}
	}
	for name, value := range o.sysctls {
		if err := conflist.CheckSysctl(name, value); err != nil {
			problems = append(problems, fmt.Errorf("--pod-sysctl: %w", err))
		}
	}
	if _, err := conflist.ParseIPAM([]byte(o.ipam)); err != nil {
		problems = append(problems, fmt.Errorf("--ipam: %w", err))
	}
	// The plugin waits 30 s for an answer.
	if o.addWait < time.Second || o.addWait > 25*time.Second {
		problems = append(problems, fmt.Errorf("--add-wait: got %s, want 1s to 25s", o.addWait))
	}
	problems = append(problems, checkDataplane(o.dataplane))
	return errors.Join(problems...)
}

func newLog(w interface{ Write([]byte) (int, error) }, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level: got %q, want debug, info, warn or error", level)
	}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: l, ReplaceAttr: readable})), nil
}

// readable writes durations with their unit.
func readable(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		return slog.String(a.Key, a.Value.Duration().String())
	}
	return a
}
