package render

import (
	"cmp"
	"crypto/sha1" //nolint:gosec // not for security: the name that users of Calico know
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/nodeagent/tables"
)

// Kinds of items in problems and among what is held back.
const (
	KindNodeState     = "NodeState"
	KindNodeEndpoints = "NodeEndpoints"
	KindNodeNetwork   = "NodeNetwork"
	KindPolicyProgram = "PolicyProgram"
	KindSetCatalog    = "SetCatalog"
	KindEndpoint      = "Endpoint"
	KindHostEndpoint  = "HostEndpoint"
	// KindFloatingAddress is an endpoint's floating addresses: what is wrong with them does not concern its policies.
	KindFloatingAddress = "FloatingAddress"
)

// State is what one node knows, and the tables that follow from it. It is not safe for concurrent use.
type State struct {
	node string

	policy    *tables.Policy
	routes    *tables.Routes
	bandwidth *tables.Bandwidth
	// packetLimits are those of pods' packets and connections.
	packetLimits *tables.PacketLimitsTable

	endpoints map[string]*endpoint
	hosts     map[string]*host
	// placed tells which host endpoint stands for which interface of the tables, interfaces what addresses the node's have.
	placed     map[string]string
	interfaces map[string][]netip.Addr

	programs  map[string]*program
	sets      map[string]*set
	shards    map[string][]string // shard of the catalog -> IDs of its sets
	remotes   map[string]remote   // node -> what its endpoints contribute
	networks  map[string]v1alpha1.NodeNetworkSpec
	members   members
	dests     map[netip.Prefix]*destination
	ownBlocks []netip.Prefix
	// ownSubnets are the subnets of the node's addresses.
	ownSubnets []netip.Prefix

	// floating tells to which endpoint a floating address belongs.
	floating map[netip.Addr]string

	bgp     bgp
	learned learned
	bridge  bridge
	loops   tables.ServiceLoops
	peering tables.PeeringAddresses
	tunnels tunnels

	// waitingForSet, waitingForProgram and hostsWaiting: ID of the missing -> names of those that wait. For programs wait
	// endpoints and, by themselves, host endpoints.
	waitingForSet     index
	waitingForProgram index
	hostsWaiting      index

	problems map[Item]string
}

// Item names one thing that a node puts into effect.
type Item struct{ Kind, Name string }

// index maps a name to a set of names.
type index map[string]map[string]struct{}

func (x index) add(key, value string) {
	if x[key] == nil {
		x[key] = map[string]struct{}{}
	}
	x[key][value] = struct{}{}
}

func (x index) remove(key, value string) {
	delete(x[key], value)
	if len(x[key]) == 0 {
		delete(x, key)
	}
}

// sorted gives the values of key. The copy may be iterated over while the index changes.
func (x index) sorted(key string) []string {
	values := make([]string, 0, len(x[key]))
	for v := range x[key] {
		values = append(values, v)
	}
	slices.Sort(values)
	return values
}

// New makes the state of a node that knows nothing yet.
func New(node string) *State {
	policy := tables.NewPolicy()
	policy.Settings, _ = settings(v1alpha1.AgentSettings{}) // nothing is set that could be wrong
	policy.SettingsDirty = true
	return &State{
		node:              node,
		policy:            policy,
		routes:            tables.NewRoutes(),
		bandwidth:         tables.NewBandwidth(),
		packetLimits:      tables.NewPacketLimits(),
		endpoints:         map[string]*endpoint{},
		hosts:             map[string]*host{},
		programs:          map[string]*program{},
		sets:              map[string]*set{},
		shards:            map[string][]string{},
		remotes:           map[string]remote{},
		networks:          map[string]v1alpha1.NodeNetworkSpec{},
		members:           newMembers(policy.Members),
		dests:             map[netip.Prefix]*destination{},
		floating:          map[netip.Addr]string{},
		waitingForSet:     index{},
		waitingForProgram: index{},
		hostsWaiting:      index{},
		problems:          map[Item]string{},
		bgp:               newBGP(),
		learned:           newLearned(),
		bridge:            newBridge(),
		tunnels:           newTunnels(),
	}
}

// Policy is the desired policy dataplane.
func (s *State) Policy() *tables.Policy { return s.policy }

// Routes are the desired routes.
func (s *State) Routes() *tables.Routes { return s.routes }

// PacketLimits are the desired limits of packets and connections.
func (s *State) PacketLimits() *tables.PacketLimitsTable { return s.packetLimits }

// Bandwidth are the desired limits of traffic.
func (s *State) Bandwidth() *tables.Bandwidth { return s.bandwidth }

// Problems are the items that could not be understood, with what is wrong with them. The previous form of such an item
// stays in force. The map is the state's own.
func (s *State) Problems() map[Item]string { return s.problems }

// problem notes what is wrong with an item, or with err nil that nothing is.
func (s *State) problem(kind, name string, err error) {
	item := Item{Kind: kind, Name: name}
	if err == nil {
		delete(s.problems, item)
		return
	}
	s.problems[item] = err.Error()
}

// Held is an item of which the newest form waits for something.
type Held struct {
	Item
	// Version of the object that is held back; 0 for endpoints and host endpoints.
	Version uint64
	// WaitsFor names what is missing: "PolicyProgram gnp.x, PolicyProgram gnp.y".
	WaitsFor string
}

// Held lists what is held back, in order.
func (s *State) Held() []Held {
	var held []Held
	for _, name := range distinct(s.waitingForSet) {
		p := s.programs[name]
		held = append(held, Held{
			Item:     Item{Kind: KindPolicyProgram, Name: name},
			Version:  p.pending.version,
			WaitsFor: named("set ", s.missingSets(p.pending)),
		})
	}
	for _, id := range distinct(s.waitingForProgram) {
		held = append(held, Held{
			Item:     Item{Kind: KindEndpoint, Name: id},
			WaitsFor: named(KindPolicyProgram+" ", s.endpoints[id].waits),
		})
	}
	for _, name := range distinct(s.hostsWaiting) {
		held = append(held, Held{
			Item:     Item{Kind: KindHostEndpoint, Name: name},
			WaitsFor: named(KindPolicyProgram+" ", s.hosts[name].waits),
		})
	}
	return held
}

// distinct gives all that wait for something.
func distinct(waiting index) []string {
	var names []string
	for key := range waiting {
		names = append(names, waiting.sorted(key)...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func named(what string, names []string) string {
	const most = 8 // a message, not an inventory
	more := ""
	if len(names) > most {
		names, more = names[:most], ", ..."
	}
	return what + strings.Join(names, ", "+what) + more
}

const (
	// interfacePrefix is what the names of pods' interfaces begin with.
	interfacePrefix = "cali"
	loopback        = "lo"
)

// InterfaceName is the name of the host-side interface of an endpoint ("namespace/name"): "cali" and the first eleven
// hexadecimal digits of the SHA-1 of "namespace.name".
func InterfaceName(id string) string {
	sum := sha1.Sum([]byte(strings.Replace(id, "/", ".", 1))) //nolint:gosec // not for security
	return interfacePrefix + hex.EncodeToString(sum[:])[:11]
}

// HostInterface is the name of the host-side interface of a pod's interface: [InterfaceName] for its first, for which iface is empty,
// and for another one the same of "namespace.name/interface".
func HostInterface(id, iface string) string {
	if iface == "" {
		return InterfaceName(id)
	}
	return InterfaceName(id + "/" + iface)
}

func compareAddrs(a, b netip.Addr) int {
	return cmp.Or(cmp.Compare(a.BitLen(), b.BitLen()), a.Compare(b))
}
