package cnilab

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/api/v1alpha1"
)

// defaultRoutes are the interfaces by which the sandbox has a default route.
func (l *lab) defaultRoutes(s *Sandbox) []string {
	l.t.Helper()
	var out []string
	l.ok(s.In(func() error {
		routes, err := netlink.RouteListFiltered(unix.AF_UNSPEC, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
		for _, r := range routes {
			if ones, _ := r.Dst.Mask.Size(); ones != 0 || r.Type != unix.RTN_UNICAST {
				continue
			}
			link, err := netlink.LinkByIndex(r.LinkIndex)
			if err != nil {
				return err
			}
			out = append(out, link.Attrs().Name)
		}
		return err
	}))
	return out
}

// A meta-plugin calls manul for a container twice: once for the cluster's network, and once for another network with pools of its own. Each interface
// has its addresses, its policy and its routes, and goes by itself.
func TestSecondInterfaceOnThisNetwork(t *testing.T) {
	pods := Pods(3)
	l := newLab(t, pods...)
	l.operator.Change(poolsOfLab)
	l.start()
	main := l.sandbox(pods[0], "c1")
	client := l.sandbox(pods[2], "c3")
	storage := main.Another("net1", "storage", `{"type": "manul-ipam", "ipv4_pools": ["external-pool"]}`)
	l.add(client)
	l.add(main)
	l.add(storage)
	first, second := addressesOf(main), addressesOf(storage)
	if !strings.HasPrefix(second[0], "10.99.0.") || slices.Contains(first, second[0]) || len(second) != 2 {
		t.Fatalf("the interfaces have %v and %v, want the second's from the pool that its network names", first, second)
	}
	if again := main.Another("net1", "storage", storage.IPAM); true {
		l.add(again)
		if got := addressesOf(again); !slices.Equal(got, second) {
			t.Errorf("the same ADD again gives %v, then %v", second, got)
		}
	}
	if got := l.defaultRoutes(main); !slices.Equal(got, []string{"eth0", "eth0"}) {
		t.Errorf("default routes by %v, want one of each family by eth0", got)
	}
	if len(storage.Result.Routes) != 0 || len(main.Result.Routes) != 2 {
		t.Errorf("the results have routes %v and %v", main.Result.Routes, storage.Result.Routes)
	}
	l.served(client, main, first...)
	l.served(client, main, second...)
	l.ok(main.Check())
	l.ok(storage.Check())
	l.eventually("the cluster is told all addresses of the pod", func() bool {
		return cmp.Equal(l.reported(pods[0]), v1alpha1.EndpointStatus{
			ID: pods[0], UID: "uid-lab-web-000", Addresses: slices.Concat(first, second), Others: []v1alpha1.InterfaceStatus{{Name: "net1", Addresses: second}},
		})
	})

	// The agent starts anew.
	l.ok(l.Stop())
	l.start()
	l.served(client, main, second[0])
	l.ok(storage.Check())

	// GC knows containers' interfaces one by one.
	l.ok(l.GC(client, main, storage))
	l.ok(storage.Check())
	l.ok(l.GC(client, main))
	if err := storage.Check(); err == nil {
		t.Error("an interface that the runtime does not list is still there")
	}
	l.ok(main.Check())
	l.served(client, main, first...)

	// A DEL of one leaves the other, whichever it is.
	l.add(storage)
	l.del(storage)
	l.ok(main.Check())
	l.served(client, main, first[0])
	l.ok(main.In(func() error {
		rules, err := netlink.RuleList(netlink.FAMILY_ALL)
		for _, r := range rules {
			if r.Src != nil {
				t.Errorf("rule %v is left in the pod", r)
			}
		}
		return err
	}))
	l.add(storage)
	l.del(main)
	l.ok(storage.Check())
	l.served(client, main, addressesOf(storage)[0])
	l.del(storage)
	l.del(client)
	l.nothing()
}

// Both networks of a pod may have an IPAM plugin, and either may be another plugin's interface.
func TestSecondInterfaceOfAnotherPlugin(t *testing.T) {
	plugins := referencePlugins(t, "main/ptp", "ipam/host-local")
	pods := Pods(2)
	l := newLab(t, pods...)
	l.operator.Change(poolsOfLab)
	l.start()
	main, client := l.sandbox(pods[0], "c1"), l.sandbox(pods[1], "c2")
	l.add(main)
	l.add(client)
	c := l.chain(plugins, strings.ReplaceAll(l.ptp(), `, "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]`, ``))
	other := main.Another("net1", "chained", "")
	l.ok(c.add(other))
	l.ok(c.check(other))
	l.ok(main.Check())
	l.served(client, main, addressesOf(main)...)
	l.eventually("the cluster is told all addresses of the pod", func() bool {
		return cmp.Equal(l.reported(pods[0]).Others, []v1alpha1.InterfaceStatus{{Name: "net1", Addresses: []string{"10.60.0.2", "fd00:60::2"}, Chained: true}})
	})
	l.ok(c.del(other))
	l.ok(main.Check())
	l.del(main)
	l.del(client)
	l.nothing()
}

// The journal is lost: what the node last reported, and the marks in the kernel, tell whose addresses are in use.
func TestSecondInterfaceSurvivesTheLossOfTheJournal(t *testing.T) {
	pod := Pods(1)[0]
	l := newLab(t, pod)
	l.operator.Change(poolsOfLab)
	l.start()
	main := l.sandbox(pod, "c1")
	storage := main.Another("net1", "storage", `{"type": "manul-ipam", "ipv4_pools": ["external-pool"]}`)
	l.add(main)
	l.add(storage)
	l.eventually("both are reported", func() bool { return len(l.reported(pod).Others) == 1 })
	want := l.reported(pod)
	l.ok(l.Stop())
	l.ok(l.LoseJournal())
	l.start()
	l.ok(main.Check())
	l.ok(storage.Check())
	l.eventually("the same is reported", func() bool { return cmp.Equal(l.reported(pod), want) })
	l.del(storage)
	l.del(main)
	l.nothing()
}
