package poolstatus

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/usage"
)

// collector tells Prometheus what the last look found. So a pool or a node that is gone has no series any more.
type collector struct {
	last atomic.Pointer[sight]

	size, inUse, perNode, blocks, ready, failures, sessions *prometheus.Desc
}

// sight is what a look found.
type sight struct {
	account *usage.Account
	nodes   []nodeSight
}

// nodeSight is what a node reports of itself.
type nodeSight struct {
	name  string
	ready bool
	// failures by their kind.
	failures map[string]int
	// established are the BGP sessions that stand, down those that do not.
	established, down int
}

// newCollector names the metrics: those of pools as users of Calico know them (ipam_...).
func newCollector() *collector {
	describe := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &collector{
		size:     describe("ipam_ippool_size", "Addresses of an IPPool.", "ippool"),
		inUse:    describe("ipam_ippool_allocations", "Addresses of an IPPool that pods, tunnels and services use.", "ippool"),
		perNode:  describe("ipam_allocations_in_use", "Addresses of an IPPool that the pods and tunnels of a node use.", "ippool", "node"),
		blocks:   describe("ipam_blocks", "Blocks of an IPPool that are leased to a node.", "ippool", "node"),
		ready:    describe("manul_node_ready", "1 when the node's agent reports that what was rendered for the node is in effect.", "node"),
		failures: describe("manul_node_failures", "Items that a node could not put into effect, by kind.", "node", "kind"),
		sessions: describe("manul_node_bgp_sessions", "BGP sessions of a node, by whether they are established.", "node", "established"),
	}
}

// Describe names all metrics.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.size, c.inUse, c.perNode, c.blocks, c.ready, c.failures, c.sessions} {
		out <- d
	}
}

// Collect gives the values of the last look; none before the first.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	s := c.last.Load()
	if s == nil {
		return
	}
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	for i := range s.account.Pools {
		p := &s.account.Pools[i]
		gauge(c.size, float64(p.Capacity), p.Name)
		gauge(c.inUse, float64(p.Allocated), p.Name)
		for _, n := range p.Nodes {
			gauge(c.perNode, float64(n.Allocated), p.Name, n.Node)
			gauge(c.blocks, float64(n.Blocks), p.Name, n.Node)
		}
	}
	for i := range s.nodes {
		n := &s.nodes[i]
		ready := 0.0
		if n.ready {
			ready = 1
		}
		gauge(c.ready, ready, n.name)
		for kind, count := range n.failures {
			gauge(c.failures, float64(count), n.name, kind)
		}
		if n.established+n.down > 0 {
			gauge(c.sessions, float64(n.established), n.name, "true")
			gauge(c.sessions, float64(n.down), n.name, "false")
		}
	}
}

// register has the collector asked by who scrapes. Of two in one process, as tests have, the later one counts.
func (c *collector) register(in prometheus.Registerer) error {
	err := in.Register(c)
	if before, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		in.Unregister(before.ExistingCollector)
		err = in.Register(c)
	}
	if err != nil {
		return fmt.Errorf("registering the metrics of pools: %w", err)
	}
	return nil
}

const (
	conditionReady   = "Ready"
	stateEstablished = "Established"
)

// nodesOf are what nodes report of themselves.
func nodesOf(states []v1alpha1.NodeState) []nodeSight {
	out := make([]nodeSight, 0, len(states))
	for i := range states {
		status := &states[i].Status
		n := nodeSight{name: states[i].Name, ready: meta.IsStatusConditionTrue(status.Conditions, conditionReady)}
		for _, f := range status.Failures {
			if n.failures == nil {
				n.failures = map[string]int{}
			}
			n.failures[f.Kind]++
		}
		for j := range status.BGPSessions {
			if status.BGPSessions[j].State == stateEstablished {
				n.established++
			} else {
				n.down++
			}
		}
		for _, g := range status.BGPGroups { // those that are not listed one by one
			n.established += int(g.Established)
			n.down += int(g.Sessions - g.Established)
		}
		out = append(out, n)
	}
	return out
}
