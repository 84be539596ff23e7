package bgp

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	api "github.com/osrg/gobgp/v3/api"
	"google.golang.org/protobuf/proto"
	apb "google.golang.org/protobuf/types/known/anypb"

	"github.com/manul-net/manul/nodeagent/tables"
)

// families are those that the speaker has tables for, in gobgp's own numbers: IPv4 and IPv6 unicast.
func families() []uint32 { return []uint32{0, 1} }

func family(v6 bool) *api.Family {
	if v6 {
		return &api.Family{Afi: api.Family_AFI_IP6, Safi: api.Family_SAFI_UNICAST}
	}
	return &api.Family{Afi: api.Family_AFI_IP, Safi: api.Family_SAFI_UNICAST}
}

// applyExports makes the prefixes that the node itself advertises what they should be.
func (d *Driver) applyExports(ctx context.Context, desired *tables.BGP, all bool) error {
	look := slices.Collect(desired.Exports.Dirty())
	if all {
		look = slices.Concat(slices.Collect(maps.Keys(maps.Collect(desired.Exports.All()))), slices.Collect(maps.Keys(d.exports)))
	}
	slices.SortFunc(look, netip.Prefix.Compare)
	for _, p := range slices.Compact(look) {
		have, exists := d.exports[p]
		want, wanted := desired.Exports.Get(p)
		var err error
		switch {
		case wanted && exists && slices.Equal(have.Communities, want.Communities):
		case wanted:
			if err = d.advertise(ctx, p, want); err == nil {
				d.exports[p] = want
			}
		case exists:
			path, _ := d.path(p, tables.BGPExport{})
			if err = d.server.DeletePath(ctx, &api.DeletePathRequest{Path: path}); err == nil {
				delete(d.exports, p)
			}
		}
		if err != nil {
			return fmt.Errorf("advertising %s: %w", p, err)
		}
	}
	return nil
}

func (d *Driver) advertise(ctx context.Context, p netip.Prefix, e tables.BGPExport) error {
	path, err := d.path(p, e)
	if err != nil {
		return err
	}
	_, err = d.server.AddPath(ctx, &api.AddPathRequest{Path: path})
	return err
}

// path is one of the node's own. Its next hop is the node's address in each session.
func (d *Driver) path(p netip.Prefix, e tables.BGPExport) (*api.Path, error) {
	v6 := p.Addr().Is6()
	nlri, err := apb.New(&api.IPAddressPrefix{Prefix: p.Addr().String(), PrefixLen: uint32(p.Bits())})
	if err != nil {
		return nil, err
	}
	const igp = 0 // RFC 4271, section 5.1.1
	attributes := []proto.Message{&api.OriginAttribute{Origin: igp}}
	if v6 {
		attributes = append(attributes, &api.MpReachNLRIAttribute{
			Family: family(true), NextHops: []string{netip.IPv6Unspecified().String()}, Nlris: []*apb.Any{nlri},
		})
	} else {
		attributes = append(attributes, &api.NextHopAttribute{NextHop: netip.IPv4Unspecified().String()})
	}
	plain, large, err := communities(e.Communities)
	if err != nil {
		return nil, err
	}
	large = append(large, d.policy.generation.community())
	if len(plain) > 0 {
		attributes = append(attributes, &api.CommunitiesAttribute{Communities: plain})
	}
	attributes = append(attributes, &api.LargeCommunitiesAttribute{Communities: large})
	path := &api.Path{Family: family(v6), Nlri: nlri}
	for _, a := range attributes {
		packed, err := apb.New(a)
		if err != nil {
			return nil, err
		}
		path.Pattrs = append(path.Pattrs, packed)
	}
	return path, nil
}

// communities reads communities (RFC 1997) and large ones (RFC 8092).
func communities(values []string) ([]uint32, []*api.LargeCommunity, error) {
	var plain []uint32
	var large []*api.LargeCommunity
	for _, v := range values {
		parts := strings.Split(v, ":")
		bits := 16
		if len(parts) == 3 {
			bits = 32
		}
		numbers := make([]uint32, 0, len(parts))
		for _, part := range parts {
			n, err := strconv.ParseUint(part, 10, bits)
			if err != nil {
				return nil, nil, fmt.Errorf("community: got %q, want aa:nn of 16-bit or aaaa:nnnn:mmmm of 32-bit numbers", v)
			}
			numbers = append(numbers, uint32(n))
		}
		switch len(numbers) {
		case 2:
			plain = append(plain, numbers[0]<<16|numbers[1])
		case 3:
			large = append(large, &api.LargeCommunity{GlobalAdmin: numbers[0], LocalData1: numbers[1], LocalData2: numbers[2]})
		default:
			return nil, nil, fmt.Errorf("community: got %q, want aa:nn or aaaa:nnnn:mmmm", v)
		}
	}
	return plain, large, nil
}
