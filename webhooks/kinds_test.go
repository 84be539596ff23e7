package webhooks

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	clusterv1alpha1 "sigs.k8s.io/network-policy-api/apis/v1alpha1"

	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/policy"
)

// ofGroup is a request about a kind of another API.
func ofGroup(req admission.Request, group string) admission.Request {
	req.Kind.Group, req.Resource.Group = group, group
	return req
}

func expectWarnings(t *testing.T, got admission.Response, want ...string) {
	t.Helper()
	if !got.Allowed || len(got.Warnings) != len(want) {
		t.Fatalf("allowed is %v, warnings are %q, want %q; result %+v", got.Allowed, got.Warnings, want, got.Result)
	}
	for i := range want {
		if !strings.Contains(got.Warnings[i], want[i]) {
			t.Errorf("warning %d is %q, want %q in it", i, got.Warnings[i], want[i])
		}
	}
}

// TestSettings: what is written into settings and does not do what it seems to.
func TestSettings(t *testing.T) {
	for _, tc := range []struct {
		kind, manifest string
		want           []string
	}{
		{"FelixConfiguration", "metadata: {name: default}\nspec: {}", nil},
		{"FelixConfiguration", "metadata: {name: node.worker1}\nspec: {}", nil},
		{"FelixConfiguration", "metadata: {name: mine}\nspec: {}", []string{`nothing reads the FelixConfiguration "mine": write these settings into the one called "default"`}},
		{"FelixConfiguration", "metadata: {name: default}\nspec: {bpfEnabled: true, wireguardEnabled: true}", []string{"spec.bpfEnabled has no effect", "spec.wireguardEnabled has no effect"}},
		{"FelixConfiguration", "metadata: {name: default}\nspec: {bpfEnabled: false}", nil},
		{"FelixConfiguration", "metadata: {name: default}\nspec: {logSeverityScreen: Info}", []string{"spec.logSeverityScreen has no effect here"}},
		{
			"FelixConfiguration", "metadata: {name: node.worker1}\nspec: {vxlanMTU: 1400, floatingIPs: Enabled, prometheusMetricsEnabled: true, healthPort: 9099, ipv6Support: false, nftablesFlowTableOffload: Disabled}",
			[]string{"spec.healthPort, spec.prometheusMetricsEnabled have no effect here"},
		},
		{"FelixConfiguration", "metadata: {name: default}\nspec: {failsafeInboundHostPorts: []}", []string{"can cut off its node"}},
		{"FelixConfiguration", "metadata: {name: default}\nspec: {failsafeOutboundHostPorts: [{protocol: UDP, port: 53}, {port: 53}]}", []string{"spec.failsafeOutboundHostPorts[1]: without a protocol the port is one of TCP"}},
		{"IPAMConfiguration", "metadata: {name: default}\nspec: {}", nil},
		{"IPAMConfiguration", "metadata: {name: x}\nspec: {}", []string{"nothing reads"}},
		{"IPAMHandle", "metadata: {name: x}\nspec: {handleID: x, block: {}}", []string{"nothing reads IPAMHandles, and none are made: kubectl manul ipam show --ip"}},
		{"KubeControllersConfiguration", "metadata: {name: default}\nspec: {controllers: {node: {hostEndpoint: {autoCreate: Enabled}}}}", nil},
		{"KubeControllersConfiguration", "metadata: {name: x}\nspec: {controllers: {}}", []string{"nothing reads"}},
		{
			"KubeControllersConfiguration", "metadata: {name: default}\nspec: {controllers: {node: {hostEndpoint: {autoCreate: Enabled, createDefaultHostEndpoint: Disabled}}}}",
			[]string{"no host endpoint is made"},
		},
		{"HostEndpoint", "spec: {node: worker1, interfaceName: eth0, profiles: [projectcalico-default-allow]}", nil},
		{"HostEndpoint", "spec: {interfaceName: eth0, profiles: [projectcalico-default-allow]}", []string{"spec.node: without a node the host endpoint protects nothing"}},
		{"HostEndpoint", "spec: {node: worker1, interfaceName: cali123, profiles: [projectcalico-default-allow]}", []string{"are of pods' interfaces"}},
		{"HostEndpoint", "spec: {node: worker1, interfaceName: eth0}", []string{"failsafe ports apart; to have policies deny what they name and nothing else, write profiles: [projectcalico-default-allow]"}},
	} {
		t.Run(tc.kind+" "+tc.manifest, func(t *testing.T) {
			expectWarnings(t, handler(sample()).Handle(t.Context(), request(t, admissionv1.Create, tc.kind, tc.manifest)), tc.want...)
		})
	}
	expect(t, handler(sample()).Handle(t.Context(), request(t, admissionv1.Create, "IPReservation", "spec: {reservedCIDRs: [10.0.0.1]}")), "write 10.0.0.1/32")
}

