package bgp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/manul-net/manul/nodeagent/tables"
)

const (
	// Defaults of times, seconds: those that users of Calico know.
	defaultHold    = 90
	defaultRestart = 120
	holdPerAlive   = 3
	// connectRetry is how often a peer is tried, seconds. The attempt itself takes a second less: time enough for the kernel
	// to find out that a neighbour does not answer.
	connectRetry = 5
	// deferral is how long a node that restarts waits for its peers' routes before it sends its own, seconds. Its own do
	// not depend on theirs; a route reflector's do, and it waits for the restart time.
	deferral = 5
	maxTTL   = 255
	// patience is how long a peer is waited for that takes in nothing, not even that its session ends.
	patience = time.Second
	// maxPassword is the longest that the kernel takes, bytes (TCP_MD5SIG_MAXKEYLEN).
	maxPassword = 80
)

// session is one in force.
type session struct {
	want tables.BGPSession
	// peer is the speaker's configuration; nil: the session is not with the speaker.
	peer *api.Peer
	// missing says why there is no password for it.
	missing error
	// tooLong is the length of a password that the kernel does not take.
	tooLong int
}

// key is the speaker's name of the session.
func (s *session) key() string { return s.want.Address.String() }

// applySession makes one session what it should be. It is ended only where the other end has to know of the change.
func (d *Driver) applySession(ctx context.Context, name string, want *tables.BGPSession) error {
	have := d.sessions[name]
	next := &session{want: *want}
	password := ""
	if want.Password != nil {
		password, next.missing = d.options.Secrets.Password(want.Password.Name, want.Password.Key)
		if len(password) > maxPassword {
			next.tooLong = len(password)
		}
	}
	if want.Address.IsValid() && next.missing == nil && next.tooLong == 0 {
		next.peer = d.peer(want, password)
	}
	if have != nil && have.peer != nil && (next.peer == nil || have.key() != next.key()) {
		d.closeConnections(ctx, have)
		if err := d.removePeer(ctx, have); err != nil {
			return err
		}
		have = nil
	}
	d.sessions[name] = next
	if until := d.begun.Add(restartTime(want)); until.After(d.restartsUntil) {
		d.restartsUntil = until
	}
	if next.peer == nil {
		d.events.drop(name)
		return nil
	}
	d.events.follow(name, want.Address)
	if have == nil || have.peer == nil {
		return d.addPeer(ctx, next)
	}
	restarting := have.peer.GracefulRestart.LocalRestarting
	next.peer.GracefulRestart.LocalRestarting = restarting // what it was made with
	if proto.Equal(have.peer, next.peer) {
		return nil
	}
	d.options.Log.Info("BGP session changes", "session", name)
	d.closeConnections(ctx, have)
	if err := d.removePeer(ctx, have); err != nil {
		return err
	}
	next.peer.GracefulRestart.LocalRestarting = d.isRestarting(want)
	return d.addPeer(ctx, next)
}

func (d *Driver) addPeer(ctx context.Context, s *session) error {
	if err := d.server.AddPeer(ctx, &api.AddPeerRequest{Peer: s.peer}); err != nil {
		s.peer = nil
		d.Resync()
		return fmt.Errorf("adding the peer: %w", err)
	}
	d.added++
	return nil
}

// removePeer has the speaker forget a peer whose connection is closed. The password would stay with the listener if the speaker were not told
// to drop it.
func (d *Driver) removePeer(ctx context.Context, s *session) error {
	if s.peer.Conf.AuthPassword != "" {
		without, _ := proto.Clone(s.peer).(*api.Peer)
		without.Conf.AuthPassword = ""
		without.Conf.AdminDown = true
		if _, err := d.server.UpdatePeer(ctx, &api.UpdatePeerRequest{Peer: without}); err != nil {
			return fmt.Errorf("taking the password from the peer: %w", err)
		}
	}
	if err := d.server.DeletePeer(ctx, &api.DeletePeerRequest{Address: s.key()}); err != nil {
		return fmt.Errorf("removing the peer: %w", err)
	}
	s.peer = nil
	return nil
}

// removeSessions ends sessions.
func (d *Driver) removeSessions(ctx context.Context, names []string) {
	gone := make([]*session, 0, len(names))
	for _, name := range names {
		gone = append(gone, d.sessions[name])
	}
	d.closeConnections(ctx, gone...)
	for _, name := range names {
		d.note(name, d.removeSession(ctx, name))
	}
}

// removeSession ends a session whose connection is closed.
func (d *Driver) removeSession(ctx context.Context, name string) error {
	s := d.sessions[name]
	if s == nil {
		return nil
	}
	delete(d.sessions, name)
	d.events.drop(name)
	if s.peer == nil {
		return nil
	}
	if err := d.removePeer(ctx, s); err != nil {
		d.sessions[name] = s
		d.Resync()
		return err
	}
	return nil
}

