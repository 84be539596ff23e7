package webhooks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	"sigs.k8s.io/yaml"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/policy"
)

// world is a Cluster in memory.
type world struct {
	tiers    map[string]v3.Action
	policies map[string][]string
	pools    []v3.IPPool
	states   []v1alpha1.NodeState
	none     bool // no policy selects anything
	fail     error
}

func (w *world) Tier(_ context.Context, name string) (*v3.Tier, error) {
	action, ok := w.tiers[name]
	if !ok {
		return nil, w.fail
	}
	return &v3.Tier{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v3.TierSpec{DefaultAction: action}}, w.fail
}

func (w *world) PoliciesIn(_ context.Context, tier string) ([]string, error) {
	return w.policies[tier], w.fail
}
func (w *world) Pools(context.Context) ([]v3.IPPool, error) { return w.pools, w.fail }
func (w *world) Services(context.Context) ([]corev1.Service, error) {
	s := corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "bank", Name: "front"}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, ClusterIPs: []string{"10.49.3.7", "fd49::7"}}}
	s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "10.51.0.7"}, {Hostname: "front.example"}}
	return []corev1.Service{s}, w.fail
}

func (w *world) Nodes(context.Context) ([]corev1.Node, error) {
	n := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "worker1"}}
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: "worker1"}, {Type: corev1.NodeInternalIP, Address: "10.0.0.11"}}
	return []corev1.Node{n}, w.fail
}

func (w *world) NodeStates(context.Context) ([]v1alpha1.NodeState, error) {
	return w.states, w.fail
}

func (w *world) Selects(context.Context, *policy.Compiled, string) (bool, error) {
	return !w.none, w.fail
}

func pool(name, cidr string) v3.IPPool {
	return v3.IPPool{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v3.IPPoolSpec{CIDR: cidr}}
}

func sample() *world {
	return &world{
		tiers:    map[string]v3.Action{"security": v3.Deny, "platform": v3.Pass},
		policies: map[string][]string{"security": {"GlobalNetworkPolicy a", "NetworkPolicy b/c"}, "full": {"1", "2", "3", "4", "5", "6", "7"}},
		pools:    []v3.IPPool{pool("used", "10.48.0.0/16"), pool("free", "10.50.0.0/16"), pool("six", "fd00::/48")},
		states: []v1alpha1.NodeState{{
			ObjectMeta: metav1.ObjectMeta{Name: "worker1"},
			Status: v1alpha1.NodeStateStatus{Endpoints: []v1alpha1.EndpointStatus{
				{ID: "bank/web", Addresses: []string{"10.48.0.5", "fd00::5"}}, {ID: "bank/db", Addresses: []string{"10.48.0.6", "broken"}},
			}},
		}},
	}
}

// request is a request about a manifest, which may lack apiVersion and metadata.
func request(tb testing.TB, op admissionv1.Operation, kind, manifest string) admission.Request {
	tb.Helper()
	obj := map[string]any{}
	if err := yaml.Unmarshal([]byte(manifest), &obj); err != nil {
		tb.Fatalf("reading %q: %v", manifest, err)
	}
	if obj["metadata"] == nil {
		obj["metadata"] = map[string]any{"name": "x"}
	}
	raw, err := json.Marshal(obj)
	if err != nil {
		tb.Fatal(err)
	}
	return rawRequest(op, kind, raw)
}

func rawRequest(op admissionv1.Operation, kind string, raw []byte) admission.Request {
	req := admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		UID: "u", Operation: op, Namespace: "bank", Name: "x",
		Kind:     metav1.GroupVersionKind{Group: v3.GroupName, Version: v3.Version, Kind: kind},
		Resource: metav1.GroupVersionResource{Group: v3.GroupName, Version: v3.Version, Resource: strings.ToLower(kind) + "s"},
	}}
	if op == admissionv1.Delete {
		req.OldObject = runtime.RawExtension{Raw: raw}
	} else {
		req.Object = runtime.RawExtension{Raw: raw}
	}
	return req
}

func handler(in Cluster) *Handler {
	return &Handler{Cluster: in, Ready: func() bool { return true }, Log: logr.Discard()}
}