// TestSettingsWithoutEffect: README tells which settings of FelixConfiguration have an effect, and a warning tells who writes others.
func TestSettingsWithoutEffect(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(readme), "of FelixConfiguration all but")
	list, _, _ = strings.Cut(list, ". ")
	var told []string
	for _, name := range regexp.MustCompile("`([A-Za-z0-9]+)`").FindAllStringSubmatch(list, -1) {
		told = append(told, name[1])
	}
	if diff := cmp.Diff(inEffect(), told); diff != "" {
		t.Errorf("settings with an effect, in the code and in README: %s", diff)
	}
	for _, name := range inEffect() {
		if _, ok := reflect.TypeFor[v3.FelixConfigurationSpec]().FieldByNameFunc(func(field string) bool { return strings.EqualFold(field, name) }); !ok {
			t.Errorf("there is no setting %s", name)
		}
	}
}

// TestKubernetesPolicies: the API server has checked a NetworkPolicy of networking.k8s.io before.
func TestKubernetesPolicies(t *testing.T) {
	for _, tc := range []struct {
		spec string
		want []string
	}{
		{"{podSelector: {}, policyTypes: [Ingress, Egress]}", nil}, // the usual default deny
		{"{podSelector: {}, policyTypes: [Ingress], egress: [{}]}", []string{"spec.egress: these rules do nothing, since spec.policyTypes does not list Egress: add it, or leave the rules out"}},
		{"{policyTypes: [Ingress], ingress: [{}, {ports: [{port: 80, protocol: TCP}]}]}", []string{"spec.ingress[0] allows everything, so that the other rules add nothing"}},
		{"{policyTypes: [Egress], egress: [{}, {ports: [{port: 80, protocol: TCP}]}]}", []string{"spec.egress[0] allows everything"}},
		{"{policyTypes: [Egress], egress: [{ports: [{port: 80, protocol: TCP}]}, {}]}", nil},
		{"{policyTypes: [Egress], egress: [{ports: [{port: 53, protocol: TCP}]}]}", []string{"spec.egress[0].ports[0]: port 53 of TCP alone"}},
		{"{policyTypes: [Egress], egress: [{ports: [{port: 53, protocol: TCP}, {port: 53, protocol: UDP}]}]}", nil},
		{"{policyTypes: [Egress], egress: [{ports: [{protocol: UDP}, {port: 53, protocol: TCP}]}]}", nil},
	} {
		t.Run(tc.spec, func(t *testing.T) {
			req := ofGroup(request(t, admissionv1.Create, "NetworkPolicy", "spec: "+tc.spec), networkingv1.GroupName)
			expectWarnings(t, handler(sample()).Handle(t.Context(), req), tc.want...)
			expectWarnings(t, handler(sample()).Handle(t.Context(), request(t, admissionv1.Create, "StagedKubernetesNetworkPolicy", "spec: "+tc.spec)), tc.want...)
		})
	}
	leading := "spec: {podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 010.0.0.0/8}}]}]}"
	expect(t, handler(sample()).Handle(t.Context(), ofGroup(request(t, admissionv1.Create, "NetworkPolicy", leading), networkingv1.GroupName)), "spec.egress[0].to[0].ipBlock.cidr")
	without := request(t, admissionv1.Create, "StagedKubernetesNetworkPolicy", "spec: {policyTypes: [Ingress], ingress: [{ports: [{port: 80}]}]}")
	expectWarnings(t, handler(sample()).Handle(t.Context(), without), "spec.ingress[0].ports[0]: without a protocol the port is one of TCP")
	nobody := sample()
	nobody.none = true
	expectWarnings(t, handler(nobody).Handle(t.Context(), ofGroup(request(t, admissionv1.Create, "NetworkPolicy", "spec: {}"), networkingv1.GroupName)),
		`selects no pod of namespace "bank" now: compare spec.podSelector`)
}

