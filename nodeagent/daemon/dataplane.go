package daemon

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"

	"github.com/manul-net/manul/cni/protocol"
	"github.com/manul-net/manul/nodeagent/dataplane/changeover"
	"github.com/manul-net/manul/nodeagent/dataplane/iptables"
	"github.com/manul-net/manul/nodeagent/dataplane/nftables"
	"github.com/manul-net/manul/nodeagent/render"
	"github.com/manul-net/manul/nodeagent/tables"
)

// autoDataplane is the flag's value for the one that the settings say, else that of kube-proxy.
const autoDataplane = "auto"

func checkDataplane(name string) error {
	switch tables.Dataplane(name) {
	case autoDataplane, tables.NFTables, tables.IPTables:
		return nil
	default:
		return fmt.Errorf("--dataplane: got %q, want %s, %s or %s", name, autoDataplane, tables.NFTables, tables.IPTables)
	}
}

// openPolicy makes the policy dataplane: the one that the flag, the settings or kube-proxy say, when it is first applied.
func openPolicy(flag string, log *slog.Logger) *changeover.Driver {
	fixed := tables.Dataplane(flag)
	if fixed == autoDataplane {
		fixed = ""
	}
	return changeover.New(changeover.Options{
		Fixed: fixed,
		Log:   log.With("part", "dataplane"),
		NFTables: changeover.Kind{
			Open: func(context.Context) (changeover.Plane, error) {
				return nftables.New(nftables.Options{WorkloadPrefix: protocol.InterfacePrefix, Log: log.With("part", tables.NFTables)})
			},
			Remove: nftables.Remove,
		},
		IPTables: changeover.Kind{
			Open: func(ctx context.Context) (changeover.Plane, error) {
				return iptables.New(ctx, iptables.Options{WorkloadPrefix: protocol.InterfacePrefix, Log: log.With("part", tables.IPTables)})
			},
			Remove: iptables.Remove,
		},
		Detect: func(ctx context.Context) tables.Dataplane { return kubeProxy(ctx, log) },
	})
}

// kubeProxy tells by its rules which dataplane it has. It removes those of one before it makes any of the other. In mode ipvs it has rules of
// iptables, but only nftables can judge what IPVS passes on.
func kubeProxy(ctx context.Context, log *slog.Logger) tables.Dataplane {
	if _, err := net.InterfaceByName(render.IPVSInterface); err == nil {
		return tables.NFTables
	}
	found, err := nftables.KubeProxy()
	if found {
		return tables.NFTables
	}
	if nftables.KubeProxyByIPTables() {
		return tables.IPTables // without reading its rules, as the programs do
	}
	found, iptablesErr := iptables.KubeProxy(ctx)
	if found {
		return tables.IPTables
	}
	if err = cmp.Or(err, iptablesErr); err != nil {
		log.Debug("the dataplane of kube-proxy is not known", "error", err)
	}
	return ""
}
