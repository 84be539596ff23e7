package plugin

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"

	"github.com/manul-net/manul/cni/protocol"
	"github.com/manul-net/manul/test/cniplugins"
)

// hostLocal gives a world the CNI project's host-local, which keeps its addresses in a folder that is returned.
func hostLocal(w *world, t *testing.T, ranges string) string {
	t.Helper()
	data := filepath.Join(w.dir, "host-local")
	w.plugins = cniplugins.Build(t, "ipam/host-local")
	w.ipam = fmt.Sprintf(`{"type": "host-local", "dataDir": %q, %s}`, data, ranges)
	return filepath.Join(data, "manul")
}

// reserved are the addresses that host-local has given.
func reserved(t *testing.T, dir string) []string {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	var out []string
	for _, f := range files {
		if _, err := netip.ParseAddr(f.Name()); err == nil {
			out = append(out, f.Name())
		}
	}
	return out
}

func TestAddressesOfHostLocal(t *testing.T) {
	for _, test := range []struct {
		name, ranges string
		podCIDRs     []string
		first        []string
	}{
		{"a range of its own", `"ranges": [[{"subnet": "10.99.0.0/24"}]]`, nil, []string{"10.99.0.2"}},
		{"the node's CIDR", `"subnet": "usePodCidr"`, []string{"10.48.3.0/24"}, []string{"10.48.3.2"}},
		{
			"the node's CIDRs of both families", `"ranges": [[{"subnet": "usePodCidr"}], [{"subnet": "usePodCidrIPv6"}]]`,
			[]string{"10.48.3.0/24", "fd00:48:3::/64"},
			[]string{"10.48.3.2", "fd00:48:3::2"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			for _, text := range test.podCIDRs {
				w.agent.podCIDRs = append(w.agent.podCIDRs, netip.MustParsePrefix(text))
			}
			w.serve()
			data := hostLocal(w, t, test.ranges)
			one, two := w.pod("c1", "one"), w.pod("c2", "two")
			var result types100.Result
			w.ok(json.Unmarshal(one.mustAdd(), &result))
			var got []string
			for _, ip := range result.IPs {
				got = append(got, ip.Address.IP.String())
			}
			if !slices.Equal(got, test.first) {
				t.Errorf("addresses %v, want %v", got, test.first)
			}
			two.mustAdd()
			w.ok(one.check())
			w.in(one.netns, func() {
				addrs, err := netlink.AddrList(w.link("eth0"), netlink.FAMILY_V4)
				w.ok(err)
				if len(addrs) != 1 || addrs[0].IPNet.String() != test.first[0]+"/32" {
					t.Errorf("the pod has %v, want %s/32", addrs, test.first[0])
				}
			})
			for _, addr := range w.agent.holds[two.attachment()].Addresses {
				w.ok(transfer(one.netns, two.netns, addr.String()))
			}
			if n := len(reserved(t, data)); n != 2*len(test.first) {
				t.Errorf("host-local has given %d addresses, want %d", n, 2*len(test.first))
			}
			w.ok(one.del())
			w.ok(one.del())
			w.ok(two.del())
			if left := reserved(t, data); len(left) > 0 {
				t.Errorf("host-local still has %v", left)
			}
			w.wantNothing()
		})
	}
}

func TestIPAMPluginThatFails(t *testing.T) {
	w := newWorld(t)
	w.serve()
	data := hostLocal(w, t, `"subnet": "usePodCidr"`)
	p := w.pod("c1", "web")
	fails := func(code uint, want string) {
		t.Helper()
		_, err := p.add()
		wantCode(t, err, code, want)
		w.wantNothing()
		if left := reserved(t, data); len(left) > 0 {
			t.Errorf("host-local still has %v", left)
		}
	}
	fails(types.ErrInvalidNetworkConfig, "ipam: usePodCidr: the node has no CIDR of that family")
	w.agent.podCIDRs = []netip.Prefix{netip.MustParsePrefix("10.48.3.0/30")}
	w.agent.failing(protocol.Errorf(protocol.CodeTryAgainLater, "no policy yet"))
	fails(protocol.CodeTryAgainLater, "no policy yet") // the address goes back
	w.agent.failing(nil)
	w.ipam = strings.Replace(w.ipam, "host-local", "no-such-plugin", 1)
	fails(protocol.CodeSetup, "ADD of IPAM plugin no-such-plugin: there is no such program in the folders of CNI_PATH")
	w.ipam = strings.Replace(w.ipam, "no-such-plugin", "host-local", 1)

	first, second := w.pod("c2", "one"), w.pod("c3", "two")
	first.mustAdd() // the only one that the range has
	_, err := second.add()
	wantCode(t, err, types.ErrInternal, "ADD of IPAM plugin host-local: failed to allocate for range 0")
	w.ok(second.del())
	w.ok(first.check())
	w.ok(first.del())
	w.wantNothing()
}

// A plugin that gives addresses is told of all that concerns it, with the configuration and the environment of the call.
func TestIPAMPluginIsToldOfEverything(t *testing.T) {
	w := newWorld(t)
	w.serve()
	w.plugins = t.TempDir()
	told := filepath.Join(w.dir, "told")
	script := `#!/bin/sh
conf=$(cat)
case "$conf" in *'"setting":42'*) ;; *) exit 1 ;; esac
echo "$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME" >> ` + told + `
[ $CNI_COMMAND != ADD ] || echo '{"cniVersion": "1.1.0", "ips": [{"address": "10.77.0.9/24", "gateway": "10.77.0.1"}], "dns": {"nameservers": ["10.77.0.53"]}}'
`
	w.ok(os.WriteFile(filepath.Join(w.plugins, "script-ipam"), []byte(script), 0o755))
	w.ipam = `{"type":"script-ipam","setting":42}`
	p := w.pod("c1", "web")
	var result types100.Result
	w.ok(json.Unmarshal(p.mustAdd(), &result))
	if len(result.IPs) != 1 || result.IPs[0].Address.String() != "10.77.0.9/32" || !slices.Equal(result.DNS.Nameservers, []string{"10.77.0.53"}) {
		t.Errorf("result: %+v", result)
	}
	w.ok(p.check())
	env := []string{"CNI_PATH=" + w.plugins, "PATH=" + os.Getenv("PATH")}
	_, err := w.call("STATUS", env, w.config("1.1.0"))
	w.ok(err)
	_, err = w.call("GC", env, w.config("1.1.0", "cni.dev/valid-attachments", []types.GCAttachment{{ContainerID: "c1", IfName: "eth0"}}))
	w.ok(err)
	w.ok(p.check())
	w.ok(p.del())
	text, err := os.ReadFile(told)
	w.ok(err)
	want := "ADD c1 eth0\nCHECK c1 eth0\nSTATUS  \nGC  \nCHECK c1 eth0\nDEL c1 eth0\n"
	if string(text) != want {
		t.Errorf("the plugin was told\n%swant\n%s", text, want)
	}
	w.wantNothing()
}

func TestPoolsOfTheConfigurationReachTheAgent(t *testing.T) {
	w := newWorld(t)
	w.serve()
	w.ipam = `{"type": "manul-ipam", "assign_ipv6": "false", "ipv4_pools": ["external-pool", "10.9.0.0/16"]}`
	p := w.pod("c1", "web")
	p.mustAdd()
	if got := w.agent.asked.Pools; got == nil || !slices.Equal(got.IPv4, []string{"external-pool", "10.9.0.0/16"}) || !got.NoIPv6 || got.NoIPv4 {
		t.Errorf("the agent is told %+v", got)
	}
	w.ok(p.del())
	w.wantNothing()
}
