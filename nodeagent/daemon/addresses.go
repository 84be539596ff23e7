package daemon

import (
	"github.com/manul-net/manul/nodeagent/addresses"
	"github.com/manul-net/manul/nodeagent/agent"
	"github.com/manul-net/manul/nodeagent/ipam"
)

var (
	_ agent.Addresses = addresses.Given{}
	_ agent.Addresses = addresses.None{}
)

// OpenAddresses opens the journal of a node's addresses, or makes it.
func OpenAddresses(path string) (addresses.Given, error) {
	return addresses.Open(path, ipam.Options{})
}
