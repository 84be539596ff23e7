package cnilab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/cni/protocol"
	"github.com/manul-net/manul/nodeagent/render"
	"github.com/manul-net/manul/test/cniplugins"
)

// referencePlugins builds plugins of the CNI project into a folder, which has manul too.
func referencePlugins(t *testing.T, names ...string) string {
	t.Helper()
	dir := cniplugins.Build(t, names...)
	if err := os.Symlink(os.Getenv(pluginEnv), filepath.Join(dir, "manul")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// chain is a list of plugins as a runtime calls it, through the library that runtimes use.
type chain struct {
	l    *lab
	cni  *libcni.CNIConfig
	list *libcni.NetworkConfigList
}

func (l *lab) chain(plugins, first string) *chain {
	l.t.Helper()
	list, err := libcni.ConfListFromBytes(fmt.Appendf(nil, `{"cniVersion": "1.1.0", "name": "chained", "plugins": [%s, {"type": "manul", "socket": %q, "stateDir": %q}]}`,
		first, l.socket(), l.Dir+"/cni"))
	l.ok(err)
	return &chain{l, libcni.NewCNIConfigWithCacheDir([]string{plugins}, filepath.Join(l.Dir, "cache"), nil), list}
}

func (c *chain) runtime(s *Sandbox) *libcni.RuntimeConf {
	namespace, name, _ := strings.Cut(s.Pod, "/")
	return &libcni.RuntimeConf{
		ContainerID: s.ID, NetNS: s.Netns(), IfName: s.ifName(),
		Args: [][2]string{{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", namespace}, {"K8S_POD_NAME", name}, {"K8S_POD_UID", UID(s.Pod)}},
	}
}

func (c *chain) do(f func(ctx context.Context) error) error {
	return c.l.In(func() error { return f(c.l.t.Context()) })
}

func (c *chain) add(s *Sandbox) error {
	return c.do(func(ctx context.Context) error {
		result, err := c.cni.AddNetworkList(ctx, c.list, c.runtime(s))
		if err == nil {
			s.Result, err = types100.NewResultFromResult(result)
		}
		return err
	})
}

func (c *chain) check(s *Sandbox) error {
	return c.do(func(ctx context.Context) error { return c.cni.CheckNetworkList(ctx, c.list, c.runtime(s)) })
}

func (c *chain) del(s *Sandbox) error {
	return c.do(func(ctx context.Context) error { return c.cni.DelNetworkList(ctx, c.list, c.runtime(s)) })
}

// ptp is the configuration of the CNI project's plugin that makes a routed veth pair.
func (l *lab) ptp() string {
	return fmt.Sprintf(`{"type": "ptp", "mtu": 1450, "ipam": {"type": "host-local", "dataDir": %q,
		"ranges": [[{"subnet": "10.60.0.0/24"}], [{"subnet": "fd00:60::/112"}]], "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}}`, filepath.Join(l.Dir, "host-local"))
}

// wellLate is how long a connection that is denied is tried.
const wellLate = 300 * time.Millisecond

// reaches tells whether a connection from one sandbox to an address of another comes about. An error other than that of a packet that
// nobody answers ends the test.
func (l *lab) reaches(from, to *Sandbox, at string, port int) bool {
	l.t.Helper()
	address := net.JoinHostPort(at, fmt.Sprint(port))
	var listener net.Listener
	l.ok(to.In(func() (err error) {
		listener, err = new(net.ListenConfig).Listen(l.t.Context(), "tcp", address)
		return err
	}))
	defer listener.Close()
	dial := func(patience time.Duration) error {
		return from.In(func() error {
			c, err := (&net.Dialer{Timeout: patience}).DialContext(l.t.Context(), "tcp", address)
			if err == nil {
				_ = c.Close()
			}
			return err
		})
	}
	err := dial(wellLate)
	if timeout, ok := errors.AsType[net.Error](err); err != nil && (!ok || !timeout.Timeout()) && !errors.Is(err, syscall.EHOSTUNREACH) {
		l.t.Errorf("connecting to %s: %v", address, err)
	}
	return err == nil
}

// served has the policy of the lab's pods hold: port 8080 answers, and no other.
func (l *lab) served(from, to *Sandbox, addrs ...string) {
	l.t.Helper()
	for _, addr := range addrs {
		// Not at once: ptp leaves an IPv6 gateway for which the kernel still looks for duplicates.
		l.eventually(fmt.Sprintf("%s reaches port 8080 of %s at %s, which policy allows", from.Pod, to.Pod, addr), func() bool {
			return l.reaches(from, to, addr, 8080)
		})
		if l.reaches(from, to, addr, 8081) {
			l.t.Errorf("%s reaches port 8081 of %s at %s, which policy denies", from.Pod, to.Pod, addr)
		}
	}
}

func addressesOf(s *Sandbox) []string {
	var out []string
	for _, ip := range s.Result.IPs {
		out = append(out, ip.Address.IP.String())
	}
	return out
}

func (l *lab) reported(pod string) v1alpha1.EndpointStatus {
	for _, e := range l.operator.Status().Endpoints {
		if e.ID == pod {
			return e
		}
	}
	return v1alpha1.EndpointStatus{}
}

// Another plugin makes the pods' interfaces and gives the addresses: manul enforces policy there, and does nothing else.
func TestPolicyForAnotherPluginsInterface(t *testing.T) {
	plugins := referencePlugins(t, "main/ptp", "ipam/host-local")
	pods := Pods(2)
	l := newLab(t, pods...)
	l.operator.Change(func(s *v1alpha1.NodeStateSpec) {
		poolsOfLab(s)
		for i := range s.Endpoints {
			s.Endpoints[i].Bandwidth = &v1alpha1.Bandwidth{Ingress: &v1alpha1.BandwidthLimit{BitsPerSecond: 1_000_000_000, BurstBits: 1_000_000_000}}
		}
	})
	l.start()
	c := l.chain(plugins, l.ptp())
	server, client := l.sandbox(pods[0], "c1"), l.sandbox(pods[1], "c2")
	l.ok(c.add(server))
	l.ok(c.add(client))
	if got := addressesOf(server); !slices.Equal(got, []string{"10.60.0.2", "fd00:60::2"}) {
		t.Fatalf("addresses %v, want ptp's", got)
	}
	l.served(client, server, addressesOf(server)...)

	name := render.InterfaceName(pods[0])
	l.ok(l.In(func() error {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		// The runtime and the other plugins find the interface by the name that ptp gave it.
		if known := server.Result.Interfaces[0].Name; !slices.Contains(link.Attrs().AltNames, known) {
			t.Errorf("interface %s has names %v, want %s among them", name, link.Attrs().AltNames, known)
		}
		routes, err := netlink.RouteListFiltered(unix.AF_UNSPEC, &netlink.Route{LinkIndex: link.Attrs().Index}, netlink.RT_FILTER_OIF)
		for _, r := range routes {
			if r.Protocol == protocol.RouteProtocol {
				t.Errorf("a route of ours leads to the pod: %v", r)
			}
		}
		return err
	}))
	l.eventually("the pod's limit is in force", func() bool {
		var out []byte
		l.ok(l.In(func() (err error) { out, err = exec.Command("tc", "qdisc", "show", "dev", name).Output(); return err }))
		return strings.Contains(string(out), "tbf")
	})
	l.eventually("the pod's addresses are told to the cluster", func() bool {
		return cmp.Equal(l.reported(pods[0]), v1alpha1.EndpointStatus{
			ID: pods[0], UID: "uid-lab-web-000", Addresses: []string{"10.60.0.2", "fd00:60::2"}, Chained: true,
		})
	})

	l.ok(c.check(server))
	l.ok(l.Stop())
	l.start()
	l.ok(c.check(server))
	l.served(client, server, addressesOf(server)...)

	// GC releases what the runtime does not list, and leaves interfaces to the plugin that made them.
	l.ok(l.GC(server, client))
	l.ok(c.check(server))

	// CHECK finds what is wrong.
	l.ok(server.In(func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		addr, err := netlink.ParseAddr("10.60.0.2/24")
		if err != nil {
			return err
		}
		return netlink.AddrDel(link, addr)
	}))
	if _, _, err := l.run("CHECK", server.env(), map[string]any{"name": "chained", "prevResult": server.Result}); err == nil || !strings.Contains(err.Error(), "address 10.60.0.2 is missing in the pod") {
		t.Errorf("CHECK: %v", err)
	}
	l.ok(c.del(server))
	l.ok(c.del(server))
	l.ok(c.del(client))
	files, err := filepath.Glob(filepath.Join(l.Dir, "host-local", "chained", "[1f]*"))
	l.ok(err)
	if len(files) > 0 {
		t.Errorf("host-local still has %v", files)
	}
	l.nothing()
}

// What can't be policed is refused, with what to do, and the interface is left as it was.
func TestInterfacesThatNoPolicyFits(t *testing.T) {
	plugins := referencePlugins(t, "main/bridge", "main/macvlan", "ipam/static")
	pod := Pods(1)[0]
	for _, test := range []struct{ name, first, want string }{
		{
			"a bridge", `{"type": "bridge", "bridge": "cni0", "ipam": {"type": "static", "addresses": [{"address": "10.61.0.2/24"}]}}`,
			"is a port of bridge cni0, whose packets between pods pass no policy: have the plugin before manul make a routed veth pair, as ptp does",
		},
		{
			"no veth", `{"type": "macvlan", "master": "uplink0", "ipam": {"type": "static", "addresses": [{"address": "10.61.0.2/24"}]}}`,
			"interface eth0 of the pod is of type macvlan, and has no end on the host at which policy can be enforced: have the plugin",
		},
		{"no address", `{"type": "bridge", "bridge": "cni0"}`, "prevResult.ips: no address of interface eth0, so no policy could name the pod: give the plugin before manul an ipam section"},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := newLab(t, pod)
			l.start()
			c := l.chain(plugins, test.first)
			s := l.sandbox(pod, "c1")
			if err := c.add(s); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			l.ok(c.del(s))
			l.nothing()
		})
	}
	t.Run("an ipam section", func(t *testing.T) {
		l := newLab(t, pod)
		l.start()
		l.IPAM = `{"type": "manul-ipam"}`
		s := l.sandbox(pod, "c1")
		s.Result = &types100.Result{CNIVersion: "1.1.0"}
		_, _, err := l.run("ADD", s.env(), map[string]any{"prevResult": s.Result})
		if err == nil || !strings.Contains(err.Error(), "ipam: the addresses are those of prevResult, for manul is not the first plugin of its list: remove the section") {
			t.Errorf("got %v", err)
		}
	})
}
