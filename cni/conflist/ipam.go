package conflist

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

const (
	// OwnIPAM is the type of an "ipam" section with which the node agent gives the addresses. So does it without any section.
	OwnIPAM = "manul-ipam"
	// HostLocal is the type of the CNI project's plugin that gives addresses out of ranges in the configuration.
	HostLocal = "host-local"
	// PodCIDR stands, as a subnet of host-local, for the node's own IPv4 CIDR in spec.podCIDRs.
	PodCIDR = "usePodCidr"
	// PodCIDRv6 stands for its IPv6 CIDR.
	PodCIDRv6 = "usePodCidrIPv6"

	maxPools = 16
)

// IPAM is what the "ipam" section of a network configuration says.
type IPAM struct {
	// Type is OwnIPAM, or the name of the plugin that gives the addresses.
	Type string
	// IPv4Pools and IPv6Pools are names or CIDRs of the pools that pods get their addresses from when neither they nor their namespaces
	// name any. None: the pools that serve every pod. Only with OwnIPAM, as are the fields below.
	IPv4Pools, IPv6Pools []string
	// NoIPv4 and NoIPv6: pods get no address of the family.
	NoIPv4, NoIPv6 bool
}

// External tells whether another plugin gives the addresses.
func (i IPAM) External() bool { return i.Type != "" && i.Type != OwnIPAM }

// ParseIPAM reads an "ipam" section; one that is empty is OwnIPAM's without settings. What other plugins have in theirs is their business.
// Errors name the member.
func ParseIPAM(section []byte) (IPAM, error) {
	if len(section) == 0 || string(section) == "null" {
		return IPAM{Type: OwnIPAM}, nil
	}
	var kind struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(section, &kind); err != nil {
		return IPAM{}, fmt.Errorf("ipam: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	switch {
	case kind.Type == "":
		return IPAM{}, fmt.Errorf("ipam.type: missing; want %s, or the name of an IPAM plugin", OwnIPAM)
	case kind.Type == "calico-ipam":
		return IPAM{}, fmt.Errorf("ipam.type: got %q, want %s, which has the same settings", kind.Type, OwnIPAM)
	case kind.Type == PluginName || strings.ContainsAny(kind.Type, "/\\\x00"):
		return IPAM{}, fmt.Errorf("ipam.type: got %q, want %s, or the name of an IPAM plugin", kind.Type, OwnIPAM)
	case kind.Type != OwnIPAM:
		return IPAM{Type: kind.Type}, nil
	}
	own := struct {
		Type       string   `json:"type"`
		AssignIPv4 flag     `json:"assign_ipv4"`
		AssignIPv6 flag     `json:"assign_ipv6"`
		IPv4Pools  []string `json:"ipv4_pools"`
		IPv6Pools  []string `json:"ipv6_pools"`
	}{AssignIPv4: true, AssignIPv6: true}
	dec := json.NewDecoder(bytes.NewReader(section))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&own); err != nil {
		return IPAM{}, fmt.Errorf("ipam: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	i := IPAM{Type: own.Type, IPv4Pools: own.IPv4Pools, IPv6Pools: own.IPv6Pools, NoIPv4: !bool(own.AssignIPv4), NoIPv6: !bool(own.AssignIPv6)}
	return i, i.check()
}

func (i IPAM) check() error {
	if i.NoIPv4 && i.NoIPv6 {
		return errors.New("ipam: assign_ipv4 and assign_ipv6 are both false: pods would get no address; leave one of them out")
	}
	for _, f := range []struct {
		member string
		pools  []string
		off    bool
		assign string
	}{{"ipv4_pools", i.IPv4Pools, i.NoIPv4, "assign_ipv4"}, {"ipv6_pools", i.IPv6Pools, i.NoIPv6, "assign_ipv6"}} {
		switch {
		case f.off && len(f.pools) > 0:
			return fmt.Errorf("ipam.%s: names pools, but %s is false: remove one of them", f.member, f.assign)
		case len(f.pools) > maxPools:
			return fmt.Errorf("ipam.%s: got %d pools, want %d at most", f.member, len(f.pools), maxPools)
		case slices.Contains(f.pools, ""):
			return fmt.Errorf("ipam.%s: a name is empty; want names or CIDRs of IPPools", f.member)
		}
	}
	return nil
}

// flag is a boolean that users also write as a string: "true".
type flag bool

// UnmarshalJSON implements json.Unmarshaler.
func (f *flag) UnmarshalJSON(text []byte) error {
	switch string(text) {
	case "true", `"true"`:
		*f = true
	case "false", `"false"`:
		*f = false
	default:
		return fmt.Errorf("got %s, want true or false", text)
	}
	return nil
}

// UsesPodCIDR tells which of the node's CIDRs a section of host-local stands for.
func UsesPodCIDR(section []byte) (v4, v6 bool) {
	return bytes.Contains(section, []byte(`"`+PodCIDR+`"`)), bytes.Contains(section, []byte(`"`+PodCIDRv6+`"`))
}
