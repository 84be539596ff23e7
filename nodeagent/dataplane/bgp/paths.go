package bgp

import (
	"context"
	"fmt"
	"net/netip"

	api "github.com/osrg/gobgp/v3/api"

	"github.com/manul-net/manul/nodeagent/tables"
)

// Paths lists all paths that the speaker knows. It may be called from any goroutine; the work grows with the table.
func (d *Driver) Paths(ctx context.Context) ([]tables.BGPPath, error) {
	server := d.running.Load()
	if server == nil {
		return nil, nil
	}
	var out []tables.BGPPath
	for _, v6 := range []bool{false, true} {
		request := &api.ListPathRequest{TableType: api.TableType_GLOBAL, Family: family(v6)}
		err := server.ListPath(ctx, request, func(destination *api.Destination) {
			for _, path := range destination.Paths {
				p, ok := prefixOf(path)
				if !ok {
					continue
				}
				var found tables.BGPPaths
				readPath(path, &found)
				one := tables.BGPPath{Destination: p, Best: path.Best}
				one.Peer, _ = netip.ParseAddr(path.NeighborIp) // of the node's own it is none
				if len(found.NextHops) > 0 && one.Peer.IsValid() {
					one.NextHop = found.NextHops[0]
				}
				out = append(out, one)
			}
		})
		if err != nil {
			return nil, fmt.Errorf("listing BGP's routes: %w", err)
		}
	}
	return out, nil
}
