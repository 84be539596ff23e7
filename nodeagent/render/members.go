package render

import (
	"net/netip"
	"strings"
	"unique"

	"github.com/manul-net/manul/nodeagent/delta"
	"github.com/manul-net/manul/nodeagent/tables"
)

// identity is a class of endpoints. Many endpoints share few identities, so each is kept once.
type identity = unique.Handle[string]

func intern(ids []string) []identity {
	var handles []identity
	for _, id := range ids {
		handles = append(handles, unique.Make(strings.Clone(id)))
	}
	return handles
}

// port is one endpoint's port of some name.
type port struct {
	addr     netip.Addr
	protocol uint8
	number   uint16
}

// members works out who is in the sets in use. An endpoint that comes or goes costs work in proportion to the sets in
// use that name its identity. Everything is counted: an address may be given by several endpoints for a moment, and
// be in a set for several reasons.
type members struct {
	addrs map[identity]map[netip.Addr]int
	users map[identity]map[string]int // sets in use that name the identity
	ports map[unique.Handle[string]]map[port]int
	// usedPorts counts the programs in force that name a set of named ports.
	usedPorts map[string]int
	table     *tables.Members
	// more counts the reasons for being a member beyond the first.
	more map[tables.Member]int
}

func newMembers(table *tables.Members) members {
	return members{
		addrs:     map[identity]map[netip.Addr]int{},
		users:     map[identity]map[string]int{},
		ports:     map[unique.Handle[string]]map[port]int{},
		usedPorts: map[string]int{},
		table:     table,
		more:      map[tables.Member]int{},
	}
}

func (m *members) include(x tables.Member) {
	if !m.table.Set(x, struct{}{}) {
		m.more[x]++
	}
}

func (m *members) exclude(x tables.Member) {
	switch n := m.more[x]; n {
	case 0:
		m.table.Delete(x)
	case 1:
		delete(m.more, x)
	default:
		m.more[x] = n - 1
	}
}

// addAddr takes the news that an endpoint with the identity has the address.
func (m *members) addAddr(id identity, addr netip.Addr) {
	if m.addrs[id] == nil {
		m.addrs[id] = map[netip.Addr]int{}
	}
	m.addrs[id][addr]++
	if m.addrs[id][addr] == 1 {
		for set := range m.users[id] {
			m.include(single(set, addr))
		}
	}
}

func (m *members) removeAddr(id identity, addr netip.Addr) {
	if m.addrs[id][addr]--; m.addrs[id][addr] > 0 {
		return
	}
	delete(m.addrs[id], addr)
	if len(m.addrs[id]) == 0 {
		delete(m.addrs, id)
	}
	for set := range m.users[id] {
		m.exclude(single(set, addr))
	}
}

// attach makes members of all that belong to a set that is in use from now on.
func (m *members) attach(id string, x *content) {
	for _, who := range x.identities {
		if m.users[who] == nil {
			m.users[who] = map[string]int{}
		}
		if m.users[who][id]++; m.users[who][id] > 1 {
			continue
		}
		for addr := range m.addrs[who] {
			m.include(single(id, addr))
		}
	}
	for _, n := range x.nets {
		m.include(tables.Member{Set: id, Prefix: n})
	}
	for _, p := range x.ports {
		m.include(portMember(id, p))
	}
}

func (m *members) detach(id string, x *content) {
	for _, who := range x.identities {
		if m.users[who][id]--; m.users[who][id] > 0 {
			continue
		}
		delete(m.users[who], id)
		if len(m.users[who]) == 0 {
			delete(m.users, who)
		}
		for addr := range m.addrs[who] {
			m.exclude(single(id, addr))
		}
	}
	for _, n := range x.nets {
		m.exclude(tables.Member{Set: id, Prefix: n})
	}
	for _, p := range x.ports {
		m.exclude(portMember(id, p))
	}
}

// touch counts all members of a set as changed.
func (m *members) touch(id string, x *content) {
	for _, who := range x.identities {
		for addr := range m.addrs[who] {
			m.table.MarkDirty(single(id, addr))
		}
	}
	for _, n := range x.nets {
		m.table.MarkDirty(tables.Member{Set: id, Prefix: n})
	}
	for _, p := range x.ports {
		m.table.MarkDirty(portMember(id, p))
	}
}

func single(set string, addr netip.Addr) tables.Member {
	return tables.Member{Set: set, Prefix: netip.PrefixFrom(addr, addr.BitLen())}
}

const portSetPrefix = "port:"

// portSet is the ID of the set of all endpoints' ports of one name.
func portSet(name string) string { return portSetPrefix + name }

func (m *members) addPort(name unique.Handle[string], p port) {
	if m.ports[name] == nil {
		m.ports[name] = map[port]int{}
	}
	m.ports[name][p]++
	if set := portSet(name.Value()); m.ports[name][p] == 1 && m.usedPorts[set] > 0 {
		m.table.Set(portMember(set, p), struct{}{})
	}
}

func (m *members) removePort(name unique.Handle[string], p port) {
	if m.ports[name][p]--; m.ports[name][p] > 0 {
		return
	}
	delete(m.ports[name], p)
	if len(m.ports[name]) == 0 {
		delete(m.ports, name)
	}
	m.table.Delete(portMember(portSet(name.Value()), p))
}

// usePorts counts one more program in force that names the set of named ports.
func (m *members) usePorts(set string, sets *delta.Table[string, tables.SetType]) {
	if m.usedPorts[set]++; m.usedPorts[set] > 1 {
		return
	}
	sets.Set(set, tables.NamedPorts)
	for p := range m.ports[unique.Make(strings.TrimPrefix(set, portSetPrefix))] {
		m.table.Set(portMember(set, p), struct{}{})
	}
}

func (m *members) unusePorts(set string, sets *delta.Table[string, tables.SetType]) {
	if m.usedPorts[set]--; m.usedPorts[set] > 0 {
		return
	}
	delete(m.usedPorts, set)
	for p := range m.ports[unique.Make(strings.TrimPrefix(set, portSetPrefix))] {
		m.table.Delete(portMember(set, p))
	}
	sets.Delete(set)
}

func portMember(set string, p port) tables.Member {
	x := single(set, p.addr)
	x.Protocol, x.Port = p.protocol, p.number
	return x
}
