package render

import (
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/manul-net/manul/internal/routing"
)

// annotatedAddress is the address in an annotation of a node, possibly with a prefix length; what can't be read, or is of the other
// family, counts as absent.
func annotatedAddress(o *corev1.Node, annotation string) (netip.Addr, bool) {
	text, _, _ := strings.Cut(o.Annotations[annotation], "/")
	addr, err := netip.ParseAddr(text)
	if err != nil || addr.Zone() != "" || addr.Is4In6() || addr.Is4() != (annotation == annotationIPv4Address) {
		return netip.Addr{}, false
	}
	return addr, true
}

// NodeMistakes are the annotations of a node that can't be read, and so count as absent, each with the fix.
func NodeMistakes(o *corev1.Node) []string {
	var out []string
	mistake := func(annotation string, readable bool, fix string) {
		if text := o.Annotations[annotation]; text != "" && !readable {
			out = append(out, fmt.Sprintf("annotation %s: %q is %s", annotation, text, fix))
		}
	}
	_, ok := routing.ParseASNumber(o.Annotations[annotationASNumber])
	mistake(annotationASNumber, ok, "no AS number, and the one of the BGPConfiguration counts: write 1 to 4294967295, or two numbers with a dot such as 1.10")
	_, ok = routing.ParseClusterID(o.Annotations[annotationClusterID])
	mistake(annotationClusterID, ok, "no cluster ID, and the node is no route reflector: write it in the form of an IPv4 address, such as 244.0.0.1")
	_, ok = annotatedAddress(o, annotationIPv4Address)
	mistake(annotationIPv4Address, ok, "no IPv4 address, and the node's InternalIP counts: write it like 192.0.2.10 or 192.0.2.10/24")
	_, ok = annotatedAddress(o, annotationIPv6Address)
	mistake(annotationIPv6Address, ok, "no IPv6 address, and the node's InternalIP counts: write it like 2001:db8::10 or 2001:db8::10/64")
	return out
}
