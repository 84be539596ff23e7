package bgp

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/manul-net/manul/nodeagent/tables"
)

// Sessions tells how all sessions stand, in order of their name. Prefixes are counted for those outside groups alone: the speaker goes
// through all of its routes for each.
func (d *Driver) Sessions(ctx context.Context) []tables.BGPSessionState {
	if d.speaker == nil {
		return nil
	}
	out := make([]tables.BGPSessionState, 0, len(d.sessions))
	for _, name := range slices.Sorted(maps.Keys(d.sessions)) {
		s := d.sessions[name]
		state := d.state(name, s)
		if state.State == stateEstablished && s.want.Group == "" {
			d.count(ctx, s, &state)
		}
		out = append(out, state)
	}
	return out
}

const stateEstablished = "Established"

// count counts the prefixes of an established session.
func (d *Driver) count(ctx context.Context, s *session, out *tables.BGPSessionState) {
	p, err := d.look(ctx, s, true)
	if err != nil {
		d.options.Log.Warn("the prefixes of a BGP session are not counted", "session", out.Name, "error", err)
		return
	}
	for _, f := range p.AfiSafis {
		out.Received += int(f.State.GetReceived())
		out.Advertised += int(f.State.GetAdvertised())
		if f.State.GetAdvertised() > 0 && graceful(p) {
			out.Advertised-- // the speaker counts the End-of-RIB marker
		}
	}
}

func (d *Driver) state(name string, s *session) tables.BGPSessionState {
	out := tables.BGPSessionState{Name: name, Group: s.want.Group, Address: s.want.Address, ASNumber: s.want.ASNumber, State: "Idle"}
	switch {
	case s.missing != nil:
		out.Reason, out.Message = tables.BGPSecretMissing, s.missing.Error()
		return out
	case s.tooLong > 0:
		out.Reason = tables.BGPWrongPassword
		out.Message = fmt.Sprintf("the password, key %s of Secret %s, has %d bytes, and BGP's have %d at most", s.want.Password.Key, s.want.Password.Name, s.tooLong, maxPassword)
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
		if out.Reason == noAnswer {
			out.Reason = tables.BGPUnreachable
			out.Message += "; where it can be reached, it expects a password"
			if s.want.Password != nil {
				out.Reason, out.Message = tables.BGPWrongPassword, known.message+"; where it can be reached, its password is another"
			}
		}
		if out.Reason == "" {
			out.Reason = tables.BGPWaiting
			if s.want.Passive {
				out.Message = "waiting for the peer to open the session"
			}
			if s.want.TTLSecurity > 0 {
				out.Message = strings.TrimPrefix(out.Message+fmt.Sprintf("; nothing is heard of a peer that ttlSecurity keeps out, more than %d hops away", s.want.TTLSecurity), "; ")
			}
		}
		return out
	}
	out.State = stateEstablished
	return out
}

// Holding tells whether peers may not have sent all that they have since the driver began: what is not learned now may yet
// be learned again (RFC 4724).
func (d *Driver) Holding(ctx context.Context) bool {
	if d.speaker == nil || time.Now().After(d.restartsUntil) {
		return false
	}
	var peers map[string]*api.Peer // with graceful restart, by address
	for _, s := range d.sessions {
		if s.peer == nil || !d.isRestarting(&s.want) {
			continue
		}
		known, ok := d.events.peer(s.want.Address)
		if !ok || !known.established {
			return true
		}
		if peers == nil {
			peers = d.gracefulPeers(ctx)
		}
		peer := peers[s.key()]
		if peer == nil {
			if time.Since(known.since) < deferral*time.Second {
				return true // it does not say when it has sent all
			}
			continue
		}
		for _, afi := range agreed(s.peer, peer) {
			if !known.eor[afi] {
				return true
			}
		}
	}
	return false
}

// agreed are the families of which a session carries routes: the node's that the peer has too. The peer says of each when it has sent all.
func agreed(own, peer *api.Peer) []api.Family_Afi {
	var out []api.Family_Afi
	for _, f := range own.AfiSafis {
		if slices.ContainsFunc(peer.State.RemoteCap, func(c *anypb.Any) bool {
			var multiProtocol api.MultiProtocolCapability
			return c.UnmarshalTo(&multiProtocol) == nil && multiProtocol.Family.GetAfi() == f.Config.Family.Afi
		}) {
			out = append(out, f.Config.Family.Afi)
		}
	}
	return out
}

// gracefulPeers are the peers with which graceful restart was agreed, by address.
func (d *Driver) gracefulPeers(ctx context.Context) map[string]*api.Peer {
	out := map[string]*api.Peer{}
	err := d.server.ListPeer(ctx, &api.ListPeerRequest{}, func(p *api.Peer) {
		if p.State.SessionState == api.PeerState_ESTABLISHED && graceful(p) {
			out[p.State.NeighborAddress] = p
		}
	})
	if err != nil {
		d.options.Log.Warn("the states of BGP sessions are not known", "error", err)
	}
	return out
}
