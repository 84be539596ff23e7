package routing

import "testing"

// The annotation projectcalico.org/ASNumber; what can't be read is as if it were absent.
func TestASNumberOfANode(t *testing.T) {
	for annotation, want := range map[string]int64{
		"": 64512, "65001": 65001, "4200000000": 4200000000, "1.10": 65546,
		"0": 64512, "x": 64512, "1.x": 64512, "1.70000": 64512, "4294967296": 64512,
	} {
		w := newTown(t)
		w.node("a", "192.0.2.1", "asNumber="+annotation)
		if bgp := w.plan.BGP("a"); bgp == nil || bgp.ASNumber != want {
			t.Errorf("%q: %+v, want AS %d", annotation, bgp, want)
		}
	}
}
