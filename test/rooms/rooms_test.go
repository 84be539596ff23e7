// Package rooms holds the test of docs/design/rooms.md: which package may import which.
package rooms

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/manul-net/manul"

// room is one line of the table. Paths are prefixes below the module; the longest that fits a package is its room.
type room struct {
	path string
	// project lists the parts of the project that the room may import directly.
	project []string
	// never lists packages that the room must not reach, directly or through others.
	never []string
}

// What some rooms must not reach: clients of the API server, and the kernel.
func cluster() []string { return []string{"k8s.io/client-go", "sigs.k8s.io/controller-runtime"} }

func kernel() []string {
	return []string{"github.com/vishvananda/netlink", "github.com/google/nftables", module + "/cni/"}
}

func both() []string { return append(cluster(), kernel()...) }

// noIO is for rooms that only calculate and do not even know Kubernetes' types.
func noIO() []string { return append(both(), "k8s.io/", "os/exec", "net/http") }

func rooms() []room {
	return []room{
		{path: "api", never: kernel()},
		{path: "internal/selector", never: noIO()},
		{path: "internal/labelindex", project: []string{"internal/selector"}, never: noIO()},
		{path: "internal/validate", project: []string{"api", "internal/selector"}, never: both()},
		{path: "internal/policy", project: []string{"api", "internal/selector", "internal/validate"}, never: both()},
		{path: "internal/ipam", project: []string{"api", "internal/selector"}, never: both()},
		{path: "internal/render", project: []string{"api", "internal"}, never: both()},
		{path: "internal/live", project: []string{"api", "internal"}, never: kernel()},
		{path: "controllers", project: []string{"api", "internal"}, never: kernel()},
		{path: "webhooks", project: []string{"api", "internal/validate"}, never: kernel()},
		{path: "nodeagent/delta", never: noIO()},
		{path: "nodeagent/tables", project: []string{"nodeagent/delta"}, never: noIO()},
		{path: "nodeagent/render", project: []string{"api/v1alpha1", "nodeagent/tables", "nodeagent/delta"}, never: both()},
		{path: "nodeagent/dataplane", project: []string{"nodeagent/delta", "nodeagent/tables"}, never: []string{"k8s.io/", module + "/api"}},
		{path: "nodeagent/source", project: []string{"api/v1alpha1"}, never: kernel()},
		{path: "nodeagent/ipam", project: []string{"internal/ipam"}, never: append([]string{module + "/api"}, both()...)},
		{path: "nodeagent/cniserver", project: []string{"cni/protocol"}, never: cluster()},
		{path: "nodeagent", project: []string{"api/v1alpha1", "nodeagent", "cni/protocol", "cni/conflist"}, never: []string{module + "/controllers", "k8s.io/client-go/kubernetes"}},
		{path: "cni/protocol", never: noIO()},
		{path: "cni", project: []string{"cni"}, never: append([]string{"k8s.io/", "net/http"}, cluster()...)},
		{path: "cmd", project: []string{"api", "internal"}, never: []string{module + "/nodeagent", module + "/controllers"}},
	}
}

type listed struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func TestEveryImportStaysInItsRooms(t *testing.T) {
	for _, p := range list(t) {
		path := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		if path == "" || strings.HasPrefix(path, "test/") || strings.HasPrefix(path, "hack/") {
			continue // the operator's main joins everything, tests may import anything
		}
		if strings.HasPrefix(path, "test") {
			continue
		}
		r, ok := roomOf(path)
		if !ok {
			t.Errorf("%s has no room: give it a line in docs/design/rooms.md and in this test", path)
			continue
		}
		for _, imported := range p.Imports {
			if other, ours := strings.CutPrefix(imported, module+"/"); ours && !r.allows(path, other) {
				t.Errorf("%s imports %s: the room %q may import %v", path, other, r.path, r.project)
			}
		}
		for _, dep := range p.Deps {
			for _, never := range r.never {
				if dep == strings.TrimSuffix(never, "/") || strings.HasPrefix(dep, strings.TrimSuffix(never, "/")+"/") {
					t.Errorf("%s reaches %s: the room %q never does", path, dep, r.path)
				}
			}
		}
	}
}

func TestProductCodeNeverImportsTests(t *testing.T) {
	for _, p := range list(t) {
		if strings.HasPrefix(p.ImportPath, module+"/test/") {
			continue
		}
		for _, dep := range p.Deps {
			if strings.HasPrefix(dep, module+"/test/") {
				t.Errorf("%s reaches %s", p.ImportPath, dep)
			}
		}
	}
}

// allows tells whether a package of the room may import other. A room's own packages may import each other, except
// that one controller or driver never imports another.
func (r room) allows(path, other string) bool {
	for _, p := range r.project {
		if other == p || strings.HasPrefix(other, p+"/") {
			return true
		}
	}
	if r.path == "controllers" || r.path == "nodeagent/dataplane" {
		return strings.HasPrefix(other, concern(path)+"/") || path == r.path && strings.HasPrefix(other, r.path+"/")
	}
	return strings.HasPrefix(other, r.path+"/")
}

// concern is the folder of one controller or driver: the first below the room.
func concern(path string) string {
	parts := strings.Split(path, "/")
	depth := 2
	if parts[0] == "nodeagent" {
		depth = 3
	}
	return strings.Join(parts[:min(depth, len(parts))], "/")
}

func roomOf(path string) (room, bool) {
	var best room
	for _, r := range rooms() {
		if (path == r.path || strings.HasPrefix(path, r.path+"/")) && len(r.path) > len(best.path) {
			best = r
		}
	}
	return best, best.path != ""
}

func list(t *testing.T) []listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-deps=false", "-json=ImportPath,Imports,Deps", "./...")
	cmd.Dir = "../.."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("listing packages: %v\n%s", err, stderr.String())
	}
	var all []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatalf("reading the list of packages: %v", err)
		}
		all = append(all, p)
	}
}
