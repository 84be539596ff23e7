package tunnels

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/test/netns"
)

// The pools of the tests.
const (
	pool4, other4 = "10.48.0.0/16", "10.49.0.0/16"
	pool6         = "fd00:48::/64"
)

// poolWith is the manifest of a pool.
func poolWith(name, cidr, more string) string {
	return fmt.Sprintf("apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: %s}\nspec: {cidr: %q, natOutgoing: true%s}", name, cidr, more)
}

// elsewhere tells whether a test of a kind of tunnel runs on the machine of its own alone, because this kernel does not know the kind.
// That machine's kernel has to know all.
func elsewhere(t testing.TB, kind string) bool {
	t.Helper()
	if kind != "IPIP" {
		return false
	}
	ns := netns.New(t)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "try"
	err := ns.LinkAdd(&netlink.Iptun{LinkAttrs: attrs, Local: []byte{192, 0, 2, 1}})
	if errors.Is(err, unix.EOPNOTSUPP) && os.Getenv("MANUL_MACHINE") == "" {
		t.Log("this kernel knows no IPIP: TestOnAMachineOfItsOwn runs this test on one that does")
		return true
	}
	if err != nil {
		t.Fatal(err)
	}
	return false
}

// talk has pods exchange something over TCP, each seeing the other's address.
func talk(t *testing.T, from, to *Pod, is4 bool) {
	t.Helper()
	source, addr := from.V4, to.V4
	if !is4 {
		source, addr = from.V6, to.V6
	}
	at := netip.AddrPortFrom(addr, 8080)
	echo := to.Echo(at)
	defer echo.Close()
	c := from.Connect(at)
	defer c.Close()
	c.Exchange("hello")
	if got := echo.Peer(); got != source {
		t.Errorf("%s sees %s at the other end of a connection from %s, want %s", to.ID, got, from.ID, source)
	}
}

// TestEveryMode: pods on two nodes of one subnet and one of another, with packets encapsulated where the mode says so. The router
// between the subnets does not know the pods' addresses.
func TestEveryMode(t *testing.T) {
	const direct = "eth0"
	for _, test := range []struct {
		name, cidr, mode string
		// near, far are the devices by which a node sends to pods of nodes on its subnet and on another.
		near, far string
	}{
		{"none", pool4, "", direct, ""},
		{"VXLAN Always", pool4, ", vxlanMode: Always", "vxlan.manul", "vxlan.manul"},
		{"VXLAN CrossSubnet", pool4, ", vxlanMode: CrossSubnet", direct, "vxlan.manul"},
		{"IPIP Always", pool4, ", ipipMode: Always", "ipip.manul", "ipip.manul"},
		{"IPIP CrossSubnet", pool4, ", ipipMode: CrossSubnet", direct, "ipip.manul"},
		{"IPv6 none", pool6, "", direct, ""},
		{"IPv6 VXLAN Always", pool6, ", vxlanMode: Always", "vxlan-v6.manul", "vxlan-v6.manul"},
		{"IPv6 VXLAN CrossSubnet", pool6, ", vxlanMode: CrossSubnet", direct, "vxlan-v6.manul"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if elsewhere(t, test.name[:4]) {
				return
			}
			w := NewWorld(t)
			w.Give(poolWith("pool", test.cidr, test.mode))
			is4 := test.cidr == pool4
			near, other := w.Node("w1", "a", test.cidr), w.Node("w2", "a", test.cidr)
			pods := []*Pod{near.Pod("p1"), other.Pod("p2")}
			address := func(p *Pod) netip.Addr {
				if is4 {
					return p.V4
				}
				return p.V6
			}
			near.Sends(address(pods[1]), test.near)
			other.Sends(address(pods[0]), test.near)
			if test.far != "" {
				far := w.Node("w3", "b", test.cidr)
				pods = append(pods, far.Pod("p3"))
				for _, n := range []*Node{near, other} {
					n.Sends(address(pods[2]), test.far)
				}
				far.Sends(address(pods[0]), test.far)
				far.Sends(address(pods[1]), test.far)
			}
			for _, from := range pods {
				for _, to := range pods {
					if from != to {
						talk(t, from, to, is4)
					}
				}
			}
			// A node's own traffic bears the address that the others send to through the tunnel.
			last := pods[len(pods)-1]
			at := netip.AddrPortFrom(address(last), 8081)
			echo := last.Echo(at)
			defer echo.Close()
			c := near.Connect(at)
			defer c.Close()
			c.Exchange("probe")
			want := near.V4
			if !is4 {
				want = near.V6
			}
			if test.far != "" {
				status := w.status("w1")
				if len(status.Tunnels) != 1 || status.Tunnels[0].Address == "" {
					t.Fatalf("the node reports tunnels %v, want one with an address", status.Tunnels)
				}
				want = netip.MustParseAddr(status.Tunnels[0].Address)
				if !netip.MustParsePrefix(test.cidr).Contains(want) {
					t.Errorf("the tunnel's address %s is not of the pool", want)
				}
			}
			if got := echo.Peer(); got != want {
				t.Errorf("a pod sees node w1 as %s, want %s", got, want)
			}
		})
	}
}

