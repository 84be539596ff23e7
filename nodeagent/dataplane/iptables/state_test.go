package iptables

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/test/packets"
)

// A restart that finds everything right writes no rule.
func TestRestartWritesNothing(t *testing.T) { eachVariant(t, testRestartWritesNothing) }

func testRestartWritesNothing(t *testing.T, variant Variant) {
	n := newNode(t, variant)
	n.Apply(packets.ManyThings())
	n.Reopen()
	n.driver().programs.restore = [families]string{"false", "false"}
	n.Apply(packets.ManyThings())
}

// What changes in sets alone runs no program.
func TestSetsChangeWithoutPrograms(t *testing.T) { eachVariant(t, testSetsChangeWithoutPrograms) }

func testSetsChangeWithoutPrograms(t *testing.T, variant Variant) {
	n := newNode(t, variant)
	p := packets.ManyThings()
	n.Apply(p)
	run := n.driver().programs
	n.driver().programs = programs{variant: variant, monitor: run.monitor, save: [families]string{"false", "false"}, restore: [families]string{"false", "false"}}
	p.Members.Delete(packets.AddressMember(packets.ClientSet, packets.Address(packets.ClientPod, packets.IPv4)))
	p.Members.Set(packets.AddressMember(packets.ClientSet, packets.Address(packets.OtherPod, packets.IPv6)), struct{}{})
	p.Members.Set(packets.Member(packets.NetSet, "203.0.113.0/24"), struct{}{})
	p.Pools.Set(netip.MustParsePrefix("10.50.0.0/16"), tables.Pool{})
	p.Pools.Set(netip.MustParsePrefix("10.48.0.0/16"), tables.Pool{})
	p.Sets.Set("unused", tables.Nets)
	p.Members.Set(packets.Member("unused", "10.0.0.0/8"), struct{}{})
	e, _ := p.Endpoints.Get(packets.InterfaceOf(packets.OtherPod))
	e.Addresses = append(e.Addresses, netip.MustParseAddr("10.48.0.99"))
	p.Endpoints.Set(packets.InterfaceOf(packets.OtherPod), e)
	n.Apply(p)
	n.driver().programs = run
	n.SameAsFresh(p)
}

// Rules that an earlier process made by the other variant go once those of the chosen one are in force.
func TestChangeOfVariant(t *testing.T) { eachVariant(t, testChangeOfVariant) }

func testChangeOfVariant(t *testing.T, variant Variant) {
	other := map[Variant]Variant{NFT: Legacy, Legacy: NFT}[variant]
	n := newNode(t, other)
	p := packets.ManyThings()
	n.Apply(p)
	n.Verify(packets.TCP(packets.IPv4, packets.Outside, packets.ClientPod, 80, false))
	n.ReopenAs(subject(variant))
	n.Apply(packets.NewTables())
	for _, line := range dump(t, n.NS, other) {
		if !strings.HasPrefix(line, "ipset") && strings.Contains(line, "manul") {
			t.Errorf("left over: %s", line)
		}
	}
	n.Verify(packets.TCP(packets.IPv4, packets.Outside, packets.ClientPod, 80, true))
}

// What others do to the driver's rules and sets is undone when everything is compared; theirs are left alone.
func TestForeignChanges(t *testing.T) { eachVariant(t, testForeignChanges) }

