package agent

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/manul-net/manul/api/v1alpha1"
)

// TestMetricsOfStatus scrapes what the agent reports: what fails no more is counted no more.
func TestMetricsOfStatus(t *testing.T) {
	m := NewMetrics()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(m.Collectors()...)
	scrape := func() string {
		answer := httptest.NewRecorder()
		promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody))
		return answer.Body.String()
	}
	m.observe(&v1alpha1.NodeStateStatus{
		Endpoints: []v1alpha1.EndpointStatus{{ID: "a/b", Addresses: []string{"10.48.0.1", "fd00::1"}}, {ID: "a/c", Addresses: []string{"10.48.0.2"}}},
		Failures:  []v1alpha1.Failure{{Kind: "Address", Name: "a/d"}, {Kind: "Address", Name: "a/e"}},
	}, 2, 0, 0)
	got := scrape()
	for _, want := range []string{"manul_agent_addresses 3\n", "manul_agent_blocks 2\n", `manul_agent_failed_items{kind="Address"} 2` + "\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("there is no %q in\n%s", want, got)
		}
	}
	if m.observe(&v1alpha1.NodeStateStatus{}, 2, 0, 0); strings.Contains(scrape(), "manul_agent_failed_items{") {
		t.Error("what is well again is counted as failed")
	}
}
