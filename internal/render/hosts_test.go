package render

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/policy"
)

// hostLists writes the host endpoints of a node and their policies, a line for each list that there is.
func hostLists(t testing.TB, c *Cluster, node string) string {
	t.Helper()
	state, ok := c.Desired(Key{KindNodeState, node}).(*v1alpha1.NodeState)
	if !ok {
		return "no NodeState"
	}
	var lines []string
	for _, h := range state.Spec.HostEndpoints {
		lines = append(lines, strings.TrimRight(fmt.Sprintf("%s %s(%s) %s", h.Name, h.Interface, h.DefaultAction, strings.Join(h.Addresses, " ")), " "))
		line := func(what string, tiers []v1alpha1.TierPolicies) {
			for _, tier := range tiers {
				lines = append(lines, fmt.Sprintf("  %s %s(%s): %s", what, tier.Tier, tier.DefaultAction, strings.Join(tier.Policies, " ")))
			}
		}
		line("untracked in", h.Untracked.Ingress)
		line("untracked out", h.Untracked.Egress)
		line("preDNAT", h.PreDNAT)
		line("forward in", h.Forward.Ingress)
		line("forward out", h.Forward.Egress)
		line("local in", h.Local.Ingress)
		line("local out", h.Local.Egress)
	}
	return strings.Join(lines, "\n")
}

const gateway = `
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: h, labels: {role: gateway}}
spec: {node: x, interfaceName: eth0, expectedIPs: ["2001:db8::1", 192.168.0.1]}`

func global(name, spec string) string {
	return "\n---\napiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: " + name + "}\nspec: " + spec
}

