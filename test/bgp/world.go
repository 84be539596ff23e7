package bgp

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/test/netns"
)

// patience bounds the wait for a state that must come about. Sessions are tried every few seconds; no timer that a test must not wait for is as
// short as this.
const patience = 80 * time.Second

// Eventually waits for a state: problem says what is missing; "" when nothing is.
func Eventually(t testing.TB, problem func() string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		missing := problem()
		if missing == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v: %s", patience, missing)
		}
		wait := time.NewTimer(20 * time.Millisecond)
		<-wait.C
	}
}

// Node is a process that is a node agent in a namespace.
type Node struct {
	t  testing.TB
	NS *netns.NS

	Name  string
	Input Input

	command *exec.Cmd
	in      *json.Encoder
	exited  chan struct{}
	log     bytes.Buffer
	mu      sync.Mutex
	status  v1alpha1.NodeStateStatus
}

// NewNode starts a node agent, which knows nothing yet.
func NewNode(t testing.TB, ns *netns.NS, name string) *Node {
	n := &Node{t: t, NS: ns, Name: name}
	n.Start()
	t.Cleanup(func() {
		n.Kill()
		if t.Failed() {
			t.Logf("log of node %s:\n%s", name, &n.log)
		}
	})
	return n
}

// Start starts the process.
func (n *Node) Start() {
	n.t.Helper()
	n.command = exec.Command(os.Args[0])
	n.command.Env = append(os.Environ(), NodeVariable+"="+n.Name)
	n.command.Stderr = &n.log
	in, err := n.command.StdinPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	out, err := n.command.StdoutPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	n.in = json.NewEncoder(in)
	n.NS.Must("starting node "+n.Name, n.command.Start)
	exited := make(chan struct{})
	n.exited = exited
	command := n.command
	go func() {
		defer close(exited)
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 16<<20)
		for lines.Scan() {
			var status v1alpha1.NodeStateStatus
			if json.Unmarshal(lines.Bytes(), &status) == nil {
				n.mu.Lock()
				n.status = status
				n.mu.Unlock()
			}
		}
		_ = command.Wait()
	}()
}

// Kill ends the process without a word.
func (n *Node) Kill() { n.end(syscall.SIGKILL) }

// Stop asks the process to end.
func (n *Node) Stop() { n.end(syscall.SIGTERM) }

func (n *Node) end(signal os.Signal) {
	_ = n.command.Process.Signal(signal)
	select {
	case <-n.exited:
	case <-time.After(patience):
		n.t.Errorf("node %s does not end", n.Name)
		_ = n.command.Process.Kill()
		<-n.exited
	}
}

// Tell gives the node its Input.
func (n *Node) Tell() {
	n.t.Helper()
	n.Input.Generation++
	if err := n.in.Encode(&n.Input); err != nil {
		n.t.Fatalf("telling node %s: %v", n.Name, err)
	}
}

// Session is how a session stands, as last reported.
func (n *Node) Session(name string) v1alpha1.BGPSessionStatus {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.status.BGPSessions {
		if s.Name == name {
			return s
		}
	}
	return v1alpha1.BGPSessionStatus{}
}

// Established waits until sessions are established.
func (n *Node) Established(names ...string) {
	n.t.Helper()
	for _, name := range names {
		Eventually(n.t, func() string {
			if s := n.Session(name); s.State != "Established" {
				return fmt.Sprintf("session %s of %s: %+v", name, n.Name, s)
			}
			return ""
		})
	}
}

// Status is what the node last reported.
func (n *Node) Status() v1alpha1.NodeStateStatus {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.status
}

// Counted waits until the node reports these counts of the sessions in groups.
func (n *Node) Counted(want ...v1alpha1.BGPGroupStatus) {
	n.t.Helper()
	Eventually(n.t, func() string {
		n.mu.Lock()
		defer n.mu.Unlock()
		if slices.Equal(n.status.BGPGroups, want) {
			return ""
		}
		return fmt.Sprintf("%s counts %+v, want %+v", n.Name, n.status.BGPGroups, want)
	})
}