// TestPoolsOverOthersAddresses: a pool whose addresses others have is hardly meant.
func TestPoolsOverOthersAddresses(t *testing.T) {
	for spec, want := range map[string][]string{
		"{cidr: 10.52.0.0/16}":                nil,
		"{cidr: 10.0.0.0/24}":                 {"spec.cidr: 10.0.0.11 in it is the address of node worker1"},
		"{cidr: 10.0.0.0/24, disabled: true}": nil, // says only what is not translated
		"{cidr: 10.49.0.0/16}":                {"spec.cidr: bank/front has its cluster IP in it"},
		"{cidr: 'fd49::/64'}":                 {"spec.cidr: bank/front has its cluster IP in it"},
	} {
		t.Run(spec, func(t *testing.T) {
			expectWarnings(t, handler(sample()).Handle(t.Context(), request(t, admissionv1.Create, "IPPool", "spec: "+spec)), want...)
		})
	}
}

// TestPortsThatAreNoRanges: a range has a colon, and a name with digits alone is none that a pod can give to a port.
func TestPortsThatAreNoRanges(t *testing.T) {
	for port, want := range map[string][]string{
		"'8000:8010'": nil, "http": nil, "h-80": nil, "80-a": nil,
		"'8000-8010'": {`spec.egress[0].destination.ports[1]: "8000-8010" is taken for the name of a port, which none has: ranges are written "8000:8010"`},
	} {
		t.Run(port, func(t *testing.T) {
			spec := "spec: {egress: [{action: Allow, protocol: TCP, destination: {ports: [80, " + port + "]}}]}"
			for _, kind := range []string{"NetworkPolicy", "GlobalNetworkPolicy", "StagedNetworkPolicy"} {
				expectWarnings(t, handler(sample()).Handle(t.Context(), request(t, admissionv1.Create, kind, spec)), want...)
			}
		})
	}
}

func TestWrites(t *testing.T) {
	for _, tc := range []struct{ kind, manifest, want string }{
		{"NetworkPolicy", "spec: {ingress: [{action: Allow, protocol: TCP, destination: {ports: [80]}}]}", ""},
		{"NetworkPolicy", "spec: {ingress: [{action: Allow, protocol: TCP, destination: {ports: ['90:80']}}]}", `spec.ingress[0].destination.ports[0]: Invalid value: "90:80": the first port of a range is not above the last: write "80:90"`},
		{"NetworkPolicy", "spec: {ingress: [{action: Allow, destination: {ports: [80]}}]}", "ports need protocol TCP, UDP or SCTP in the same rule"},
		{"NetworkPolicy", "spec: {ingress: [{action: LOG}]}", "spec.ingress[0].action: Invalid value: \"LOG\": write Log"},
		{"NetworkPolicy", "spec: {selector: app = 'x'}", "spec.selector: Invalid value: \"app = 'x'\": at position"},
		{"NetworkPolicy", "spec: {tier: gone}", `spec.tier: Invalid value: "gone": there is no tier of this name: create the tier first`},
		{"NetworkPolicy", "spec: {tier: security}", ""},
		{"NetworkPolicy", "spec: {tier: kube-admin}", ""},
		{"NetworkPolicy", "spec: {ingress: [{action: Allow, protocol: 5000000000}]}", "reading the NetworkPolicy"},
		{"GlobalNetworkPolicy", "spec: {egress: [{action: Deny, destination: {nets: [10.1.2.3/8]}}]}", "write 10.0.0.0/8"},
		{"GlobalNetworkPolicy", "spec: {preDNAT: true}", "preDNAT needs applyOnForward: true"},
		{"StagedNetworkPolicy", "spec: {ingress: [{action: Allow, destination: {ports: [80]}}]}", "ports need protocol"},
		{"StagedGlobalNetworkPolicy", "spec: {selector: '('}", "spec.selector"},
		{"StagedGlobalNetworkPolicy", "spec: {tier: gone}", "there is no tier"},
		{"StagedKubernetesNetworkPolicy", "spec: {ingress: [{from: [{ipBlock: {cidr: ten}}]}]}", "spec.ingress[0].from[0].ipBlock"},
		{"StagedKubernetesNetworkPolicy", "spec: {podSelector: {}}", ""},
		{"Tier", "spec: {defaultAction: Allow}", "spec.defaultAction"},
		{"Tier", "metadata: {name: default}\nspec: {order: 5}", `spec.order: Invalid value: 5: tier "default" is built in, and its order is 1000000`},
		{"Tier", "metadata: {name: default}\nspec: {order: 1000000}", ""},
		{"Tier", "spec: {order: 1}", ""},
		{"IPPool", "spec: {cidr: 10.52.0.0/16}", ""},
		{"IPPool", "spec: {cidr: 169.254.0.0/24}", "spec.cidr: Invalid value: \"169.254.0.0/24\": has addresses in common with 169.254.0.0/16, which are for one link only"},
		{"IPPool", "spec: {cidr: 10.48.128.0/17}", `spec.cidr: Invalid value: "10.48.128.0/17": overlaps with pool "used" (10.48.0.0/16)`},
		{"IPPool", "spec: {cidr: 10.0.0.0/8}", `overlaps with pool`},
		{"IPPool", "metadata: {name: used}\nspec: {cidr: 10.48.0.0/16, disabled: true}", ""},
		{"IPPool", "spec: {cidr: 10.49.0.1/16}", "write 10.49.0.0/16"},
		{"NetworkSet", "spec: {nets: [10.0.0.1/8]}", "spec.nets[0]"},
		{"GlobalNetworkSet", "spec: {nets: [10.0.0.1/8]}", "spec.nets[0]"},
		{"HostEndpoint", "spec: {interfaceName: '*', ports: [{name: a, protocol: TCP, port: 1}]}", ""},
		{"HostEndpoint", "spec: {interfaceName: '*', ports: [{name: a, protocol: ICMP, port: 1}]}", "spec.ports[0].protocol"},
		{"HostEndpoint", "spec: {interfaceName: '*', ports: [{name: a, protocol: xyz, port: 1}]}", "spec.ports[0].protocol"},
		{"CalicoNodeStatus", "spec: {anything: 1}", ""},
	} {
		t.Run(tc.kind+" "+tc.manifest, func(t *testing.T) {
			for _, op := range []admissionv1.Operation{admissionv1.Create, admissionv1.Update} {
				expect(t, handler(sample()).Handle(t.Context(), request(t, op, tc.kind, tc.manifest)), tc.want)
			}
		})
	}
}