func testForeignChanges(t *testing.T, variant Variant) {
	ours := programChain(ingress, "np.ns.policy-7")
	clients, networks := setName(packets.ClientSet, tables.Addresses, ipv4), setName(packets.NetSet, tables.Nets, ipv4)
	for name, command := range map[string]string{
		"a rule deleted":         "iptables -D " + forwardChain + " 2",
		"a rule added":           "iptables -I " + forwardChain + " -j ACCEPT",
		"a rule appended":        "ip6tables -A " + ours + " -j ACCEPT",
		"a rule replaced":        "iptables -R " + forwardChain + " 2 -j ACCEPT",
		"a chain flushed":        "iptables -F " + ours,
		"a chain added":          "iptables -N " + chainPrefix + "foreign",
		"a chain that leads to":  "iptables -N " + chainPrefix + "foreign; iptables -A " + chainPrefix + "foreign -j " + ours,
		"an element added":       "ipset add " + clients + " 203.0.113.7",
		"an element deleted":     "ipset del " + clients + " 10.48.0.1",
		"a CIDR added":           "ipset add " + networks + " 203.0.113.0/24",
		"a set flushed":          "ipset flush " + sourceSet(ipv6),
		"a set added":            "ipset create " + setPrefix(ipv4) + "foreign hash:ip",
		"a hook deleted":         "iptables -D FORWARD 1",
		"a hook not first":       "iptables -I FORWARD -j other",
		"a hook twice":           "iptables -A INPUT -j " + inputChain,
		"the raw table flushed":  "ip6tables -t raw -F PREROUTING",
		"the nat hook deleted":   "iptables -t nat -D POSTROUTING 1",
		"everything deleted":     "iptables -F; iptables -X; iptables -t raw -F; iptables -t raw -X; ip6tables -F; ipset destroy " + sourceSet(ipv4),
		"the whole filter empty": "iptables -F",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, variant)
			n.shell("iptables -N other; iptables -A other -p tcp --dport 9999 -j DROP; iptables -A FORWARD -j other; iptables -t nat -N KUBE-X; ipset create other hash:ip; ipset add other 10.0.0.1")
			if variant == NFT {
				n.WantChanges() // of FORWARD
			}
			p := packets.ManyThings()
			n.Apply(p)
			n.Verify(packets.TCP(packets.IPv4, packets.OtherPod, packets.Outside, 80, true))
			want := dump(t, n.NS, variant)
			n.shell("iptables -A other -p tcp --dport 9998 -j DROP; iptables -D other 2; iptables -t mangle -A FORWARD -j ACCEPT; iptables -t mangle -D FORWARD 1")
			n.WantNoChange() // neither by the driver nor by what is none of its business
			n.driver().watch.due.Store(true)
			n.Apply(p)
			n.shell(command)
			if slices.Equal(want, dump(t, n.NS, variant)) {
				t.Fatal("the command changed nothing")
			}
			if variant == NFT && !strings.Contains(command, "ipset") {
				n.WantChange()
			} else {
				n.driver().watch.due.Store(true)
			}
			n.Apply(p)
			if got := n.driver().Disturbances(); got != 1 {
				t.Errorf("%d disturbances were counted, want 1", got)
			}
			for settle(n.Driver, p) {
				n.Apply(p)
			}
			got := dump(t, n.NS, variant)
			switch name {
			case "everything deleted", "the whole filter empty":
				theirs := func(line string) bool { return strings.Contains(line, "other") }
				want, got = slices.DeleteFunc(want, theirs), slices.DeleteFunc(got, theirs)
			case "a hook not first":
				n.shell("iptables -D FORWARD 2")
				got = dump(t, n.NS, variant)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("not undone (-want +got):\n%s", diff)
			}
			n.Verify(packets.TCP(packets.IPv4, packets.OtherPod, packets.Outside, 80, true))
		})
	}
}

// What others do is noticed and undone soon, also where the kernel tells nobody, and counted.
func TestForeignChangesAreSeen(t *testing.T) { eachVariant(t, testForeignChangesAreSeen) }

