package plugin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/cni/protocol"
)

func wantCode(t testing.TB, err error, code uint, text string) {
	t.Helper()
	var e *types.Error
	if !errors.As(err, &e) || e.Code != code || !strings.Contains(err.Error(), text) {
		t.Errorf("got error %v, want code %d and text %q", err, code, text)
	}
}

func TestResultOfAddIsExact(t *testing.T) {
	w := newWorld(t, "10.48.0.1", "fd00:48::1")
	w.serve()
	p := w.pod("c1", "web")
	out := p.mustAdd()
	want := fmt.Sprintf(`{
    "cniVersion": "1.1.0",
    "interfaces": [
        {"name": %q, "mac": "ee:ee:ee:ee:ee:ee", "mtu": 1400},
        {"name": "eth0", "mac": %q, "mtu": 1400, "sandbox": %q}
    ],
    "ips": [
        {"interface": 1, "address": "10.48.0.1/32", "gateway": "169.254.1.1"},
        {"interface": 1, "address": "fd00:48::1/128", "gateway": "fe80::ecee:eeff:feee:eeee"}
    ],
    "routes": [
        {"dst": "0.0.0.0/0", "gw": "169.254.1.1"},
        {"dst": "::/0", "gw": "fe80::ecee:eeff:feee:eeee"}
    ]
}`, p.hostName(), newAttachment(p.attachment(), protocol.AddResult{}).podMAC, p.netns.Path())
	var g, e any
	w.ok(errors.Join(json.Unmarshal(out, &g), json.Unmarshal([]byte(want), &e)))
	if diff := cmp.Diff(e, g); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
	w.ok(p.check())
}

func TestPodGetsTheHardwareAddressThatItAsksFor(t *testing.T) {
	w := newWorld(t)
	w.agent.mac = "1c:0c:0a:c0:ff:ee"
	w.serve()
	p := w.pod("c1", "web")
	p.mustAdd()
	w.in(p.netns, func() {
		if got := w.link("eth0").Attrs().HardwareAddr.String(); got != w.agent.mac {
			t.Errorf("hardware address %s, want %s", got, w.agent.mac)
		}
	})
	w.ok(p.check())
	w.ok(transfer(w.host, p.netns, "10.48.0.1"))
	w.in(p.netns, func() {
		w.ok(netlink.LinkSetHardwareAddr(w.link("eth0"), net.HardwareAddr{2, 0, 0, 0, 0, 1}))
	})
	wantCode(t, p.check(), protocol.CodeMismatch, "hardware address 02:00:00:00:00:01, want 1c:0c:0a:c0:ff:ee")
}

func TestResultInOlderVersions(t *testing.T) {
	w := newWorld(t)
	w.serve()
	for i, version := range []string{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		p := w.pod(fmt.Sprintf("c%d", i), fmt.Sprintf("web-%d", i))
		out, err := w.call("ADD", p.env(), w.config(version))
		w.ok(err)
		var got struct {
			CNIVersion string
			IPs        []struct{ Address string }
		}
		w.ok(json.Unmarshal(out, &got))
		if want := fmt.Sprintf("10.48.0.%d/32", i+1); got.CNIVersion != version || len(got.IPs) != 1 || got.IPs[0].Address != want {
			t.Errorf("version %s: got %s", version, out)
		}
		_, err = w.call("DEL", p.env(), w.config(version, "prevResult", json.RawMessage(out)))
		w.ok(err)
	}
	if left := w.hostLinks(); len(left) != 0 || w.agent.held() != 0 {
		t.Errorf("left: %v, %d addresses", left, w.agent.held())
	}
}

func TestTrafficFlows(t *testing.T) {
	w := newWorld(t, "10.48.0.1", "fd00:48::1")
	w.serve()
	a, b := w.pod("c1", "a"), w.pod("c2", "b")
	a.mustAdd()
	b.mustAdd()
	for _, c := range []struct {
		name     string
		from, to ns.NetNS
		addr     string
	}{
		{"host to pod", w.host, a.netns, "10.48.0.1"},
		{"pod to host", a.netns, w.host, hostIPv4},
		{"pod to pod", a.netns, b.netns, "10.48.0.2"},
		{"pod to itself", a.netns, a.netns, "10.48.0.1"},
		{"host to pod, IPv6", w.host, a.netns, "fd00:48::1"},
		{"pod to host, IPv6", a.netns, w.host, hostIPv6},
		{"pod to pod, IPv6", b.netns, a.netns, "fd00:48::1"},
		{"over the pod's lo", a.netns, a.netns, "127.0.0.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := transfer(c.from, c.to, c.addr); err != nil {
				t.Error(err)
			}
		})
	}
}

// transferWait bounds each step of a transfer.
const transferWait = 30 * time.Second

