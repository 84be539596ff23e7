package bgp

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/apiutil"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"github.com/manul-net/manul/nodeagent/tables"
)

// events is what the speaker tells: best paths, states of sessions, errors. Its methods may be called from any goroutine.
type events struct {
	wake func()

	mu sync.Mutex
	// known are the destinations with learned paths, learned those of which the paths changed since they were last taken.
	known   map[netip.Prefix]struct{}
	learned map[netip.Prefix]tables.BGPPaths
	peers   map[netip.Addr]*peerState
	retry   bool
}

// peerState is how a session with the speaker stands.
type peerState struct {
	name        string
	established bool
	// graceful: it is established, and an End-of-RIB marker is to be expected (RFC 4724).
	eor   map[api.Family_Afi]bool
	since time.Time
	// reason and message of the last failure.
	reason, message string
}

func (e *events) init(wake func()) {
	e.wake = wake
	e.known = map[netip.Prefix]struct{}{}
	e.learned = map[netip.Prefix]tables.BGPPaths{}
	e.peers = map[netip.Addr]*peerState{}
}

// watchRequest asks for all that take understands.
func watchRequest() *api.WatchEventRequest {
	return &api.WatchEventRequest{
		Peer: &api.WatchEventRequest_Peer{},
		Table: &api.WatchEventRequest_Table{Filters: []*api.WatchEventRequest_Table_Filter{
			{Type: api.WatchEventRequest_Table_Filter_BEST, Init: true},
			{Type: api.WatchEventRequest_Table_Filter_EOR},
		}},
	}
}

// take takes one event of the speaker's.
func (e *events) take(r *api.WatchEventResponse) {
	news := false
	if t := r.GetTable(); t != nil {
		news = e.takePaths(t.Paths)
	}
	if p := r.GetPeer(); p != nil && p.Peer != nil {
		news = e.takePeer(p.Peer)
	}
	if news {
		e.wake()
	}
}

// takePaths takes the best paths to destinations: all of those to one come together.
func (e *events) takePaths(paths []*api.Path) bool {
	byPrefix := map[netip.Prefix]*tables.BGPPaths{}
	news := false
	for _, path := range paths {
		if path.Nlri == nil {
			news = e.takeEndOfRIB(path) || news
			continue
		}
		p, ok := prefixOf(path)
		if !ok {
			continue
		}
		into := byPrefix[p]
		if into == nil {
			into = &tables.BGPPaths{}
			byPrefix[p] = into
		}
		if _, err := netip.ParseAddr(path.NeighborIp); err != nil || path.IsWithdraw {
			continue // the node's own, or gone
		}
		readPath(path, into)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for p, found := range byPrefix {
		slices.SortFunc(found.NextHops, netip.Addr.Compare)
		found.NextHops = slices.Compact(found.NextHops)
		_, had := e.known[p]
		switch {
		case len(found.NextHops) > 0:
			e.known[p] = struct{}{}
		case !had:
			continue
		default:
			delete(e.known, p)
		}
		e.learned[p] = *found
		news = true
	}
	return news
}

func prefixOf(path *api.Path) (netip.Prefix, bool) {
	nlri, err := apiutil.GetNativeNlri(path)
	if err != nil {
		return netip.Prefix{}, false
	}
	p, err := netip.ParsePrefix(nlri.String())
	return p.Masked(), err == nil
}

// readPath adds what the kernel needs to know of a path.
func readPath(path *api.Path, into *tables.BGPPaths) {
	attributes, err := apiutil.GetNativePathAttributes(path)
	if err != nil {
		return
	}
	for _, a := range attributes {
		switch a := a.(type) {
		case *bgp.PathAttributeNextHop:
			if hop, ok := netip.AddrFromSlice(a.Value); ok {
				into.NextHops = append(into.NextHops, hop.Unmap())
			}
		case *bgp.PathAttributeMpReachNLRI:
			if hop, ok := netip.AddrFromSlice(a.Nexthop); ok {
				into.NextHops = append(into.NextHops, hop.Unmap())
			}
		case *bgp.PathAttributeLargeCommunities:
			for _, c := range a.Values {
				if c.ASN == reserved && c.LocalData1 == markMetric {
					into.Metric = c.LocalData2
				}
			}
		}
	}
}

// takeEndOfRIB notes that a peer has sent all that it has.
func (e *events) takeEndOfRIB(path *api.Path) bool {
	addr, err := netip.ParseAddr(path.NeighborIp)
	if err != nil {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.peers[addr]
	if p == nil {
		return false
	}
	p.eor[path.Family.GetAfi()] = true
	return true
}

// takePeer notes the state of a session.
func (e *events) takePeer(peer *api.Peer) bool {
	addr, err := netip.ParseAddr(peer.State.GetNeighborAddress())
	if err != nil {
		return false
	}
	established := peer.State.SessionState == api.PeerState_ESTABLISHED
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.peers[addr]
	if p == nil || p.established == established {
		return false
	}
	p.established, p.since = established, time.Now()
	clear(p.eor)
	return true
}

// follow begins to note how the session with a peer stands.
func (e *events) follow(name string, addr netip.Addr) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if p := e.peers[addr]; p != nil {
		p.name = name
		return
	}
	e.peers[addr] = &peerState{name: name, since: time.Now(), eor: map[api.Family_Afi]bool{}}
}

// drop ends that.
func (e *events) drop(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for addr, p := range e.peers {
		if p.name == name {
			delete(e.peers, addr)
		}
	}
}

// failed notes why a session is not established; without a reason: it is.
func (e *events) failed(addr netip.Addr, reason, message string) {
	e.mu.Lock()
	p := e.peers[addr]
	news := p != nil && (p.reason != reason || p.message != message)
	if news {
		p.reason, p.message = reason, message
	}
	e.mu.Unlock()
	if news {
		e.wake()
	}
}

// forget is for a speaker that has ended: all that it learned is gone.
func (e *events) forget() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for p := range e.known {
		e.learned[p] = tables.BGPPaths{}
	}
	clear(e.known)
	clear(e.peers)
	e.wake()
}

func (e *events) takeLearned() map[netip.Prefix]tables.BGPPaths {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.learned) == 0 {
		return nil
	}
	learned := e.learned
	e.learned = map[netip.Prefix]tables.BGPPaths{}
	return learned
}

func (e *events) takeRetry() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	retry := e.retry
	e.retry = false
	return retry
}

// peer gives a copy of how the session with a peer stands.
func (e *events) peer(addr netip.Addr) (peerState, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.peers[addr]
	if p == nil {
		return peerState{}, false
	}
	return peerState{
		name: p.name, established: p.established, since: p.since, reason: p.reason, message: p.message,
		eor: map[api.Family_Afi]bool{api.Family_AFI_IP: p.eor[api.Family_AFI_IP], api.Family_AFI_IP6: p.eor[api.Family_AFI_IP6]},
	}, true
}
