package daemon

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/cni/conflist"
	"github.com/manul-net/manul/cni/protocol"
	"github.com/manul-net/manul/nodeagent/agent"
	"github.com/manul-net/manul/nodeagent/checkpoint"
	"github.com/manul-net/manul/nodeagent/conntrack"
	"github.com/manul-net/manul/nodeagent/dataplane/nftables"
	"github.com/manul-net/manul/nodeagent/dataplane/routes"
	"github.com/manul-net/manul/nodeagent/interfaces"
	"github.com/manul-net/manul/nodeagent/render"
	"github.com/manul-net/manul/nodeagent/source"
	"github.com/manul-net/manul/test/apiserver"
	"github.com/manul-net/manul/test/netns"
)

const (
	nodeName = "worker1"
	patience = 90 * time.Second
)

// testNode is a node whose kernel is a network namespace and whose API server is real.
type testNode struct {
	t      *testing.T
	ns     *netns.NS
	server *apiserver.Server
	client client.Client
	dir    string
	log    *slog.Logger
	health string
}

func newTestNode(t *testing.T) *testNode {
	t.Helper()
	n := &testNode{t: t, ns: netns.New(t), server: apiserver.Start(t), dir: t.TempDir(), log: slog.New(slog.NewTextHandler(testWriter{t, &sync.Mutex{}}, nil))}
	installRendered(t, n.server)
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	n.client = n.server.Client(t, scheme)
	if err := os.WriteFile(filepath.Join(n.dir, "plugin"), []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return n
}

// testWriter logs to the test as long as it runs.
type testWriter struct {
	t  *testing.T
	mu *sync.Mutex
}

func (w testWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.t.Context().Err() == nil {
		w.t.Log(string(bytes.TrimSpace(b)))
	}
	return len(b), nil
}

// start runs an agent in the node's namespace; the API server is reached from where the test runs.
func (n *testNode) start(follow source.Source) (stop func()) {
	n.t.Helper()
	var policy *nftables.Driver
	var routing *routes.Driver
	var own *interfaces.Follower
	var tracked *conntrack.Table
	n.ns.Must("opening drivers", func() (err error) {
		if policy, err = nftables.New(nftables.Options{WorkloadPrefix: protocol.InterfacePrefix, Log: n.log}); err != nil {
			return err
		}
		if routing, err = routes.New(routes.Options{WorkloadPrefix: protocol.InterfacePrefix, Protocol: protocol.RouteProtocol, Log: n.log}); err != nil {
			return err
		}
		if own, err = interfaces.New(interfaces.Options{WorkloadPrefix: protocol.InterfacePrefix, Mark: protocol.InterfaceMark, Log: n.log}); err != nil {
			return err
		}
		tracked, err = conntrack.Open()
		return err
	})
	file, err := checkpoint.Open(filepath.Join(n.dir, "state", "checkpoint.db"))
	if err != nil {
		n.t.Fatal(err)
	}
	given, err := OpenAddresses(filepath.Join(n.dir, "state", "addresses.db"))
	if err != nil {
		n.t.Fatal(err)
	}
	a := agent.New(agent.Options{
		Node: nodeName, Version: "test", Dataplane: func() string { return "nftables" },
		Source: follow, Policy: policy, Routes: routing, Addresses: given, Checkpoint: file, Interfaces: own, Connections: tracked,
		MTU: func([]netip.Addr, string) (int, error) { return 1500, nil }, Log: n.log,
	})
	o := &options{
		node: nodeName, address: "127.0.0.1:0", socket: n.socket(), state: filepath.Join(n.dir, "state"),
		plugin: filepath.Join(n.dir, "plugin"), cniBin: filepath.Join(n.dir, "bin"), cniConf: filepath.Join(n.dir, "net.d"),
	}
	l, err := new(net.ListenConfig).Listen(n.t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		n.t.Fatal(err)
	}
	n.health = l.Addr().String()
	if err := l.Close(); err != nil {
		n.t.Fatal(err)
	}
	o.address = n.health
	ctx, cancel := context.WithCancel(n.t.Context())
	done := make(chan error, 1)
	go func() { done <- serve(ctx, o, a, n.log) }()
	return func() {
		n.t.Helper()
		cancel()
		if err := errors.Join(<-done, policy.Close(), routing.Close(), own.Close(), tracked.Close(), given.Close(), file.Close()); err != nil {
			n.t.Errorf("stopping: %v", err)
		}
	}
}

func (n *testNode) api() source.Source {
	n.t.Helper()
	s, err := source.NewAPI(n.server.Config, nodeName, n.log)
	if err != nil {
		n.t.Fatal(err)
	}
	return s
}

// silence is a source that never answers: no API server, no operator.
type silence struct{}

func (silence) Run(ctx context.Context, _ source.Sink) error { <-ctx.Done(); return nil }
func (silence) Report(source.Report)                         {}

func (n *testNode) socket() string { return filepath.Join(n.dir, "cni.sock") }

func (n *testNode) create(o client.Object) {
	n.t.Helper()
	if err := n.client.Create(n.t.Context(), o); err != nil {
		n.t.Fatal(err)
	}
}

// eventually waits until check finds nothing wrong.
func (n *testNode) eventually(what string, check func() string) {
	n.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		wrong := check()
		if wrong == "" {
			return
		}
		select {
		case <-deadline:
			n.t.Fatalf("%s: %s", what, wrong)
		case <-tick.C:
		}
	}
}

