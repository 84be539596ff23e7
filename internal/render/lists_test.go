package render

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// town is a node with three pods in two namespaces.
const town = `
apiVersion: v1
kind: Node
metadata: {name: x}
---
apiVersion: v1
kind: Namespace
metadata: {name: a, labels: {stage: prod}}
---
apiVersion: v1
kind: Namespace
metadata: {name: b, labels: {stage: test}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {namespace: a, name: robot, labels: {trust: high}}
---
apiVersion: v1
kind: Pod
metadata: {namespace: a, name: web, labels: {app: web}}
---
apiVersion: v1
kind: Pod
metadata: {namespace: a, name: db, labels: {app: db}}
spec: {serviceAccountName: robot}
---
apiVersion: v1
kind: Pod
metadata: {namespace: b, name: web, labels: {app: web}}
`

func TestWhichPoliciesApplyToWhom(t *testing.T) {
	for name, tc := range map[string]struct{ manifests, want string }{
		"without policies nobody is restricted": {
			want: `
a/db unrestricted
a/web unrestricted
b/web unrestricted`,
		},
		"a NetworkPolicy applies to matching pods of its namespace": {
			manifests: `
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {namespace: a, name: p}
spec: {selector: app == 'web'}`,
			want: `
a/db unrestricted
a/web ingress default(Deny): np.a.p
b/web unrestricted`,
		},
		"an empty selector means all pods of the namespace": {
			manifests: `
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {namespace: a, name: p}
spec: {}`,
			want: `
a/db ingress default(Deny): np.a.p
a/web ingress default(Deny): np.a.p
b/web unrestricted`,
		},
		"a service account selector narrows further": {
			manifests: `
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {namespace: a, name: p}
spec: {serviceAccountSelector: trust == 'high'}`,
			want: `
a/db ingress default(Deny): np.a.p
a/web unrestricted
b/web unrestricted`,
		},
		"a GlobalNetworkPolicy applies in all namespaces, or in those it selects": {
			manifests: `
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: everywhere}
spec: {selector: app == 'web', order: 1}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: prod}
spec: {namespaceSelector: stage == 'prod', order: 2}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: byname}
spec: {namespaceSelector: projectcalico.org/name == 'b', order: 3}`,
			want: `
a/db ingress default(Deny): gnp.prod
a/web ingress default(Deny): gnp.everywhere gnp.prod
b/web ingress default(Deny): gnp.everywhere gnp.byname`,
		},
		"types follow from the rules when they are absent": {
			manifests: `
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {namespace: b, name: egress}
spec: {egress: [{action: Allow}]}
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {namespace: a, name: both}
spec: {selector: app == 'web', ingress: [{action: Allow}], egress: [{action: Allow}]}
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {namespace: a, name: stated}
spec: {selector: app == 'db', types: [Egress], ingress: [{action: Allow}]}`,
			want: `
a/db egress default(Deny): np.a.stated
a/web ingress default(Deny): np.a.both
a/web egress default(Deny): np.a.both
b/web egress default(Deny): np.b.egress`,
		},
		"policies are in order, those without one last, and ties go by name": {
			manifests: `
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {namespace: b, name: a-last}
spec: {}
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {namespace: b, name: first}
spec: {order: -1}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: b, name: m}
spec: {podSelector: {}}
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {namespace: b, name: l}
spec: {order: 1000}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: nn}
spec: {order: 1000, namespaceSelector: stage == 'test'}`,
			want: `
a/db unrestricted
a/web unrestricted
b/web ingress default(Deny): np.b.first np.b.l knp.b.m gnp.nn np.b.a-last`,
		},
		"tiers are in order, with built-in ones there from the start": {
			manifests: `
apiVersion: projectcalico.org/v3
kind: Tier
metadata: {name: zlast}
spec: {defaultAction: Pass}
---
apiVersion: projectcalico.org/v3
kind: Tier
metadata: {name: security}
spec: {order: 500}
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {namespace: b, name: p1}
spec: {tier: zlast}
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {namespace: b, name: p2}
spec: {tier: kube-baseline}
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {namespace: b, name: p3}
spec: {tier: security}
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {namespace: b, name: p4}
spec: {tier: kube-admin}
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {namespace: b, name: p5}
spec: {}`,
			want: `
a/db unrestricted
a/web unrestricted
b/web ingress security(Deny): np.b.p3 kube-admin(Pass): np.b.p4 default(Deny): np.b.p5 kube-baseline(Pass): np.b.p2 zlast(Pass): np.b.p1`,
		},
		"a policy whose tier does not exist is not in force": {
			manifests: `
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {namespace: b, name: p}
spec: {tier: nowhere}`,
			want: `
a/db unrestricted
a/web unrestricted
b/web unrestricted`,
		},
		"a policy whose selector cannot be understood applies to nobody": {
			manifests: `
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {namespace: b, name: p}
spec: {selector: app = 'web'}`,
			want: `
a/db unrestricted
a/web unrestricted
b/web unrestricted`,
		},
		"a policy that asks for what there is not applies, and fails closed": {
			manifests: `
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {namespace: b, name: p}
spec: {egress: [{action: Allow, destination: {services: {name: s}}}]}`,
			want: `
a/db unrestricted
a/web unrestricted
b/web egress default(Deny): np.b.p`,
		},
		"pods of the host's network, of other nodes, and finished ones are not endpoints of the node": {
			manifests: `
apiVersion: v1
kind: Pod
metadata: {namespace: a, name: host}
spec: {hostNetwork: true}
---
apiVersion: v1
kind: Pod
metadata: {namespace: a, name: elsewhere}
spec: {nodeName: z}
---
apiVersion: v1
kind: Pod
metadata: {namespace: a, name: done}
status: {phase: Succeeded}`,
			want: `
a/db unrestricted
a/web unrestricted
b/web unrestricted`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := New()
			manifests := town
			if tc.manifests != "" {
				manifests += "\n---\n" + tc.manifests
			}
			give(t, c, parse(t, manifests)...)
			if diff := cmp.Diff(strings.TrimSpace(tc.want), lists(t, c)); diff != "" {
				t.Errorf("lists (-want +got):\n%s", diff)
			}
		})
	}
}

func TestListsFollowChanges(t *testing.T) {
	c := New()
	give(t, c, parse(t, town)...)
	policy := parse(t, `
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: p}
spec: {tier: late, namespaceSelector: stage == 'prod', selector: app == 'web'}`)
	give(t, c, policy...)
	expect := func(want string) {
		t.Helper()
		if got := lists(t, c); !strings.Contains(got, want) {
			t.Errorf("want %q in\n%s", want, got)
		}
	}
	expect("a/web unrestricted")

	tier := parse(t, "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: late}\nspec: {defaultAction: Pass}")
	give(t, c, tier...)
	expect("a/web ingress late(Pass): gnp.p")
	expect("b/web unrestricted")

	give(t, c, parse(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: b, labels: {stage: prod}}")...)
	expect("b/web ingress late(Pass): gnp.p")

	give(t, c, parse(t, "apiVersion: v1\nkind: Pod\nmetadata: {namespace: a, name: web, labels: {app: other}}")...)
	expect("a/web unrestricted")

	take(t, c, tier...)
	expect("b/web unrestricted")
	give(t, c, tier...)
	expect("b/web ingress late(Pass): gnp.p")
	take(t, c, policy...)
	expect("b/web unrestricted")
}
