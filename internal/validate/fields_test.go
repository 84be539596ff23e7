package validate

import (
	"strings"
	"testing"
)

func TestFieldAdvice(t *testing.T) {
	for _, tc := range []struct{ kind, path, want string }{
		{"NetworkPolicy", "spec.ingress[0].order", "rules are tried as they stand, and order belongs into spec"},
		{"GlobalNetworkPolicy", "spec.http", "it belongs into a rule, which is an entry of ingress or egress"},
		{"GlobalNetworkPolicy", "spec.egress[1].tier", "it belongs into spec"},
		{"NetworkPolicy", "spec.preDNAT", "only a GlobalNetworkPolicy can have it"},
		{"NetworkPolicy", "spec.namespaceSelector", "such a policy is for its own namespace"},
		{"NetworkPolicy", "spec.ingress[0].ports", "it belongs into the source or the destination of a rule"},
		{"NetworkPolicy", "spec.ingress[0].selector", "it belongs into the source or the destination of a rule, or into spec"},
		{"NetworkPolicy", "spec.ingress[0].destination.protocol", "beside action"},
		{"NetworkPolicy", "spec.ingress[0].destination.http", "beside action"},
		{"NetworkPolicy", "spec.ingress[0].methods", "it belongs into http"},
		{"NetworkPolicy", "spec.podSelector", "write selector"},
		{"NetworkPolicy", "spec.policyTypes", "write types"},
		{"NetworkPolicy", "spec.rules", "write ingress or egress"},
		{"NetworkPolicy", "spec.Selector", "write selector"},
		{"GlobalNetworkPolicy", "spec.preDnat", "write preDNAT"},
		{"StagedNetworkPolicy", "spec.ingress[0].from", "write source"},
		{"NetworkPolicy", "spec.egress[0].Protocol", "write protocol"},
		{"NetworkPolicy", "spec.egress[0].port", "write destination with ports"},
		{"NetworkPolicy", "spec.egress[0].destination.cidr", "write nets"},
		{"NetworkPolicy", "spec.egress[0].source.serviceAccountSelector", "write serviceAccounts"},
		{"NetworkPolicy", "spec.egress[0].destination.domains", "write a GlobalNetworkSet"},
		{"NetworkPolicy", "spec.egress[0].destination.services.port", "kubectl explain networkpolicy.spec lists those that there are"},
		{"HostEndpoint", "spec.order", "kubectl explain hostendpoint.spec lists"},
	} {
		if got := FieldAdvice(tc.kind, tc.path); !strings.HasPrefix(got, tc.want) && !strings.HasSuffix(got, tc.want) {
			t.Errorf("%s %s: %q, want %q", tc.kind, tc.path, got, tc.want)
		}
	}
}
