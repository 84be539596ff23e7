// Package rooms holds the test of docs/design/rooms.md: which package may import which.
package rooms

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const module = "github.com/manul-net/manul"

// room is one line of the table. Paths are prefixes below the module; the longest that fits a package is its room. A main
// package is at its folder's main.go.
type room struct {
	path string
	// project lists the parts of the project that the room may import directly, beside itself.
	project []string
	// never lists packages that the room must not reach, directly or through others.
	never []string
	// free rooms may import anything, and product code must not import them.
	free bool
}

// What some rooms must not reach: clients of the API server, and the kernel.
func cluster() []string { return []string{"k8s.io/client-go", "sigs.k8s.io/controller-runtime"} }

func kernel() []string {
	return []string{"github.com/vishvananda/netlink", "github.com/google/nftables", module + "/cni"}
}

func both() []string { return append(cluster(), kernel()...) }

// noIO is for rooms that only calculate and do not even know Kubernetes' types.
func noIO() []string { return append(both(), "k8s.io", "os/exec", "net/http") }

func ours(parts ...string) []string {
	for i := range parts {
		parts[i] = module + "/" + parts[i]
	}
	return parts
}

func rooms() []room {
	return []room{
		{path: "api/v3", never: kernel()},
		{path: "api/v1alpha1", never: kernel()},
		{path: "internal/selector", never: noIO()},
		{path: "internal/labelindex", project: []string{"internal/selector"}, never: noIO()},
		{path: "internal/validate", project: []string{"api", "internal/selector"}, never: both()},
		{path: "internal/policy", project: []string{"api", "internal/selector", "internal/validate"}, never: both()},
		{path: "internal/routing", project: []string{"api", "internal/selector", "internal/labelindex", "internal/validate"}, never: both()},
		{path: "internal/ipam", project: []string{"internal/selector"}, never: append(ours("api"), both()...)},
		{path: "internal/blocks", project: []string{"api", "internal/ipam"}, never: both()},
		{path: "internal/announce", never: noIO()},
		{path: "internal/parallel", never: noIO()},
		{path: "internal/advertise", never: noIO()},
		{path: "internal/usage", project: []string{"api", "internal/blocks", "internal/ipam"}, never: both()},
		{path: "internal/render", project: []string{"api", "internal"}, never: both()},
		{path: "internal/live", project: []string{"api", "internal"}, never: both()},
		{path: "internal/board", project: []string{"api", "internal/render"}, never: both()},
		{path: "internal/wire", project: []string{"api"}, never: append(cluster(), kernel()...)},
		{path: "controllers/looks", never: append(ours("webhooks", "nodeagent"), kernel()...)},
		{path: "controllers", project: []string{"api", "internal", "controllers/looks"}, never: append(ours("webhooks", "nodeagent"), kernel()...)},
		{path: "webhooks", project: []string{"api", "internal/validate", "internal/policy"}, never: append(ours("controllers", "nodeagent"), kernel()...)},
		{path: "main.go", project: []string{"controllers", "webhooks", "internal/wire"}, never: append(ours("nodeagent"), kernel()...)},
		{path: "nodeagent/delta", never: noIO()},
		{path: "nodeagent/pace", never: noIO()},
		{path: "nodeagent/tables", project: []string{"nodeagent/delta"}, never: noIO()},
		{path: "nodeagent/render", project: []string{"api/v1alpha1", "internal/advertise", "nodeagent/tables", "nodeagent/delta"}, never: both()},
		{path: "nodeagent/fold", project: []string{"nodeagent/tables"}, never: noIO()},
		{path: "nodeagent/verdict", project: []string{"nodeagent/tables"}, never: noIO()},
		{path: "nodeagent/connections", project: []string{"nodeagent/tables", "nodeagent/verdict"}, never: noIO()},
		{path: "nodeagent/conntrack", project: []string{"nodeagent/connections"}, never: append(ours("api"), "k8s.io")},
		{path: "nodeagent/dataplane/changeover", project: []string{"nodeagent/tables", "nodeagent/pace"}, never: append(ours("api", "nodeagent/dataplane/nftables", "nodeagent/dataplane/iptables"), both()...)},
		{path: "nodeagent/dataplane/whole", never: append(ours("api"), "k8s.io")},
		{path: "nodeagent/dataplane", project: []string{"nodeagent/dataplane/whole", "nodeagent/delta", "nodeagent/pace", "nodeagent/tables", "nodeagent/fold", "nodeagent/rtnetlink"}, never: append(ours("api"), "k8s.io")},
		{path: "nodeagent/source", project: []string{"api/v1alpha1", "internal/wire"}, never: kernel()},
		{path: "nodeagent/rtnetlink", never: append(ours("api"), "k8s.io")},
		{path: "nodeagent/interfaces", project: []string{"nodeagent/rtnetlink"}, never: append(ours("api"), "k8s.io")},
		{path: "nodeagent/ipam", project: []string{"internal/ipam"}, never: append(ours("api"), both()...)},
		{path: "nodeagent/cniserver", project: []string{"cni/protocol"}, never: cluster()},
		{path: "nodeagent/checkpoint", project: []string{"nodeagent/source"}, never: kernel()},
		{path: "nodeagent/attachments", never: noIO()},
		{path: "nodeagent/addresses", project: []string{"api/v1alpha1", "nodeagent/ipam", "nodeagent/attachments"}, never: both()},
		{
			path:    "nodeagent/agent",
			project: []string{"api/v1alpha1", "cni/protocol", "nodeagent/cniserver", "nodeagent/pace", "nodeagent/render", "nodeagent/source", "nodeagent/tables", "nodeagent/connections", "nodeagent/verdict", "nodeagent/attachments"},
			never:   append(ours("nodeagent/dataplane", "controllers"), "github.com/vishvananda/netlink", "github.com/google/nftables"),
		},
		{path: "nodeagent/install", project: []string{"cni/conflist"}, never: cluster()},
		{
			path:    "nodeagent/daemon",
			project: []string{"api/v1alpha1", "nodeagent", "cni/protocol", "cni/conflist"},
			never:   append(ours("controllers"), "k8s.io/client-go/kubernetes"),
		},
		{path: "nodeagent/main.go", project: []string{"nodeagent/daemon"}, never: ours("controllers")},
		{path: "cni/protocol", never: noIO()},
		{path: "cni/conflist", never: noIO()},
		{path: "cni/plugin", project: []string{"cni/protocol", "cni/conflist"}, never: append(ours("nodeagent"), "k8s.io", "net/http", "sigs.k8s.io/controller-runtime")},
		{path: "cni/main.go", project: []string{"cni/plugin"}, never: []string{"k8s.io", "net/http"}},
		{path: "cmd", project: []string{"api", "internal"}, never: append(ours("nodeagent/agent", "nodeagent/dataplane", "nodeagent/source", "controllers"), kernel()...)},
		{
			path:    "cmd/kubectl-manul/policing",
			project: []string{"api/v1alpha1", "nodeagent/render", "nodeagent/tables", "nodeagent/verdict"},
			never:   both(),
		},
		{path: "cmd/kubectl-manul/report", project: []string{"api", "internal", "cmd/kubectl-manul/policing"}, never: both()},
		{path: "hack", free: true},
		{path: "test", free: true},
	}
}