func expect(t *testing.T, got admission.Response, want string) {
	t.Helper()
	if got.Allowed != (want == "") {
		t.Fatalf("allowed is %v, want a message %q; result %+v", got.Allowed, want, got.Result)
	}
	if want != "" && !strings.Contains(got.Result.Message, want) {
		t.Errorf("message is %q, want %q in it", got.Result.Message, want)
	}
}

func TestDeletions(t *testing.T) {
	for _, tc := range []struct{ kind, name, manifest, want string }{
		{"Tier", "default", "spec: {}", `tier "default" is built in and can't be deleted`},
		{"Tier", "kube-admin", "spec: {}", "built in"},
		{"Tier", "kube-baseline", "spec: {}", "built in"},
		{"Tier", "security", "spec: {}", "delete these first, or move them to another tier: GlobalNetworkPolicy a, NetworkPolicy b/c"},
		{"Tier", "full", "spec: {}", "1, 2, 3, 4, 5, others"},
		{"Tier", "platform", "spec: {}", ""},
		{"IPPool", "used", "spec: {cidr: 10.48.0.0/16}", `pool "used" is in use: 2 of its addresses are held, such as 10.48.0.5 by pod bank/web on node worker1. Set spec.disabled to true`},
		{"IPPool", "six", "spec: {cidr: 'fd00::/48'}", "1 of its addresses"},
		{"IPPool", "free", "spec: {cidr: 10.50.0.0/16}", ""},
		{"IPPool", "services", "spec: {cidr: 10.51.0.0/24, allowedUses: [LoadBalancer]}", `pool "services" is in use: 1 of its addresses are those of services, such as 10.51.0.7 of service bank/front. Set spec.disabled to true`},
		{"IPPool", "others", "spec: {cidr: 10.52.0.0/24, allowedUses: [LoadBalancer]}", ""},
		{"NetworkPolicy", "x", "spec: {selector: '('}", ""},
	} {
		t.Run(tc.kind+" "+tc.name, func(t *testing.T) {
			req := request(t, admissionv1.Delete, tc.kind, "metadata: {name: "+tc.name+"}\n"+tc.manifest)
			expect(t, handler(sample()).Handle(t.Context(), req), tc.want)
		})
	}
}