// TestClusterPolicies: policies for a whole cluster are never refused; what is not in force as it is written brings a warning.
func TestClusterPolicies(t *testing.T) {
	const subject = "tier: Admin, priority: 5, subject: {namespaces: {}}"
	for _, tc := range []struct {
		spec string
		want []string
	}{
		{"{" + subject + ", egress: [{action: Accept, to: [{networks: [10.0.0.0/8]}]}]}", nil},
		{"{" + subject + ", egress: [{action: Deny, to: [{domainNames: [example.com]}]}]}", []string{"spec.egress[0].to[0].domainNames: Forbidden: names are not supported: list addresses in networks"}},
		{"{tier: Admin, priority: 5, subject: {}}", []string{"spec.subject"}},
	} {
		t.Run(tc.spec, func(t *testing.T) {
			req := ofGroup(request(t, admissionv1.Create, "ClusterNetworkPolicy", "spec: "+tc.spec), clusterv1alpha1.GroupName)
			expectWarnings(t, handler(sample()).Handle(t.Context(), req), tc.want...)
		})
	}
	nobody := sample()
	nobody.none = true
	expectWarnings(t, handler(nobody).Handle(t.Context(), ofGroup(request(t, admissionv1.Create, "ClusterNetworkPolicy", "spec: {"+subject+"}"), clusterv1alpha1.GroupName)),
		"selects no pod now: compare spec.subject")
}

// TestWithoutTheCluster: what the operator can't see now is no reason to refuse policies of others, and settings; nor does a warning that
// can't be looked for stop a write.
func TestWithoutTheCluster(t *testing.T) {
	starting, blind := handler(sample()), sample()
	starting.Ready = func() bool { return false }
	blind.fail = errors.New("no answer")
	for gk, k := range kinds() {
		req := ofGroup(request(t, admissionv1.Create, gk.Kind, "metadata: {name: default}\nspec: {}"), gk.Group)
		got := starting.Handle(t.Context(), req)
		if k.others || k.setting {
			expectWarnings(t, got, "has just started, and did not check this")
		} else if got.Allowed || got.Result.Code != http.StatusServiceUnavailable {
			t.Errorf("%s, before the cluster is known: %v", gk, got)
		}
		if k.others {
			if got := handler(blind).Handle(t.Context(), req); !got.Allowed {
				t.Errorf("%s, without an API server: %v", gk, got.Result)
			}
		}
	}
	expect(t, handler(blind).Handle(t.Context(), request(t, admissionv1.Create, "NetworkPolicy", "spec: {ingress: [{action: Deny}]}")), "")
}

// applied is a request of kubectl apply, which leaves behind what the user wrote.
func applied(t *testing.T, kind, validation, written, stored string) admission.Request {
	t.Helper()
	req := request(t, admissionv1.Create, kind, "metadata: {name: x, namespace: bank}\nspec: "+stored)
	obj := map[string]any{}
	if err := json.Unmarshal(req.Object.Raw, &obj); err != nil {
		t.Fatal(err)
	}
	obj["metadata"] = map[string]any{"name": "x", "namespace": "bank", "annotations": map[string]any{corev1.LastAppliedConfigAnnotation: written}}
	raw, err := json.Marshal(obj)
	if err != nil {
		t.Fatal(err)
	}
	options, err := json.Marshal(metav1.CreateOptions{FieldValidation: validation})
	if err != nil {
		t.Fatal(err)
	}
	req.Object, req.Options = runtime.RawExtension{Raw: raw}, runtime.RawExtension{Raw: options}
	return req
}

