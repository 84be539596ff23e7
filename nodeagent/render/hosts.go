package render

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/nodeagent/tables"
)

// host is a host endpoint that the operator named.
type host struct {
	iface string // "": by address
	addrs []netip.Addr
	// unread tells which addresses could not be read.
	unread error
	// wanted is what the operator says applies to it; nil: it is gone.
	wanted *hostList
	// current is the list in force: wanted, or an earlier one while wanted waits; nil: none, or it has no interface.
	current *hostList
	// waits names the programs that wanted waits for.
	waits []string
	// uses are the programs that count it as their user.
	uses []string
}

// hostList is what applies to a host endpoint.
type hostList struct {
	desired  tables.HostEndpoint
	programs []string
}

func newHostList(h *v1alpha1.HostEndpoint) *hostList {
	l := &hostList{desired: tables.HostEndpoint{
		Untracked:    tables.Directions{Ingress: tiers(h.Untracked.Ingress), Egress: tiers(h.Untracked.Egress)},
		PreDNAT:      tiers(h.PreDNAT),
		Forward:      tables.Directions{Ingress: tiers(h.Forward.Ingress), Egress: tiers(h.Forward.Egress)},
		Local:        tables.Directions{Ingress: tiers(h.Local.Ingress), Egress: tiers(h.Local.Egress)},
		LocalDefault: tables.Deny,
	}}
	if h.DefaultAction == v1alpha1.Allow {
		l.desired.LocalDefault = tables.Allow
	}
	d := &l.desired
	l.programs = programsOf(
		d.Untracked.Ingress, d.Untracked.Egress, d.PreDNAT, d.Forward.Ingress, d.Forward.Egress, d.Local.Ingress, d.Local.Egress)
	return l
}

// longestInterface is what the kernel allows for an interface's name (IFNAMSIZ less the final zero).
const longestInterface = 15

// checkHost tells why a host endpoint can stand for no interface at all.
func checkHost(h *host) error {
	switch {
	case h.iface == "" && len(h.addrs) == 0:
		return errors.New("it has neither an interfaceName nor expectedIPs: give one of them")
	case len(h.iface) > longestInterface:
		return fmt.Errorf("interfaceName: %q is longer than the %d characters that a name may have", h.iface, longestInterface)
	case h.iface == loopback:
		return errors.New("interfaceName: the loopback interface is never policed; name another one, or *")
	case strings.HasPrefix(h.iface, interfacePrefix):
		return fmt.Errorf("interfaceName: %q is a pod's interface; select the pod by its labels", h.iface)
	}
	return nil
}

// setHosts takes news of the node's host endpoints.
func (s *State) setHosts(specs []v1alpha1.HostEndpoint) {
	named := make(map[string]bool, len(specs))
	for i := range specs {
		spec := &specs[i]
		named[spec.Name] = true
		h := s.hosts[spec.Name]
		if h == nil {
			h = &host{}
			s.hosts[spec.Name] = h
		}
		h.iface = spec.Interface
		h.addrs, h.unread = addresses(spec.Addresses)
		h.wanted = newHostList(spec)
	}
	for name, h := range s.hosts {
		if !named[name] {
			h.wanted = nil
		}
	}
	s.resolveHosts()
}

// SetInterfaces takes the addresses of the node's interfaces. Those of pods and the loopback interface do not matter.
func (s *State) SetInterfaces(interfaces map[string][]netip.Addr) {
	kept := make(map[string][]netip.Addr, len(interfaces))
	for name, addrs := range interfaces {
		if name != loopback && !strings.HasPrefix(name, interfacePrefix) {
			kept[name] = slices.Clone(addrs)
		}
	}
	s.interfaces = kept
	s.resolveHosts()
	s.resolveIPVS()
}

// HostEndpoint is the name of the host endpoint that stands for an interface of the tables; "" when none does.
func (s *State) HostEndpoint(iface string) string { return s.placed[iface] }