func TestWarnings(t *testing.T) {
	const rule = "{action: Allow, protocol: TCP}"
	for _, tc := range []struct{ kind, spec, want string }{
		{"NetworkPolicy", "{ingress: [" + rule + "]}", ""},
		{"NetworkPolicy", "{ingress: [" + rule + ", {action: Deny}]}", ""},
		{"NetworkPolicy", "{ingress: [{action: Deny}, " + rule + "]}", "spec.ingress[1]: no packet gets there, since rule [0] matches everything (Deny)"},
		{"NetworkPolicy", "{egress: [" + rule + ", {action: Pass, metadata: {annotations: {a: b}}}, " + rule + ", " + rule + "]}", "spec.egress[2] to [3]: no packet gets there, since rule [1]"},
		{"NetworkPolicy", "{ingress: [{action: Log}, " + rule + "]}", ""},
		{"NetworkPolicy", "{types: [Ingress, Egress]}", `without rules for ingress and egress the policy denies all ingress and egress of the pods that it selects, except what other policies of tier "default" allow`},
		{"NetworkPolicy", "{types: [Ingress, Egress], ingress: [" + rule + "]}", "without rules for egress the policy denies"},
		{"NetworkPolicy", "{tier: platform}", ""},
		{"GlobalNetworkPolicy", "{tier: security}", `tier "security"`},
		{"NetworkPolicy", "{ingress: [{action: Allow, protocol: TCP, http: {methods: [GET]}}]}", "spec.ingress[0]"},
		{"StagedNetworkPolicy", "{}", ""},
		{"StagedNetworkPolicy", "{stagedAction: Delete}", ""},
	} {
		t.Run(tc.kind+" "+tc.spec, func(t *testing.T) {
			got := handler(sample()).Handle(t.Context(), request(t, admissionv1.Create, tc.kind, "spec: "+tc.spec))
			if !got.Allowed || (tc.want == "") != (len(got.Warnings) == 0) || tc.want != "" && !strings.Contains(strings.Join(got.Warnings, "\n"), tc.want) {
				t.Errorf("got %v, want %q", got, tc.want)
			}
		})
	}
	for manifest, want := range map[string]string{
		"metadata: {name: default}\nspec: {defaultAction: Pass}":        `spec.defaultAction: tier "default" is built in, and the operator puts Deny back: for another default action make a tier of your own`,
		"metadata: {name: kube-baseline}\nspec: {defaultAction: Deny}":  "the operator puts Pass back",
		"metadata: {name: kube-admin}\nspec: {defaultAction: Pass}":     "",
		"metadata: {name: default}\nspec: {order: 1000000}":             "",
		"metadata: {name: mine}\nspec: {order: 5, defaultAction: Pass}": "",
	} {
		for _, do := range []admissionv1.Operation{admissionv1.Create, admissionv1.Update} {
			got := handler(sample()).Handle(t.Context(), request(t, do, "Tier", manifest))
			if !got.Allowed || (want == "") != (len(got.Warnings) == 0) || !strings.Contains(strings.Join(got.Warnings, "\n"), want) {
				t.Errorf("%s of a tier with %s: got %v, want %q", do, manifest, got, want)
			}
		}
	}
	nobody := sample()
	nobody.none = true
	for kind, want := range map[string]string{
		"NetworkPolicy": `selects no pod of namespace "bank" now`, "StagedNetworkPolicy": "selects no pod of namespace", "GlobalNetworkPolicy": "selects no pod and no host endpoint now",
	} {
		got := handler(nobody).Handle(t.Context(), request(t, admissionv1.Create, kind, "spec: {ingress: ["+rule+"]}"))
		if len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0], want) {
			t.Errorf("%s: got %v, want %q", kind, got.Warnings, want)
		}
	}
	if got := bounded(make([]string, 20)); len(got) != maxWarnings || got[maxWarnings-1] != "and 13 more warnings" {
		t.Errorf("got %q", got)
	}
}

