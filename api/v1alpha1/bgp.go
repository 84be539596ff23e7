package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BGP is what the node's BGP speaker has to do. The routes to the node's own pods follow from the blocks and addresses that
// the node has, the mesh from the other nodes' NodeNetworks.
type BGP struct {
	// ASNumber of the node (RFC 6793).
	ASNumber int64 `json:"asNumber"`

	// RouterID is the node's BGP identifier, in the form of an IPv4 address (RFC 4271).
	RouterID string `json:"routerID"`

	// Addresses of the node in BGP, at most one of each family, IPv4 first: where sessions come from and next hops lead to.
	// +listType=atomic
	// +optional
	Addresses []string `json:"addresses,omitempty"`

	// ListenPort for sessions that others open, TCP.
	ListenPort int32 `json:"listenPort"`

	// ListenAddresses to accept sessions at. None: all of the node's.
	// +listType=atomic
	// +optional
	ListenAddresses []string `json:"listenAddresses,omitempty"`

	// ClusterID makes the node a route reflector (RFC 4456), in the form of an IPv4 address.
	// +optional
	ClusterID string `json:"clusterID,omitempty"`

	// Mesh has the node peer with every other node that is in the mesh. Absent: there is none, or the node is not in it.
	// +optional
	Mesh *BGPMesh `json:"mesh,omitempty"`

	// Sessions beside those of the mesh, in order of their name. Of two with one address the first in this order counts.
	// +listType=map
	// +listMapKey=name
	// +optional
	Sessions []BGPSession `json:"sessions,omitempty"`

	// Groups are sessions with many nodes that are alike. None of them is among Sessions.
	// +listType=atomic
	// +optional
	Groups []BGPGroup `json:"groups,omitempty"`

	// Filters that sessions name, in order of their name.
	// +listType=map
	// +listMapKey=name
	// +optional
	Filters []BGPRouteFilter `json:"filters,omitempty"`

	// Announce are prefixes that the node advertises for services, in order.
	// +listType=atomic
	// +optional
	Announce []string `json:"announce,omitempty"`

	// ServiceRanges are the CIDRs of services that nodes advertise, this one or others, in order.
	// +listType=atomic
	// +optional
	ServiceRanges []string `json:"serviceRanges,omitempty"`

	// Communities that routes are advertised with, in order of CIDR: a route gets those of every CIDR that it lies in.
	// +listType=map
	// +listMapKey=cidr
	// +optional
	Communities []BGPCommunities `json:"communities,omitempty"`

	// IgnoredInterfaces are patterns ("docker*") of interfaces that learned routes must not lead to.
	// +listType=atomic
	// +optional
	IgnoredInterfaces []string `json:"ignoredInterfaces,omitempty"`

	// MetricIPv4 and MetricIPv6 are the kernel metrics of learned routes. 0: the agent's.
	// +optional
	MetricIPv4 int32 `json:"metricIPv4,omitempty"`
	// +optional
	MetricIPv6 int32 `json:"metricIPv6,omitempty"`

	// WorkloadIPv4 and WorkloadIPv6 are the addresses under which pods of the node peer with it.
	// +optional
	WorkloadIPv4 string `json:"workloadIPv4,omitempty"`
	// +optional
	WorkloadIPv6 string `json:"workloadIPv6,omitempty"`
}

// BGPMesh are the settings of the sessions among all nodes.
type BGPMesh struct {
	// Password of the sessions. Absent: none.
	// +optional
	Password *SecretKey `json:"password,omitempty"`
	// RestartSeconds is how long the routes of a node that restarts are kept (RFC 4724). 0: the agent's.
	// +optional
	RestartSeconds int32 `json:"restartSeconds,omitempty"`
}

// SecretKey is one key of a Secret in the namespace of the agents.
type SecretKey struct {
	Name string `json:"name"`
	Key  string `json:"key"`
}

// BGPSession is a session with one peer.
type BGPSession struct {
	// Name is the BGPPeer's name and the peer's address: "rack-1/192.0.2.1". Unique on the node.
	Name string `json:"name"`
	// Address of the peer. Absent when the peer is a pod of the node.
	// +optional
	Address string `json:"address,omitempty"`
	// Endpoint is the ID of the pod that peers: "namespace/name".
	// +optional
	Endpoint string `json:"endpoint,omitempty"`
	// Node is the peer's name when it is a node of the cluster.
	// +optional
	Node string `json:"node,omitempty"`
	// Port of the peer, TCP. 0: 179.
	// +optional
	Port int32 `json:"port,omitempty"`
	// Passive: the node waits for the peer to open the session.
	// +optional
	Passive bool `json:"passive,omitempty"`
	// ASNumber of the peer.
	ASNumber int64 `json:"asNumber"`
	// LocalASNumber of the node in this session. 0: the node's.
	// +optional
	LocalASNumber int64 `json:"localASNumber,omitempty"`
	// Client: the peer is a client of the node, which is a route reflector (RFC 4456).
	// +optional
	Client bool `json:"client,omitempty"`
	// Password of the session (RFC 2385). Absent: none.
	// +optional
	Password *SecretKey `json:"password,omitempty"`
	// SourceAddress that the session comes from. Absent: the kernel chooses.
	// +optional
	SourceAddress string `json:"sourceAddress,omitempty"`
	// Gateway to the peer, when it is on no network of the node.
	// +optional
	Gateway string `json:"gateway,omitempty"`
	// NextHop of routes sent to the peer: Auto (RFC 4271), Self, Keep. Absent: Auto.
	// +kubebuilder:validation:Enum=Auto;Self;Keep
	// +optional
	NextHop string `json:"nextHop,omitempty"`
	// TTLSecurity is how many hops away the peer may be (RFC 5082). 0: not checked.
	// +optional
	TTLSecurity int32 `json:"ttlSecurity,omitempty"`
	// KeepaliveSeconds between messages; the hold time is three times that. 0: the agent's.
	// +optional
	KeepaliveSeconds int32 `json:"keepaliveSeconds,omitempty"`
	// RestartSeconds is how long the peer's routes are kept while it restarts (RFC 4724). 0: the agent's.
	// +optional
	RestartSeconds int32 `json:"restartSeconds,omitempty"`
	// AllowOwnAS is how often the node's own AS number may be in the path of a route from the peer.
	// +optional
	AllowOwnAS int32 `json:"allowOwnAS,omitempty"`
	// Filters by name, in order: the first rule that matches a route decides; what none matches is accepted.
	// +listType=atomic
	// +optional
	Filters []string `json:"filters,omitempty"`
}

