package bgp

import (
	"context"

	api "github.com/osrg/gobgp/v3/api"

	"github.com/manul-net/manul/nodeagent/tables"
)

const (
	// reserved is an AS number that nobody may use (RFC 7300): large communities of it are marks of this package's, which
	// never leave the node.
	reserved = 1<<32 - 1
	// markGeneration, with the generation of the policies under which a route was looked at, and markMetric, with the metric
	// that a filter set.
	markGeneration = 1
	markMetric     = 2
)

// generation of policies.
type generation uint32

func (g generation) community() *api.LargeCommunity {
	return &api.LargeCommunity{GlobalAdmin: reserved, LocalData1: markGeneration, LocalData2: uint32(g)}
}

// policy is the speaker's in force.
type policy struct {
	generation generation
	request    *api.SetPoliciesRequest
}

func (d *Driver) applyPolicy(ctx context.Context, desired *tables.BGP) error { return nil }