// TestTwoModesInOneCluster: each pool goes its own way, and so does each family.
func TestTwoModesInOneCluster(t *testing.T) {
	w := NewWorld(t)
	w.Give(poolWith("plain", pool4, ", assignmentMode: Manual"))
	w.Give(poolWith("tunnelled", other4, ", vxlanMode: Always"))
	w.Give(poolWith("six", pool6, ", vxlanMode: CrossSubnet"))
	n1, n2, n3 := w.Node("w1", "a", pool4, other4, pool6), w.Node("w2", "a", pool4, other4, pool6), w.Node("w3", "b", pool4, other4, pool6)
	p1, p2, p3 := n1.Pod("p1"), n2.Pod("p2"), n3.Pod("p3")
	n1.Sends(netip.MustParseAddr("10.48.2.1"), "eth0")
	n1.Sends(p2.V4, "vxlan.manul")
	n1.Sends(p2.V6, "eth0")
	n1.Sends(p3.V6, "vxlan-v6.manul")
	n3.Sends(p1.V4, "vxlan.manul")
	n3.Sends(p1.V6, "vxlan-v6.manul")
	for _, is4 := range []bool{true, false} {
		talk(t, p1, p2, is4)
		talk(t, p1, p3, is4)
		talk(t, p3, p2, is4)
	}
}

// TestChangeOfModeAtRunTime: pods go on talking while the pool's mode changes.
func TestChangeOfModeAtRunTime(t *testing.T) {
	modes := []string{"", ", vxlanMode: Always", ", vxlanMode: CrossSubnet", ", vxlanMode: Always", ""}
	w := NewWorld(t)
	w.Give(poolWith("pool", pool4, modes[0]))
	n1, n2 := w.Node("w1", "a", pool4), w.Node("w2", "a", pool4)
	p1, p2 := n1.Pod("p1"), n2.Pod("p2")
	changeModes(t, w, pool4, p1, p2, modes, map[string]string{"": "eth0", modes[1]: "vxlan.manul", modes[2]: "eth0"})
	for _, n := range w.Nodes {
		eventually(t, func() string {
			if d := n.devices(); len(d) > 0 {
				return fmt.Sprintf("node %s has %v without a pool that wants them", n.Name, d)
			}
			return ""
		})
	}
}

// TestChangeOfModeOfIPv6 is the same for IPv6.
func TestChangeOfModeOfIPv6(t *testing.T) {
	modes := []string{"", ", vxlanMode: Always", ", vxlanMode: CrossSubnet", ", vxlanMode: Always", ""}
	w := NewWorld(t)
	w.Give(poolWith("pool", pool6, modes[0]))
	p1, p2 := w.Node("w1", "a", pool6).Pod("p1"), w.Node("w2", "a", pool6).Pod("p2")
	changeModes(t, w, pool6, p1, p2, modes, map[string]string{"": "eth0", modes[1]: "vxlan-v6.manul", modes[2]: "eth0"})
}