func testForeignChangesAreSeen(t *testing.T, variant Variant) {
	n := packets.NewNode(t, packets.Subject{
		Open: func(t testing.TB) (packets.Driver, error) {
			return New(t.Context(), Options{WorkloadPrefix: packets.WorkloadPrefix, Variant: variant, LookEvery: 20 * time.Millisecond, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
		},
	})
	d, _ := n.Driver.(*Driver)
	d.watch.next = func(every, _ time.Duration) time.Duration { return every }
	p := packets.ManyThings()
	n.Apply(p)
	want := dump(t, n.NS, variant)
	for range 3 { // looking alone is no disturbance
		n.WantChange()
		n.Apply(p)
	}
	if got := d.Disturbances(); got != 0 {
		t.Errorf("%d disturbances were counted where nobody disturbed", got)
	}
	for i, command := range []string{
		"ipset flush " + sourceSet(ipv4),
		fmt.Sprintf("iptables-%s -w 30 -I %s -j ACCEPT", variant, forwardChain),
		fmt.Sprintf("ip6tables-%s -w 30 -D FORWARD 1", variant),
		"ipset add " + setName(packets.ClientSet, tables.Addresses, ipv4) + " 203.0.113.7",
	} {
		n.Shell(command)
		for d.Disturbances() == int64(i) { // a look may have been due already
			n.WantChange()
			n.Apply(p)
		}
		if diff := cmp.Diff(want, dump(t, n.NS, variant)); diff != "" {
			t.Errorf("%s: not undone (-want +got):\n%s", command, diff)
		}
		if got := d.Disturbances(); got != int64(i+1) {
			t.Errorf("%s: %d disturbances, want %d", command, got, i+1)
		}
	}
}

// A rule of somebody else's that leads to a chain of the driver's does not keep it from working.
func TestForeignReference(t *testing.T) { eachVariant(t, testForeignReference) }

func testForeignReference(t *testing.T, variant Variant) {
	n := newNode(t, variant)
	p := packets.ManyThings()
	n.Apply(p)
	held := programChain(ingress, "np.ns.policy-7")
	n.shell("iptables -N other; iptables -A other -j " + held)
	p.Programs.Delete("np.ns.policy-7")
	for _, pod := range packets.Pods() {
		p.Endpoints.Set(packets.InterfaceOf(pod), packets.Unrestricted(pod))
	}
	n.Apply(p)
	n.Verify(packets.TCP(packets.IPv4, packets.ClientPod, packets.ServerPod, 80, true))
	n.shell("iptables -F other; iptables -X other")
	n.driver().Resync()
	n.Apply(p)
	n.SameAsFresh(p)
}

// After Remove the namespace is what it was, whatever others have done in it.
func TestRemove(t *testing.T) { eachVariant(t, testRemove) }

func testRemove(t *testing.T, variant Variant) {
	n := newNode(t, variant)
	n.shell("iptables -N other; iptables -A other -p tcp --dport 9999 -j DROP; iptables -A FORWARD -j other; iptables -t mangle -A FORWARD -j ACCEPT; ipset create other hash:ip; ipset add other 10.0.0.1")
	n.Apply(packets.NewTables()) // the kernel's tables exist afterwards
	n.Must("removing", func() error { return n.driver().Remove(t.Context()) })
	before := dump(t, n.NS, variant)
	for _, line := range before {
		if strings.Contains(line, "manul") {
			t.Errorf("left over: %s", line)
		}
	}
	p := packets.ManyThings()
	n.Apply(p)
	n.shell("iptables -A other -j " + forwardChain) // somebody else's rule must not hold it
	n.Must("removing", func() error { return Remove(t.Context()) })
	if diff := cmp.Diff(before, dump(t, n.NS, variant)); diff != "" {
		t.Errorf("after removal (-before +after):\n%s", diff)
	}
	n.Verify(packets.TCP(packets.IPv4, packets.ClientPod, packets.ServerPod, 80, true), packets.TCP(packets.IPv4, packets.ClientPod, packets.ServerPod, 9999, false))
	n.Must("removing again", func() error { return Remove(t.Context()) })
	n.driver().Resync()
	n.Apply(p)
	n.Verify(packets.TCP(packets.IPv4, packets.OtherPod, packets.ServerPod, 80, false))
}

// Where there is nothing to remove, no program is needed.
func TestRemoveNeedsNoPrograms(t *testing.T) {
	n := newNode(t, NFT)
	t.Setenv("PATH", t.TempDir())
	n.Must("removing nothing", func() error { return Remove(t.Context()) })
	n.Must("making a set", func() error {
		s, err := openIPSets()
		if err != nil {
			return err
		}
		defer s.close()
		return s.create(sourceSet(ipv4), setSpec{hashNetIface, ipv4})
	})
	n.Do(func() {
		if Remove(t.Context()) == nil {
			t.Error("something may be left, and no program is there to remove it, but there is no error")
		}
	})
}

// The kernel has no set of such a type, and iptables no such set.
func TestRefusedProgram(t *testing.T) { eachVariant(t, testRefusedProgram) }

func testRefusedProgram(t *testing.T, variant Variant) {
	packets.RefusedProgram(t, subject(variant), tables.Rule{Action: tables.Allow, Source: tables.Entity{Sets: []string{"odd"}}}, func(p *tables.Policy) {
		p.Sets.Set("odd", tables.SetType(99))
	}, "Set odd")
}

func TestBadItems(t *testing.T) { eachVariant(t, testBadItems) }

func testBadItems(t *testing.T, variant Variant) {
	n := newNode(t, variant)
	p := packets.NewTables()
	p.Endpoints.Set("eth0", packets.Unrestricted(packets.OtherPod))
	p.Endpoints.Set("cali-with-a-long-name", packets.Unrestricted(packets.OtherPod))
	p.Endpoints.Set("calic+", packets.Unrestricted(packets.OtherPod))
	p.Endpoints.Set("cali a", packets.Unrestricted(packets.OtherPod))
	p.Sets.Set("s", tables.Addresses)
	p.Members.Set(packets.Member("s", "10.0.0.0/8"), struct{}{})
	p.Sets.Set("zero", tables.Addresses)
	p.Members.Set(packets.Member("zero", "0.0.0.0/32"), struct{}{}) // the kernel's sets can't hold it
	p.Members.Set(packets.Member("zero", "10.48.0.7/32"), struct{}{})
	p.Pools.Set(netip.MustParsePrefix("10.48.0.1/16"), tables.Pool{})
	p.Programs.Set("odd", tables.Program{Ingress: []tables.Rule{{}}})
	p.Programs.Set("type", tables.Program{Ingress: []tables.Rule{{Action: tables.Allow, IPVersion: 4, ICMP: &tables.ICMP{Type: 255, Code: -1}}}})
	bad := []string{"Endpoint cali a", "Endpoint cali-with-a-long-name", "Endpoint calic+", "Endpoint eth0", "PolicyProgram odd", "PolicyProgram type", "Pool 10.48.0.1/16", "Set s", "Set zero"}
	n.WantItems(n.TryApply(p), bad...)
	// They are told of until they are good, whatever else changes.
	p.Members.Set(packets.Member("s", "10.48.0.9/32"), struct{}{})
	n.WantItems(n.TryApply(p), bad...)
	p.Endpoints.Delete("eth0")
	p.Members.Delete(packets.Member("s", "10.0.0.0/8"))
	n.WantItems(n.TryApply(p), slices.DeleteFunc(bad, func(item string) bool { return item == "Endpoint eth0" || item == "Set s" })...)
	n.Verify(packets.TCP(packets.IPv4, packets.ClientPod, packets.ServerPod, 80, true))
	if !slices.Contains(dump(t, n.NS, variant), "ipset add "+setName("zero", tables.Addresses, ipv4)+" 10.48.0.7") {
		t.Error("the good member is missing")
	}
}

// While something is unfit a change costs what it concerns: nothing is compared, and each item is told of until it is good.
func TestUnfitItemsCompareNothing(t *testing.T) { eachVariant(t, testUnfitItemsCompareNothing) }

func testUnfitItemsCompareNothing(t *testing.T, variant Variant) {
	n := newNode(t, variant)
	p := packets.NewTables()
	p.Endpoints.Set("eth0", packets.Unrestricted(packets.OtherPod))
	p.Sets.Set("s", tables.Addresses)
	p.Members.Set(packets.Member("s", "10.0.0.0/8"), struct{}{})
	p.Pools.Set(netip.MustParsePrefix("10.48.0.1/16"), tables.Pool{})
	const endpoint, pool, set = "Endpoint eth0", "Pool 10.48.0.1/16", "Set s"
	n.WantItems(n.TryApply(p), endpoint, pool, set)
	known := n.Driver.(*Driver).state
	for _, step := range []struct {
		what   string
		change func()
		want   []string
	}{
		{"a good member", func() { p.Members.Set(packets.Member("s", "10.48.0.9/32"), struct{}{}) }, []string{endpoint, pool, set}},
		{"another bad one", func() { p.Members.Set(packets.Member("s", "10.0.0.0/16"), struct{}{}) }, []string{endpoint, pool, set}},
		{"one of the two goes", func() { p.Members.Delete(packets.Member("s", "10.0.0.0/8")) }, []string{endpoint, pool, set}},
		{"so does the other", func() { p.Members.Delete(packets.Member("s", "10.0.0.0/16")) }, []string{endpoint, pool}},
		{"the endpoint changes", func() { p.Endpoints.Set("eth0", packets.Unrestricted(packets.ClientPod)) }, []string{endpoint, pool}},
		{"it goes", func() { p.Endpoints.Delete("eth0") }, []string{pool}},
		{"an endpoint has a bad prefix", func() {
			e := packets.Unrestricted(packets.OtherPod)
			e.SourcePrefixes = []netip.Prefix{netip.MustParsePrefix("10.1.2.3/8")}
			p.Endpoints.Set(packets.InterfaceOf(packets.OtherPod), e)
		}, []string{"Endpoint " + packets.InterfaceOf(packets.OtherPod), pool}},
		{"it is good again", func() { p.Endpoints.Set(packets.InterfaceOf(packets.OtherPod), packets.Unrestricted(packets.OtherPod)) }, []string{pool}},
		{"a good pool", func() { p.Pools.Set(netip.MustParsePrefix("10.49.0.0/16"), tables.Pool{}) }, []string{pool}},
		{"the pool goes", func() { p.Pools.Delete(netip.MustParsePrefix("10.48.0.1/16")) }, nil},
		{"a set has a bad member", func() { p.Members.Set(packets.Member("s", "10.0.0.0/8"), struct{}{}) }, []string{set}},
		{"it goes with its members", func() {
			p.Sets.Delete("s")
			p.Members.Delete(packets.Member("s", "10.0.0.0/8"))
			p.Members.Delete(packets.Member("s", "10.48.0.9/32"))
		}, nil},
	} {
		t.Log(step.what)
		step.change()
		n.WantItems(n.TryApply(p), step.want...)
	}
	if n.Driver.(*Driver).state != known {
		t.Error("everything was compared")
	}
}
