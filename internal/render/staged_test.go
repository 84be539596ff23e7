package render

import (
	"strings"
	"testing"

	"github.com/manul-net/manul/internal/policy"
)

// manifestOf writes a policy of projectcalico.org in namespace a.
func manifestOf(kind, name, spec string) string {
	return "\n---\napiVersion: projectcalico.org/v3\nkind: " + kind + "\nmetadata: {namespace: a, name: " + name + "}\nspec: " + spec
}

func TestWhatStagedPoliciesWouldChange(t *testing.T) {
	const (
		staged = "StagedNetworkPolicy"
		real   = "NetworkPolicy"
		allow  = "ingress: [{action: Allow, source: {selector: app == 'db'}}]"
	)
	for name, tc := range map[string]struct{ manifests, want string }{
		"a new one limits what is open to all": {
			manifestOf(staged, "p", "{types: [Ingress, Egress]}"),
			"would apply to 2 endpoints on 1 node; not enforced; ingress of 2 endpoints and egress of 2 endpoints would no longer be open to all",
		},
		"what is limited already counts no more": {
			manifestOf(real, "other", "{selector: app == 'web'}") + manifestOf(staged, "p", "{types: [Ingress, Egress]}"),
			"would apply to 2 endpoints on 1 node; not enforced; ingress of 1 endpoint and egress of 2 endpoints would no longer be open to all",
		},
		"a tier that passes at its end limits nothing": {
			manifestOf(staged, "p", "{tier: kube-baseline}"),
			"would apply to 2 endpoints on 1 node; not enforced; nothing would be limited that is open to all now",
		},
		"nor does another policy of such a tier": {
			manifestOf(real, "other", "{tier: kube-baseline}") + manifestOf(staged, "p", "{selector: app == 'web'}"),
			"would apply to 1 endpoint on 1 node; not enforced; ingress of 1 endpoint would no longer be open to all",
		},
		"one that selects nobody": {
			manifestOf(staged, "p", "{selector: app == 'none'}"),
			"would apply to 0 endpoints on 0 nodes; not enforced; nothing would be limited that is open to all now",
		},
		"one like the policy of its name": {
			manifestOf(real, "p", "{"+allow+"}") + manifestOf(staged, "p", "{"+allow+"}"),
			"nothing would be limited that is open to all now; it would take the place of the NetworkPolicy called p: no difference",
		},
		"one unlike it": {
			manifestOf(real, "p", "{selector: app == 'web', "+allow+"}") + manifestOf(staged, "p", "{selector: app == 'db', order: 5, "+allow+", egress: [{action: Deny}]}"),
			"ingress of 1 endpoint and egress of 1 endpoint would no longer be open to all; it would take the place of the NetworkPolicy called p: " +
				"1 endpoint more, 1 endpoint fewer, another order, other types, other egress rules",
		},
		"a deletion": {
			manifestOf(real, "p", "{selector: app == 'web', types: [Ingress, Egress]}") + manifestOf(real, "other", "{types: [Egress]}") + manifestOf(staged, "p", "{stagedAction: Delete}"),
			"stands for deleting the NetworkPolicy called p; not enforced; it applies to 1 endpoint on 1 node; ingress of 1 endpoint would be open to all",
		},
		"a deletion that opens nothing": {
			manifestOf(real, "p", "{}") + manifestOf(real, "other", "{}") + manifestOf(staged, "p", "{stagedAction: Delete}"),
			"it applies to 2 endpoints on 1 node; nothing would be open to all that is not now",
		},
		"a deletion of what is not there": {
			manifestOf(real, "other", "{}") + manifestOf(staged, "p", "{stagedAction: Delete}"),
			"stands for deleting the NetworkPolicy called p; not enforced; there is none",
		},
		"one that is ignored": {
			manifestOf(staged, "p", "{stagedAction: Ignore}"), "ignored, as stagedAction says; not enforced",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := New()
			give(t, c, parse(t, town+tc.manifests)...)
			report, _ := c.Policy(PolicyRef{Kind: policy.KindStagedNetworkPolicy, Namespace: "a", Name: "p"})
			if got := report.Finding.Message; !strings.HasSuffix(got, tc.want) {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

func TestWhatStagedPoliciesWouldChangeFollowsChanges(t *testing.T) {
	c := New()
	staged := PolicyRef{Kind: policy.KindStagedGlobalNetworkPolicy, Name: "p"}
	one := func(text string) string { return strings.TrimPrefix(text, "\n---\n") }
	global := func(kind, name, spec string) string {
		return one("\n---\napiVersion: projectcalico.org/v3\nkind: " + kind + "\nmetadata: {name: " + name + "}\nspec: " + spec)
	}
	give(t, c, parse(t, town+"\n---\n"+gateway)...)
	step := func(what string, want string) {
		t.Helper()
		dirty := false
		for _, ref := range c.DirtyPolicies() {
			dirty = dirty || ref == staged
		}
		report, _ := c.Policy(staged)
		if got := report.Finding.Message; !strings.HasSuffix(got, want) || !dirty {
			t.Errorf("%s (reported: %t)\ngot  %s\nwant %s", what, dirty, got, want)
		}
	}
	give(t, c, parse(t, global("StagedGlobalNetworkPolicy", "p", "{selector: all()}"))...)
	step("pods, and a host endpoint that is closed anyway", "would apply to 4 endpoints on 1 node; not enforced; ingress of 3 endpoints would no longer be open to all")
	give(t, c, parse(t, strings.ReplaceAll(gateway, "interfaceName: eth0", "interfaceName: eth0, profiles: [projectcalico-default-allow]"))...)
	step("a host endpoint that is open", "ingress of 4 endpoints would no longer be open to all")
	give(t, c, parse(t, global("GlobalNetworkPolicy", "other", "{selector: app == 'web'}"))...)
	step("another policy comes", "ingress of 2 endpoints would no longer be open to all")
	give(t, c, parse(t, global("GlobalNetworkPolicy", "p", "{selector: app == 'db', ingress: [{action: Allow}]}"))...)
	step("the policy itself comes", "ingress of 1 endpoint would no longer be open to all; it would take the place of the GlobalNetworkPolicy called p: 3 endpoints more, other ingress rules")
	give(t, c, parse(t, "apiVersion: v1\nkind: Pod\nmetadata: {namespace: a, name: web, labels: {app: db}}")...)
	step("a pod changes its labels", "it would take the place of the GlobalNetworkPolicy called p: 2 endpoints more, other ingress rules")
	give(t, c, parse(t, global("GlobalNetworkPolicy", "p", "{selector: app == 'db'}"))...)
	step("the rules become the same", "it would take the place of the GlobalNetworkPolicy called p: 2 endpoints more")
	give(t, c, parse(t, "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: default}\nspec: {defaultAction: Pass}")...)
	step("the tier passes", "nothing would be limited that is open to all now; it would take the place of the GlobalNetworkPolicy called p: 2 endpoints more")
	take(t, c, parse(t, "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: default}\nspec: {}")...)
	step("the tier is as before", "ingress of 1 endpoint would no longer be open to all; it would take the place of the GlobalNetworkPolicy called p: 2 endpoints more")
	give(t, c, parse(t, global("StagedGlobalNetworkPolicy", "p", "{stagedAction: Delete}"))...)
	step("it becomes a deletion", "it applies to 2 endpoints on 1 node; ingress of 2 endpoints would be open to all")
	take(t, c, parse(t, "apiVersion: v1\nkind: Pod\nmetadata: {namespace: a, name: web}")...)
	step("a pod goes", "it applies to 1 endpoint on 1 node; ingress of 1 endpoint would be open to all")
	take(t, c, parse(t, global("GlobalNetworkPolicy", "p", "{}"))...)
	step("the policy goes", "there is none")

	take(t, c, parse(t, global("StagedGlobalNetworkPolicy", "p", "{}"))...)
	if len(c.policies) != 1 || c.stagedPolicies != 0 {
		t.Errorf("%d policies remain, %d of them staged", len(c.policies), c.stagedPolicies)
	}
	for _, of := range []map[string]*endpoint{c.endpoints, c.hosts} {
		for _, e := range of {
			if len(e.staged) > 0 {
				t.Errorf("%s remembers a staged policy", e.id)
			}
		}
	}
}
