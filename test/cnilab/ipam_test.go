package cnilab

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/test/cniplugins"
)

// poolsOfLab are what the operator gives the node beside its first pool.
func poolsOfLab(s *v1alpha1.NodeStateSpec) {
	s.Blocks = append(s.Blocks, v1alpha1.BlockLease{CIDR: "10.99.0.0/26", Pool: "10.99.0.0/24"}, v1alpha1.BlockLease{CIDR: "fd00:48::/122", Pool: "fd00:48::/64"})
	s.Pools = []v1alpha1.Pool{
		{CIDR: "10.48.0.0/24", Names: []string{"default-ipv4-ippool"}},
		{CIDR: "10.99.0.0/24", Names: []string{"external-pool"}},
		{CIDR: "10.98.0.0/24", Names: []string{"closed"}, NotForPods: "is disabled"},
		{CIDR: "10.97.0.0/24", Names: []string{"far"}},
		{CIDR: "fd00:48::/64", Names: []string{"v6"}},
	}
	s.PodCIDRs = []string{"10.50.7.0/24"}
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		if e.ID == "lab/web-001" { // by annotation
			e.Addresses = v1alpha1.AddressRequest{Pools: []string{"10.48.0.0/24", "fd00:48::/64"}, NamedIPv4: true}
		}
	}
}

func TestPoolsOfTheNetworkConfiguration(t *testing.T) {
	pods := Pods(2)
	plain, annotated := pods[0], pods[1]
	for _, test := range []struct{ pod, ipam, want string }{
		{plain, ``, "10.48.0.x fd00:48::x"},
		{plain, `{"type": "manul-ipam"}`, "10.48.0.x fd00:48::x"},
		{plain, `{"type": "manul-ipam", "ipv4_pools": ["external-pool"]}`, "10.99.0.x fd00:48::x"},
		{plain, `{"type": "manul-ipam", "ipv4_pools": ["10.99.0.0/24"], "assign_ipv6": "false"}`, "10.99.0.x"},
		{plain, `{"type": "manul-ipam", "assign_ipv4": false}`, "fd00:48::x"},
		{annotated, `{"type": "manul-ipam", "ipv4_pools": ["external-pool"]}`, "10.48.0.x fd00:48::x"},
		{plain, `{"type": "manul-ipam", "ipv4_pools": ["none"]}`, "error: network configuration, ipam.ipv4_pools: there is no IPPool none: name one of kubectl get ippools"},
		{plain, `{"type": "manul-ipam", "ipv4_pools": ["closed"]}`, "error: network configuration, ipam.ipv4_pools: IPPool closed is disabled: name another"},
		{plain, `{"type": "manul-ipam", "ipv6_pools": ["external-pool"]}`, "error: network configuration, ipam.ipv6_pools: IPPool external-pool (10.99.0.0/24) is of the other family"},
		{plain, `{"type": "manul-ipam", "ipv4_pools": ["far"]}`, "error: no address block of pool 10.97.0.0/24 has been leased to this node yet"},
	} {
		t.Run(test.pod+" "+test.ipam, func(t *testing.T) {
			l := newLab(t, pods...)
			l.operator.Change(poolsOfLab)
			l.IPAM = test.ipam
			failure, fails := strings.CutPrefix(test.want, "error: ")
			if fails {
				l.AddWait = 200_000_000 // ns; it waits in vain
			}
			l.start()
			s := l.sandbox(test.pod, "c1")
			_, err := s.Add()
			if fails {
				if err == nil || !retryable(err) || !strings.Contains(err.Error(), failure) {
					t.Errorf("%v, want one that can be tried again, with %q", err, failure)
				}
				return
			}
			l.ok(err)
			var got []string
			for _, ip := range s.Result.IPs {
				text := ip.Address.IP.String()
				got = append(got, text[:strings.LastIndexAny(text, ".:")+1]+"x")
			}
			if strings.Join(got, " ") != test.want {
				t.Errorf("addresses %v, want %s", got, test.want)
			}
			l.ok(s.Check())
			l.del(s)
			l.nothing()
		})
	}
}

// A pool of which the node has no block is asked for.
func TestPoolsOfTheNetworkConfigurationAreAskedFor(t *testing.T) {
	pod := Pods(1)[0]
	l := newLab(t, pod)
	l.operator.Change(poolsOfLab)
	l.IPAM = `{"type": "manul-ipam", "ipv4_pools": ["far"], "assign_ipv6": "false"}`
	l.start()
	s := l.sandbox(pod, "c1")
	added := make(chan error, 1)
	go func() { _, err := s.Add(); added <- err }()
	asks := func() []v1alpha1.PoolsAsk {
		if n := l.operator.Status().Network; n != nil {
			return n.Asks
		}
		return nil
	}
	l.eventually("the node asks for a block of the pool", func() bool {
		got := asks()
		return len(got) == 1 && slices.Equal(got[0].Pools, []string{"10.97.0.0/24"}) && got[0].Endpoints == 1
	})
	l.operator.Change(func(spec *v1alpha1.NodeStateSpec) {
		poolsOfLab(spec)
		spec.Blocks = append(spec.Blocks, v1alpha1.BlockLease{CIDR: "10.97.0.64/26", Pool: "10.97.0.0/24"})
	})
	l.ok(<-added)
	if got := s.Result.IPs[0].Address.IP.String(); got != "10.97.0.64" {
		t.Errorf("address %s", got)
	}
	l.eventually("nobody lacks an address", func() bool { got := asks(); return len(got) == 1 && got[0].Endpoints == 0 })
	l.del(s)
	l.nothing()
}