// transfer opens a TCP connection between two namespaces and has what goes in come back.
func transfer(from, to ns.NetNS, addr string) error {
	var l net.Listener
	err := to.Do(func(ns.NetNS) (err error) {
		l, err = net.Listen("tcp", net.JoinHostPort(addr, "0"))
		return err
	})
	if err != nil {
		return err
	}
	defer l.Close() // the transfer decides
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close() // the transfer decides
		buf := make([]byte, 4)
		if _, err := conn.Read(buf); err == nil {
			_, _ = conn.Write(buf)
		}
	}()
	return from.Do(func(ns.NetNS) error {
		conn, err := net.DialTimeout("tcp", l.Addr().String(), transferWait)
		if err != nil {
			return err
		}
		defer conn.Close() // the transfer decides
		_ = conn.SetDeadline(time.Now().Add(transferWait))
		if _, err := conn.Write([]byte("ping")); err != nil {
			return err
		}
		buf := make([]byte, 4)
		if _, err := conn.Read(buf); err != nil || string(buf) != "ping" {
			return fmt.Errorf("got %q, %w", buf, err)
		}
		return nil
	})
}

func TestKernelIsAsPromised(t *testing.T) {
	w := newWorld(t)
	w.serve()
	p := w.pod("c1", "web")
	p.mustAdd()
	w.in(w.host, func() {
		link := w.link(p.hostName())
		if link.Attrs().Alias != "manul:c1/eth0" {
			t.Errorf("alias %q", link.Attrs().Alias)
		}
		routes, err := netlink.RouteListFiltered(unix.AF_INET, &netlink.Route{Protocol: 80}, netlink.RT_FILTER_PROTOCOL)
		w.ok(err)
		if len(routes) != 1 || routes[0].Dst.String() != "10.48.0.1/32" || routes[0].Scope != netlink.SCOPE_LINK ||
			routes[0].LinkIndex != link.Attrs().Index || routes[0].Table != unix.RT_TABLE_MAIN || routes[0].Gw != nil {
			t.Errorf("routes of protocol 80: %v", routes)
		}
		for key, want := range map[string]string{
			"conf/%s/forwarding": "1", "conf/%s/proxy_arp": "1", "conf/%s/rp_filter": "1", "neigh/%s/proxy_delay": "0",
		} {
			got, err := os.ReadFile("/proc/sys/net/ipv4/" + fmt.Sprintf(key, p.hostName()))
			w.ok(err)
			if strings.TrimSpace(string(got)) != want {
				t.Errorf("%s: got %s, want %s", key, got, want)
			}
		}
	})
}

func TestCheckFindsWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(w *world, p *testPod)
		code  uint
		text  string
	}{
		{"address", func(w *world, p *testPod) {
			w.in(p.netns, func() {
				addr, err := netlink.ParseAddr("10.48.0.1/32")
				w.ok(err)
				w.ok(netlink.AddrDel(w.link("eth0"), addr))
			})
		}, protocol.CodeMismatch, "address 10.48.0.1 is missing"},
		{"pod's default route", func(w *world, p *testPod) {
			w.in(p.netns, func() { w.ok(netlink.RouteDel(podRoutes(w.link("eth0").Attrs().Index, false)[1])) })
		}, protocol.CodeMismatch, "route to 0.0.0.0/0 is missing in the pod"},
		{"neighbour", func(w *world, p *testPod) {
			w.in(p.netns, func() { w.ok(netlink.NeighDel(gatewayNeigh(w.link("eth0").Attrs().Index, false, hostMAC()))) })
		}, protocol.CodeMismatch, "neighbour entry of gateway 169.254.1.1"},
		{"host route", func(w *world, p *testPod) {
			w.in(w.host, func() {
				w.ok(netlink.RouteDel(hostRoute(w.link(p.hostName()).Attrs().Index, w.agent.holds[p.attachment()].Addresses[0])))
			})
		}, protocol.CodeMismatch, "route to 10.48.0.1/32 is missing on the host"},
		{"veth", func(w *world, p *testPod) {
			w.in(w.host, func() { w.ok(netlink.LinkDel(w.link(p.hostName()))) })
		}, protocol.CodeMismatch, "is missing on the host"},
		{"down", func(w *world, p *testPod) {
			w.in(w.host, func() { w.ok(netlink.LinkSetDown(w.link(p.hostName()))) })
		}, protocol.CodeMismatch, "is down"},
		{"MTU", func(w *world, p *testPod) {
			w.in(p.netns, func() { w.ok(netlink.LinkSetMTU(w.link("eth0"), 1300)) })
		}, protocol.CodeMismatch, "eth0 has MTU 1300, want 1400"},
		{"agent forgot", func(w *world, p *testPod) {
			w.agent.mu.Lock()
			defer w.agent.mu.Unlock()
			clear(w.agent.holds)
		}, protocol.CodeUnknownAttachment, "is not known"},
		{"agent gone", func(w *world, p *testPod) { w.stop() }, protocol.CodeTryAgainLater, "manul-node"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.serve()
			p := w.pod("c1", "web")
			p.mustAdd()
			w.ok(p.check())
			c.spoil(w, p)
			wantCode(t, p.check(), c.code, c.text)
		})
	}
}

