package plugin

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestBinaryIsSmall(t *testing.T) {
	const limit = 8 << 20
	info, err := os.Stat(os.Getenv(pluginEnv))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%.2f MiB", float64(info.Size())/(1<<20))
	if info.Size() > limit {
		t.Errorf("the plugin has %d bytes, want at most %d", info.Size(), limit)
	}
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "github.com/manul-net/manul/cni").Output()
	if err != nil {
		t.Fatal(err)
	}
	for dep := range strings.FieldsSeq(string(out)) {
		if strings.HasPrefix(dep, "k8s.io/") || dep == "net/http" {
			t.Errorf("the plugin links %s", dep)
		}
	}
}