type listed struct {
	ImportPath string
	Name       string
	Imports    []string
	Deps       []string
}

// path of a package below the module, by which its room is found.
func (p *listed) path() string {
	path := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
	if p.Name == "main" {
		path = strings.TrimPrefix(path+"/main.go", "/")
	}
	return path
}

func TestEveryImportStaysInItsRooms(t *testing.T) {
	for _, p := range list(t) {
		path := p.path()
		r, ok := roomOf(path)
		if !ok {
			t.Errorf("%s has no room: give it a line in docs/design/rooms.md and in this test", path)
			continue
		}
		if r.free {
			continue
		}
		for _, imported := range p.Imports {
			if other, ours := strings.CutPrefix(imported, module+"/"); ours && !r.allows(path, other) {
				t.Errorf("%s imports %s: the room %q may import %v", path, other, r.path, r.project)
			}
		}
		for _, dep := range p.Deps {
			for _, never := range r.never {
				if within(dep, never) {
					t.Errorf("%s reaches %s: the room %q never does", path, dep, r.path)
				}
			}
		}
	}
}

func TestProductCodeNeverImportsTests(t *testing.T) {
	for _, p := range list(t) {
		if r, _ := roomOf(p.path()); r.free {
			continue
		}
		for _, dep := range p.Deps {
			other, ours := strings.CutPrefix(dep, module+"/")
			if r, _ := roomOf(other); ours && r.free {
				t.Errorf("%s reaches %s", p.ImportPath, dep)
			}
		}
	}
}

// TestPageAndTestHaveTheSameRooms holds docs/design/rooms.md and the list above together.
func TestPageAndTestHaveTheSameRooms(t *testing.T) {
	page, err := os.ReadFile("../../docs/design/rooms.md")
	if err != nil {
		t.Fatalf("reading the page: %v", err)
	}
	var onPage, here []string
	for line := range strings.Lines(string(page)) {
		if rest, isRow := strings.CutPrefix(line, "| `"); isRow {
			name, _, _ := strings.Cut(rest, "`")
			name, _, _ = strings.Cut(name, "/<")
			onPage = append(onPage, strings.TrimSuffix(name, "/*"))
		}
	}
	for _, r := range rooms() {
		here = append(here, r.path)
	}
	slices.Sort(onPage)
	slices.Sort(here)
	if diff := cmp.Diff(onPage, here); diff != "" {
		t.Errorf("docs/design/rooms.md (-) and this test (+) have different rooms:\n%s", diff)
	}
}

// within tells whether a package is other or below it.
func within(path, other string) bool { return path == other || strings.HasPrefix(path, other+"/") }

// allows tells whether a package of the room may import other. A room's own packages may import each other, except
// that one controller or driver never imports another.
func (r room) allows(path, other string) bool {
	for _, p := range r.project {
		if within(other, p) {
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
		if within(path, r.path) && len(r.path) > len(best.path) {
			best = r
		}
	}
	return best, best.path != ""
}

func list(t *testing.T) []listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-deps=false", "-json=ImportPath,Name,Imports,Deps", "./...")
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