func TestHandler(t *testing.T) {
	bad := request(t, admissionv1.Create, "NetworkPolicy", "spec: {tier: gone}")
	starting := handler(sample())
	starting.Ready = func() bool { return false }
	if got := starting.Handle(t.Context(), bad); got.Allowed || got.Result.Code != http.StatusServiceUnavailable || !strings.Contains(got.Result.Message, "just started") {
		t.Errorf("before the cluster is known: %v", got)
	}
	blind := sample()
	blind.fail = errors.New("no answer")
	if got := handler(blind).Handle(t.Context(), bad); got.Allowed || got.Result.Code != http.StatusServiceUnavailable || !strings.Contains(got.Result.Message, "no answer") {
		t.Errorf("without an API server: %v", got)
	}
	going := request(t, admissionv1.Update, "NetworkPolicy", "metadata: {name: x, deletionTimestamp: '2026-01-01T00:00:00Z'}\nspec: {tier: gone}")
	expect(t, handler(sample()).Handle(t.Context(), going), "")
	status := bad
	status.SubResource = "status"
	expect(t, handler(sample()).Handle(t.Context(), status), "")
	var rules []string
	for range 30 {
		rules = append(rules, "{action: Deny, source: {nets: [10.0.0.1/8]}}")
	}
	many := handler(sample()).Handle(t.Context(), request(t, admissionv1.Create, "NetworkPolicy", "spec: {ingress: ["+strings.Join(rules, ",")+"]}"))
	expect(t, many, "20 more mistakes")
	if strings.Contains(many.Result.Message, "ingress[10]") {
		t.Errorf("message is %q", many.Result.Message)
	}
	for name, k := range kinds() {
		var other client.Object = &v3.Tier{}
		if name.Kind == "Tier" {
			other = &v3.IPPool{}
		}
		if _, err := k.write(t.Context(), sample(), other); err == nil {
			t.Errorf("the checks of %s take a %T", name, other)
		}
	}
}

func TestAddress(t *testing.T) {
	if host, port, err := splitAddress(":9443"); host != "" || port != 9443 || err != nil {
		t.Errorf("got %q %d %v", host, port, err)
	}
	for _, wrong := range []string{"", "x", ":", ":http", ":0", "127.0.0.1:70000"} {
		if _, _, err := splitAddress(wrong); err == nil {
			t.Errorf("%q was taken", wrong)
		}
	}
}

// FuzzHandler: whatever is asked, there is an answer.
func FuzzHandler(f *testing.F) {
	for _, spec := range []string{
		`{"tier":"gone","ingress":[{"action":"Allow","protocol":"TCP","destination":{"ports":[80,"a","1:2"]}}]}`,
		`{"cidr":"10.48.0.0/16","blockSize":26}`, `{"nets":["10.0.0.0/8"]}`, `{"interfaceName":"*","ports":[{"name":"a","protocol":6,"port":1}]}`,
		`{"podSelector":{"matchLabels":{"a":"b"}},"ingress":[{"from":[{"ipBlock":{"cidr":"10.0.0.0/8","except":["10.1.0.0/16"]}}]}]}`,
		`{"order":1e400}`, `{"selector":"a in {'b'}","stagedAction":"Delete"}`,
	} {
		f.Add(uint8(0), []byte(fmt.Sprintf(`{"metadata":{"name":"x"},"spec":%s}`, spec)))
	}
	f.Add(uint8(1), []byte(`null`))
	f.Add(uint8(2), []byte(``))
	h, ctx := handler(sample()), f.Context()
	f.Fuzz(func(t *testing.T, op uint8, raw []byte) {
		ops := []admissionv1.Operation{admissionv1.Create, admissionv1.Update, admissionv1.Delete, admissionv1.Connect, ""}
		for name := range kinds() {
			req := rawRequest(ops[int(op)%len(ops)], name.Kind, raw)
			req.Kind.Group = name.Group
			got := h.Handle(ctx, req)
			if !got.Allowed && (got.Result == nil || got.Result.Message == "") {
				t.Errorf("%s: refused without a message", name)
			}
		}
	})
}
