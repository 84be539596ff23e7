package daemon

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/test/netns"
)

// Bounds of an idle agent's memory, KiB.
const (
	maxResident  = 45 << 10
	maxAnonymous = 15 << 10
)

// forward makes the test's API server reachable from within the node's namespace, and the agent's health from outside.
func (n *testNode) forward() (apiServer string) {
	n.t.Helper()
	to := strings.TrimPrefix(n.server.Config.Host, "https://")
	var l net.Listener
	n.ns.Must("listening in the namespace", func() (err error) {
		l, err = new(net.ListenConfig).Listen(n.t.Context(), "tcp", "127.0.0.1:0")
		return err
	})
	n.t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close() // the other end sees it
				other, err := new(net.Dialer).DialContext(n.t.Context(), "tcp", to)
				if err != nil {
					return
				}
				defer other.Close() // the other end sees it
				go func() { _, _ = io.Copy(conn, other); _ = conn.Close() }()
				_, _ = io.Copy(other, conn)
			}()
		}
	}()
	return l.Addr().String()
}

// kubeconfig is the server's with another address.
func (n *testNode) kubeconfig(address string) string {
	n.t.Helper()
	b, err := os.ReadFile(n.server.Kubeconfig)
	if err != nil {
		n.t.Fatal(err)
	}
	path := filepath.Join(n.dir, "kubeconfig")
	b = regexp.MustCompile(`server: .*`).ReplaceAll(b, []byte("server: https://"+address))
	if err := os.WriteFile(path, b, 0o600); err != nil {
		n.t.Fatal(err)
	}
	return path
}

// probe asks from within the namespace. A client of net/http would dial on another thread.
func (n *testNode) probe(address, path string) (code int, err error) {
	n.t.Helper()
	var conn net.Conn
	n.ns.Must("dialling", func() (err error) {
		conn, err = new(net.Dialer).DialContext(n.t.Context(), "tcp", address)
		return err
	})
	defer conn.Close() // read to its end
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.0\r\n\r\n", path); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

// memory gives a process's resident and anonymous memory, KiB.
func memory(t *testing.T, pid int) (resident, anonymous int) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	value := func(key string) int {
		m := regexp.MustCompile(key + `:\s+(\d+) kB`).FindSubmatch(b)
		if m == nil {
			t.Fatalf("no %s in %s", key, b)
		}
		v, err := strconv.Atoi(string(m[1]))
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	return value("VmRSS"), value("RssAnon")
}

// takesLittleMemory waits until an agent has given back what it needed at its start only.
func (n *testNode) takesLittleMemory(pid int) {
	n.t.Helper()
	n.eventually("memory", func() string {
		resident, anonymous := memory(n.t, pid)
		if resident > maxResident || anonymous > maxAnonymous {
			return fmt.Sprintf("resident %d KiB, anonymous %d KiB, want at most %d and %d", resident, anonymous, maxResident, maxAnonymous)
		}
		return ""
	})
	resident, anonymous := memory(n.t, pid)
	n.t.Logf("resident %.1f MiB, of which anonymous %.1f MiB", float64(resident)/1024, float64(anonymous)/1024)
}

// build builds the program.
func (n *testNode) build() string {
	n.t.Helper()
	program := filepath.Join(n.dir, "manul-node")
	build := exec.CommandContext(n.t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w -X main.version=v0.0.1", "-o", program, "..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		n.t.Fatalf("building: %v\n%s", err, out)
	}
	return program
}

// The program as users run it: flags, a kubeconfig, signals; and what memory it takes on a node of a cluster of 20.
func TestProgram(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program")
	}
	n := newTestNode(t)
	program := n.build()
	n.ns.Veth("eth0", netns.New(t), "fabric")
	n.ns.Address("eth0", "192.168.0.1/24")
	n.populate(20, 30)
	n.ns.Must("making a chain of kube-proxy", exec.CommandContext(t.Context(), "iptables-nft", "-t", "nat", "-N", "KUBE-SERVICES").Run)

	cmd := exec.CommandContext(t.Context(), program,
		"--node", nodeName, "--kubeconfig", n.kubeconfig(n.forward()), "--health-address", "127.0.0.1:9091", "--state-dir", filepath.Join(n.dir, "state"),
		"--socket", n.socket(), "--plugin", filepath.Join(n.dir, "plugin"), "--cni-bin-dir", filepath.Join(n.dir, "bin"), "--cni-conf-dir", filepath.Join(n.dir, "net.d"))
	output := testWriter{t, &sync.Mutex{}}
	cmd.Stdout, cmd.Stderr = output, output
	n.ns.Must("starting", cmd.Start)
	defer func() { _ = cmd.Process.Kill() }()

	n.eventually("readiness", func() string {
		if s := n.status(); len(s.Conditions) == 2 && s.Conditions[1].Status == "False" && s.Dataplane == "iptables" && s.Conditions[0].Status == "True" && s.AgentVersion == "v0.0.1" {
			return ""
		}
		return "not reported"
	})
	if code, err := n.probe("127.0.0.1:9091", "/readyz"); err != nil || code != http.StatusOK {
		t.Errorf("readiness probe: %d, %v", code, err)
	}
	n.takesLittleMemory(cmd.Process.Pid)

	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
	if got := n.routesOf(); len(got) == 0 {
		t.Error("the routes went with the agent")
	}
}

