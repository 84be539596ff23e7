package cluster

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWithDefaults(t *testing.T) {
	t.Setenv("MANUL_CACHE", "/cache")
	got, err := Options{}.WithDefaults()
	if err != nil {
		t.Fatal(err)
	}
	got.Say = nil
	want := Options{Name: "default", Workers: 2, Proxy: NFTables, CNI: NoCNI, Cache: "/cache"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
}

func TestWithDefaultsRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		o    Options
		want string
	}{
		"name with a dash": {Options{Name: "a-b"}, `cluster name "a-b"`},
		"long name":        {Options{Name: strings.Repeat("a", 21)}, "cluster name"},
		"workers":          {Options{Workers: 10}, "10 workers: want 1 to 9"},
		"negative workers": {Options{Workers: -1}, "-1 workers"},
		"proxy":            {Options{Proxy: "ipvs"}, `kube-proxy mode "ipvs"`},
		"cni":              {Options{CNI: "x"}, `pod network "x"`},
		"cache":            {Options{Cache: "relative"}, `cache "relative"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tc.o.WithDefaults()
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
}

func TestHosts(t *testing.T) {
	var got []string
	for _, h := range hosts(2) {
		got = append(got, h.Name+" "+h.Address.String())
	}
	want := []string{"master1 10.0.0.10", "worker1 10.0.0.11", "worker2 10.0.0.12", "host1 10.0.0.20"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("hosts (-want +got):\n%s", diff)
	}
	seen := map[string]bool{}
	for _, h := range hosts(MaxWorkers) {
		if seen[h.Address.String()] {
			t.Errorf("address %s is given twice", h.Address)
		}
		seen[h.Address.String()] = true
	}
}

func TestPTPConfig(t *testing.T) {
	text, err := ptpConfig(hosts(1)[1])
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Plugins []struct {
			Type string
			IPAM struct{ Ranges [][]struct{ Subnet string } }
		}
	}
	if err := json.Unmarshal([]byte(text), &config); err != nil {
		t.Fatal(err)
	}
	if got := config.Plugins[0].IPAM.Ranges[0][0].Subnet; got != "10.48.11.0/24" {
		t.Errorf("worker1 has pods in %s, want 10.48.11.0/24", got)
	}
}