func TestAddTwiceGivesTheSame(t *testing.T) {
	w := newWorld(t)
	w.serve()
	p := w.pod("c1", "web")
	first := p.mustAdd()
	second := p.mustAdd()
	if diff := cmp.Diff(string(first), string(second)); diff != "" {
		t.Errorf("second ADD (-first +second):\n%s", diff)
	}
	w.ok(p.check())
	w.ok(transfer(w.host, p.netns, "10.48.0.1"))
}

func TestFailedAddLeavesNothing(t *testing.T) {
	t.Run("agent refuses", func(t *testing.T) {
		w := newWorld(t)
		w.serve()
		w.agent.failing(protocol.Errorf(protocol.CodeNoAddress, "no address is free"))
		_, err := w.pod("c1", "web").add()
		wantCode(t, err, protocol.CodeNoAddress, "adding pod default/web to the network: no address is free")
		w.wantNothing()
	})
	t.Run("agent absent", func(t *testing.T) {
		w := newWorld(t)
		_, err := w.pod("c1", "web").add()
		wantCode(t, err, protocol.CodeTryAgainLater, w.socket)
		w.wantNothing()
	})
	t.Run("policy not in time", func(t *testing.T) {
		w := newWorld(t)
		w.agent.block = make(chan struct{})
		w.addTimeout = 200 * time.Millisecond
		w.serve()
		_, err := w.pod("c1", "web").add()
		wantCode(t, err, protocol.CodeTryAgainLater, "addresses and policy were not ready on the node within 200ms")
		w.wantNothing()
	})
	t.Run("interface is there in the pod", func(t *testing.T) {
		w := newWorld(t)
		w.serve()
		p := w.pod("c1", "web")
		w.in(p.netns, func() {
			w.ok(netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}}))
		})
		_, err := p.add()
		wantCode(t, err, protocol.CodeSetup, "there is an interface eth0 in the pod already")
		w.wantNothing()
	})
	t.Run("kernel refuses", func(t *testing.T) {
		w := newWorld(t)
		w.serve()
		w.wrapper = []string{"unshare", "-m", "sh", "-c", `mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec "$0"`}
		_, err := w.pod("c1", "web").add()
		wantCode(t, err, protocol.CodeSetup, "setting net/ipv4/conf/")
		w.wantNothing()
		if len(w.agent.dels) != 1 {
			t.Errorf("DELs: %v", w.agent.dels)
		}
	})
	t.Run("kernel refuses late", func(t *testing.T) {
		w := newWorld(t)
		p := w.pod("c1", "web")
		a := newAttachment(p.attachment(), protocol.AddResult{
			InterfaceName: p.hostName(), Addresses: []netip.Addr{netip.MustParseAddr("10.48.0.1"), {}}, MTU: 1400,
		})
		w.in(w.host, func() {
			if err := a.make(p.netns); err == nil || !strings.Contains(err.Error(), "giving the pod address") {
				t.Errorf("got error %v", err)
			}
		})
		w.wantNothing()
	})
	t.Run("network namespace gone", func(t *testing.T) {
		w := newWorld(t)
		w.serve()
		p := w.pod("c1", "web")
		env := append(p.env(), "CNI_NETNS=/run/netns/none")
		_, err := w.call("ADD", env, w.config("1.1.0"))
		wantCode(t, err, types.ErrInvalidNetNS, "/run/netns/none")
		w.wantNothing()
	})
	t.Run("the host's own namespace", func(t *testing.T) {
		w := newWorld(t)
		w.serve()
		env := append(w.pod("c1", "web").env(), "CNI_NETNS="+w.host.Path())
		_, err := w.call("ADD", env, w.config("1.1.0"))
		wantCode(t, err, types.ErrInvalidNetNS, "host's own")
		w.wantNothing()
	})
	t.Run("not the first plugin, and nobody made an interface", func(t *testing.T) {
		w := newWorld(t)
		w.serve()
		_, err := w.call("ADD", w.pod("c1", "web").env(), w.config("1.1.0", "prevResult", json.RawMessage(`{"cniVersion":"1.1.0","interfaces":[]}`)))
		wantCode(t, err, types.ErrInvalidNetworkConfig, "prevResult.interfaces: no interface eth0 with a sandbox")
		w.wantNothing()
	})
}

