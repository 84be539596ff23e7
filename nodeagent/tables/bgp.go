package tables

import (
	"net/netip"
	"reflect"
	"slices"

	"github.com/manul-net/manul/nodeagent/delta"
)

// BGP is the desired BGP speaker: whom it peers with, what it advertises, and what becomes of what it learns.
type BGP struct {
	// Speaker is nil when there is to be none.
	Speaker *Speaker
	// Sessions by name.
	Sessions *delta.Table[string, BGPSession]
	// Exports are the prefixes that the node itself advertises, with the communities that they bear.
	Exports *delta.Table[netip.Prefix, BGPExport]
	// SpeakerDirty tells that Speaker changed since the last Clean.
	SpeakerDirty bool
}

// NewBGP makes tables without a speaker.
func NewBGP() *BGP {
	return &BGP{
		Sessions: delta.NewTable[string](func(a, b BGPSession) bool { return reflect.DeepEqual(a, b) }),
		Exports: delta.NewTable[netip.Prefix](func(a, b BGPExport) bool {
			return slices.Equal(a.Communities, b.Communities)
		}),
	}
}

// SetSpeaker makes s the desired speaker; nil: none.
func (b *BGP) SetSpeaker(s *Speaker) {
	if !reflect.DeepEqual(b.Speaker, s) {
		b.Speaker, b.SpeakerDirty = s, true
	}
}

// HasDirty tells whether anything changed since the last Clean.
func (b *BGP) HasDirty() bool {
	return b.SpeakerDirty || b.Sessions.HasDirty() || b.Exports.HasDirty()
}

// Clean forgets what changed.
func (b *BGP) Clean() {
	b.SpeakerDirty = false
	b.Sessions.Clean()
	b.Exports.Clean()
}

// Speaker are the settings of the speaker itself.
type Speaker struct {
	ASNumber uint32
	// RouterID is an IPv4 address (RFC 4271).
	RouterID netip.Addr
	// Addresses of the node in BGP, at most one of each family.
	Addresses []netip.Addr
	// Port to accept sessions at, TCP.
	Port uint16
	// ListenAddresses to accept sessions at. None: all.
	ListenAddresses []netip.Addr
	// ClusterID makes the node a route reflector (RFC 4456). Not valid: it is none.
	ClusterID netip.Addr
	// Pools are the cluster's: learned routes inside them are passed on to other peers, where BGP provides for that.
	Pools []netip.Prefix
	// Private are pools of which nothing is advertised.
	Private []netip.Prefix
	// MetricIPv4 and MetricIPv6 are those of learned routes on which no filter sets one.
	MetricIPv4, MetricIPv6 uint32
}

// Metric is that of learned routes of a family on which no filter sets one.
func (s *Speaker) Metric(v6 bool) uint32 {
	if v6 {
		return s.MetricIPv6
	}
	return s.MetricIPv4
}

// BGPExport is how a prefix of the node is advertised.
type BGPExport struct {
	// Communities in order: aa:nn or aaaa:nnnn:mmmm.
	Communities []string
}

// NextHopMode says which next hop routes have that are sent to a peer.
type NextHopMode uint8

// The modes. NextHopAuto is what RFC 4271, section 5.1.3 says.
const (
	NextHopAuto NextHopMode = iota
	NextHopSelf
	NextHopKeep
)

// SecretKey names a password.
type SecretKey struct{ Name, Key string }

// BGPSession is a session with one peer. Times of 0 are the driver's default.
type BGPSession struct {
	// Address of the peer. Not valid: it is not known, and the session waits.
	Address netip.Addr
	// WaitsFor tells why Address is not known.
	WaitsFor string
	// Group of sessions that are counted and not told of one by one: the mesh, or a BGPPeer's name. Empty: none.
	Group string
	// Port of the peer, TCP.
	Port    uint16
	Passive bool
	// ASNumber of the peer, and LocalASNumber of the node in this session.
	ASNumber, LocalASNumber uint32
	// Client: the peer is a client of this route reflector.
	Client bool
	// Password; nil: none.
	Password *SecretKey
	// SourceAddress and Gateway are not valid when there are none.
	SourceAddress, Gateway netip.Addr
	NextHop                NextHopMode
	// OtherFamily: the session may carry routes of the family that its addresses are not of.
	OtherFamily bool
	// TTLSecurity is how many hops away the peer may be. 0: not checked.
	TTLSecurity      uint8
	KeepaliveSeconds uint16
	RestartSeconds   uint16
	AllowOwnAS       uint8
	// Import and Export: the first rule that matches a route decides, and what none matches is accepted, but for learned
	// routes outside the cluster's pools, which are not exported.
	Import, Export []BGPRule
}

// Internal tells whether the session is one of iBGP.
func (s *BGPSession) Internal() bool { return s.ASNumber == s.LocalASNumber }

// PrefixOperator compares a route's prefix with a CIDR.
type PrefixOperator uint8

// The operators. AnyPrefix does not look at the prefix.
const (
	AnyPrefix PrefixOperator = iota
	EqualPrefix
	NotEqualPrefix
	InPrefix
	NotInPrefix
)

// BGPRule matches a route when all that is set does.
type BGPRule struct {
	// IPv6 routes or IPv4 ones.
	IPv6   bool
	Accept bool

	Operator PrefixOperator
	CIDR     netip.Prefix
	// MinLength and MaxLength of the route's prefix, both included.
	MinLength, MaxLength uint8
	// Learned: from a peer.
	Learned bool
	// Interface is a pattern of the interface that the route leads to; empty: any.
	Interface string
	// Communities, all of them.
	Communities []string
	// ASPathPrefix is what the path begins with.
	ASPathPrefix []uint32
	// Priority is the metric that the route has; 0: any.
	Priority uint32

	Operations []BGPOperation
}

// BGPOperation changes a route; one field is set.
type BGPOperation struct {
	AddCommunity  string
	PrependASPath []uint32
	SetPriority   uint32
}

// BGPPaths are the best paths to a destination that the speaker learned.
type BGPPaths struct {
	// NextHops in order and without repetition.
	NextHops []netip.Addr
	// Metric that a filter set; 0: none did.
	Metric uint32
	// Interface is the pattern of the interfaces that the routes have to lead over; empty: any.
	Interface string
}

// BGPSessionState is how a session stands.
type BGPSessionState struct {
	Name string
	// Group: see BGPSession.
	Group    string
	Address  netip.Addr
	ASNumber uint32
	// State (RFC 4271, section 8).
	State string
	// SinceUnix is when the session came into the state or, while it is not Established, ceased to be. Seconds.
	SinceUnix int64
	// Received and Advertised count prefixes; in sessions of groups they are not counted.
	Received, Advertised int
	// Reason in one word, and Message, why the session is not Established.
	Reason, Message string
}

// Reasons why a session is not Established.
const (
	BGPSecretMissing   = "SecretMissing"
	BGPUnreachable     = "Unreachable"
	BGPWrongPassword   = "WrongPassword"
	BGPASMismatch      = "ASMismatch"
	BGPMaximumPrefixes = "MaximumPrefixes"
	BGPRefused         = "Refused"
	BGPWaiting         = "Waiting"
)