func TestWhichPoliciesApplyToHostEndpoints(t *testing.T) {
	const h = "h eth0(Deny) 192.168.0.1 2001:db8::1\n"
	for name, tc := range map[string]struct{ manifests, want string }{
		"without profiles and policies nothing passes": {gateway, h},
		"the profile projectcalico-default-allow lets everything pass": {
			"apiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata: {name: all}\nspec: {node: x, interfaceName: '*', profiles: [projectcalico-default-allow, other]}",
			"all *(Allow)",
		},
		"behind a profile that nobody knows it does not": {
			"apiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata: {name: all}\nspec: {node: x, interfaceName: '*', profiles: [other, projectcalico-default-allow]}",
			"all *(Deny)",
		},
		"global policies without a namespaceSelector apply, to what is local": {
			gateway + global("a", "{order: 1}") + global("b", "{order: 2, selector: role == 'gateway', types: [Ingress, Egress]}") + global("c", "{selector: role == 'db'}"),
			h + "  local in default(Deny): gnp.a gnp.b\n  local out default(Deny): gnp.b",
		},
		"all() as namespaceSelector means pods only, and so does a serviceAccountSelector": {
			gateway + global("a", "{namespaceSelector: all()}") + global("b", "{serviceAccountSelector: all()}"), h,
		},
		"policies of namespaces do not apply": {
			gateway + "\n---\napiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {namespace: a, name: p}\nspec: {}" +
				"\n---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: a, name: p}\nspec: {podSelector: {}}", h,
		},
		"applyOnForward adds what the node passes on": {
			gateway + global("a", "{order: 1, applyOnForward: true, types: [Ingress, Egress]}") + global("b", "{order: 2}"),
			h + "  forward in default(Deny): gnp.a\n  forward out default(Deny): gnp.a\n" +
				"  local in default(Deny): gnp.a gnp.b\n  local out default(Deny): gnp.a",
		},
		"preDNAT and doNotTrack have lists of their own, at whose end nothing is dropped": {
			gateway + global("a", "{applyOnForward: true, preDNAT: true}") +
				global("b", "{applyOnForward: true, doNotTrack: true, types: [Ingress, Egress]}") + global("c", "{}"),
			h + "  untracked in default(Pass): gnp.b\n  untracked out default(Pass): gnp.b\n  preDNAT default(Pass): gnp.a\n  local in default(Deny): gnp.c",
		},
		"what can't be compiled denies at its stage": {
			gateway + global("a", "{preDNAT: true, types: [Egress]}") + global("b", "{doNotTrack: true, preDNAT: true, types: [Egress]}"),
			h + "  untracked out default(Pass): gnp.b\n  preDNAT default(Pass): gnp.a",
		},
		"one that names no node is on none": {
			"apiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata: {name: h}\nspec: {interfaceName: eth0}", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := New()
			give(t, c, parse(t, town+"\n---\n"+tc.manifests)...)
			if diff := cmp.Diff(strings.TrimSpace(tc.want), hostLists(t, c, "x")); diff != "" {
				t.Errorf("lists (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPoliciesBeforeDNATAndTrackingDoNotApplyToPods(t *testing.T) {
	c := New()
	give(t, c, parse(t, town+global("a", "{applyOnForward: true, preDNAT: true}")+
		global("b", "{applyOnForward: true, doNotTrack: true, egress: [{action: Allow}]}")+
		global("c", "{applyOnForward: true, selector: app == 'db'}"))...)
	if diff := cmp.Diff("a/db ingress default(Deny): gnp.c\na/web unrestricted\nb/web unrestricted", lists(t, c)); diff != "" {
		t.Errorf("lists (-want +got):\n%s", diff)
	}
}

func TestHostEndpointsFollowChanges(t *testing.T) {
	c := New()
	give(t, c, parse(t, town+"\n---\n"+gateway+global("a", "{selector: has(role)}"))...)
	expect := func(node, want string) {
		t.Helper()
		if diff := cmp.Diff(want, hostLists(t, c, node)); diff != "" {
			t.Errorf("host endpoints of %s (-want +got):\n%s", node, diff)
		}
	}
	expect("x", "h eth0(Deny) 192.168.0.1 2001:db8::1\n  local in default(Deny): gnp.a")
	give(t, c, parse(t, strings.TrimPrefix(global("a", "{selector: has(role), applyOnForward: true, doNotTrack: true, types: [Egress]}"), "\n---\n"))...)
	expect("x", "h eth0(Deny) 192.168.0.1 2001:db8::1\n  untracked out default(Pass): gnp.a")
	give(t, c, parse(t, strings.ReplaceAll(gateway, "role: gateway", "app: gateway"))...)
	expect("x", "h eth0(Deny) 192.168.0.1 2001:db8::1")

	// A host that is no node of the cluster has rendered state as soon as it has host endpoints, and no longer.
	expect("outside", "no NodeState")
	give(t, c, parse(t, strings.ReplaceAll(gateway, "node: x", "node: outside"))...)
	expect("x", "")
	expect("outside", "h eth0(Deny) 192.168.0.1 2001:db8::1\n  untracked out default(Pass): gnp.a")
	if c.Desired(Key{KindNodeNetwork, "outside"}) != nil {
		t.Error("a host that is no node has a NodeNetwork")
	}
	if _, is := c.Demand()["outside"]; is {
		t.Error("a host that is no node needs addresses for pods")
	}
	take(t, c, parse(t, gateway)...)
	expect("outside", "no NodeState")
}

func TestHostEndpointsAreMembersOfSets(t *testing.T) {
	const client = `
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: p}
spec: {namespaceSelector: all(), ingress: [{action: Allow, protocol: TCP, source: %s, destination: {ports: [80]}}]}`
	const hosts = gateway + `
---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: other, labels: {role: db, projectcalico.org/namespace: a}}
spec: {node: x, interfaceName: eth1, expectedIPs: [172.16.0.1], ports: [{name: dns, protocol: UDP, port: 53}, {name: dns, protocol: TCP, port: 53}]}
---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: everything, labels: {role: gateway}}
spec: {node: x, interfaceName: "*"}
---
apiVersion: manul.dev/v1alpha1
kind: NodeState
metadata: {name: x}
status: {endpoints: [{id: a/db, uid: db, addresses: [10.0.0.1]}]}`
	for _, tc := range []struct{ peer, want string }{
		{"{selector: role == 'gateway'}", "192.168.0.1 2001:db8::1"},
		{"{namespaceSelector: global()}", "172.16.0.1 192.168.0.1 2001:db8::1"},
		{"{namespaceSelector: all()}", "10.0.0.1"},
		{"{selector: has(app)}", "10.0.0.1"},
		{"{selector: '!has(app)'}", "172.16.0.1 192.168.0.1 2001:db8::1"},
		{"{selector: projectcalico.org/namespace == 'a'}", "10.0.0.1 172.16.0.1"}, // a label like others on a host endpoint
		{"{selector: '!has(projectcalico.org/namespace)'}", "192.168.0.1 2001:db8::1"},
		{"{selector: projectcalico.org/orchestrator == 'k8s'}", "10.0.0.1"},
		{"{serviceAccounts: {names: [robot]}}", "10.0.0.1"},
	} {
		c := New()
		give(t, c, parse(t, town+"\n---\n"+hosts+fmt.Sprintf(client, tc.peer))...)
		var addresses []string
		published := c.Desired(Key{KindNodeEndpoints, "x"}).(*v1alpha1.NodeEndpoints).Spec.Endpoints
		for _, key := range c.Dirty() {
			catalog, ok := c.Desired(key).(*v1alpha1.SetCatalog)
			if !ok {
				continue
			}
			for _, e := range published {
				if slices.Contains(catalog.Spec.Sets[0].Identities, e.Identities[0]) {
					addresses = append(addresses, e.Addresses...)
				}
			}
		}
		slices.Sort(addresses)
		if got := strings.Join(addresses, " "); got != tc.want {
			t.Errorf("%s: got %s, want %s", tc.peer, got, tc.want)
		}
		var named []string
		for _, e := range published {
			named = append(named, fmt.Sprint(e.ID, e.Ports))
		}
		if diff := cmp.Diff("a/db[] h[] other[{dns 6 53} {dns 17 53}]", strings.Join(named, " ")); diff != "" {
			t.Errorf("NodeEndpoints (-want +got):\n%s", diff)
		}
	}
}

func TestAPolicyIsEnforcedOnceHostEndpointsHaveIt(t *testing.T) {
	a := newAPI(t, town+"\n---\n"+gateway+"\n---\n"+strings.NewReplacer("name: h,", "name: h2,", "node: x", "node: outside").Replace(gateway)+
		global("p", "{selector: role == 'gateway', applyOnForward: true}"))
	p := PolicyRef{Kind: policy.KindGlobalNetworkPolicy, Name: "p"}
	a.expect(p, "Accepted 0/2 lagging [outside x] failing []")
	a.acknowledge("x")
	a.expect(p, "Accepted 1/2 lagging [outside] failing []")
	a.acknowledge("outside", v1alpha1.Failure{Kind: "HostEndpoint", Name: "h2", Message: "no such interface"})
	a.expect(p, "Accepted 1/2 lagging [] failing [{outside no such interface}]")
	a.acknowledge("outside")
	a.expect(p, "Accepted 2/2 lagging [] failing []")

	// At another stage it is in other lists, which nodes have to acknowledge.
	changed := strings.TrimPrefix(global("p", "{selector: role == 'gateway', applyOnForward: true, preDNAT: true}"), "\n---\n")
	give(t, a.c, parse(t, strings.ReplaceAll(changed, "{name: p}", "{name: p, generation: 2}"))...)
	a.expect(p, "Accepted 0/2 lagging [outside x] failing []")
	var states []Key
	for _, key := range a.c.Dirty() {
		if key.Kind == KindNodeState {
			states = append(states, key)
		} else {
			a.writeKeys([]Key{key})
		}
	}
	a.acknowledge("x")
	a.acknowledge("outside")
	a.expect(p, "Accepted 0/2 lagging [outside x] failing []")
	a.writeKeys(states)
	a.acknowledge("x")
	a.acknowledge("outside")
	a.expect(p, "Accepted 2/2 lagging [] failing []")

	take(t, a.c, parse(t, "apiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata: {name: h2}\nspec: {}")...)
	a.expect(p, "Accepted 1/1 lagging [] failing []")
}

func TestANodeThatIsDeletedKeepsItsHostEndpoints(t *testing.T) {
	c := New()
	give(t, c, parse(t, town+"\n---\n"+gateway)...)
	take(t, c, &corev1.Node{ObjectMeta: parse(t, town)[0].(*corev1.Node).ObjectMeta})
	if got := hostLists(t, c, "x"); !strings.HasPrefix(got, "h eth0") {
		t.Errorf("host endpoints: %s", got)
	}
	if c.Desired(Key{KindNodeNetwork, "x"}) != nil {
		t.Error("it still has a NodeNetwork")
	}
}