// TestChangeFromIPIPToVXLAN: the two have nothing in common, and still pods go on talking.
func TestChangeFromIPIPToVXLAN(t *testing.T) {
	if elsewhere(t, "IPIP") {
		return
	}
	modes := []string{", ipipMode: Always", ", vxlanMode: Always", ", ipipMode: Always", ", ipipMode: CrossSubnet"}
	w := NewWorld(t)
	w.Give(poolWith("pool", pool4, modes[0]))
	n1, n2 := w.Node("w1", "a", pool4), w.Node("w2", "a", pool4)
	p1, p2 := n1.Pod("p1"), n2.Pod("p2")
	changeModes(t, w, pool4, p1, p2, modes, map[string]string{modes[0]: "ipip.manul", modes[1]: "vxlan.manul", modes[3]: "eth0"})
}

func changeModes(t *testing.T, w *World, cidr string, from, to *Pod, modes []string, device map[string]string) {
	t.Helper()
	is4 := cidr == pool4
	source, destination := from.V6, to.V6
	if is4 {
		source, destination = from.V4, to.V4
	}
	from.Node.Sends(destination, device[modes[0]])
	to.Node.Sends(source, device[modes[0]])
	talk(t, from, to, is4)
	for _, mode := range modes[1:] {
		s := newStream(t, from, to)
		w.Give(poolWith("pool", cidr, mode))
		from.Node.Sends(destination, device[mode])
		to.Node.Sends(source, device[mode])
		talk(t, from, to, is4)
		const bound, most = time.Second, 100 * time.Millisecond
		// On an emulated machine everything takes long, but no more is lost for that.
		if loss := s.end(t); loss.longest > bound && os.Getenv("MANUL_MACHINE") == "" || time.Duration(loss.lost)*streamEvery > most {
			t.Errorf("to %q: %v, want less than %v without an answer, and what was sent in %v lost at most", mode, loss, bound, most)
		} else {
			t.Logf("to %q: %v", mode, loss)
		}
	}
}

// TestNodesThatComeAndGo: routes, neighbours and forwarding entries follow, and nothing is left behind.
func TestNodesThatComeAndGo(t *testing.T) {
	w := NewWorld(t)
	w.Give(poolWith("pool", pool4, ", vxlanMode: Always"))
	n1, n2, n3 := w.Node("w1", "a", pool4), w.Node("w2", "a", pool4), w.Node("w3", "b", pool4)
	p1, p3 := n1.Pod("p1"), n3.Pod("p3")
	has := func(n *Node, want ...string) {
		t.Helper()
		eventually(t, func() string { return cmp.Diff(want, n.devices()) })
	}
	has(n1, "vxlan.manul: 192.0.2.2 198.51.100.3")
	has(n3, "vxlan.manul: 192.0.2.1 192.0.2.2")
	n1.Sends(p3.V4, "vxlan.manul")

	w.take(n3.block(pool4)) // drained: its blocks are given back
	n1.Sends(p3.V4, "eth0")
	w.take(n3.manifest())
	has(n1, "vxlan.manul: 192.0.2.2")
	has(n2, "vxlan.manul: 192.0.2.1")

	w.Give(n3.manifest() + "\n---\n" + n3.block(pool4)) // and it is back
	has(n1, "vxlan.manul: 192.0.2.2 198.51.100.3")
	n1.Sends(p3.V4, "vxlan.manul")
	n3.Sends(p1.V4, "vxlan.manul")
	talk(t, p1, p3, true)

	w.take(poolWith("pool", pool4, ""))
	for _, n := range w.Nodes {
		has(n)
		eventually(t, func() string {
			list, err := n.RouteList(nil, netlink.FAMILY_V4)
			if err != nil {
				return err.Error()
			}
			i := slices.IndexFunc(list, func(r netlink.Route) bool {
				return r.Flags&int(netlink.FLAG_ONLINK) != 0 && r.Dst.IP.Equal([]byte{10, 48})
			})
			if i >= 0 {
				return "left: " + list[i].String()
			}
			return ""
		})
	}
}

// atOnce is sooner than anything that is waited for or looked at again, however much else the machine does.
const atOnce = 8 * time.Second

