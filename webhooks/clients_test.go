package webhooks

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/manul-net/manul/test/apiserver"
)

// kubectl runs kubectl with a manifest and returns all that it says. It stands where the API server's program is.
func (a *admitted) kubectl(t *testing.T, manifest string, args ...string) (said string, ok bool) {
	t.Helper()
	dir := os.Getenv(apiserver.EnvBin)
	if dir == "" {
		dir = filepath.Join(os.Getenv("HOME"), ".cache", "manul", "bin")
	}
	path := filepath.Join(dir, "kubectl")
	if _, err := os.Stat(path); err != nil {
		t.Skipf("without kubectl: %v", err)
	}
	cmd := exec.CommandContext(t.Context(), path, append([]string{"--kubeconfig", a.server.Kubeconfig, "--cache-dir", t.TempDir()}, args...)...)
	cmd.Stdin = strings.NewReader(manifest)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err == nil
}

// clients: what each kind of client sees of the mistakes that are copied from slides (docs/guide/policy.md).
func clients(t *testing.T, a *admitted) {
	const (
		head  = "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: slides, namespace: default}\nspec: "
		order = head + "{ingress: [{action: Allow, order: 10, protocol: TCP}]}\n"
		http  = head + "{ingress: [{action: Allow}], http: {methods: [GET]}}\n"
	)
	const (
		unknown = `unknown field "spec.ingress[0].order"`
		fix     = `spec.ingress[0].order: Forbidden: there is no such field: rules are tried as they stand, and order belongs into spec`
		schema  = `.spec.ingress[0].order: field not declared in schema`
	)
	for _, tc := range []struct {
		name, manifest string
		args           []string
		taken          bool
		want           []string
	}{
		{"order", order, []string{"apply"}, false, []string{unknown}},
		{"order", order, []string{"apply", "--validate=warn"}, false, []string{"Warning: " + unknown, fix}},
		{"order", order, []string{"apply", "--validate=ignore"}, false, []string{fix}},
		{"order", order, []string{"apply", "--server-side"}, false, []string{schema}},
		{"order", order, []string{"apply", "--server-side", "--validate=ignore"}, false, []string{schema}},
		{"order", order, []string{"create"}, false, []string{unknown}},
		{"order", order, []string{"create", "--validate=warn"}, true, []string{"Warning: " + unknown}},
		{"order", order, []string{"create", "--validate=ignore"}, true, []string{"Warning: the client asked for fieldValidation=Ignore"}},
		{"http beside rules", http, []string{"apply"}, false, []string{`unknown field "spec.http"`}},
		{"http beside rules", http, []string{"apply", "--validate=warn"}, false, []string{`unknown field "spec.http"`, "spec.http: Forbidden: there is no such field: it belongs into a rule"}},
		{"fields of Kubernetes", head + "{podSelector: {}, policyTypes: [Ingress]}\n", []string{"apply", "--validate=ignore"}, false, []string{"spec.podSelector: Forbidden: there is no such field: write selector", "write types"}},
		{"LOG", head + "{ingress: [{action: LOG}]}\n", []string{"apply"}, false, []string{`spec.ingress[0].action: Unsupported value: "LOG": supported values: "Allow", "Deny", "Log", "Pass"`}},
		{"protocol", head + "{ingress: [{action: Allow, protocol: Tcp}]}\n", []string{"apply"}, false, []string{`spec.ingress[0].protocol: Invalid value: "Tcp": write TCP`}},
		{"small protocol", head + "{ingress: [{action: Allow, protocol: tcp}]}\n", []string{"apply"}, true, []string{"slides created"}},
		{"port without protocol", head + "{ingress: [{action: Allow, destination: {ports: [80]}}]}\n", []string{"apply"}, false, []string{"spec.ingress[0]: Invalid value", "need protocol TCP, UDP or SCTP: add protocol to the rule"}},
		{"wrong version", strings.Replace(order, "projectcalico.org/v3", "crd.projectcalico.org/v1", 1), []string{"apply"}, false, []string{`no matches for kind "NetworkPolicy" in version "crd.projectcalico.org/v1"`}},
		{"wrong kind", strings.Replace(order, "NetworkPolicy", "Networkpolicy", 1), []string{"apply"}, false, []string{`no matches for kind "Networkpolicy" in version "projectcalico.org/v3"`}},
	} {
		t.Run(tc.name+" "+strings.Join(tc.args, " "), func(t *testing.T) {
			said, taken := a.kubectl(t, tc.manifest, append(tc.args, "--dry-run=server", "-f", "-")...)
			if taken != tc.taken {
				t.Errorf("taken is %v", taken)
			}
			for _, want := range tc.want {
				if !strings.Contains(said, want) {
					t.Errorf("kubectl says %q, want %q in it", said, want)
				}
			}
		})
	}
}

// examples: users who apply the manifests of the guide, as they stand there, are not refused. They are warned of what the guide tells of: that
// pods are not there, and what a default deny does.
func examples(t *testing.T, a *admitted) {
	files, err := filepath.Glob(filepath.Join(apiserver.Root(t), "docs", "guide", "manifests", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d examples, %v", len(files), err)
	}
	if err := a.client.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "yaobank"}}); err != nil {
		t.Fatal(err)
	}
	expected := []string{
		"the policy selects no pod", "without rules for ingress and egress the policy denies", "resource tiers/security is missing",
		"spec.externalIPs is deprecated", // Kubernetes would rather not have what the guide shows how to advertise
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			said, taken := a.kubectl(t, string(raw), "apply", "-f", "-")
			if !taken {
				t.Errorf("kubectl says %s", said)
			}
			for line := range strings.Lines(said) {
				if strings.HasPrefix(line, "Warning: ") && !slices.ContainsFunc(expected, func(text string) bool { return strings.Contains(line, text) }) {
					t.Errorf("kubectl says %s", line)
				}
			}
		})
	}
}
