package render

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unique"

	"github.com/manul-net/manul/api/v1alpha1"
)

// remote is what the endpoints of one node contribute to sets. Who they are is of no interest.
type remote struct {
	addrs []contribution
	ports []portContribution
}

type contribution struct {
	identity identity
	addr     netip.Addr
}

type portContribution struct {
	name unique.Handle[string]
	port port
}

// SetEndpoints takes news of the endpoints of a node.
func (s *State) SetEndpoints(node string, spec *v1alpha1.NodeEndpointsSpec) {
	var r remote
	var problem error
	for i := range spec.Endpoints {
		e := &spec.Endpoints[i]
		addrs, err := addresses(e.Addresses)
		if err != nil {
			problem = errors.Join(problem, fmt.Errorf("endpoint %s: %w", e.ID, err))
		}
		r.add(intern(e.Identities), addrs, e.Ports)
	}
	s.problem(KindNodeEndpoints, node, problem)
	s.contribute(node, r)
}

// DeleteEndpoints takes the news that a node has no endpoints any more.
func (s *State) DeleteEndpoints(node string) {
	s.problem(KindNodeEndpoints, node, nil)
	s.contribute(node, remote{})
	delete(s.remotes, node)
}

func (r *remote) add(identities []identity, addrs []netip.Addr, ports []v1alpha1.NamedPort) {
	for _, addr := range addrs {
		for _, id := range identities {
			r.addrs = append(r.addrs, contribution{identity: id, addr: addr})
		}
		for _, p := range ports {
			r.ports = append(r.ports, portContribution{
				name: unique.Make(strings.Clone(p.Name)),
				port: port{addr: addr, protocol: uint8(p.Protocol), number: uint16(p.Port)},
			})
		}
	}
}

// contribute makes r what the source gives to sets. The new is counted before the old is let go: what stays does not
// change.
func (s *State) contribute(source string, r remote) {
	old := s.remotes[source]
	s.remotes[source] = r
	for _, c := range r.addrs {
		s.members.addAddr(c.identity, c.addr)
	}
	for _, c := range r.ports {
		s.members.addPort(c.name, c.port)
	}
	for _, c := range old.addrs {
		s.members.removeAddr(c.identity, c.addr)
	}
	for _, c := range old.ports {
		s.members.removePort(c.name, c.port)
	}
}