func (n *testNode) status() v1alpha1.NodeStateStatus {
	n.t.Helper()
	var s v1alpha1.NodeState
	if err := n.client.Get(n.t.Context(), types.NamespacedName{Name: nodeName}, &s); err != nil {
		n.t.Fatal(err)
	}
	return s.Status
}

func (n *testNode) get(path string) (int, string) {
	n.t.Helper()
	req, err := http.NewRequestWithContext(n.t.Context(), http.MethodGet, "http://"+n.health+path, http.NoBody)
	if err != nil {
		n.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close() // read to its end
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// routesOf lists the node's routes that bear the project's mark.
func (n *testNode) routesOf() map[string]string {
	n.t.Helper()
	list, err := n.ns.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Protocol: protocol.RouteProtocol}, netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		n.t.Fatal(err)
	}
	got := map[string]string{}
	for _, r := range list {
		switch {
		case r.Type == unix.RTN_BLACKHOLE:
			got[r.Dst.String()] = "blackhole"
		case r.Gw != nil:
			got[r.Dst.String()] = "via " + r.Gw.String()
		default:
			link, err := n.ns.LinkByIndex(r.LinkIndex)
			if err != nil {
				n.t.Fatal(err)
			}
			got[r.Dst.String()] = "dev " + link.Attrs().Name
		}
	}
	return got
}

func named(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }

func add(pod, uid, container string) protocol.AddRequest {
	namespace, name, _ := strings.Cut(pod, "/")
	return protocol.AddRequest{
		Attachment: protocol.Attachment{ContainerID: container, IfName: "eth0"},
		Netns:      "/run/netns/" + container, PodNamespace: namespace, PodName: name, PodUID: uid,
	}
}

