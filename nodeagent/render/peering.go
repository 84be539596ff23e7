package render

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/nodeagent/tables"
)

// Peering are the addresses that the node needs for pods that peer with it.
func (s *State) Peering() *tables.PeeringAddresses { return &s.peering }

// setPeering gives the node the addresses, and lets pods reach them at the port of BGP.
func (s *State) setPeering(settings *tables.Settings) {
	s.peering.Set(s.bgp.peering)
	if s.bgp.speaker == nil {
		return
	}
	for _, a := range s.bgp.peering {
		settings.PeeringPorts = append(settings.PeeringPorts, tables.FailsafePort{
			Protocol: protocolTCP, Port: s.bgp.speaker.Port, Net: netip.PrefixFrom(a, a.BitLen()),
		})
	}
}

// protocolTCP is the IANA protocol number.
const protocolTCP = 6

// peeringAddresses are those of a speaker for pods of the node. The node has them before a pod peers, for to listen at other addresses the
// speaker has to end all sessions.
func peeringAddresses(spec *v1alpha1.BGP) ([]netip.Addr, error) {
	var out []netip.Addr
	var problem error
	for field, text := range map[string]string{"workloadIPv4": spec.WorkloadIPv4, "workloadIPv6": spec.WorkloadIPv6} {
		if text == "" {
			continue
		}
		a, err := netip.ParseAddr(text)
		switch {
		case err != nil:
			problem = errors.Join(problem, fmt.Errorf("%s: got %q, want an address", field, text))
		case a.Is6() && a.IsLinkLocalUnicast():
			problem = errors.Join(problem, fmt.Errorf("%s: pods reach the node at %s by no route, since it is link-local: choose an address such as fd00::179", field, text))
		default:
			out = append(out, a)
		}
	}
	return out, problem
}
