package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/test/apiserver"
	"github.com/manul-net/manul/test/netns"
)

// installRights applies what agents of hosts may do.
func (n *testNode) installRights() {
	n.t.Helper()
	raw, err := os.ReadFile(filepath.Join(apiserver.Root(n.t), "config", "install.yaml"))
	if err != nil {
		n.t.Fatal(err)
	}
	for dec := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(raw), 4096); ; {
		o := &unstructured.Unstructured{}
		if err := dec.Decode(o); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			n.t.Fatalf("reading the install manifest: %v", err)
		}
		wanted := []string{"ClusterRole manul-node", "ClusterRoleBinding manul-node", "ValidatingAdmissionPolicy manul-node-own-status", "ValidatingAdmissionPolicyBinding manul-node-own-status"}
		if slices.Contains(wanted, o.GetKind()+" "+o.GetName()) {
			if err := n.client.Apply(n.t.Context(), client.ApplyConfigurationFromUnstructured(o), client.FieldOwner("test")); err != nil {
				n.t.Fatal(err)
			}
		}
	}
}

// kubeconfigAs is a kubeconfig that speaks for a user.
func (n *testNode) kubeconfigAs(address, user, group string) string {
	n.t.Helper()
	path := n.kubeconfig(address)
	b, err := os.ReadFile(path)
	if err != nil {
		n.t.Fatal(err)
	}
	b = regexp.MustCompile(`(?m)^(\s*)token:.*$`).ReplaceAll(b, []byte("$0\n${1}as: "+user+"\n${1}as-groups: ["+group+"]"))
	if err := os.WriteFile(path, b, 0o600); err != nil {
		n.t.Fatal(err)
	}
	return path
}

// A host that is no node: the program as its unit runs it, with the rights that the manifest gives it.
func TestStandaloneProgram(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program")
	}
	n := newTestNode(t)
	n.installRights()
	program := n.build()
	outside := netns.New(t)
	n.ns.Veth("eth0", outside, "fabric")
	n.ns.Address("eth0", "192.168.0.1/24")
	outside.Address("fabric", "192.168.0.9/24")
	forwarding := func() string {
		var b []byte
		n.ns.Must("reading a setting", func() (err error) { b, err = os.ReadFile("/proc/sys/net/ipv4/ip_forward"); return err })
		return strings.TrimSpace(string(b))
	}
	at := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr("192.168.0.1"), port) }
	for _, port := range []uint16{80, 81} {
		defer n.ns.Echo(at(port)).Close()
	}

	const host = "host1"
	cmd := exec.CommandContext(t.Context(), program, "--standalone", "--node", host, "--kubeconfig", n.kubeconfigAs(n.forward(), "manul:host:"+host, "manul:hosts"),
		"--health-address", "127.0.0.1:9091", "--state-dir", filepath.Join(n.dir, "state"), "--socket", n.socket())
	output := testWriter{t, &sync.Mutex{}}
	cmd.Stdout, cmd.Stderr = output, output
	n.ns.Must("starting", cmd.Start)
	defer func() { _ = cmd.Process.Kill() }()
	ready := func() string {
		if !n.ns.CanConnect(netip.MustParseAddrPort("127.0.0.1:9091")) {
			return "nobody listens"
		}
		if code, err := n.probe("127.0.0.1:9091", "/readyz"); err != nil || code != http.StatusOK {
			return fmt.Sprint(code, err)
		}
		return ""
	}
	n.eventually("readiness without a HostEndpoint", ready)

	n.create(&v1alpha1.PolicyProgram{ObjectMeta: named("gnp.web"), Spec: v1alpha1.PolicyProgramSpec{
		Policy: v1alpha1.PolicyReference{Kind: "GlobalNetworkPolicy", Name: "web"}, Tier: "default", Ingress: []v1alpha1.Rule{{
			Action: v1alpha1.Allow, Protocol: new(int32(6)), Destination: v1alpha1.EntityMatch{Ports: []v1alpha1.PortRange{{First: 80, Last: 80}}},
		}},
	}})
	tiers := []v1alpha1.TierPolicies{{Tier: "default", DefaultAction: v1alpha1.Deny, Policies: []string{"gnp.web"}}}
	state := &v1alpha1.NodeState{ObjectMeta: named(host), Spec: v1alpha1.NodeStateSpec{HostEndpoints: []v1alpha1.HostEndpoint{{
		Name: "host1-eth0", Addresses: []string{"192.168.0.1"}, DefaultAction: v1alpha1.Allow, Local: v1alpha1.DirectionPolicies{Ingress: tiers},
	}}}}
	n.create(state)
	n.eventually("status of the host", func() string {
		var s v1alpha1.NodeState
		if err := n.client.Get(t.Context(), types.NamespacedName{Name: host}, &s); err != nil {
			t.Fatal(err)
		}
		if s.Status.ObservedGeneration != 1 || s.Status.Summary.HostEndpoints != 1 || len(s.Status.Failures) > 0 {
			return "not as it should be"
		}
		return ""
	})
	_ = outside.Connect(at(80)).Close()
	if outside.CanConnect(at(81)) {
		t.Error("the host endpoint's policy is not in force")
	}
	if err := n.client.Delete(t.Context(), state); err != nil {
		t.Fatal(err)
	}
	n.eventually("the end of policy", func() string {
		if !outside.CanConnect(at(81)) {
			return "the port is closed though the host has no HostEndpoint any more"
		}
		return ""
	})
	n.takesLittleMemory(cmd.Process.Pid)
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
	for _, path := range []string{n.socket(), filepath.Join(n.dir, "state", "addresses.db"), filepath.Join(n.dir, "state", "cni")} {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s exists, which only a node needs", path)
		}
	}
	if forwarding() != "0" {
		t.Error("the host passes packets on, which nobody asked for")
	}
}

// The flags that a host without pods needs, and says so.
func TestFlags(t *testing.T) {
	for what, tc := range map[string]struct {
		o    options
		want string
	}{
		"a host that is no node":  {options{node: "host1", standalone: true, kubeconfig: "/k", state: "/s"}, ""},
		"without its credentials": {options{node: "host1", standalone: true, state: "/s"}, "--kubeconfig: empty; --standalone needs one"},
		"a node without a socket": {options{node: "worker1", state: "/s", cniBin: "/b", cniConf: "/c"}, "--socket: got"},
		"without a name":          {options{state: "/s", standalone: true, kubeconfig: "/k"}, "--node: empty"},
	} {
		tc.o.addWait, tc.o.dataplane = 10*time.Second, autoDataplane
		err := tc.o.validate()
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %q", what, err, tc.want)
		}
	}
}
