package daemon

import (
	"log/slog"

	"k8s.io/client-go/rest"

	"github.com/manul-net/manul/cni/protocol"
	"github.com/manul-net/manul/nodeagent/agent"
	"github.com/manul-net/manul/nodeagent/dataplane/bgp"
	"github.com/manul-net/manul/nodeagent/dataplane/loops"
	"github.com/manul-net/manul/nodeagent/dataplane/peering"
	"github.com/manul-net/manul/nodeagent/dataplane/routes"
	"github.com/manul-net/manul/nodeagent/dataplane/whole"
	"github.com/manul-net/manul/nodeagent/source"
	"github.com/manul-net/manul/nodeagent/tables"
)

// openLoops makes the driver that keeps packets to unused addresses of services from bouncing.
func openLoops(o *options, resources *closers) (agent.Dataplane[*tables.ServiceLoops], error) {
	return openWhole(o, resources, loops.New)
}

// openPeering makes the driver of the addresses at which pods peer with the node.
func openPeering(o *options, resources *closers) (agent.Dataplane[*tables.PeeringAddresses], error) {
	return openWhole(o, resources, peering.New)
}

// openWhole makes a driver of what comes with BGP. A host that is no node advertises nothing and has no pods.
func openWhole[T whole.Desired](o *options, resources *closers, open func() (*whole.Driver[T], error)) (agent.Dataplane[T], error) {
	if o.standalone {
		return nil, nil //nolint:nilnil // as the agent wants it
	}
	driver, err := open()
	if err != nil {
		return nil, err
	}
	resources.add(driver.Close)
	return driver, nil
}

// openLister makes what lists the kernel's routes. A host that is no node lists none: nobody can ask it.
func openLister(o *options, resources *closers) (func() ([]tables.KernelRoute, error), error) {
	if o.standalone {
		return nil, nil //nolint:nilnil // as the agent wants it
	}
	lister, err := routes.NewLister(protocol.RouteProtocol, protocol.LearnedRouteProtocol)
	if err != nil {
		return nil, err
	}
	resources.add(lister.Close)
	return lister.List, nil
}

// openBGP makes the BGP speaker, which begins when the NodeState says so, and the driver of the routes that it learns. A host
// that is no node has neither.
func openBGP(o *options, config *rest.Config, resources *closers, log *slog.Logger) (agent.BGP, agent.LearnedRoutes, error) {
	if o.standalone {
		return nil, nil, nil
	}
	secrets, err := source.NewSecrets(config, o.namespace, log.With("part", "secrets"))
	if err != nil {
		return nil, nil, err
	}
	resources.add(secrets.Close)
	learned, err := routes.NewLearned(routes.LearnedOptions{Protocol: protocol.LearnedRouteProtocol, Workloads: protocol.InterfacePrefix, Log: log.With("part", "learned")})
	if err != nil {
		return nil, nil, err
	}
	resources.add(learned.Close)
	speaker := bgp.New(bgp.Options{Secrets: secrets, Log: log.With("part", "bgp")})
	resources.add(speaker.Close)
	return speaker, learned, nil
}