// wantNothing: no interface, no address, no lock.
func (w *world) wantNothing() {
	w.Helper()
	if left := w.hostLinks(); len(left) != 0 {
		w.Errorf("interfaces left: %v", left)
	}
	if n := w.agent.held(); n != 0 {
		w.Errorf("%d attachments left with the agent", n)
	}
	for _, dir := range []string{"locks", "deferred"} {
		if entries, _ := os.ReadDir(filepath.Join(w.dir, dir)); len(entries) != 0 {
			w.Errorf("left in %s: %v", dir, entries)
		}
	}
}

func TestDelIsIdempotent(t *testing.T) {
	for name, before := range map[string]func(w *world, p *testPod){
		"as it should be": func(*world, *testPod) {},
		"never added":     func(_ *world, p *testPod) { p.prev = nil },
		"no prevResult":   func(_ *world, p *testPod) { p.prev = nil },
		"bad prevResult":  func(_ *world, p *testPod) { p.prev = json.RawMessage(`{"cniVersion":"1.1.0","ips":[{"address":"x"}]}`) },
		"veth gone": func(w *world, p *testPod) {
			w.in(w.host, func() { w.ok(netlink.LinkDel(w.link(p.hostName()))) })
		},
		"unmarked, ADD died": func(w *world, p *testPod) {
			p.prev = nil
			w.in(w.host, func() { w.ok(netlink.LinkSetAlias(w.link(p.hostName()), "")) })
		},
		"agent forgot": func(w *world, _ *testPod) { clear(w.agent.holds) },
		"done already": func(w *world, p *testPod) { w.ok(p.del()) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.serve()
			p := w.pod("c1", "web")
			if name != "never added" {
				p.mustAdd()
			}
			before(w, p)
			w.ok(p.del())
			w.ok(p.del())
			w.wantNothing()
		})
	}
	t.Run("network namespace gone", func(t *testing.T) {
		w := newWorld(t)
		w.serve()
		p := w.pod("c1", "web")
		p.mustAdd()
		for _, netns := range []string{"CNI_NETNS=/run/netns/none", "CNI_NETNS=", "CNI_NETNS=/etc/passwd"} {
			_, err := w.call("DEL", append(p.env(), netns), w.config("1.1.0"))
			w.ok(err)
			w.wantNothing()
		}
	})
}

// A meta-plugin may give a pod interfaces of several networks, of which this one is one. It gives a pod one interface; asked for
// another of the same container it says so, and the pod keeps the first.
// An agent that gives a container's second interface the name of the first would cost the pod that one.
func TestNameOfAnotherInterfaceOfTheContainer(t *testing.T) {
	w := newWorld(t)
	w.serve()
	p := w.pod("c1", "web")
	p.mustAdd()
	env := append(p.env(), "CNI_IFNAME=net1")
	_, err := w.call("ADD", env, w.config("1.1.0"))
	wantCode(t, err, protocol.CodeInvalidRequest, "the pod has eth0 under the name "+p.hostName()+", of which the node agent does not know")
	w.ok(p.check())
	_, err = w.call("DEL", env, w.config("1.1.0"))
	w.ok(err)
	w.ok(p.check())
	w.ok(transfer(w.host, p.netns, "10.48.0.1"))
	w.ok(p.del())
	w.wantNothing()
}

func TestLateDelOfAnOldSandboxSparesTheNew(t *testing.T) {
	w := newWorld(t)
	w.serve()
	old, fresh := w.pod("c1", "web"), w.pod("c2", "web")
	old.mustAdd()
	fresh.mustAdd() // of the same pod: takes the interface's name over
	w.ok(old.del())
	w.ok(fresh.check())
	w.ok(transfer(w.host, fresh.netns, "10.48.0.2"))
	// Even when the old one's namespace path now leads to the new one.
	_, err := w.call("DEL", append(old.env(), "CNI_NETNS="+fresh.netns.Path()), w.config("1.1.0"))
	w.ok(err)
	w.ok(fresh.check())
}

func TestDelWithoutAgentIsDeferred(t *testing.T) {
	w := newWorld(t)
	w.serve()
	p := w.pod("c1", "web")
	p.mustAdd()
	w.stop()
	w.ok(p.del())
	w.ok(p.del())
	if left := w.hostLinks(); len(left) != 0 {
		t.Errorf("interfaces left: %v", left)
	}
	if w.agent.held() != 1 {
		t.Fatal("the agent heard of it")
	}
	w.serve()
	w.eventually("the DEL is replayed", func() bool { return w.agent.held() == 0 })
	w.stop()
	w.wantNothing()
	if diff := cmp.Diff([]protocol.Attachment{p.attachment()}, w.agent.dels); diff != "" {
		t.Errorf("DELs (-want +got):\n%s", diff)
	}
}