// TestLostNodes: a node of which nothing is heard keeps its routes, for its pods may well be reached; one that is deleted loses them at once,
// although its pods and blocks are still on record; and one that comes back has them again.
func TestLostNodes(t *testing.T) {
	for name, mode := range map[string]string{"none": "", "VXLAN": ", vxlanMode: Always"} {
		t.Run(name, func(t *testing.T) {
			device := map[string]string{"": "eth0", ", vxlanMode: Always": "vxlan.manul"}[mode]
			w := NewWorld(t)
			w.Give(poolWith("pool", pool4, mode))
			n1, n2 := w.Node("w1", "a", pool4), w.Node("w2", "a", pool4)
			p1, p2 := n1.Pod("p1"), n2.Pod("p2")
			talks := func() {
				t.Helper()
				n1.Sends(p2.V4, device)
				n2.Sends(p1.V4, device)
				talk(t, p1, p2, true)
			}
			talks()
			s := newStream(t, p1, p2)
			w.Give(strings.Replace(n2.manifest(), "status: {", "status: {conditions: [{type: Ready, status: Unknown}], ", 1))
			w.Give(strings.Replace(n2.manifest(), "status: {", "spec: {unschedulable: true}\nstatus: {", 1))
			talks()
			if loss := s.end(t); loss.lost > 0 {
				t.Errorf("a node becomes NotReady and is cordoned: %v", loss)
			}

			gone := func() string {
				routes, err := n1.RouteList(nil, netlink.FAMILY_V4)
				if err != nil {
					return err.Error()
				}
				for i := range routes {
					if routes[i].Gw.Equal(n2.V4.AsSlice()) {
						return "left: " + routes[i].String()
					}
				}
				if devices := strings.Join(n1.devices(), " "); strings.Contains(devices, n2.V4.String()) {
					return "left: " + devices
				}
				return ""
			}
			from := time.Now()
			w.take(n2.manifest())
			eventually(t, gone)
			if took := time.Since(from); took > atOnce {
				t.Errorf("the routes of a deleted node went after %v", took)
			}
			from = time.Now()
			w.Give(n2.manifest())
			n1.Sends(p2.V4, device)
			if took := time.Since(from); took > atOnce {
				t.Errorf("the routes of a node that came back were there after %v", took)
			}
			talks()
		})
	}
}

// TestRestartOfTheAgent changes nothing that is right, and makes right what changed meanwhile.
func TestRestartOfTheAgent(t *testing.T) {
	w := NewWorld(t)
	w.Give(poolWith("pool", pool4, ", vxlanMode: Always"))
	n1, n2 := w.Node("w1", "a", pool4), w.Node("w2", "a", pool4)
	p1, p2 := n1.Pod("p1"), n2.Pod("p2")
	n1.Sends(p2.V4, "vxlan.manul")
	n2.Sends(p1.V4, "vxlan.manul")
	s := newStream(t, p1, p2)
	before := n1.Link("vxlan.manul").Attrs().Index
	_, source := n1.way(p2.V4)
	n1.Stop()
	n1.Start()
	eventually(t, func() string {
		if err := n1.agent.Ready(); err != nil {
			return err.Error()
		}
		return ""
	})
	if loss := s.end(t); loss.lost > 0 {
		t.Errorf("during a restart: %v", loss)
	}
	if after := n1.Link("vxlan.manul").Attrs().Index; after != before {
		t.Error("the device was made anew")
	}
	if _, again := n1.way(p2.V4); again != source || !source.IsValid() {
		t.Errorf("the node's address in the tunnel was %s and is %s", source, again)
	}

	// Somebody removes the device: it comes back with all that is on it.
	if err := n1.LinkDel(n1.Link("vxlan.manul")); err != nil {
		t.Fatal(err)
	}
	n1.Sends(p2.V4, "vxlan.manul")
	talk(t, p1, p2, true)
}

