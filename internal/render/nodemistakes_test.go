package render

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestNodeMistakes: what can't be read counts as absent, and is told with the annotation and the fix.
func TestNodeMistakes(t *testing.T) {
	for _, tc := range []struct{ annotation, text, want string }{
		{annotationASNumber, "64512", ""},
		{annotationASNumber, "1.10", ""},
		{annotationASNumber, "4294967296", "write 1 to 4294967295"},
		{annotationASNumber, "AS64512", "write 1 to 4294967295"},
		{annotationClusterID, "244.0.0.1", ""},
		{annotationClusterID, "1", "write it in the form of an IPv4 address"},
		{annotationIPv4Address, "192.0.2.10/24", ""},
		{annotationIPv4Address, "192.0.2.10", ""},
		{annotationIPv4Address, "2001:db8::10", "no IPv4 address"},
		{annotationIPv4Address, "192.0.2", "no IPv4 address"},
		{annotationIPv6Address, "2001:db8::10/64", ""},
		{annotationIPv6Address, "192.0.2.10", "no IPv6 address"},
	} {
		o := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{tc.annotation: tc.text}}}
		got := strings.Join(NodeMistakes(o), "; ")
		if (tc.want == "") != (got == "") || !strings.Contains(got, tc.want) || got != "" && !strings.Contains(got, tc.annotation) {
			t.Errorf("%s %q: got %q, want %q", tc.annotation, tc.text, got, tc.want)
		}
	}
}
