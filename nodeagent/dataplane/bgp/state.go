package bgp

import (
	"context"
	"maps"
	"slices"
	"time"

	api "github.com/osrg/gobgp/v3/api"

	"github.com/manul-net/manul/nodeagent/tables"
)

// Sessions tells how all sessions stand, in order of their name.
func (d *Driver) Sessions(ctx context.Context) []tables.BGPSessionState {
	if d.speaker == nil {
		return nil
	}
	peers := map[string]*api.Peer{}
	if err := d.server.ListPeer(ctx, &api.ListPeerRequest{EnableAdvertised: true}, func(p *api.Peer) {
		peers[p.State.NeighborAddress] = p
	}); err != nil {
		d.options.Log.Warn("the states of BGP sessions are not known", "error", err)
	}
	out := make([]tables.BGPSessionState, 0, len(d.sessions))
	for _, name := range slices.Sorted(maps.Keys(d.sessions)) {
		out = append(out, d.state(name, d.sessions[name], peers))
	}
	return out
}

func (d *Driver) state(name string, s *session, peers map[string]*api.Peer) tables.BGPSessionState {
	out := tables.BGPSessionState{Name: name, Address: s.want.Address, ASNumber: s.want.ASNumber, State: "Idle"}
	switch {
	case s.missing:
		out.Reason = tables.BGPSecretMissing
		out.Message = "there is no key " + s.want.Password.Key + " in Secret " + s.want.Password.Name + " of the agents' namespace"
		return out
	case s.peer == nil:
		out.Reason, out.Message = tables.BGPWaiting, s.want.WaitsFor
		return out
	}
	known, ok := d.events.peer(s.want.Address)
	if ok {
		out.SinceUnix = known.since.Unix()
	}
	if !known.established {
		out.State, out.Reason, out.Message = "Active", known.reason, known.message
		if out.Reason == "" {
			out.Reason = tables.BGPWaiting
			if s.want.Passive {
				out.Message = "waiting for the peer to open the session"
			}
		}
		return out
	}
	out.State = "Established"
	if p := peers[s.key()]; p != nil {
		for _, f := range p.AfiSafis {
			out.Received += int(f.State.GetReceived())
			out.Advertised += int(f.State.GetAdvertised())
		}
	}
	return out
}

// Holding tells whether peers may not have sent all that they have since the driver began: what is not learned now may yet
// be learned again (RFC 4724).
func (d *Driver) Holding(ctx context.Context) bool {
	if d.speaker == nil {
		return false
	}
	for _, s := range d.sessions {
		if s.peer == nil || !d.isRestarting(&s.want) {
			continue
		}
		known, ok := d.events.peer(s.want.Address)
		if !ok || !known.established {
			return true
		}
		if !d.isGraceful(ctx, s) {
			if time.Since(known.since) < deferral*time.Second {
				return true // it does not say when it has sent all
			}
			continue
		}
		if !known.eor[family(s.want.Address.Is6()).Afi] {
			return true
		}
	}
	return false
}