// TestTheJournalIsLost: the node's end of the tunnel keeps its address, and no pod gets it.
func TestTheJournalIsLost(t *testing.T) {
	w := NewWorld(t)
	w.Give(poolWith("pool", pool4, ", vxlanMode: Always"))
	n1, n2 := w.Node("w1", "a", pool4), w.Node("w2", "a", pool4)
	n1.Pod("gone") // so that another address than the first of the block is the end's
	w.take("apiVersion: v1\nkind: Pod\nmetadata: {name: gone, namespace: default, uid: u-gone}")
	w.Give(poolWith("pool", pool4, ""))
	eventually(t, func() string { return strings.Join(n1.devices(), " ") })
	p1 := n1.Pod("p1")
	w.Give(poolWith("pool", pool4, ", vxlanMode: Always"))
	p2 := n2.Pod("p2")
	n1.Sends(p2.V4, "vxlan.manul")
	n2.Sends(p1.V4, "vxlan.manul")
	end := func() (addr string) {
		t.Helper()
		eventually(t, func() string {
			ends := w.status("w1").Tunnels
			if len(ends) != 1 || ends[0].Address == "" {
				return fmt.Sprintf("tunnels %v, want one with an address", ends)
			}
			addr = ends[0].Address
			return ""
		})
		return addr
	}
	before := end()
	n1.Stop()
	if err := os.Remove(filepath.Join(n1.dir, "addresses.db")); err != nil {
		t.Fatal(err)
	}
	s := newStream(t, p1, p2)
	n1.Start()
	eventually(t, func() string {
		if err := n1.agent.Ready(); err != nil {
			return err.Error()
		}
		if _, source := n1.way(p2.V4); source.String() != before {
			return fmt.Sprintf("the node sends into the tunnel from %s, and did from %s", source, before)
		}
		return ""
	})
	if after := end(); after != before {
		t.Errorf("the end of the tunnel has %s, and had %s", after, before)
	}
	if p3 := n1.Pod("p3"); p3.V4.String() == before || p3.V4 == p1.V4 {
		t.Errorf("pod p3 got %s, which is in use", p3.V4)
	}
	if loss := s.end(t); loss.lost > 0 {
		t.Errorf("%v", loss)
	}
}

// TestAddressesOfTunnels: from pools for tunnels alone before others, never a pod's, and another one when the pool is no longer
// for it.
func TestAddressesOfTunnels(t *testing.T) {
	w := NewWorld(t)
	w.Give(poolWith("pool", pool4, ", vxlanMode: Always"))
	n1, n2 := w.Node("w1", "a", pool4), w.Node("w2", "a", pool4)
	in := func(pool string) (addr netip.Addr) {
		t.Helper()
		eventually(t, func() string {
			ends := w.status("w1").Tunnels
			if len(ends) == 1 && ends[0].Address != "" && netip.MustParsePrefix(pool).Contains(netip.MustParseAddr(ends[0].Address)) {
				addr = netip.MustParseAddr(ends[0].Address)
				return ""
			}
			return fmt.Sprintf("tunnels %v, want an address of %s", ends, pool)
		})
		return addr
	}
	ofPods := in(pool4)
	p1 := n1.Pod("p1")
	if p1.V4 == ofPods {
		t.Errorf("pod and tunnel have %s", ofPods)
	}

	w.Give(poolWith("ends", other4, ", vxlanMode: Always, allowedUses: [Tunnel]") + "\n---\n" + n1.block(other4) + "\n---\n" + n2.block(other4))
	own := in(other4)
	p2 := n2.Pod("p2")
	if netip.MustParsePrefix(other4).Contains(p2.V4) {
		t.Errorf("pod %s has an address of the pool for tunnels", p2.V4)
	}
	eventually(t, func() string {
		if _, source := n1.way(p2.V4); source != own {
			return fmt.Sprintf("the node sends from %s, want %s", source, own)
		}
		return ""
	})
	n2.Sends(own, "vxlan.manul")
	at := netip.AddrPortFrom(p2.V4, 8081)
	echo := p2.Echo(at)
	defer echo.Close()
	c := n1.Connect(at)
	defer c.Close()
	c.Exchange("probe")
	if got := echo.Peer(); got != own {
		t.Errorf("the pod sees %s, want %s", got, own)
	}
	w.take(poolWith("ends", other4, ""))
	in(pool4)
}
