package v3

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BGPFilter accepts or rejects routes on their way from a peer (import) or to it (export).
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,path=bgpfilters
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=='Accepted')].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type BGPFilter struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   BGPFilterSpec `json:"spec"`
	Status BGPStatus     `json:"status,omitzero"`
}

// BGPFilterList is a list of BGPFilter.
//
// +kubebuilder:object:root=true
type BGPFilterList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []BGPFilter `json:"items"`
}

// BGPFilterSpec is what the user asks of a BGPFilter. In each list the first rule that matches decides; a route that none
// matches is accepted.
type BGPFilterSpec struct {
	// ExportV4 rules for IPv4 routes to the peer.
	// +kubebuilder:validation:MaxItems=512
	// +listType=atomic
	// +optional
	ExportV4 []BGPFilterRuleV4 `json:"exportV4,omitempty"`

	// ImportV4 rules for IPv4 routes from the peer.
	// +kubebuilder:validation:MaxItems=512
	// +listType=atomic
	// +optional
	ImportV4 []BGPFilterRuleV4 `json:"importV4,omitempty"`

	// ExportV6 rules for IPv6 routes to the peer.
	// +kubebuilder:validation:MaxItems=512
	// +listType=atomic
	// +optional
	ExportV6 []BGPFilterRuleV6 `json:"exportV6,omitempty"`

	// ImportV6 rules for IPv6 routes from the peer.
	// +kubebuilder:validation:MaxItems=512
	// +listType=atomic
	// +optional
	ImportV6 []BGPFilterRuleV6 `json:"importV6,omitempty"`
}

// BGPFilterRuleV4 matches IPv4 routes and says what becomes of them. All that it gives must match; without any match
// it decides every route.
//
// +kubebuilder:validation:XValidation:rule="(has(self.cidr) && size(self.cidr) > 0) == has(self.matchOperator)",message="cidr and matchOperator belong together: give both or neither"
// +kubebuilder:validation:XValidation:rule="!has(self.prefixLength) || has(self.cidr) && size(self.cidr) > 0",message="prefixLength needs cidr: give the network that the prefixes are in"
// +kubebuilder:validation:XValidation:rule="!has(self.operations) || self.action == 'Accept'",message="operations need action Accept: a route that is rejected can't be changed"
type BGPFilterRuleV4 struct {
	BGPFilterMatch `json:",inline"`

	// CIDR that matchOperator compares the route with.
	// +kubebuilder:validation:Format=cidr
	// +kubebuilder:validation:MaxLength=18
	// +kubebuilder:validation:XValidation:rule="size(self) == 0 || isCIDR(self) && cidr(self).ip().family() == 4",message="must be an IPv4 network such as 10.0.0.0/8"
	// +optional
	CIDR string `json:"cidr,omitempty"`

	// PrefixLength limits the length of the route's prefix.
	// +optional
	PrefixLength *BGPFilterPrefixLengthV4 `json:"prefixLength,omitempty"`
}

// BGPFilterPrefixLengthV4 is a range of prefix lengths, both ends included.
//
// +kubebuilder:validation:XValidation:rule="!has(self.min) || !has(self.max) || self.min <= self.max",message="min must not be above max: exchange them"
type BGPFilterPrefixLengthV4 struct {
	// Min is the least length. That of the cidr when absent.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=32
	// +optional
	Min *int32 `json:"min,omitempty"`

	// Max is the greatest length. 32 when absent.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=32
	// +optional
	Max *int32 `json:"max,omitempty"`
}

// BGPFilterRuleV6 matches IPv6 routes and says what becomes of them. All that it gives must match; without any match
// it decides every route.
//
// +kubebuilder:validation:XValidation:rule="(has(self.cidr) && size(self.cidr) > 0) == has(self.matchOperator)",message="cidr and matchOperator belong together: give both or neither"
// +kubebuilder:validation:XValidation:rule="!has(self.prefixLength) || has(self.cidr) && size(self.cidr) > 0",message="prefixLength needs cidr: give the network that the prefixes are in"
// +kubebuilder:validation:XValidation:rule="!has(self.operations) || self.action == 'Accept'",message="operations need action Accept: a route that is rejected can't be changed"
type BGPFilterRuleV6 struct {
	BGPFilterMatch `json:",inline"`

	// CIDR that matchOperator compares the route with.
	// +kubebuilder:validation:Format=cidr
	// +kubebuilder:validation:MaxLength=43
	// +kubebuilder:validation:XValidation:rule="size(self) == 0 || isCIDR(self) && cidr(self).ip().family() == 6",message="must be an IPv6 network such as 2001:db8::/32"
	// +optional
	CIDR string `json:"cidr,omitempty"`

	// PrefixLength limits the length of the route's prefix.
	// +optional
	PrefixLength *BGPFilterPrefixLengthV6 `json:"prefixLength,omitempty"`
}

