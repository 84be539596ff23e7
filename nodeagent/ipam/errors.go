package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

var errClosed = errors.New("the address journal is closed")

// ExhaustedError says that the blocks which could have served a request have no address left.
type ExhaustedError struct {
	// Blocks that were tried, all of one family.
	Blocks []BlockUse
}

// Error names the pools, the blocks and how full they are, and what to do.
func (e *ExhaustedError) Error() string {
	var pools []netip.Prefix
	parts := make([]string, 0, len(e.Blocks))
	for _, b := range e.Blocks {
		if !slices.Contains(pools, b.Pool) {
			pools = append(pools, b.Pool)
		}
		part := fmt.Sprintf("%s (%d of %d in use", b.CIDR, b.InUse, b.Size)
		if b.Cooling > 0 {
			part += fmt.Sprintf(", %d in cooldown", b.Cooling)
		}
		if b.Reserved > 0 {
			part += fmt.Sprintf(", %d reserved", b.Reserved)
		}
		if b.Lent > 0 {
			part += fmt.Sprintf(", %d lent to other nodes", b.Lent)
		}
		parts = append(parts, part+")")
	}
	return "no free address in " + strings.Join(parts, ", ") + " of pool " + list(pools, ", ") +
		": the node gets more as long as the pool has any; if this lasts, kubectl get ippools tells how full it is: add an IPPool, or delete pods"
}

// NoBlockError says that the node has leased no block that could serve a request.
type NoBlockError struct {
	// Pools that were asked for; none: any.
	Pools []netip.Prefix
}

// Error names the pools.
func (e *NoBlockError) Error() string {
	if len(e.Pools) == 0 {
		return "no address block has been leased to this node yet"
	}
	return "no address block of pool " + list(e.Pools, " or ") + " has been leased to this node yet"
}

// annotation by which pods ask for certain addresses.
const annotation = "cni.projectcalico.org/ipAddrs"

// InUseError says that an address which was asked for by name belongs to another pod.
type InUseError struct {
	Address netip.Addr
	By      Owner
}

// Error names the address and its owner.
func (e *InUseError) Error() string {
	return fmt.Sprintf("address %s is in use by %s: ask for another in %s, or delete that pod", e.Address, e.By.Endpoint, annotation)
}

// OutsideError says that an address which was asked for by name does not lie in a block of this node.
type OutsideError struct {
	Address netip.Addr
	// Blocks of the node of the same family.
	Blocks []netip.Prefix
}

// Error names the address and the blocks.
func (e *OutsideError) Error() string {
	if len(e.Blocks) == 0 {
		return fmt.Sprintf("address %s: no address block of its family has been leased to this node", e.Address)
	}
	return fmt.Sprintf("address %s does not lie in a block that is leased to this node: ask for another in %s, out of %s", e.Address, annotation, list(e.Blocks, ", "))
}

// NotAllocatedError says that an owner holds no addresses.
type NotAllocatedError struct{ Owner Owner }

// Error names the owner.
func (e *NotAllocatedError) Error() string {
	return fmt.Sprintf("no addresses are allocated for %s with UID %q", e.Owner.Endpoint, e.Owner.UID)
}

func list(prefixes []netip.Prefix, separator string) string {
	texts := make([]string, 0, len(prefixes))
	for _, p := range prefixes {
		texts = append(texts, p.String())
	}
	return strings.Join(texts, separator)
}
