// Package verdict evaluates tables in memory: what the kernel does with the first packet of a connection when it is equal to
// them, and what decides on it. It is the third way to a verdict beside the drivers of the kernel, and must agree with them.
package verdict

import (
	"net/netip"
	"strings"

	"github.com/gaissmai/bart"

	"github.com/manul-net/manul/nodeagent/tables"
)

// Evaluator gives verdicts by the tables that it was made for, which it does not change. It is not safe for use while they
// change.
type Evaluator struct {
	policy *tables.Policy
	prefix string
	// nets of sets of CIDRs. All other members are looked up in the tables.
	nets map[string]*bart.Lite
}

// New makes an evaluator of tables. workloadPrefix begins the names of workloads' interfaces.
func New(policy *tables.Policy, workloadPrefix string) *Evaluator {
	e := &Evaluator{policy: policy, prefix: workloadPrefix, nets: map[string]*bart.Lite{}}
	for m := range policy.Members.All() {
		e.update(m)
	}
	return e
}

// Update takes the changes of the tables that are still marked as such. It must be called before the marks are cleaned.
func (e *Evaluator) Update() {
	for m := range e.policy.Members.Dirty() {
		e.update(m)
	}
}

func (e *Evaluator) update(m tables.Member) {
	if m.Prefix.IsSingleIP() {
		return
	}
	nets := e.nets[m.Set]
	if _, is := e.policy.Members.Get(m); is {
		if nets == nil {
			nets = &bart.Lite{}
			e.nets[m.Set] = nets
		}
		nets.Insert(m.Prefix)
		return
	}
	if nets == nil {
		return
	}
	nets.Delete(m.Prefix)
	if nets.Size() == 0 {
		delete(e.nets, m.Set)
	}
}

// inSet tells whether an address is in a set.
func (e *Evaluator) inSet(set string, addr netip.Addr) bool {
	if _, is := e.policy.Members.Get(tables.Member{Set: set, Prefix: netip.PrefixFrom(addr, addr.BitLen())}); is {
		return true
	}
	nets := e.nets[set]
	return nets != nil && nets.Contains(addr)
}

// hasPort tells whether a set of ports has the port at an address.
func (e *Evaluator) hasPort(set string, addr netip.Addr, protocol uint8, port uint16) bool {
	m := tables.Member{Set: set, Prefix: netip.PrefixFrom(addr, addr.BitLen()), Protocol: protocol, Port: port}
	_, is := e.policy.Members.Get(m)
	return is
}

func (e *Evaluator) isWorkload(iface string) bool {
	return e.prefix != "" && strings.HasPrefix(iface, e.prefix)
}

const loopback = "lo"

// host is the host endpoint of an interface, with the key by which the tables have it.
func (e *Evaluator) host(iface string) (tables.HostEndpoint, string, bool) {
	if iface == "" || iface == loopback || e.isWorkload(iface) {
		return tables.HostEndpoint{}, "", false
	}
	for _, key := range [...]string{iface, tables.AllInterfaces} {
		if h, ok := e.policy.HostEndpoints.Get(key); ok {
			return h, key, true
		}
	}
	return tables.HostEndpoint{}, "", false
}