// populate makes a cluster of some nodes with some pods each, a policy for every pod and a set for every policy.
func (n *testNode) populate(nodes, pods int) {
	n.t.Helper()
	state := &v1alpha1.NodeState{ObjectMeta: named(nodeName)}
	state.Spec.Blocks = []v1alpha1.BlockLease{{CIDR: "10.48.0.0/26", Pool: "10.48.0.0/16"}}
	for i := range pods {
		program, set := fmt.Sprintf("np.shop.p%d", i), fmt.Sprintf("%02x00000000000000", i)
		n.create(&v1alpha1.PolicyProgram{ObjectMeta: named(program), Spec: v1alpha1.PolicyProgramSpec{
			Policy: v1alpha1.PolicyReference{Kind: "NetworkPolicy", Name: program}, Tier: "default",
			Ingress: []v1alpha1.Rule{{Action: v1alpha1.Allow, Source: v1alpha1.EntityMatch{Sets: []string{set}}}},
		}})
		n.create(&v1alpha1.SetCatalog{ObjectMeta: named("sets-" + set[:2]), Spec: v1alpha1.SetCatalogSpec{
			Sets: []v1alpha1.Set{{ID: set, Identities: []string{fmt.Sprintf("i%d", i)}}},
		}})
		state.Spec.Endpoints = append(state.Spec.Endpoints, v1alpha1.Endpoint{
			ID: fmt.Sprintf("shop/p%02d", i), UID: types.UID(program), Identity: fmt.Sprintf("i%d", i),
			Ingress: []v1alpha1.TierPolicies{{Tier: "default", DefaultAction: v1alpha1.Deny, Policies: []string{program}}},
		})
	}
	n.create(state)
	for i := range nodes {
		name := fmt.Sprintf("node%d", i)
		e := &v1alpha1.NodeEndpoints{ObjectMeta: named(name)}
		for j := range pods {
			e.Spec.Endpoints = append(e.Spec.Endpoints, v1alpha1.RemoteEndpoint{
				ID: fmt.Sprintf("shop/r%d-%d", i, j), Identities: []string{fmt.Sprintf("i%d", j)},
				Addresses: []string{fmt.Sprintf("10.48.%d.%d", i+1, j)},
			})
		}
		n.create(e)
		n.create(&v1alpha1.NodeNetwork{ObjectMeta: named(name), Spec: v1alpha1.NodeNetworkSpec{
			Addresses: []string{fmt.Sprintf("192.168.0.%d", i+10)}, Blocks: []string{fmt.Sprintf("10.48.%d.0/26", i+1)},
		}})
	}
}