// A node from its first day on: the operator's objects come, a pod starts, the agent is restarted, also without API
// server, and the pod goes.
func TestNode(t *testing.T) {
	n := newTestNode(t)
	n.ns.Veth("eth0", netns.New(t), "fabric")
	n.ns.Address("eth0", "192.168.0.1/24")
	stop := n.start(n.api())
	if code, body := n.get("/readyz"); code == http.StatusOK {
		t.Errorf("ready without a NodeState: %s", body)
	}

	n.create(&v1alpha1.NodeNetwork{ObjectMeta: named(nodeName), Spec: v1alpha1.NodeNetworkSpec{Addresses: []string{"192.168.0.1"}, Blocks: []string{"10.48.0.0/26"}}})
	n.create(&v1alpha1.NodeNetwork{ObjectMeta: named("worker2"), Spec: v1alpha1.NodeNetworkSpec{Addresses: []string{"192.168.0.2"}, Blocks: []string{"10.48.0.64/26"}}})
	n.create(&v1alpha1.NodeState{ObjectMeta: named(nodeName), Spec: v1alpha1.NodeStateSpec{
		Endpoints: []v1alpha1.Endpoint{{
			ID: "shop/web", UID: "u1", Identity: "i1",
			Ingress: []v1alpha1.TierPolicies{{Tier: "default", DefaultAction: v1alpha1.Deny, Policies: []string{"np.shop.web"}}},
		}},
		Blocks: []v1alpha1.BlockLease{{CIDR: "10.48.0.0/26", Pool: "10.48.0.0/16", Reserved: []string{"10.48.0.0"}}},
		Pools:  []v1alpha1.Pool{{CIDR: "10.48.0.0/16", NATOutgoing: true}},
	}})

	// The pod's address is reported at once, its policy waits for the rest of the news.
	n.eventually("address report", func() string {
		return cmp.Diff([]v1alpha1.EndpointStatus{{ID: "shop/web", UID: "u1", Addresses: []string{"10.48.0.1"}}}, n.status().Endpoints)
	})
	if got := n.status().ObservedGeneration; got != 0 {
		t.Errorf("observed generation %d while the program is missing", got)
	}
	n.create(&v1alpha1.PolicyProgram{ObjectMeta: named("np.shop.web"), Spec: v1alpha1.PolicyProgramSpec{
		Policy: v1alpha1.PolicyReference{Kind: "NetworkPolicy", Namespace: "shop", Name: "web"}, Tier: "default",
		Ingress: []v1alpha1.Rule{{Action: v1alpha1.Allow, Source: v1alpha1.EntityMatch{Sets: []string{"aa11aa11aa11aa11"}}}},
	}})
	n.create(&v1alpha1.SetCatalog{ObjectMeta: named("sets-aa"), Spec: v1alpha1.SetCatalogSpec{
		Sets: []v1alpha1.Set{{ID: "aa11aa11aa11aa11", Identities: []string{"i2"}}},
	}})
	plugin := protocol.Client{Socket: n.socket()}
	result, err := plugin.Add(t.Context(), add("shop/web", "u1", "c1"))
	if err != nil {
		t.Fatal(err)
	}
	iface := render.InterfaceName("shop/web")
	if result.InterfaceName != iface || len(result.Addresses) != 1 || result.Addresses[0].String() != "10.48.0.1" || result.MTU != 1500 {
		t.Errorf("answer to ADD: %+v", result)
	}
	n.eventually("acknowledgement", func() string {
		s := n.status()
		if s.ObservedGeneration == 1 && s.Summary.Policies == 1 && s.Conditions[0].Status == metav1.ConditionTrue && s.Applied["SetCatalog"] != "" {
			return ""
		}
		return cmp.Diff(v1alpha1.NodeStateStatus{}, s)
	})
	n.eventually("network configuration", func() string {
		if _, err := os.Stat(filepath.Join(n.dir, "net.d", conflist.FileName)); err != nil {
			return err.Error()
		}
		return ""
	})
	for path, want := range map[string]string{"/healthz": "ok", "/readyz": "ok", "/metrics": "manul_agent_apply_duration_seconds"} {
		if code, body := n.get(path); code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d %.200s", path, code, body)
		}
	}

	// What the plugin would make.
	pod := netns.New(t)
	n.ns.Veth(iface, pod, "eth0")
	want := map[string]string{"10.48.0.0/26": "blackhole", "10.48.0.64/26": "via 192.168.0.2", "10.48.0.1/32": "dev " + iface}
	routesAre := func() string { return cmp.Diff(want, n.routesOf()) }
	n.eventually("routes", routesAre)

	stop()
	if d := routesAre(); d != "" {
		t.Errorf("stopping the agent changed routes:\n%s", d)
	}
	stop = n.start(silence{})
	n.eventually("readiness from the checkpoint", func() string {
		if code, body := n.get("/readyz"); code != http.StatusOK {
			return body
		}
		return ""
	})
	if d := routesAre(); d != "" {
		t.Errorf("a restart without API server changed routes:\n%s", d)
	}
	check := protocol.CheckRequest{Attachment: protocol.Attachment{ContainerID: "c1", IfName: "eth0"}, Netns: "/run/netns/c1", PodNamespace: "shop", PodName: "web", PodUID: "u1"}
	if again, err := plugin.Check(t.Context(), check); err != nil || again.InterfaceName != iface {
		t.Errorf("check after a restart: %+v, %v", again, err)
	}
	stop()

	// The pod went while no agent ran.
	var state v1alpha1.NodeState
	if err := n.client.Get(t.Context(), types.NamespacedName{Name: nodeName}, &state); err != nil {
		t.Fatal(err)
	}
	state.Spec.Endpoints = nil
	if err := n.client.Update(t.Context(), &state); err != nil {
		t.Fatal(err)
	}
	stop = n.start(n.api())
	defer stop()
	n.eventually("observing the pod's departure", func() string { return cmp.Diff(int64(2), n.status().ObservedGeneration) })
	if err := plugin.Del(t.Context(), protocol.DelRequest{Attachment: check.Attachment}); err != nil {
		t.Fatal(err)
	}
	delete(want, "10.48.0.1/32")
	n.eventually("routes after the pod has gone", routesAre)
	n.eventually("report after the pod has gone", func() string {
		return cmp.Diff([]v1alpha1.EndpointStatus(nil), n.status().Endpoints)
	})
}

// installRendered installs the rendered kinds and no others.
func installRendered(t *testing.T, server *apiserver.Server) {
	t.Helper()
	bases := filepath.Join(apiserver.Root(t), "config", "crd", "bases")
	files, err := filepath.Glob(filepath.Join(bases, v1alpha1.GroupName+"_*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no rendered kinds in %s: %v", bases, err)
	}
	dir := t.TempDir()
	for _, f := range files {
		if err := os.Symlink(f, filepath.Join(dir, filepath.Base(f))); err != nil {
			t.Fatal(err)
		}
	}
	server.InstallCRDs(t, dir)
}