// closeConnections ends the connections of sessions and waits for that, but not for a peer that takes in nothing. The speaker forgets a peer
// that is deleted while its session passes from one state into the next, but not its connection: the peer would keep that for its hold time,
// and refuse every other for it.
func (d *Driver) closeConnections(ctx context.Context, sessions ...*session) {
	open := slices.DeleteFunc(sessions, func(s *session) bool {
		return s == nil || s.peer == nil || d.server.DisablePeer(ctx, &api.DisablePeerRequest{Address: s.key()}) != nil // unknown to the speaker
	})
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for _, s := range open {
		for !d.isClosed(ctx, s) {
			select {
			case <-ctx.Done():
				return
			case <-look.C:
			}
		}
	}
}

// isClosed tells whether the connection of a session that was to be closed is.
func (d *Driver) isClosed(ctx context.Context, s *session) bool {
	p, err := d.look(ctx, s, false)
	return err != nil || p.State.AdminState == api.PeerState_DOWN && p.State.SessionState == api.PeerState_IDLE
}

// peer is the speaker's configuration of a session.
func (d *Driver) peer(want *tables.BGPSession, password string) *api.Peer {
	hold := uint64(want.KeepaliveSeconds) * holdPerAlive
	restart := uint32(cmp.Or(want.RestartSeconds, defaultRestart))
	p := &api.Peer{
		Conf: &api.PeerConf{
			NeighborAddress: want.Address.String(), PeerAsn: want.ASNumber, LocalAsn: want.LocalASNumber, AuthPassword: password,
			AllowOwnAsn: uint32(want.AllowOwnAS),
		},
		Timers: &api.Timers{Config: &api.TimersConfig{
			ConnectRetry: connectRetry, HoldTime: cmp.Or(hold, defaultHold), KeepaliveInterval: cmp.Or(hold, defaultHold) / holdPerAlive,
		}},
		Transport: &api.Transport{RemotePort: uint32(want.Port), PassiveMode: want.Passive},
		GracefulRestart: &api.GracefulRestart{
			Enabled: true, RestartTime: restart, DeferralTime: deferral, LocalRestarting: d.isRestarting(want),
		},
	}
	if want.SourceAddress.IsValid() {
		p.Transport.LocalAddress = want.SourceAddress.String()
	}
	if d.speaker.ClusterID.IsValid() {
		p.GracefulRestart.DeferralTime = restart
		if want.Client {
			p.RouteReflector = &api.RouteReflector{RouteReflectorClient: true, RouteReflectorClusterId: d.speaker.ClusterID.String()}
		}
	}
	switch {
	case want.TTLSecurity > 0:
		p.TtlSecurity = &api.TtlSecurity{Enabled: true, TtlMin: maxTTL + 1 - uint32(want.TTLSecurity)}
	case !want.Internal():
		p.EbgpMultihop = &api.EbgpMultihop{Enabled: true, MultihopTtl: maxTTL} // the peer may be anywhere
	}
	for _, v6 := range []bool{false, true} {
		if v6 == want.Address.Is6() || want.OtherFamily && d.addressOf(v6).IsValid() {
			p.AfiSafis = append(p.AfiSafis, &api.AfiSafi{
				Config:            &api.AfiSafiConfig{Family: family(v6), Enabled: true},
				MpGracefulRestart: &api.MpGracefulRestart{Config: &api.MpGracefulRestartConfig{Enabled: true}},
			})
		}
	}
	return p
}

// addressOf is the node's address of a family.
func (d *Driver) addressOf(v6 bool) netip.Addr {
	for _, a := range d.speaker.Addresses {
		if a.Is6() == v6 {
			return a
		}
	}
	return netip.Addr{}
}

// isRestarting tells whether a peer may still have routes of an earlier process of this node (RFC 4724).
func (d *Driver) isRestarting(want *tables.BGPSession) bool {
	return time.Since(d.begun) < restartTime(want)
}

func restartTime(want *tables.BGPSession) time.Duration {
	return time.Duration(cmp.Or(want.RestartSeconds, defaultRestart)) * time.Second
}

var errNoPeer = errors.New("no such peer")

// look asks the speaker about a session.
func (d *Driver) look(ctx context.Context, s *session, advertised bool) (*api.Peer, error) {
	var found *api.Peer
	err := d.server.ListPeer(ctx, &api.ListPeerRequest{Address: s.key(), EnableAdvertised: advertised}, func(p *api.Peer) { found = p })
	if err == nil && found == nil {
		err = errNoPeer
	}
	return found, err
}

// isGraceful tells whether graceful restart was agreed with a peer that is there.
func (d *Driver) isGraceful(ctx context.Context, s *session) bool {
	p, err := d.look(ctx, s, false)
	if err != nil || p.State.SessionState != api.PeerState_ESTABLISHED {
		return false
	}
	return graceful(p)
}

// graceful tells whether the peer wants graceful restart, as this node does.
func graceful(p *api.Peer) bool {
	return slices.ContainsFunc(p.State.RemoteCap, func(c *anypb.Any) bool { return c.MessageIs(&api.GracefulRestartCapability{}) })
}