// Memory is what the process has resident, in MiB.
func (n *Node) Memory() int {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.command.Process.Pid))
	if err != nil {
		n.t.Fatal(err)
	}
	kib := 0
	if _, after, ok := strings.Cut(string(raw), "VmRSS:"); ok {
		_, _ = fmt.Sscan(after, &kib)
	}
	return kib >> 10
}

// CPU is how long the process has computed.
func (n *Node) CPU() time.Duration {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", n.command.Process.Pid))
	if err != nil {
		n.t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(raw), ") ")
	fields := strings.Fields(after)
	ticks := 0
	for _, i := range []int{11, 12} { // utime and stime, proc(5)
		part := 0
		_, _ = fmt.Sscan(fields[i], &part)
		ticks += part
	}
	const perSecond = 100 // USER_HZ
	return time.Duration(ticks) * time.Second / perSecond
}

// Routes lists the unicast routes of the namespace's main table to destinations inside within, each as
// "destination via a, b metric m proto p".
func Routes(ns *netns.NS, within ...string) []string {
	var out []string
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		list, err := ns.RouteList(nil, family)
		if err != nil {
			continue
		}
		for i := range list {
			r := &list[i]
			if r.Dst == nil || r.Type != unix.RTN_UNICAST || !inside(r.Dst, within) {
				continue
			}
			out = append(out, r.Dst.String()+" via "+strings.Join(hops(r), ", "))
		}
	}
	slices.Sort(out)
	return out
}

func inside(n *net.IPNet, within []string) bool {
	a, _ := netip.AddrFromSlice(n.IP)
	return slices.ContainsFunc(within, func(s string) bool { return netip.MustParsePrefix(s).Contains(a.Unmap()) })
}

func hops(r *netlink.Route) []string {
	var out []string
	if r.Gw != nil {
		out = append(out, r.Gw.String())
	}
	for _, n := range r.MultiPath {
		out = append(out, n.Gw.String())
	}
	if r.Via != nil {
		out = append(out, r.Via.String())
	}
	slices.Sort(out)
	return out
}

// WantRoutes waits until the routes to destinations inside within are these.
func WantRoutes(t testing.TB, ns *netns.NS, within string, want ...string) {
	t.Helper()
	slices.Sort(want)
	Eventually(t, func() string {
		got := Routes(ns, strings.Fields(within)...)
		if slices.Equal(got, want) {
			return ""
		}
		return fmt.Sprintf("routes to %s: got %q, want %q", within, got, want)
	})
}

// Bridged puts namespaces on one network.
func Bridged(t testing.TB, addresses ...[]string) []*netns.NS {
	t.Helper()
	lan := netns.New(t)
	if err := lan.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}); err != nil {
		t.Fatal(err)
	}
	lan.Up("br0")
	var out []*netns.NS
	for i, list := range addresses {
		ns := netns.New(t)
		port := fmt.Sprintf("p%d", i)
		ns.Veth("eth0", lan, port)
		if err := lan.LinkSetMaster(lan.Link(port), lan.Link("br0")); err != nil {
			t.Fatal(err)
		}
		ns.Address("eth0", list...)
		ns.Up("eth0")
		lan.Up(port)
		out = append(out, ns)
	}
	return out
}

// Router is a BIRD or an FRR.
type Router struct {
	t       testing.TB
	NS      *netns.NS
	dir     string
	bird    bool
	daemons []*exec.Cmd
}

// NewBIRD starts BIRD 2 with a configuration; what every router needs is added.
func NewBIRD(t testing.TB, ns *netns.NS, id, configuration string) *Router {
	t.Helper()
	r := &Router{t: t, NS: ns, dir: t.TempDir(), bird: true}
	need(t, "bird", "birdc")
	r.write(id, configuration)
	r.start("bird", "-f", "-c", r.path("bird.conf"), "-s", r.path("ctl"), "-P", r.path("pid"))
	Eventually(t, func() string { // a large configuration takes it a while, and a peer that finds nobody comes back only after seconds
		if out := r.Ask("show", "status"); !strings.Contains(out, "up and running") {
			return "BIRD is not up: " + out
		}
		return ""
	})
	return r
}

