package render

import (
	"net"
	"strings"
	"testing"
)

// What users write in annotations is either read or answered with what is wrong, by the annotation's name; and what is read is
// within bounds, and reads the same again.
func FuzzAnnotations(f *testing.F) {
	for _, text := range []string{"", "[]", `["10.1.0.7"]`, `["10.1.0.7","fd00::7"," ::ffff:10.1.0.8"]`, "10.1.0.7", "1c:0c:0a:c0:ff:ee", "10M", "1e3", "-5", "0.5k", "9999999999P"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		addrs, problem := addressList(annotationFloating, text, maxFloating)
		if problem != "" && (len(addrs) > 0 || !strings.HasPrefix(problem, "annotation "+annotationFloating+": ")) {
			t.Errorf("%q: %v, %s", text, addrs, problem)
		}
		for i, a := range addrs {
			if !a.IsGlobalUnicast() || a.Is4In6() || a.Zone() != "" || i > 0 && !addrs[i-1].Less(a) {
				t.Errorf("%q: %v", text, addrs)
			}
		}
		mac, problem := hardwareAddress(text)
		if again, err := net.ParseMAC(mac); mac != "" && (problem != "" || err != nil || again.String() != mac || again[0]&1 != 0) {
			t.Errorf("%q: %s, %s, %v", text, mac, problem, err)
		}
		if mac == "" && text != "" && !strings.HasPrefix(problem, "annotation "+annotationMAC+": ") {
			t.Errorf("%q: no address, and no problem but %q", text, problem)
		}
		limits, problem := bandwidthWishes{ingress: limitWish{rate: text, burst: text}, egress: limitWish{rate: "1k", peak: text, minBurst: text}}.render()
		switch {
		case problem != "" && (limits != nil || !strings.HasPrefix(problem, "annotation ")):
			t.Errorf("%q: %v, %s", text, limits, problem)
		case limits != nil && text != "" && (limits.Ingress.BitsPerSecond < minRate || limits.Ingress.BitsPerSecond > maxRate || limits.Ingress.BurstBits < minBurst || limits.Ingress.BurstBits > maxBurst):
			t.Errorf("%q: %+v", text, limits.Ingress)
		case limits != nil && text != "" && (limits.Egress.PeakBitsPerSecond <= 1000 || limits.Egress.MinBurstBytes < minMinBurst || limits.Egress.MinBurstBytes > maxMinBurst):
			t.Errorf("%q: %+v", text, limits.Egress)
		}
	})
}
