package webhooks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/yaml"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/live"
	"github.com/manul-net/manul/test/apischema"
	"github.com/manul-net/manul/test/apiserver"
	"github.com/manul-net/manul/test/manifests"
)

const namespace = "manul-system"

// warned collects the warnings that the API server passes on.
type warned struct {
	mu  sync.Mutex
	all []string
}

func (w *warned) HandleWarningHeader(_ int, _, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, text)
}

func (w *warned) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.all
	w.all = nil
	return all
}

// admitted is an API server that asks the webhook, as config/webhook has it.
type admitted struct {
	client   client.Client
	warnings *warned
	server   *apiserver.Server
}

func schemes(t *testing.T) *runtime.Scheme {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, networkingv1.AddToScheme, admissionregistrationv1.AddToScheme, v3.AddToScheme, v1alpha1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return scheme
}

// admit starts the webhook beside an API server that has none yet, and returns when it is asked.
func admit(t *testing.T, server *apiserver.Server) *admitted {
	t.Helper()
	scheme := schemes(t)
	w := &warned{}
	cfg := rest.CopyConfig(server.Config)
	cfg.WarningHandler = w
	c, err := client.New(cfg, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	address := apiserver.FreeAddress(t)
	installWebhook(t, c, address)
	mgr, err := manager.New(server.Config, manager.Options{
		Scheme: scheme, Logger: testr.NewWithOptions(t, testr.Options{}), Metrics: metricsserver.Options{BindAddress: "0"},
		GracefulShutdownTimeout: new(time.Duration(0)),
	})
	if err != nil {
		t.Fatal(err)
	}
	// Pods of these tests have no node.
	if err := Setup(mgr, Options{Address: address, Namespace: namespace, Ready: func() bool { return true }, Pods: live.New().Pods}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("running the webhook: %v", err)
		}
	})
	a := &admitted{client: c, warnings: w, server: server}
	a.eventually(t, "the webhook is asked", func() error {
		err := c.Create(t.Context(), &v3.NetworkPolicy{
			ObjectMeta: metav1.ObjectMeta{Name: "probe", Namespace: "default"}, Spec: v3.NetworkPolicySpec{Tier: "gone"},
		}, client.DryRunAll)
		if !apierrors.IsInvalid(err) {
			return fmt.Errorf("a policy of a missing tier: %w", errors.Join(err, errors.New("want it to be invalid")))
		}
		return nil
	})
	w.take()
	return a
}

// installWebhook makes what config/webhook makes, with a URL in place of the Service, to which no proxy leads here. The name in
// the certificate stays that of the Service.
func installWebhook(t *testing.T, c client.Client, address string) {
	t.Helper()
	config := configuration(t)
	for i := range config.Webhooks {
		config.Webhooks[i].ClientConfig = admissionregistrationv1.WebhookClientConfig{URL: new("https://" + address + Path)}
	}
	for _, obj := range []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}},
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: SecretName, Namespace: namespace}},
		config,
	} {
		if err := c.Create(t.Context(), obj); err != nil && !apierrors.IsAlreadyExists(err) {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		// t.Context has ended by now.
		if err := c.Delete(context.Background(), config); err != nil {
			t.Error(err)
		}
		if err := c.Delete(context.Background(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: SecretName, Namespace: namespace}}); err != nil {
			t.Error(err)
		}
	})
}

