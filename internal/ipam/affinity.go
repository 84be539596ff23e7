package ipam

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"strings"
)

// maxName is the longest name of an object.
const maxName = 253

// AffinityName is the name of the object that tells people and tools which node has a block: "<node>-<block>"; of a node's name that
// is too long, a hash takes the end's place.
func AffinityName(node string, block netip.Prefix) string {
	name := node + "-" + Name(block)
	if len(name) <= maxName {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	id := hex.EncodeToString(sum[:8])
	return strings.TrimRight(name[:maxName-len(id)-1], ".-") + "-" + id
}