// host-local gives addresses of the node's CIDR, and the agent knows them as the pods' for as long as it does. Whether the agent is told
// beforehand or has given pods addresses of its own by then makes no difference in the end.
func TestHostLocalOnARealAgent(t *testing.T) {
	plugins := cniplugins.Build(t, "ipam/host-local")
	for _, told := range []bool{true, false} {
		t.Run(fmt.Sprintf("agent told %v", told), func(t *testing.T) {
			pods := Pods(3)
			l := newLab(t, pods...)
			l.operator.Change(poolsOfLab)
			l.Plugins, l.ExternalIPAM = plugins, told
			data := filepath.Join(l.Dir, "host-local")
			l.IPAM = fmt.Sprintf(`{"type": "host-local", "subnet": "usePodCidr", "dataDir": %q}`, data)
			l.start()
			first, again := l.sandbox(pods[0], "c1"), l.sandbox(pods[0], "c1-again")
			second := l.sandbox(pods[1], "c2")
			if got := l.add(first); got != "10.50.7.2" {
				t.Errorf("address %s", got)
			}
			l.ok(first.Check())
			l.eventually("the node says that the plugin gave the address", func() bool {
				for _, e := range l.operator.Status().Endpoints {
					if e.ID == pods[0] {
						return e.External && slices.Equal(e.Addresses, []string{"10.50.7.2"})
					}
				}
				return false
			})
			l.ok(l.Stop())
			l.start()
			l.ok(first.Check())
			// The pod gets another sandbox, and with it another address; what it had may go to somebody else at once.
			l.del(first)
			if got := l.add(again); got != "10.50.7.3" {
				t.Errorf("address %s", got)
			}
			last := filepath.Join(data, "manul", "last_reserved_ip.0")
			l.ok(os.WriteFile(last, []byte("10.50.7.1"), 0o600))
			if got := l.add(second); got != "10.50.7.2" {
				t.Errorf("address %s", got)
			}
			l.ok(again.Check())
			l.ok(l.GC(again))
			l.del(second)
			l.del(again)
			files, err := os.ReadDir(filepath.Join(data, "manul"))
			l.ok(err)
			for _, f := range files {
				if strings.HasPrefix(f.Name(), "10.") {
					t.Errorf("host-local still has %s", f.Name())
				}
			}
			l.nothing()
		})
	}
}

// The plugin dies when an IPAM plugin has given it an address that is not in the agent's journal yet. The runtime's DEL gives the address back, and the next ADD succeeds: nothing leaks.
func TestDeathBetweenTheIPAMPluginAndTheJournal(t *testing.T) {
	plugins := cniplugins.Build(t, "ipam/host-local")
	pods := Pods(1)
	for _, test := range []struct {
		name string
		// restart: the DEL finds another agent; late: none, which comes after it.
		restart, late bool
	}{
		{name: "while the agent waits for the pod's policy"},
		{name: "and the agent starts anew", restart: true},
		{name: "and no agent answers the DEL", late: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := newLab(t) // it knows of no pod, so that an ADD waits
			l.operator.Change(poolsOfLab)
			l.Plugins, l.ExternalIPAM = plugins, true
			data := filepath.Join(l.Dir, "host-local")
			l.IPAM = fmt.Sprintf(`{"type": "host-local", "subnet": "10.50.7.0/30", "dataDir": %q}`, data) // it has one address to give
			given := func() int {
				files, err := filepath.Glob(filepath.Join(data, "manul", "10.*"))
				l.ok(err)
				return len(files)
			}
			l.start()
			s := l.sandbox(pods[0], "c1")
			l.ok(s.AddThatDies(func() error {
				l.eventually("the IPAM plugin has given the address", func() bool { return given() == 1 })
				return nil
			}))
			if names, err := l.Interfaces(); err != nil || len(names) > 0 {
				t.Errorf("interfaces %v, %v", names, err)
			}
			if test.restart || test.late {
				l.ok(l.Stop())
			}
			if test.restart {
				l.start()
			}
			l.del(s)
			if n := given(); n != 0 {
				t.Errorf("after the DEL the IPAM plugin counts %d addresses as given", n)
			}
			if test.late {
				l.start()
			}
			l.operator.SetPods(pods...)
			again := l.sandbox(pods[0], "c2")
			if got := l.add(again); got != "10.50.7.2" {
				t.Errorf("address %s", got)
			}
			l.ok(again.Check())
			l.del(again)
			if n := given(); n != 0 {
				t.Errorf("in the end the IPAM plugin counts %d addresses as given", n)
			}
			l.nothing()
		})
	}
}