// TestLostFields: the API server removes unknown fields of clients that are not strict, before anybody can look.
func TestLostFields(t *testing.T) {
	const (
		written = `{"metadata":{"name":"x","namespace":"bank"},"spec":{"http":{"methods":["GET"]},"ingress":[{"action":"Allow","order":10}]}}`
		stored  = "{ingress: [{action: Allow}]}"
		order   = "spec.ingress[0].order: Forbidden: there is no such field: rules are tried as they stand"
		http    = "spec.http: Forbidden: there is no such field: it belongs into a rule, which is an entry of ingress or egress, beside action"
	)
	h := handler(sample())
	for _, validation := range []string{metav1.FieldValidationIgnore, metav1.FieldValidationWarn, ""} {
		got := h.Handle(t.Context(), applied(t, "NetworkPolicy", validation, written, stored))
		expect(t, got, order)
		expect(t, got, http)
	}
	expectWarnings(t, h.Handle(t.Context(), applied(t, "NetworkPolicy", metav1.FieldValidationStrict, written, stored)))

	t.Run("of settings", func(t *testing.T) {
		req := applied(t, "IPReservation", metav1.FieldValidationWarn, `{"metadata":{"name":"x","namespace":"bank"},"spec":{"cidrs":[]}}`, "{}")
		expectWarnings(t, h.Handle(t.Context(), req), "spec.cidrs was removed: there is no such field: kubectl explain ipreservation.spec")
	})
	t.Run("of an earlier request", func(t *testing.T) {
		req := applied(t, "NetworkPolicy", metav1.FieldValidationWarn, written, stored)
		req.Operation, req.OldObject = admissionv1.Update, req.Object
		expectWarnings(t, h.Handle(t.Context(), req))
	})
	t.Run("of another object", func(t *testing.T) {
		req := applied(t, "NetworkPolicy", metav1.FieldValidationWarn, strings.Replace(written, `"x"`, `"y"`, 1), stored)
		expectWarnings(t, h.Handle(t.Context(), req))
	})
	t.Run("where nothing tells", func(t *testing.T) {
		req := applied(t, "NetworkPolicy", metav1.FieldValidationIgnore, "", stored)
		expectWarnings(t, h.Handle(t.Context(), req), "removed without a word; ask for Strict to be told")
	})
}

// TestIdleRules: types that leave out a direction for which there are rules.
func TestIdleRules(t *testing.T) {
	got := handler(sample()).Handle(t.Context(), request(t, admissionv1.Create, "NetworkPolicy", "spec: {types: [Ingress], ingress: [{action: Deny}], egress: [{action: Deny}]}"))
	expectWarnings(t, got, "spec.egress: these rules do nothing, since spec.types does not list Egress")
}

// TestLongWarnings: API servers cut off long ones.
func TestLongWarnings(t *testing.T) {
	got := bounded([]string{strings.Repeat("ä", 300), "short"})
	if len([]rune(got[0])) != maxWarning || got[1] != "short" {
		t.Errorf("got %q", got)
	}
}

// TestEveryKindIsAskedAbout: the kinds that the handler knows are those of which the API server asks.
func TestEveryKindIsAskedAbout(t *testing.T) {
	config := configuration(t)
	var asked, known []string
	for i := range config.Webhooks {
		for _, rule := range config.Webhooks[i].Rules {
			if !slices.Contains(rule.Operations, "CREATE") {
				continue
			}
			for _, resource := range rule.Resources {
				asked = append(asked, rule.APIGroups[0]+"/"+resource+"/"+string(*config.Webhooks[i].FailurePolicy))
			}
		}
	}
	for gk, k := range kinds() {
		failing := "/Fail"
		if k.others || k.setting {
			failing = "/Ignore"
		}
		plural := strings.ToLower(gk.Kind) + "s"
		if rest, ok := strings.CutSuffix(plural, "ys"); ok {
			plural = rest + "ies"
		}
		known = append(known, gk.Group+"/"+plural+failing)
	}
	slices.Sort(asked)
	slices.Sort(known)
	if !slices.Equal(asked, known) {
		t.Errorf("the API server asks about\n%s\nand the handler knows\n%s", strings.Join(asked, "\n"), strings.Join(known, "\n"))
	}
}

// TestAdminPolicies: of a kind that the compiler does not know the author hears that it is not in force.
func TestAdminPolicies(t *testing.T) {
	for gk, k := range kinds() {
		if gk.Group != clusterv1alpha1.GroupName || policy.Compile(k.empty()) != nil {
			continue
		}
		got := handler(sample()).Handle(t.Context(), ofGroup(request(t, admissionv1.Create, gk.Kind, "metadata: {name: default}\nspec: {subject: {namespaces: {}}}"), gk.Group))
		expectWarnings(t, got, "are not put into force: write a ClusterNetworkPolicy of policy.networking.k8s.io/v1alpha2")
	}
}