// configuration is that of config/webhook.
func configuration(t *testing.T) *admissionregistrationv1.ValidatingWebhookConfiguration {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(apiserver.Root(t), "config", "webhook", "webhook.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	config := &admissionregistrationv1.ValidatingWebhookConfiguration{}
	if err := yaml.UnmarshalStrict(raw, config); err != nil {
		t.Fatal(err)
	}
	return config
}

func (a *admitted) eventually(t *testing.T, what string, holds func() error) {
	t.Helper()
	deadline := time.Now().Add(90 * time.Second)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var err error
	for time.Now().Before(deadline) {
		if err = holds(); err == nil {
			return
		}
		<-tick.C
	}
	t.Fatalf("waiting until %s: %v", what, err)
}

func object(kind, manifest string) *unstructured.Unstructured {
	obj := &unstructured.Unstructured{Object: map[string]any{}}
	if err := yaml.Unmarshal([]byte(manifest), &obj.Object); err != nil {
		return nil
	}
	obj.SetGroupVersionKind(schema.GroupVersionKind{Group: v3.GroupName, Version: v3.Version, Kind: kind})
	if obj.GetName() == "" {
		obj.SetName("x")
	}
	if slices.Contains([]string{"NetworkPolicy", "NetworkSet", "StagedNetworkPolicy", "StagedKubernetesNetworkPolicy"}, kind) {
		obj.SetNamespace("default")
	}
	return obj
}

// TestAPIServer has a real API server ask the webhook.
func TestAPIServer(t *testing.T) {
	server := apiserver.Start(t)
	server.InstallProjectCRDs(t)
	t.Run("absent operator", func(t *testing.T) { absentOperator(t, server) })
	a := admit(t, server)
	t.Run("writes", func(t *testing.T) { writes(t, a) })
	t.Run("clients", func(t *testing.T) { clients(t, a) })
	t.Run("agreement", func(t *testing.T) { agreement(t, a) })
	t.Run("examples", func(t *testing.T) { examples(t, a) })
}

// writes are made one after the other.
func writes(t *testing.T, a *admitted) {
	ctx := t.Context()
	for _, obj := range []client.Object{
		&v3.Tier{ObjectMeta: metav1.ObjectMeta{Name: "security"}},
		&v3.Tier{ObjectMeta: metav1.ObjectMeta{Name: "default"}},
		&v3.IPPool{ObjectMeta: metav1.ObjectMeta{Name: "pool"}, Spec: v3.IPPoolSpec{CIDR: "10.60.0.0/16"}},
		&v3.GlobalNetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "in-security"}, Spec: v3.GlobalNetworkPolicySpec{Tier: "security"}},
		&v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: "worker1"}},
	} {
		if err := a.client.Create(ctx, obj); err != nil {
			t.Fatal(err)
		}
	}
	status := `{"status":{"endpoints":[{"id":"bank/web","addresses":["10.60.0.5"]}]}}`
	state := &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: "worker1"}}
	if err := a.client.Status().Patch(ctx, state, client.RawPatch(types.MergePatchType, []byte(status))); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ kind, manifest, want string }{
		{"NetworkPolicy", "spec: {ingress: [{action: Allow, protocol: TCP, destination: {ports: ['http:80']}}]}", "spec.ingress[0].destination.ports[0]: Invalid value: \"http:80\": a range of ports is two numbers"},
		{"NetworkPolicy", "spec: {ingress: [{action: Allow, protocol: TCPP}]}", "spec.ingress[0].protocol: Invalid value: \"TCPP\": write TCP, UDP"},
		{"NetworkPolicy", "spec: {selector: app = 'x'}", "equality is written =="},
		{"NetworkPolicy", "spec: {selector: global()}", "global() may stand only in the namespaceSelector of a rule"},
		{"NetworkPolicy", "spec: {tier: gone}", "there is no tier of this name"},
		{"GlobalNetworkPolicy", "spec: {egress: [{action: Deny, destination: {nets: [10.1.2.3/8]}}]}", "write 10.0.0.0/8"},
		{"StagedGlobalNetworkPolicy", "spec: {egress: [{action: Deny, destination: {nets: [10.1.2.3/8]}}]}", "write 10.0.0.0/8"},
		{"StagedNetworkPolicy", "spec: {selector: '('}", "spec.selector"},
		{"StagedKubernetesNetworkPolicy", "spec: {ingress: [{from: [{ipBlock: {cidr: ten}}]}]}", "ipBlock.cidr"},
		{"IPPool", "spec: {cidr: 10.60.128.0/17}", `overlaps with pool "pool" (10.60.0.0/16)`},
		{"NetworkSet", "spec: {nets: [10.0.0.1/8]}", "write 10.0.0.0/8"},
		{"GlobalNetworkSet", "spec: {nets: [10.0.0.1/8]}", "write 10.0.0.0/8"},
		{"HostEndpoint", "spec: {interfaceName: '*', ports: [{name: a, protocol: ICMP, port: 1}]}", "spec.ports[0].protocol"},
		// What the API server answers by itself.
		{"NetworkPolicy", "spec: {ingress: [{action: Allow, order: 10}]}", `unknown field "spec.ingress[0].order"`},
		{"NetworkPolicy", "spec: {http: {methods: [GET]}}", `unknown field "spec.http"`},
		{"NetworkPolicy", "spec: {ingress: [{action: LOG}]}", `Unsupported value: "LOG": supported values: "Allow", "Deny", "Log", "Pass"`},
		{"NetworkPolicy", "spec: {ingress: [{action: Allow, destination: {ports: [80]}}]}", "need protocol TCP, UDP or SCTP"},
	} {
		t.Run(tc.kind+" "+tc.manifest, func(t *testing.T) {
			err := client.WithFieldValidation(a.client, metav1.FieldValidationStrict).Create(ctx, object(tc.kind, tc.manifest))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
	t.Run("deletions", func(t *testing.T) {
		for kind, tc := range map[string]struct{ name, want string }{
			"Tier":   {"security", "delete these first, or move them to another tier: GlobalNetworkPolicy in-security"},
			"IPPool": {"pool", "10.60.0.5 by pod bank/web on node worker1"},
		} {
			obj := object(kind, "metadata: {name: "+tc.name+"}")
			a.eventually(t, "deletion is refused", func() error {
				// The node's report reaches the operator's cache a moment later.
				if err := a.client.Delete(ctx, obj, client.DryRunAll); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), tc.want) {
					return fmt.Errorf("got %w, want %q", err, tc.want)
				}
				return nil
			})
		}
		if err := a.client.Delete(ctx, object("Tier", "metadata: {name: default}")); !apierrors.IsForbidden(err) {
			t.Errorf("deleting the default tier: %v", err)
		}
		for _, obj := range []client.Object{object("GlobalNetworkPolicy", "metadata: {name: in-security}"), object("Tier", "metadata: {name: security}")} {
			if err := a.client.Delete(ctx, obj); err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("warnings", func(t *testing.T) {
		a.warnings.take()
		if err := a.client.Create(ctx, object("NetworkPolicy", "metadata: {name: warned}\nspec: {ingress: [{action: Deny}, {action: Allow}]}")); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(a.warnings.take(), "\n"); !strings.Contains(got, "no packet gets there") || !strings.Contains(got, "selects no pod") {
			t.Errorf("warnings are %q", got)
		}
	})
	t.Run("metadata and status are not asked about", func(t *testing.T) {
		obj := object("NetworkPolicy", "metadata: {name: warned}")
		if err := a.client.Patch(ctx, obj, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"a":"b"}}}`))); err != nil {
			t.Error(err)
		}
		if err := a.client.Status().Patch(ctx, obj, client.RawPatch(types.MergePatchType, []byte(`{"status":{"enforced":"0/0"}}`))); err != nil {
			t.Error(err)
		}
		if got := a.warnings.take(); len(got) > 0 {
			t.Errorf("warnings are %q", got)
		}
	})
	t.Run("the operator writes what it likes", func(t *testing.T) {
		cfg := rest.CopyConfig(a.server.Config)
		cfg.Impersonate = rest.ImpersonationConfig{UserName: "system:serviceaccount:manul-system:manul-operator", Groups: []string{"system:masters"}}
		c, err := client.New(cfg, client.Options{Scheme: schemes(t)})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Create(ctx, object("IPPool", "spec: {cidr: 10.48.0.0/17}"), client.DryRunAll); err != nil {
			t.Error(err)
		}
	})
}

// agreement hands manifests, right ones and spoiled ones, to the API server, as kubectl does. It says what the schema in this process
// and the webhook's handler say, with which thousands more are tried (test/api).
func agreement(t *testing.T, a *admitted) {
	const seed, drawn = 77, 200
	kinds, err := apischema.Load(filepath.Join(apiserver.Root(t), "config", "crd", "bases", "projectcalico.org_*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.client.Create(t.Context(), &v3.Tier{ObjectMeta: metav1.ObjectMeta{Name: "security"}}); err != nil {
		t.Fatal(err)
	}
	strict := client.WithFieldValidation(a.client, metav1.FieldValidationStrict)
	source, taken := manifests.New(seed), 0
	for i := range drawn {
		m := source.Any()
		answer := kinds[m.Kind].Create(t.Context(), m.Object)
		want := answer.Err()
		if want == nil {
			raw, err := json.Marshal(answer.Stored)
			if err != nil {
				t.Fatal(err)
			}
			req := rawRequest(admissionv1.Create, m.Kind, raw)
			if got := handler(sample()).Handle(t.Context(), req); !got.Allowed {
				want = errors.New(got.Result.Message)
			}
		}
		got := strict.Create(t.Context(), &unstructured.Unstructured{Object: m.Object}, client.DryRunAll)
		if got == nil {
			taken++
		} else if !apierrors.IsInvalid(got) && !apierrors.IsForbidden(got) && !apierrors.IsBadRequest(got) {
			t.Errorf("seed %d, manifest %d, %s: refused for another reason: %v", seed, i, m.Kind, got)
		}
		if (got == nil) != (want == nil) {
			t.Errorf("seed %d, manifest %d, %s, %s: the API server says %v, the tests without one %v", seed, i, m.Kind, strings.Join(m.Changes, "; "), got, want)
		}
	}
	t.Logf("seed %d, %d manifests, %d taken", seed, drawn, taken)
	if taken < drawn/10 || taken > drawn*9/10 {
		t.Errorf("%d of %d manifests were taken: the test shows little", taken, drawn)
	}
}