func need(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("needs %s: run hack/install-packages.sh", p)
		}
	}
}

func (r *Router) path(name string) string { return filepath.Join(r.dir, name) }

func (r *Router) write(id, configuration string) {
	r.t.Helper()
	base := "router id " + id + ";\nprotocol device { scan time 1; }\nprotocol direct { ipv4; ipv6; }\n" +
		"protocol kernel k4 { merge paths yes; scan time 2; ipv4 { export all; import none; }; }\n" +
		"protocol kernel k6 { merge paths yes; scan time 2; ipv6 { export all; import none; }; }\n"
	if err := os.WriteFile(r.path("bird.conf"), []byte(base+configuration), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *Router) start(program string, args ...string) {
	r.t.Helper()
	c := exec.Command(program, args...)
	var log bytes.Buffer
	c.Stdout, c.Stderr = &log, &log
	r.NS.Must("starting "+program, c.Start)
	r.daemons = append(r.daemons, c)
	r.t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
		if r.t.Failed() {
			r.t.Logf("log of %s:\n%s", program, &log)
		}
	})
}

// Reconfigure gives BIRD another configuration.
func (r *Router) Reconfigure(id, configuration string) {
	r.t.Helper()
	r.write(id, configuration)
	if out := r.Ask("configure"); !strings.Contains(out, "econfigur") {
		r.t.Fatalf("reconfiguring BIRD: %s", out)
	}
}

// Ask gives BIRD or FRR a command and returns the answer.
func (r *Router) Ask(command ...string) string {
	r.t.Helper()
	var c *exec.Cmd
	if r.bird {
		c = exec.Command("birdc", append([]string{"-s", r.path("ctl")}, command...)...)
	} else {
		c = exec.Command("vtysh", "--vty_socket", r.dir, "-c", strings.Join(command, " "))
	}
	out, err := c.CombinedOutput()
	if err != nil && !r.bird {
		return err.Error() + ": " + string(out)
	}
	return string(out)
}

// Configure gives FRR lines of configuration.
func (r *Router) Configure(lines ...string) {
	r.t.Helper()
	args := []string{"--vty_socket", r.dir, "-c", "configure terminal"}
	for _, line := range lines {
		if line != "" {
			args = append(args, "-c", line)
		}
	}
	if out, err := exec.Command("vtysh", args...).CombinedOutput(); err != nil {
		r.t.Fatalf("configuring FRR: %v: %s", err, out)
	}
}

// NewFRR starts FRR's zebra and bgpd with a configuration of bgpd.
func NewFRR(t testing.TB, ns *netns.NS, configuration string) *Router {
	t.Helper()
	return newFRR(t, ns, 0, configuration)
}

// newFRR is NewFRR with a port to listen on; 0: 179.
func newFRR(t testing.TB, ns *netns.NS, port int, configuration string) *Router {
	t.Helper()
	const lib = "/usr/lib/frr/"
	need(t, lib+"zebra", lib+"bgpd", "vtysh")
	dir, err := os.MkdirTemp("", "frr") //nolint:usetesting // its folder is for one user, and the daemons change to one of their own
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	r := &Router{t: t, NS: ns, dir: dir}
	if err := os.Chmod(r.dir, 0o777); err != nil {
		t.Fatal(err)
	}
	for program, text := range map[string]string{"zebra": "hostname router\n", "bgpd": "hostname router\n" + configuration} {
		if err := os.WriteFile(r.path(program+".conf"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	common := func(program string) []string {
		return []string{
			"-f", r.path(program + ".conf"), "-i", r.path(program + ".pid"), "-z", r.path("zserv.api"),
			"--vty_socket", r.dir, "--log", "stdout",
		}
	}
	r.start(lib+"zebra", common("zebra")...)
	Eventually(t, func() string {
		if _, err := os.Stat(r.path("zserv.api")); err != nil {
			return err.Error()
		}
		return ""
	})
	r.start(lib+"bgpd", append(common("bgpd"), "-p", strconv.Itoa(cmp.Or(port, 179)))...)
	return r
}
