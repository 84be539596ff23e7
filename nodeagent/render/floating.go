package render

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// setFloating translates the floating addresses of an endpoint to those that it has, and makes the routes to them. The operator
// gives an address to one endpoint at a time; while it moves from one to another of the same node, the later word counts.
func (s *State) setFloating(id string, e *endpoint, own []netip.Addr) {
	var next []netip.Addr
	var problem error
	if e.wanted != nil {
		next, problem = e.wanted.floatingAddresses()
	}
	for _, addr := range e.floating {
		if !slices.Contains(next, addr) {
			s.releaseFloating(id, addr)
		}
	}
	e.floating = next
	for _, addr := range next {
		i := slices.IndexFunc(own, func(a netip.Addr) bool { return a.Is4() == addr.Is4() })
		if i < 0 {
			s.releaseFloating(id, addr)
			if len(own) > 0 {
				problem = errors.Join(problem, fmt.Errorf("floating address %s: the pod has no address of its family", addr))
			}
			continue
		}
		s.floating[addr] = id
		s.policy.Floating.Set(addr, own[i])
		s.claim(netip.PrefixFrom(addr, addr.BitLen()), func(d *destination) { d.floating = InterfaceName(id) })
	}
	s.problem(KindFloatingAddress, id, problem)
}

func (s *State) releaseFloating(id string, addr netip.Addr) {
	if s.floating[addr] != id {
		return // it is another's now
	}
	delete(s.floating, addr)
	s.policy.Floating.Delete(addr)
	s.claim(netip.PrefixFrom(addr, addr.BitLen()), func(d *destination) { d.floating = "" })
}

// floatingAddresses are the floating addresses of the endpoint, and why it does not get others that it asked for.
func (l *list) floatingAddresses() ([]netip.Addr, error) {
	var out []netip.Addr
	var problem error
	for _, f := range l.floating {
		addr, err := netip.ParseAddr(f.Address)
		switch {
		case err != nil:
			problem = errors.Join(problem, fmt.Errorf("reading floating address: %w", err))
		case f.Problem != "":
			problem = errors.Join(problem, errors.New(f.Problem))
		default:
			out = append(out, addr.Unmap())
		}
	}
	return out, problem
}