// resolveHosts puts into the tables what can be put there of all host endpoints. There are few.
func (s *State) resolveHosts() {
	placed, lost := s.place()
	has := map[string]bool{}
	for _, name := range placed {
		has[name] = true
	}
	before := map[string][]string{}
	for name, h := range s.hosts {
		before[name] = h.uses
		s.chooseList(name, h, has[name])
	}
	for iface, name := range placed {
		desired := tables.HostEndpoint{Unknown: true, LocalDefault: tables.Deny}
		if l := s.hosts[name].current; l != nil {
			desired = l.desired
		}
		s.policy.HostEndpoints.Set(iface, desired)
	}
	for iface := range s.placed {
		if _, stays := placed[iface]; !stays {
			s.policy.HostEndpoints.Delete(iface)
		}
	}
	s.placed = placed
	for name, h := range s.hosts {
		for _, program := range before[name] {
			s.unuseProgram(program)
		}
		s.problem(KindHostEndpoint, name, errors.Join(h.unread, lost[name]))
		if h.wanted == nil {
			s.problem(KindHostEndpoint, name, nil)
			delete(s.hosts, name)
		}
	}
}

// chooseList decides which list of a host endpoint is in force, and counts the programs that it uses. A host endpoint that
// has no interface has no list in force, so that nothing of it can be kept that is out of date when it gets one.
func (s *State) chooseList(name string, h *host, hasInterface bool) {
	for _, program := range h.waits {
		s.hostsWaiting.remove(program, name)
	}
	h.waits = nil
	if h.wanted != nil {
		h.waits = s.missingPrograms(h.wanted.programs)
		for _, program := range h.waits {
			s.hostsWaiting.add(program, name)
		}
	}
	switch {
	case h.wanted == nil || !hasInterface:
		h.current = nil
	case len(h.waits) == 0:
		h.current = h.wanted
	}
	h.uses = nil
	if h.current != nil {
		h.uses = h.current.programs
	}
	for _, program := range h.uses {
		s.useProgram(program)
	}
}

// place finds the host endpoint of each interface, and says of those that get none why. A name comes before addresses, and
// both before what stands for all other interfaces, which has an entry of its own. Of several equals the smallest name
// counts.
func (s *State) place() (placed map[string]string, lost map[string]error) {
	placed, lost = map[string]string{}, map[string]error{}
	claimed := map[string][]string{} // host endpoint -> interfaces that it asks for
	var order []string
	for _, asks := range []func(*host) []string{hostsByName, s.hostsByAddress, hostsByWildcard} {
		for _, name := range slices.Sorted(maps.Keys(s.hosts)) {
			h := s.hosts[name]
			if h.wanted == nil {
				continue
			}
			if interfaces := asks(h); len(interfaces) > 0 {
				claimed[name] = interfaces
				order = append(order, name)
			}
		}
	}
	for _, name := range order {
		got := 0
		for _, iface := range claimed[name] {
			if _, taken := placed[iface]; !taken {
				placed[iface] = name
				got++
			}
		}
		if got == 0 {
			iface := claimed[name][0]
			lost[name] = fmt.Errorf("not in force: the HostEndpoint %s stands for %s already", placed[iface], describe(iface))
		}
	}
	for name, h := range s.hosts {
		if h.wanted == nil || claimed[name] != nil {
			continue
		}
		if lost[name] = checkHost(h); lost[name] == nil {
			lost[name] = fmt.Errorf("expectedIPs: no interface of the node has any of %s", joined(h.addrs))
		}
	}
	return placed, lost
}

func hostsByName(h *host) []string {
	if h.iface == "" || h.iface == tables.AllInterfaces || checkHost(h) != nil {
		return nil
	}
	return []string{h.iface}
}

func hostsByWildcard(h *host) []string {
	if h.iface != tables.AllInterfaces {
		return nil
	}
	return []string{h.iface}
}

func (s *State) hostsByAddress(h *host) []string {
	if h.iface != "" {
		return nil
	}
	var interfaces []string
	for iface, addrs := range s.interfaces {
		if slices.ContainsFunc(h.addrs, func(a netip.Addr) bool { return slices.Contains(addrs, a) }) {
			interfaces = append(interfaces, iface)
		}
	}
	slices.Sort(interfaces)
	return interfaces
}

func describe(iface string) string {
	if iface == tables.AllInterfaces {
		return "all interfaces"
	}
	return "interface " + iface
}

func joined(addrs []netip.Addr) string {
	texts := make([]string, 0, len(addrs))
	for _, a := range addrs {
		texts = append(texts, a.String())
	}
	return strings.Join(texts, ", ")
}
