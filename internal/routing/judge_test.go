package routing

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/manul-net/manul/api/v1alpha1"
)

// TestJudge: what export rules do to a route of the node's own.
func TestJudge(t *testing.T) {
	rule := func(accept bool, change func(*v1alpha1.BGPRouteRule)) v1alpha1.BGPRouteRule {
		r := v1alpha1.BGPRouteRule{Family: 4, Accept: accept}
		if change != nil {
			change(&r)
		}
		return r
	}
	cidr := func(operator, text string) func(*v1alpha1.BGPRouteRule) {
		return func(r *v1alpha1.BGPRouteRule) { r.Operator, r.CIDR = operator, text }
	}
	for name, tc := range map[string]struct {
		rules []v1alpha1.BGPRouteRule
		route string
		want  string
	}{
		"no rule":                             {nil, "10.48.0.0/26", "passes"},
		"everything is rejected":              {[]v1alpha1.BGPRouteRule{rule(false, nil)}, "10.48.0.0/26", "export rule 1 of BGPFilter f rejects it"},
		"of the other family":                 {[]v1alpha1.BGPRouteRule{rule(false, nil)}, "fd00::/122", "passes"},
		"the first that matches decides":      {[]v1alpha1.BGPRouteRule{rule(true, cidr("In", "10.48.0.0/16")), rule(false, nil)}, "10.48.0.0/26", "export rule 1 of BGPFilter f accepts it"},
		"what lies outside meets the second":  {[]v1alpha1.BGPRouteRule{rule(true, cidr("In", "10.48.0.0/16")), rule(false, nil)}, "10.49.0.0/16", "export rule 2 of BGPFilter f rejects it"},
		"Equal":                               {[]v1alpha1.BGPRouteRule{rule(false, cidr("Equal", "10.48.0.0/26"))}, "10.48.0.0/26", "rejects it"},
		"Equal, of another length":            {[]v1alpha1.BGPRouteRule{rule(false, cidr("Equal", "10.48.0.0/16"))}, "10.48.0.0/26", "passes"},
		"NotEqual":                            {[]v1alpha1.BGPRouteRule{rule(false, cidr("NotEqual", "10.48.0.0/16"))}, "10.48.0.0/26", "rejects it"},
		"NotIn":                               {[]v1alpha1.BGPRouteRule{rule(false, cidr("NotIn", "10.49.0.0/16"))}, "10.48.0.0/26", "rejects it"},
		"In is of the route and all its bits": {[]v1alpha1.BGPRouteRule{rule(false, cidr("In", "10.48.0.0/24"))}, "10.48.0.0/16", "passes"},
		"too short for the rule":              {[]v1alpha1.BGPRouteRule{rule(false, func(r *v1alpha1.BGPRouteRule) { r.MinLength = new(int32(32)) })}, "10.48.0.0/26", "passes"},
		"too long for the rule":               {[]v1alpha1.BGPRouteRule{rule(false, func(r *v1alpha1.BGPRouteRule) { r.MaxLength = new(int32(24)) })}, "10.48.0.0/26", "passes"},
		"for learned routes":                  {[]v1alpha1.BGPRouteRule{rule(false, func(r *v1alpha1.BGPRouteRule) { r.RemotePeers = true })}, "10.48.0.0/26", "passes"},
		"for eBGP, as the peer is":            {[]v1alpha1.BGPRouteRule{rule(false, func(r *v1alpha1.BGPRouteRule) { r.PeerType = "eBGP" })}, "10.48.0.0/26", "rejects it"},
		"for iBGP":                            {[]v1alpha1.BGPRouteRule{rule(false, func(r *v1alpha1.BGPRouteRule) { r.PeerType = "iBGP" })}, "10.48.0.0/26", "passes"},
		"with a community that it bears":      {[]v1alpha1.BGPRouteRule{rule(false, func(r *v1alpha1.BGPRouteRule) { r.Communities = []string{"65001:1"} })}, "10.48.0.0/26", "rejects it"},
		"with one that it does not bear":      {[]v1alpha1.BGPRouteRule{rule(false, func(r *v1alpha1.BGPRouteRule) { r.Communities = []string{"65001:2"} })}, "10.48.0.0/26", "passes"},
	} {
		t.Run(name, func(t *testing.T) {
			filters := []v1alpha1.BGPRouteFilter{{Name: "f", Export: tc.rules}}
			passes, got := Judge(filters, []string{"f"}, netip.MustParsePrefix(tc.route), []string{"65001:1"}, false)
			if got == "" {
				got = "passes"
			}
			if !strings.HasSuffix(got, tc.want) || passes == strings.Contains(tc.want, "rejects") {
				t.Errorf("got %q (passes: %v), want %q", got, passes, tc.want)
			}
		})
	}
	if passes, why := Judge(nil, []string{"gone"}, netip.MustParsePrefix("10.48.0.0/26"), nil, false); passes || !strings.Contains(why, "filter gone is not there") {
		t.Errorf("a filter that is not there: %v, %q", passes, why)
	}
}