// BGPFilterPrefixLengthV6 is a range of prefix lengths, both ends included.
//
// +kubebuilder:validation:XValidation:rule="!has(self.min) || !has(self.max) || self.min <= self.max",message="min must not be above max: exchange them"
type BGPFilterPrefixLengthV6 struct {
	// Min is the least length. That of the cidr when absent.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=128
	// +optional
	Min *int32 `json:"min,omitempty"`

	// Max is the greatest length. 128 when absent.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=128
	// +optional
	Max *int32 `json:"max,omitempty"`
}

// BGPFilterMatch is what the rules for both families have in common.
type BGPFilterMatch struct {
	// Action: Accept or Reject the routes that match.
	// +kubebuilder:validation:Enum=Accept;Reject
	Action string `json:"action"`

	// MatchOperator compares the route with cidr: Equal, NotEqual, In (the route is inside) or NotIn. Belongs to cidr.
	// +kubebuilder:validation:Enum=Equal;NotEqual;In;NotIn
	// +optional
	MatchOperator string `json:"matchOperator,omitempty"`

	// Source: RemotePeers matches routes that were learned from BGP peers.
	// +kubebuilder:validation:Enum=RemotePeers
	// +optional
	Source string `json:"source,omitempty"`

	// Interface that the route leads to, * standing for any characters.
	// +kubebuilder:validation:MaxLength=15
	// +optional
	Interface string `json:"interface,omitempty"`

	// PeerType: eBGP matches sessions with another AS, iBGP those within the AS.
	// +kubebuilder:validation:Enum=eBGP;iBGP
	// +optional
	PeerType string `json:"peerType,omitempty"`

	// Communities that the route must have.
	// +optional
	Communities *BGPFilterCommunities `json:"communities,omitempty"`

	// ASPathPrefix is what the AS path of the route must begin with.
	// +kubebuilder:validation:MaxItems=256
	// +listType=atomic
	// +optional
	ASPathPrefix []ASNumber `json:"asPathPrefix,omitempty"`

	// Priority is the metric that the route must have.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=2147483646
	// +optional
	Priority *int `json:"priority,omitempty"`

	// Operations change the routes that are accepted, in order.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=10
	// +listType=atomic
	// +optional
	Operations []BGPFilterOperation `json:"operations,omitempty"`
}

// BGPCommunity is the value of a community: aa:nn (RFC 1997) or aaaa:nnnn:mmmm (RFC 8092).
//
// +kubebuilder:validation:MaxLength=32
// +kubebuilder:validation:Pattern=`^\d+:\d+(:\d+)?$`
// +kubebuilder:validation:XValidation:rule="!self.matches('^[0-9]+:[0-9]+$') || self.split(':').all(n, size(n) <= 5 && int(n) <= 65535)",message="both numbers of a community aa:nn must be at most 65535: write a large community aaaa:nnnn:mmmm for greater ones"
// +kubebuilder:validation:XValidation:rule="!self.matches('^[0-9]+:[0-9]+:[0-9]+$') || self.split(':').all(n, size(n) <= 10 && int(n) <= 4294967295)",message="each number of a large community must be at most 4294967295"
type BGPCommunity string

// BGPFilterCommunities is a match on the communities of a route.
type BGPFilterCommunities struct {
	// Values that the route must have.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=1
	// +listType=atomic
	Values []BGPCommunity `json:"values"`
}

// BGPFilterOperation changes a route: exactly one of its fields says how.
//
// +kubebuilder:validation:XValidation:rule="[has(self.addCommunity), has(self.prependASPath), has(self.setPriority)].filter(x, x).size() == 1",message="give exactly one of addCommunity, prependASPath and setPriority: write an operation of its own for each"
type BGPFilterOperation struct {
	// AddCommunity adds a community to the route.
	// +optional
	AddCommunity *BGPFilterAddCommunity `json:"addCommunity,omitempty"`

	// PrependASPath puts AS numbers before the path of the route.
	// +optional
	PrependASPath *BGPFilterPrependASPath `json:"prependASPath,omitempty"`

	// SetPriority sets the metric of the route.
	// +optional
	SetPriority *BGPFilterSetPriority `json:"setPriority,omitempty"`
}

// BGPFilterAddCommunity adds a community.
type BGPFilterAddCommunity struct {
	// Value of the community.
	Value BGPCommunity `json:"value"`
}

// BGPFilterPrependASPath prepends to the AS path.
type BGPFilterPrependASPath struct {
	// Prefix is put before the path, its first number first.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=10
	// +listType=atomic
	Prefix []ASNumber `json:"prefix"`
}

// BGPFilterSetPriority sets the metric.
type BGPFilterSetPriority struct {
	// Value of the metric.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=2147483646
	Value int `json:"value"`
}