// BGPGroup are sessions that differ in nothing but the peer. A route reflector has one with each of its clients. Each session is as
// if it were listed under the name of the BGPPeer and the member's address: "rr/192.0.2.7".
type BGPGroup struct {
	// Session is what they have in common. Its name is the BGPPeer's, and it has neither address nor node.
	Session BGPSession `json:"session"`
	// Members are the peers, in order of their address: "192.0.2.7", or "192.0.2.7 65001" where the AS number is another than the session's.
	// +listType=atomic
	Members []string `json:"members"`
}

// BGPRouteFilter is a BGPFilter of projectcalico.org, for both families.
type BGPRouteFilter struct {
	Name string `json:"name"`
	// +listType=atomic
	// +optional
	Import []BGPRouteRule `json:"import,omitempty"`
	// +listType=atomic
	// +optional
	Export []BGPRouteRule `json:"export,omitempty"`
}

// BGPRouteRule matches a route when all that is present does.
type BGPRouteRule struct {
	// Family of the routes: 4 or 6.
	Family int32 `json:"family"`
	// Accept the route, or reject it.
	// +optional
	Accept bool `json:"accept,omitempty"`
	// Operator compares the route with CIDR: Equal, NotEqual, In, NotIn.
	// +optional
	Operator string `json:"operator,omitempty"`
	// +optional
	CIDR string `json:"cidr,omitempty"`
	// MinLength and MaxLength of the route's prefix, both included. Absent: any.
	// +optional
	MinLength *int32 `json:"minLength,omitempty"`
	// +optional
	MaxLength *int32 `json:"maxLength,omitempty"`
	// RemotePeers: the route was learned from a peer.
	// +optional
	RemotePeers bool `json:"remotePeers,omitempty"`
	// Interface is a pattern of the interface that the route leads to.
	// +optional
	Interface string `json:"interface,omitempty"`
	// PeerType of the session: eBGP or iBGP.
	// +optional
	PeerType string `json:"peerType,omitempty"`
	// Communities, all of which the route has: aa:nn or aaaa:nnnn:mmmm.
	// +listType=atomic
	// +optional
	Communities []string `json:"communities,omitempty"`
	// ASPathPrefix is what the path begins with.
	// +listType=atomic
	// +optional
	ASPathPrefix []int64 `json:"asPathPrefix,omitempty"`
	// Priority is the metric that the route has.
	// +optional
	Priority int32 `json:"priority,omitempty"`
	// Operations on an accepted route, in order.
	// +listType=atomic
	// +optional
	Operations []BGPRouteOperation `json:"operations,omitempty"`
}

// BGPRouteOperation changes a route; one field is present.
type BGPRouteOperation struct {
	// +optional
	AddCommunity string `json:"addCommunity,omitempty"`
	// +listType=atomic
	// +optional
	PrependASPath []int64 `json:"prependASPath,omitempty"`
	// +optional
	SetPriority int32 `json:"setPriority,omitempty"`
}

// BGPCommunities are the communities of the routes in a CIDR.
type BGPCommunities struct {
	CIDR string `json:"cidr"`
	// +listType=atomic
	Values []string `json:"values"`
}

// MeshGroup is the name under which the sessions of the mesh are counted, and which their names begin with.
const MeshGroup = "mesh"

// BGPGroupStatus counts sessions that are not listed one by one.
type BGPGroupStatus struct {
	// Name of the BGPPeer; of the mesh "mesh".
	Name string `json:"name"`
	// Family of the peers' addresses: 4 or 6.
	Family int32 `json:"family"`
	// Sessions that there should be, and how many of them are Established.
	Sessions    int32 `json:"sessions"`
	Established int32 `json:"established"`
}

// BGPSessionStatus is how a session stands.
type BGPSessionStatus struct {
	// Name of the session; of one of the mesh "mesh/<node>/<address>".
	Name string `json:"name"`
	// Address of the peer.
	Address string `json:"address"`
	// ASNumber of the peer.
	// +optional
	ASNumber int64 `json:"asNumber,omitempty"`
	// State (RFC 4271, section 8): Idle, Connect, Active, OpenSent, OpenConfirm, Established.
	State string `json:"state"`
	// Since when the session is in the state or, when it is not Established, has not been.
	// +optional
	Since metav1.Time `json:"since,omitzero"`
	// Received and Advertised count prefixes.
	// +optional
	Received int32 `json:"received,omitempty"`
	// +optional
	Advertised int32 `json:"advertised,omitempty"`
	// Reason in one word why the session is not Established: SecretMissing, Unreachable, WrongPassword, ASMismatch,
	// MaximumPrefixes, Refused, Waiting.
	// +optional
	Reason string `json:"reason,omitempty"`
	// Message is the last error, in words.
	// +optional
	Message string `json:"message,omitempty"`
}
