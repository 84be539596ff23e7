package render

import (
	"net/netip"
	"testing"
)

// TestIPVS: the dataplane judges what IPVS passes on while kube-proxy has its interface, whether that or the NodeState is known first.
func TestIPVS(t *testing.T) {
	with := map[string][]netip.Addr{"eth0": nil, IPVSInterface: {netip.MustParseAddr("10.96.0.1")}}
	s := New(self)
	is := func(when string, want, dirty bool) {
		t.Helper()
		if p := s.Policy(); p.Settings.IPVS != want || p.SettingsDirty != dirty {
			t.Errorf("%s: IPVS %v, dirty %v; want %v, %v", when, p.Settings.IPVS, p.SettingsDirty, want, dirty)
		}
		s.Policy().Clean()
	}
	s.SetInterfaces(with)
	s.SetNodeState(hostState())
	is("interface and NodeState", true, true)
	s.SetNodeState(hostState())
	is("again", true, false)
	s.SetInterfaces(map[string][]netip.Addr{"eth0": nil})
	is("cleaned up", false, true)
	s.SetInterfaces(with)
	is("back", true, true)
}
