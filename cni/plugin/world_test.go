package plugin

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/containernetworking/plugins/pkg/testutils"
	"github.com/vishvananda/netlink"

	"github.com/manul-net/manul/cni/protocol"
	"github.com/manul-net/manul/nodeagent/cniserver"
	"github.com/manul-net/manul/test/cniplugins"
)

// pluginEnv names the environment variable by which TestMain hands the built plugin to the tests.
const pluginEnv = "MANUL_TEST_PLUGIN"

// TestMain builds the plugin.
func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "manul-cni-")
		if err != nil {
			slog.Error("making folder for the plugin", "error", err)
			return 1
		}
		defer os.RemoveAll(dir) // below the temporary folder
		bin, err := cniplugins.Manul(context.Background(), dir)
		if err != nil {
			slog.Error("building the plugin", "error", err)
			return 1
		}
		if err := os.Setenv(pluginEnv, bin); err != nil {
			slog.Error("handing over the plugin", "error", err)
			return 1
		}
		return m.Run()
	}())
}

// world is a host with an agent: a network namespace, the real server, and a handler that only remembers.
type world struct {
	testing.TB
	host   ns.NetNS
	dir    string
	socket string
	agent  *fakeAgent
	// wrapper is a command that gets the plugin's path as its last argument.
	wrapper []string
	// addTimeout of the server, 0 for its own.
	addTimeout time.Duration
	stop       func() // ends the server and waits for it
	// plugins is the folder of other plugins, ipam the section of the configuration; empty: none.
	plugins, ipam string
}

func newWorld(t testing.TB, addrs ...string) *world {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: makes network namespaces")
	}
	dir := t.TempDir()
	w := &world{TB: t, host: newNetns(t), dir: dir, socket: filepath.Join(dir, "cni.sock"), agent: newFakeAgent(addrs...), stop: func() {}}
	t.Cleanup(func() { w.stop() })
	w.in(w.host, func() {
		lo := w.link("lo")
		w.ok(netlink.LinkSetUp(lo))
		for _, a := range []string{hostIPv4 + "/32", hostIPv6 + "/128"} {
			addr, err := netlink.ParseAddr(a)
			w.ok(err)
			w.ok(netlink.AddrAdd(lo, addr))
		}
		// Any node has an uplink. Here it also keeps the numbers of both ends of a pair apart: while they are equal the kernel
		// takes up to 1 s to find the host side ready for IPv6 (linkwatch_urgent_event looks at the numbers alone).
		w.ok(netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "uplink0"}}))
		// The node's own setting: IPv6 has no forwarding by interface.
		w.ok(os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0))
	})
	return w
}

const (
	hostIPv4 = "192.0.2.1"
	hostIPv6 = "2001:db8::1"
)

func newNetns(t testing.TB) ns.NetNS {
	t.Helper()
	n, err := testutils.NewNS()
	if err != nil {
		t.Fatalf("making network namespace: %v", err)
	}
	t.Cleanup(func() {
		_ = n.Close()
		_ = testutils.UnmountNS(n)
	})
	return n
}

// serve starts the agent's end of the socket.
func (w *world) serve() {
	w.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	log := slog.New(slog.NewTextHandler(w.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	go func() {
		done <- cniserver.Serve(ctx, w.agent, log, cniserver.Options{
			Socket: w.socket, Queue: protocol.Queue{Dir: filepath.Join(w.dir, "deferred")}, AddTimeout: w.addTimeout,
		})
	}()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.Errorf("Serve: %v", err)
		}
	})
	w.eventually("the agent listens", func() bool { return protocol.Client{Socket: w.socket}.Listening(ctx) })
}

// eventually looks every millisecond: processes give no other sign.
func (w *world) eventually(what string, cond func() bool) {
	w.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline:
			w.Fatalf("not within a minute: %s", what)
		}
	}
}

// pod is a container of the world.
type testPod struct {
	w     *world
	id    string
	name  string
	netns ns.NetNS
	prev  json.RawMessage
}

func (w *world) pod(id, name string) *testPod {
	w.Helper()
	return &testPod{w: w, id: id, name: name, netns: newNetns(w)}
}

func (p *testPod) attachment() protocol.Attachment {
	return protocol.Attachment{ContainerID: p.id, IfName: "eth0"}
}

func (p *testPod) hostName() string { return interfaceName("default", p.name) }

func (p *testPod) env() []string {
	return []string{
		"CNI_CONTAINERID=" + p.id, "CNI_IFNAME=eth0", "CNI_NETNS=" + p.netns.Path(), "CNI_PATH=" + cmp.Or(p.w.plugins, "/nowhere"), "PATH=" + os.Getenv("PATH"),
		"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=" + p.name + ";K8S_POD_UID=uid-" + p.name,
	}
}

// add calls ADD and remembers the result.
func (p *testPod) add() ([]byte, error) {
	out, err := p.w.call("ADD", p.env(), p.w.config("1.1.0"))
	if err == nil {
		p.prev = out
	}
	return out, err
}

func (p *testPod) mustAdd() []byte {
	p.w.Helper()
	out, err := p.add()
	p.w.ok(err)
	return out
}

func (p *testPod) del() error {
	_, err := p.w.call("DEL", p.env(), p.w.config("1.1.0", "prevResult", p.prev))
	return err
}

func (p *testPod) check() error {
	_, err := p.w.call("CHECK", p.env(), p.w.config("1.1.0", "prevResult", p.prev))
	return err
}

