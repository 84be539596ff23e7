// Package render turns the whole cluster into rendered state: objects come in one by one, and out come the rendered objects
// whose content may have changed. The content depends on what the cluster is, never on the order in which it became known;
// only while nodes still have to acknowledge a change of identities does it hold more than that (see transition.go).
//
// Work is in proportion to the change: Set and Delete note what may be affected, and the methods that answer bring only
// that up to date.
package render

import (
	"net/netip"

	"github.com/manul-net/manul/internal/ipam"
	"github.com/manul-net/manul/internal/labelindex"
	"github.com/manul-net/manul/internal/parallel"
	"github.com/manul-net/manul/internal/policy"
	"github.com/manul-net/manul/internal/routing"
)

// Kind of a rendered object.
type Kind string

// The kinds, in the order in which changes are written: an object comes after those that it refers to.
const (
	KindSetCatalog    Kind = "SetCatalog"
	KindPolicyProgram Kind = "PolicyProgram"
	KindNodeEndpoints Kind = "NodeEndpoints"
	KindNodeNetwork   Kind = "NodeNetwork"
	KindNodeState     Kind = "NodeState"
)

// rank of the kind in the order of writing.
func (k Kind) rank() int {
	switch k {
	case KindSetCatalog:
		return 0
	case KindPolicyProgram:
		return 1
	case KindNodeEndpoints:
		return 2
	case KindNodeNetwork:
		return 3
	case KindNodeState:
		return 4
	}
	return 5
}

// Key names a rendered object.
type Key struct {
	Kind Kind
	Name string
}

// PolicyRef names a user's policy.
type PolicyRef = policy.Ref

// Cluster holds what is known of the cluster. It is not safe for concurrent use; what is great work on many objects, each for itself, it
// divides among goroutines of its own.
type Cluster struct {
	namespaces map[string]*namespace
	accounts   map[objectName]*account
	endpoints  map[string]*endpoint // pods
	hosts      map[string]*endpoint // host endpoints
	nodes      map[string]*node
	blocks     map[string]ipam.Holding
	pools      map[string]pool
	// floating are the addresses that pods ask for as floating ones.
	floating map[netip.Addr]*floatingAddress
	// reservations are the CIDRs of IPReservations; cooldown is in seconds.
	reservations map[string][]netip.Prefix
	cooldown     int32
	// felix are the FelixConfigurations that count, by name.
	felix      map[string]felix
	keepDenied bool
	// podCIDRs: nodes use their spec.podCIDRs instead of leased blocks.
	podCIDRs bool
	// unmanaged: pods may have addresses without address management.
	unmanaged bool

	tiers    map[string]tier
	policies map[PolicyRef]*policyState
	programs map[string]*policyState
	// stagedPolicies counts the staged ones.
	stagedPolicies int
	// observedPrograms are the PolicyPrograms of the API, by name.
	observedPrograms map[string]*observedProgram
	// selecting finds the policies that apply to endpoints.
	selecting *labelindex.Index[*endpoint, *policyState]

	sets        map[string]*set
	shards      map[string]*shard
	networkSets map[objectName]*networkSet
	services    map[policy.Service]*service
	// slices: to which service an endpoint slice belongs.
	slices     map[objectName]*service
	identities map[string]*identity
	// membership finds the members of sets.
	membership *labelindex.Index[member, *set]
	// nodeSets finds the members of sets of nodes.
	nodeSets *labelindex.Index[*node, *set]
	// keys are the label keys in use, by namespace; those in use everywhere under the empty name.
	keys map[string]map[string]*keyUse

	// inquiries are the CalicoNodeStatuses that ask anything, by name.
	inquiries map[string]inquiry

	// routes is what BGP does on each node.
	routes *routing.Plan

	pending    pending
	transition transition

	// workers is how many goroutines may work at what belongs to one object alone.
	workers int

	dirty         map[Key]struct{}
	dirtyPolicies map[PolicyRef]struct{}
	demandChanged bool
}

// pending is what has to be brought up to date before the next answer.
type pending struct {
	// identities: endpoints whose identity may have changed.
	identities map[*endpoint]struct{}
	// keys whose use changed, and whether it is also their absence that matters now or no longer.
	keys map[scopedKey]bool
	// compare: rendered objects that were seen in the API and may differ from what is desired.
	compare map[Key]struct{}
	// enforcement: policies, and nodes, whose enforcement may have changed.
	policies map[*policyState]struct{}
	nodes    map[*node]struct{}
	// staged: endpoints to which staged policies may do something else.
	staged map[*endpoint]struct{}
}

// New returns an empty cluster. The built-in tiers are there from the start.
func New() *Cluster {
	c := &Cluster{
		namespaces:       map[string]*namespace{},
		accounts:         map[objectName]*account{},
		endpoints:        map[string]*endpoint{},
		hosts:            map[string]*endpoint{},
		felix:            map[string]felix{},
		inquiries:        map[string]inquiry{},
		nodes:            map[string]*node{},
		blocks:           map[string]ipam.Holding{},
		pools:            map[string]pool{},
		floating:         map[netip.Addr]*floatingAddress{},
		reservations:     map[string][]netip.Prefix{},
		tiers:            map[string]tier{},
		policies:         map[PolicyRef]*policyState{},
		programs:         map[string]*policyState{},
		observedPrograms: map[string]*observedProgram{},
		sets:             map[string]*set{},
		shards:           map[string]*shard{},
		networkSets:      map[objectName]*networkSet{},
		services:         map[policy.Service]*service{},
		slices:           map[objectName]*service{},
		identities:       map[string]*identity{},
		keys:             map[string]map[string]*keyUse{},
		pending: pending{
			identities: map[*endpoint]struct{}{},
			keys:       map[scopedKey]bool{},
			compare:    map[Key]struct{}{},
			policies:   map[*policyState]struct{}{},
			nodes:      map[*node]struct{}{},
			staged:     map[*endpoint]struct{}{},
		},
		transition:    newTransition(),
		workers:       parallel.Workers(),
		dirty:         map[Key]struct{}{},
		dirtyPolicies: map[PolicyRef]struct{}{},
	}
	c.routes = routing.New(c.podsOn)
	c.selecting = labelindex.New(c.selectionChanged)
	c.membership = labelindex.New(c.membershipChanged)
	c.nodeSets = labelindex.New(c.nodeMembershipChanged)
	return c
}

// touch notes that the desired content of a rendered object may have changed.
func (c *Cluster) touch(kind Kind, name string) { c.dirty[Key{kind, name}] = struct{}{} }

// flush brings everything up to date. The steps build on each other in this order: who is who, who is in which set, what
// is in the API already, and from that which policies are in force where.
func (c *Cluster) flush() {
	c.updateIdentities()
	c.updateRoutes()
	c.compareObserved()
	c.updateTransition()
	c.updateEnforcement()
	c.updateStaged()
}
