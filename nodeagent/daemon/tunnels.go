package daemon

import (
	"log/slog"

	"github.com/manul-net/manul/cni/protocol"
	"github.com/manul-net/manul/nodeagent/agent"
	"github.com/manul-net/manul/nodeagent/dataplane/tunnels"
)

// openTunnels makes the driver of ends of tunnels. A host that is no node has none.
func openTunnels(o *options, resources *closers, log *slog.Logger) (agent.Tunnels, error) {
	if o.standalone {
		return nil, nil //nolint:nilnil // none is an answer
	}
	driver, err := tunnels.New(tunnels.Options{WorkloadPrefix: protocol.InterfacePrefix, Log: log.With("part", "tunnels")})
	if err != nil {
		return nil, err
	}
	resources.add(driver.Close)
	return driver, nil
}