// config is a network configuration with more members, given as name and value in turn.
func (w *world) config(version string, more ...any) []byte {
	c := map[string]any{
		"cniVersion": version, "name": "manul", "type": "manul",
		"socket": w.socket, "stateDir": w.dir,
	}
	for i := 0; i+1 < len(more); i += 2 {
		if raw, ok := more[i+1].(json.RawMessage); ok && raw == nil {
			continue
		}
		c[more[i].(string)] = more[i+1]
	}
	if w.ipam != "" {
		c["ipam"] = json.RawMessage(w.ipam)
	}
	data, err := json.Marshal(c)
	w.ok(err)
	return data
}

// call runs the plugin on the host. An error is the one that it printed.
func (w *world) call(command string, env []string, config []byte) ([]byte, error) {
	argv := append(slices.Clone(w.wrapper), os.Getenv(pluginEnv))
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(slices.Clone(env), "CNI_COMMAND="+command)
	cmd.Stdin = bytes.NewReader(config)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := w.host.Do(func(ns.NetNS) error { return cmd.Run() }) // the child has the network namespace of the thread
	if err == nil {
		return stdout.Bytes(), nil
	}
	var e types.Error
	if jsonErr := json.Unmarshal(stdout.Bytes(), &e); jsonErr != nil {
		return nil, fmt.Errorf("%w: %s%s", err, stdout.Bytes(), stderr.Bytes())
	}
	return nil, &e
}

func (w *world) in(n ns.NetNS, f func()) {
	w.Helper()
	w.ok(n.Do(func(ns.NetNS) error { f(); return nil }))
	if w.Failed() {
		w.FailNow() // f ended early, in a goroutine of its own
	}
}

func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) link(name string) netlink.Link {
	w.Helper()
	l, err := netlink.LinkByName(name)
	w.ok(err)
	return l
}

// hostLinks are the names of our interfaces on the host.
func (w *world) hostLinks() []string {
	var names []string
	w.in(w.host, func() {
		links, err := dump(netlink.LinkList)
		w.ok(err)
		for _, l := range links {
			if strings.HasPrefix(l.Attrs().Name, protocol.InterfacePrefix) {
				names = append(names, l.Attrs().Name)
			}
		}
	})
	return names
}

func interfaceName(namespace, pod string) string {
	sum := sha1.Sum([]byte(namespace + "." + pod))
	return protocol.InterfacePrefix + hex.EncodeToString(sum[:])[:11]
}

// fakeAgent gives addresses in order and remembers who has which.
type fakeAgent struct {
	mu    sync.Mutex
	next  []netip.Addr // one of each family
	holds map[protocol.Attachment]protocol.AddResult
	dels  []protocol.Attachment
	fail  error
	block chan struct{} // when set, Add waits for it
	mtu   int
	mac   string // that pods ask for
	// podCIDRs of the node; asked is the last request.
	podCIDRs []netip.Prefix
	asked    protocol.AddRequest
}

func newFakeAgent(first ...string) *fakeAgent {
	a := &fakeAgent{holds: make(map[protocol.Attachment]protocol.AddResult), mtu: 1400}
	if len(first) == 0 {
		first = []string{"10.48.0.1"}
	}
	for _, s := range first {
		a.next = append(a.next, netip.MustParseAddr(s))
	}
	return a
}

func (a *fakeAgent) failing(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fail = err
}

func (a *fakeAgent) Add(ctx context.Context, r protocol.AddRequest) (protocol.AddResult, error) {
	if a.block != nil {
		select {
		case <-a.block:
		case <-ctx.Done():
			return protocol.AddResult{}, ctx.Err()
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.fail != nil {
		return protocol.AddResult{}, a.fail
	}
	a.asked = r
	if held, ok := a.holds[r.Attachment]; ok {
		return held, nil
	}
	res := protocol.AddResult{InterfaceName: interfaceName(r.PodNamespace, r.PodName), MTU: a.mtu, HardwareAddress: a.mac}
	if r.MTU != 0 {
		res.MTU = r.MTU
	}
	res.Addresses = r.Given
	for i := range a.next {
		if len(r.Given) > 0 {
			break
		}
		res.Addresses = append(res.Addresses, a.next[i])
		a.next[i] = a.next[i].Next()
	}
	a.holds[r.Attachment] = res
	return res, nil
}

func (a *fakeAgent) Del(_ context.Context, r protocol.DelRequest) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.holds, r.Attachment)
	a.dels = append(a.dels, r.Attachment)
	return nil
}

func (a *fakeAgent) Check(_ context.Context, r protocol.CheckRequest) (protocol.AddResult, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	held, ok := a.holds[r.Attachment]
	if !ok {
		return held, protocol.Errorf(protocol.CodeUnknownAttachment, "container %s is not known", r.ContainerID)
	}
	return held, nil
}

func (a *fakeAgent) DescribeNode(context.Context) (protocol.NodeResult, error) {
	return protocol.NodeResult{PodCIDRs: a.podCIDRs}, nil
}

func (a *fakeAgent) Status(context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.fail
}

func (a *fakeAgent) GC(_ context.Context, r protocol.GCRequest) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	valid := make(map[protocol.Attachment]bool)
	for _, v := range r.Valid {
		valid[v] = true
	}
	for h := range a.holds {
		if !valid[h] {
			delete(a.holds, h)
		}
	}
	return nil
}

func (a *fakeAgent) held() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.holds)
}
