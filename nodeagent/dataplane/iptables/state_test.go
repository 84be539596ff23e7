package iptables

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/test/netns"
)

// onlyFrom makes tables in which the server takes TCP from members of a set only.
func onlyFrom(set string, typ tables.SetType) *tables.Policy {
	p := newTables()
	p.Sets.Set(set, typ)
	p.Programs.Set("in", tables.Program{Ingress: []tables.Rule{{Action: tables.Allow, Protocol: protoTCP, Source: tables.Entity{Sets: []string{set}}}}})
	e := unrestricted(serverPod)
	e.Ingress = []tables.Tier{tier(tables.Deny, "in")}
	p.Endpoints.Set(interfaceOf(serverPod), e)
	return p
}

func member(set, cidr string) tables.Member {
	return tables.Member{Set: set, Prefix: netip.MustParsePrefix(cidr)}
}

func TestMembersComeAndGo(t *testing.T) { eachVariant(t, testMembersComeAndGo) }

func testMembersComeAndGo(t *testing.T, variant Variant) {
	n := newNode(t, variant)
	p := onlyFrom("s", tables.Addresses)
	n.apply(p)
	expect := func(client, other bool) {
		t.Helper()
		n.verify(both(func(f family) []probe {
			return []probe{tcp(f, clientPod, serverPod, 80, client), tcp(f, otherPod, serverPod, 80, other)}
		})...)
		n.sameAsFresh(p)
	}
	set := func(pod string, in bool) {
		for fam := range families {
			if m := addressMember("s", addresses[pod][fam]); in {
				p.Members.Set(m, struct{}{})
			} else {
				p.Members.Delete(m)
			}
		}
	}
	expect(false, false)
	set(clientPod, true)
	n.apply(p)
	expect(true, false)
	set(clientPod, false)
	set(otherPod, true)
	n.apply(p)
	expect(false, true)
	set(clientPod, true) // there and gone before anyone looks
	set(clientPod, false)
	set(otherPod, false)
	set(otherPod, true)
	n.apply(p)
	expect(false, true)
}

// A member of a set of CIDRs may lie within another, come before or after it, and stay when the other goes.
func TestOverlappingNets(t *testing.T) { eachVariant(t, testOverlappingNets) }

func testOverlappingNets(t *testing.T, variant Variant) {
	n := newNode(t, variant)
	p := onlyFrom("s", tables.Nets)
	for _, step := range []struct {
		add, remove   []string
		client, other bool // 10.48.0.1 and 10.48.0.3
	}{
		{add: []string{"10.48.0.1/32"}, client: true},
		{add: []string{"10.48.0.0/16"}, client: true, other: true},
		{add: []string{"10.48.0.0/24", "10.48.0.2/31"}, client: true, other: true},
		{remove: []string{"10.48.0.0/16"}, client: true, other: true},
		{remove: []string{"10.48.0.0/24"}, client: true, other: true},
		{remove: []string{"10.48.0.1/32"}, other: true},
		{add: []string{"0.0.0.0/0", "10.48.0.1/32"}, remove: []string{"10.48.0.2/31"}, client: true, other: true},
		{add: []string{"10.48.0.3/32"}, remove: []string{"0.0.0.0/0"}, client: true, other: true},
		{add: []string{"240.0.0.0/4", "255.255.255.255/32"}, remove: []string{"10.48.0.1/32"}, other: true},
		{add: []string{"0.0.0.0/1", "128.0.0.0/1"}, remove: []string{"240.0.0.0/4", "10.48.0.3/32"}, client: true, other: true},
		{add: []string{"0.0.0.0/0"}, client: true, other: true},
		{remove: []string{"0.0.0.0/1"}, client: true, other: true}, // its half of all addresses stays
		{add: []string{"0.0.0.0/1"}, remove: []string{"0.0.0.0/0"}, client: true, other: true},
		{remove: []string{"0.0.0.0/1", "128.0.0.0/1", "255.255.255.255/32"}},
	} {
		for _, cidr := range step.add {
			p.Members.Set(member("s", cidr), struct{}{})
		}
		for _, cidr := range step.remove {
			p.Members.Delete(member("s", cidr))
		}
		n.apply(p)
		n.verify(tcp(ipv4, clientPod, serverPod, 80, step.client), tcp(ipv4, otherPod, serverPod, 80, step.other))
		n.sameAsFresh(p)
	}
}

// A set may change its type; members that wait for their set come with it.
func TestSetsChange(t *testing.T) { eachVariant(t, testSetsChange) }

func testSetsChange(t *testing.T, variant Variant) {
	n := newNode(t, variant)
	p := onlyFrom("s", tables.Addresses)
	p.Members.Set(member("s", "10.48.0.1/32"), struct{}{})
	n.apply(p)
	n.verify(tcp(ipv4, clientPod, serverPod, 80, true), tcp(ipv4, otherPod, serverPod, 80, false))

	p.Sets.Set("s", tables.Nets)
	p.Members.Set(member("s", "10.48.0.2/31"), struct{}{})
	n.apply(p)
	n.verify(tcp(ipv4, clientPod, serverPod, 80, true), tcp(ipv4, otherPod, serverPod, 80, true))
	n.sameAsFresh(p)

	p.Members.Delete(member("s", "10.48.0.2/31"))
	p.Sets.Set("s", tables.Addresses)
	p.Members.Set(member("later", "10.48.0.3/32"), struct{}{}) // its set does not exist yet
	n.apply(p)
	n.verify(tcp(ipv4, clientPod, serverPod, 80, true), tcp(ipv4, otherPod, serverPod, 80, false))

	p.Sets.Set("later", tables.Addresses)
	p.Programs.Set("in", tables.Program{Ingress: []tables.Rule{{Action: tables.Allow, Source: tables.Entity{Sets: []string{"later"}}}}})
	p.Sets.Delete("s") // its members stay in the table
	n.apply(p)
	n.verify(tcp(ipv4, clientPod, serverPod, 80, false), tcp(ipv4, otherPod, serverPod, 80, true))
	n.sameAsFresh(p)

	p.Sets.Set("s", tables.Addresses)
	p.Programs.Set("in", tables.Program{Ingress: []tables.Rule{{Action: tables.Allow, Source: tables.Entity{Sets: []string{"s"}}}}})
	n.apply(p)
	n.verify(tcp(ipv4, clientPod, serverPod, 80, true), tcp(ipv4, otherPod, serverPod, 80, false))
	n.sameAsFresh(p)
}

// sameAsFresh checks that the kernel is what a fresh driver makes of the same tables.
func (n *node) sameAsFresh(p *tables.Policy) {
	n.t.Helper()
	ns := netns.New(n.t)
	defer ns.Close()
	n.settle(p)
	want := freshDump(n.t, ns, n.variant, p)
	if diff := cmp.Diff(want, dump(n.t, n.NS, n.variant)); diff != "" {
		n.t.Fatalf("the kernel is not what a fresh driver makes (-fresh +got):\n%s", diff)
	}
}

// settle applies until the kernel has let go of sets that nothing names any more.
func (n *node) settle(p *tables.Policy) {
	n.t.Helper()
	for len(n.driver.state.leftovers) > 0 {
		if n.t.Context().Err() != nil {
			n.t.Fatal("sets stay")
		}
		n.apply(p)
	}
}

func freshDump(t testing.TB, ns *netns.NS, variant Variant, p *tables.Policy) []string {
	t.Helper()
	d := openIn(t, ns, variant)
	defer d.Close()
	ns.Do(func() { _ = d.Apply(t.Context(), p) }) // refused items are no matter here
	return dump(t, ns, variant)
}

func openIn(t testing.TB, ns *netns.NS, variant Variant) *Driver {
	t.Helper()
	var d *Driver
	ns.Must("opening a driver", func() error {
		var err error
		d, err = New(Options{WorkloadPrefix: testPrefix, Variant: variant})
		return err
	})
	return d
}

// manyThings are tables with something of everything.
func manyThings() *tables.Policy {
	p := newTables()
	addSets(p)
	for i := range 20 {
		p.Programs.Set(fmt.Sprintf("np.ns.policy-%d", i), tables.Program{
			Ingress: []tables.Rule{{Action: tables.Allow, Protocol: protoTCP, Source: tables.Entity{Sets: []string{clientSet}, Nets: prefixes("10.48.0.0/30", "fd00:48::/64", "10.50.0.0/16")}, Destination: tables.Entity{Ports: ports(80, uint16(1000+i)), PortSets: []string{portsSet}}}},
			Egress:  []tables.Rule{{Action: tables.Pass, Source: tables.Entity{NotSets: []string{netSet}}}, {Action: tables.Deny}},
		})
	}
	for i, pod := range pods() {
		e := unrestricted(pod)
		e.Ingress = []tables.Tier{tier(tables.Pass, fmt.Sprintf("np.ns.policy-%d", i)), tier(tables.Deny, "np.ns.policy-7", "np.ns.policy-8")}
		e.Egress = []tables.Tier{tier(tables.Deny, "np.ns.policy-9")}
		p.Endpoints.Set(interfaceOf(pod), e)
	}
	for i := range 40 {
		p.Endpoints.Set(fmt.Sprintf("cali%x", i*0x1f351%0xfffff), tables.Endpoint{Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 48, 1, byte(i)})}})
	}
	p.Pools.Set(netip.MustParsePrefix("10.48.0.0/16"), tables.Pool{NATOutgoing: true})
	p.Pools.Set(netip.MustParsePrefix("fd00:48::/48"), tables.Pool{})
	return p
}

// A restart changes no rule that is right, drops no connection, and removes what is left over.
func TestRestart(t *testing.T) { eachVariant(t, testRestart) }

func testRestart(t *testing.T, variant Variant) {
	n := newNode(t, variant)
	p := manyThings()
	n.apply(p)
	to := netip.AddrPortFrom(addresses[serverPod][ipv4], 80)
	echo := n.peers[serverPod].Echo(to)
	connection := n.peers[clientPod].Connect(to)
	connection.Exchange("before")
	before := n.counted()

	n.reopen()
	n.driver.programs.restore = [families]string{"false", "false"} // there is nothing to change
	n.apply(manyThings())
	if diff := cmp.Diff(before, n.counted()); diff != "" {
		t.Errorf("the restart changed something (-before +after):\n%s", diff)
	}
	connection.Exchange("after")
	connection.Close()
	echo.Close()

	n.reopen()
	p = manyThings()
	p.Programs.Delete("np.ns.policy-19")
	p.Programs.Set("np.ns.policy-18", tables.Program{Ingress: []tables.Rule{{Action: tables.Deny}}})
	p.Endpoints.Delete(interfaceOf(otherPod))
	p.Members.Delete(addressMember(clientSet, addresses[clientPod][ipv4]))
	p.Sets.Set("new", tables.Nets)
	p.Members.Set(member("new", "10.0.0.0/8"), struct{}{})
	p.Members.Set(member(netSet, "203.0.113.0/24"), struct{}{})
	p.Pools.Delete(netip.MustParsePrefix("fd00:48::/48"))
	n.apply(p)
	n.sameAsFresh(p)
}

// What changes in sets alone runs no program.
func TestSetsChangeWithoutPrograms(t *testing.T) { eachVariant(t, testSetsChangeWithoutPrograms) }

func testSetsChangeWithoutPrograms(t *testing.T, variant Variant) {
	n := newNode(t, variant)
	p := manyThings()
	n.apply(p)
	run := n.driver.programs
	n.driver.programs = programs{variant: variant, monitor: run.monitor, save: [families]string{"false", "false"}, restore: [families]string{"false", "false"}}
	p.Members.Delete(addressMember(clientSet, addresses[clientPod][ipv4]))
	p.Members.Set(addressMember(clientSet, addresses[otherPod][ipv6]), struct{}{})
	p.Members.Set(member(netSet, "203.0.113.0/24"), struct{}{})
	p.Pools.Set(netip.MustParsePrefix("10.50.0.0/16"), tables.Pool{})
	p.Pools.Set(netip.MustParsePrefix("10.48.0.0/16"), tables.Pool{})
	p.Sets.Set("unused", tables.Nets)
	p.Members.Set(member("unused", "10.0.0.0/8"), struct{}{})
	e, _ := p.Endpoints.Get(interfaceOf(otherPod))
	e.Addresses = append(e.Addresses, netip.MustParseAddr("10.48.0.99"))
	p.Endpoints.Set(interfaceOf(otherPod), e)
	n.apply(p)
	n.driver.programs = run
	n.sameAsFresh(p)
}

// Rules that an earlier process made by the other variant go once those of the chosen one are in force.
func TestChangeOfVariant(t *testing.T) { eachVariant(t, testChangeOfVariant) }

func testChangeOfVariant(t *testing.T, variant Variant) {
	other := map[Variant]Variant{NFT: Legacy, Legacy: NFT}[variant]
	n := newNode(t, other)
	p := manyThings()
	n.apply(p)
	n.verify(tcp(ipv4, outside, clientPod, 80, false))
	n.variant = variant
	n.reopen()
	n.apply(newTables())
	for _, line := range dump(t, n.NS, other) {
		if !strings.HasPrefix(line, "ipset") && strings.Contains(line, "manul") {
			t.Errorf("left over: %s", line)
		}
	}
	n.verify(tcp(ipv4, outside, clientPod, 80, true))
}

// counted is the dump and, for the nft variant, the handles of rules, which a rewritten rule does not keep.
func (n *node) counted() []string {
	n.t.Helper()
	lines := dump(n.t, n.NS, n.variant)
	if n.variant == NFT {
		for line := range strings.Lines(output(n.t, n.NS, "nft", "-a", "-n", "list", "ruleset")) {
			if !strings.Contains(line, "counter") && !strings.Contains(line, "timeout") {
				lines = append(lines, line)
			}
		}
	}
	return lines
}

// What others do to the driver's rules and sets is undone when everything is compared; theirs are left alone.
func TestForeignChanges(t *testing.T) { eachVariant(t, testForeignChanges) }

func testForeignChanges(t *testing.T, variant Variant) {
	ours := programChain(ingress, "np.ns.policy-7")
	clients, networks := setName(clientSet, tables.Addresses, ipv4), setName(netSet, tables.Nets, ipv4)
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
				n.wantChange() // of FORWARD
			}
			p := manyThings()
			n.apply(p)
			n.verify(tcp(ipv4, otherPod, outside, 80, true))
			want := dump(t, n.NS, variant)
			n.shell("iptables -A other -p tcp --dport 9998 -j DROP; iptables -D other 2; iptables -t mangle -A FORWARD -j ACCEPT; iptables -t mangle -D FORWARD 1")
			n.wantNoChange() // neither by the driver nor by what is none of its business
			n.shell(command)
			if slices.Equal(want, dump(t, n.NS, variant)) {
				t.Fatal("the command changed nothing")
			}
			if variant == NFT && !strings.Contains(command, "ipset") {
				n.wantChange()
			} else {
				n.driver.Resync()
			}
			n.apply(p)
			n.settle(p)
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
			n.verify(tcp(ipv4, otherPod, outside, 80, true))
		})
	}
}

func (n *node) wantChange() {
	n.t.Helper()
	select {
	case <-n.driver.Changed():
	case <-time.After(5 * time.Second):
		n.t.Fatal("the driver does not notice the change")
	}
}

func (n *node) wantNoChange() {
	n.t.Helper()
	select {
	case <-n.driver.Changed():
		n.t.Error("the driver notices a foreign change where there is none")
	case <-time.After(20 * time.Millisecond):
	}
}

// A rule of somebody else's that leads to a chain of the driver's does not keep it from working.
func TestForeignReference(t *testing.T) { eachVariant(t, testForeignReference) }

func testForeignReference(t *testing.T, variant Variant) {
	n := newNode(t, variant)
	p := manyThings()
	n.apply(p)
	held := programChain(ingress, "np.ns.policy-7")
	n.shell("iptables -N other; iptables -A other -j " + held)
	p.Programs.Delete("np.ns.policy-7")
	for _, pod := range pods() {
		p.Endpoints.Set(interfaceOf(pod), unrestricted(pod))
	}
	n.apply(p)
	n.verify(tcp(ipv4, clientPod, serverPod, 80, true))
	n.shell("iptables -F other; iptables -X other")
	n.driver.Resync()
	n.apply(p)
	n.sameAsFresh(p)
}

// shell runs a command in the node, with iptables and ip6tables of the variant.
func (n *node) shell(command string) string {
	n.t.Helper()
	aliases := fmt.Sprintf("iptables() { iptables-%s -w 30 \"$@\"; }; ip6tables() { ip6tables-%s -w 30 \"$@\"; }; ", n.variant, n.variant)
	var out []byte
	n.Must(command, func() error {
		var err error
		if out, err = exec.Command("sh", "-ec", aliases+command).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	return string(out)
}

// After Remove the namespace is what it was, whatever others have done in it.
func TestRemove(t *testing.T) { eachVariant(t, testRemove) }

func testRemove(t *testing.T, variant Variant) {
	n := newNode(t, variant)
	n.shell("iptables -N other; iptables -A other -p tcp --dport 9999 -j DROP; iptables -A FORWARD -j other; iptables -t mangle -A FORWARD -j ACCEPT; ipset create other hash:ip; ipset add other 10.0.0.1")
	n.apply(newTables()) // the kernel's tables exist afterwards
	n.Must("removing", func() error { return n.driver.Remove(t.Context()) })
	before := dump(t, n.NS, variant)
	for _, line := range before {
		if strings.Contains(line, "manul") {
			t.Errorf("left over: %s", line)
		}
	}
	p := manyThings()
	n.apply(p)
	n.shell("iptables -A other -j " + forwardChain) // somebody else's rule must not hold it
	n.Must("removing", func() error { return Remove(t.Context()) })
	if diff := cmp.Diff(before, dump(t, n.NS, variant)); diff != "" {
		t.Errorf("after removal (-before +after):\n%s", diff)
	}
	n.verify(tcp(ipv4, clientPod, serverPod, 80, true), tcp(ipv4, clientPod, serverPod, 9999, false))
	n.Must("removing again", func() error { return Remove(t.Context()) })
	n.driver.Resync()
	n.apply(p)
	n.verify(tcp(ipv4, otherPod, serverPod, 80, false))
}

// One program that the kernel refuses does not keep others from being in force. It stays in its previous form; where
// there is none, what needs it drops.
func TestRefusedProgram(t *testing.T) { eachVariant(t, testRefusedProgram) }

func testRefusedProgram(t *testing.T, variant Variant) {
	n := newNode(t, variant)
	p := newTables()
	addSets(p)
	p.Sets.Set("odd", tables.SetType(99)) // the kernel has no such type, and iptables no such set
	good := tables.Program{Ingress: []tables.Rule{rule(tables.Allow, protoTCP, 80)}}
	bad := tables.Program{Ingress: []tables.Rule{{Action: tables.Allow, Source: tables.Entity{Sets: []string{"odd"}}}}}
	incomplete := tables.Program{Ingress: []tables.Rule{{Action: tables.Allow, Source: tables.Entity{Sets: []string{"no-such-set"}}}}}
	server, client := unrestricted(serverPod), unrestricted(clientPod)
	server.Ingress = []tables.Tier{tier(tables.Deny, "p")}
	client.Ingress = []tables.Tier{tier(tables.Pass, "q")}
	p.Programs.Set("p", good)
	p.Endpoints.Set(interfaceOf(serverPod), server)
	n.wantItems(n.tryApply(p), "Set odd")

	for name, wrong := range map[string]tables.Program{"refused by the kernel": bad, "names a set that is not": incomplete} {
		t.Run(name, func(t *testing.T) {
			p.Programs.Set("p", wrong)
			p.Programs.Set("q", wrong)
			p.Programs.Set("r", tables.Program{Ingress: []tables.Rule{rule(tables.Deny, protoTCP, 81)}})
			p.Endpoints.Set(interfaceOf(clientPod), client)
			other := unrestricted(otherPod)
			other.Ingress = []tables.Tier{tier(tables.Pass, "r")}
			p.Endpoints.Set(interfaceOf(otherPod), other)
			check := func() {
				t.Helper()
				n.driver.Resync() // Set odd is reported whenever everything is compared
				n.wantItems(n.tryApply(p), "PolicyProgram p", "PolicyProgram q", "Set odd")
				n.verify(
					tcp(ipv4, clientPod, serverPod, 80, true), tcp(ipv4, clientPod, serverPod, 81, false), // the previous form
					tcp(ipv4, serverPod, clientPod, 80, false),                                          // there was none: fail closed
					tcp(ipv4, serverPod, otherPod, 81, false), tcp(ipv4, serverPod, otherPod, 80, true), // in force
				)
			}
			check()
			p.Members.Set(addressMember(clientSet, addresses[otherPod][ipv4]), struct{}{})
			n.wantItems(n.tryApply(p), "PolicyProgram p", "PolicyProgram q") // an unrelated change
			check()
			n.reopen()
			check() // a restart
			p.Programs.Set("p", good)
			p.Programs.Set("q", good)
			n.apply(p)
			n.verify(tcp(ipv4, serverPod, clientPod, 80, true))
			p.Endpoints.Set(interfaceOf(clientPod), unrestricted(clientPod))
			p.Programs.Delete("q")
			p.Programs.Delete("r")
			p.Endpoints.Set(interfaceOf(otherPod), unrestricted(otherPod))
			n.apply(p)
		})
	}
}

// wantItems checks which items an error is about.
func (n *node) wantItems(err error, want ...string) {
	n.t.Helper()
	var got []string
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		n.t.Fatalf("Apply = %v, want joined errors about %v", err, want)
	}
	for _, e := range joined.Unwrap() {
		var item *tables.ItemError
		if !errors.As(e, &item) {
			n.t.Fatalf("Apply = %v, want errors about items only", err)
		}
		got = append(got, item.Kind+" "+item.Name)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		n.t.Errorf("items in error (-want +got):\n%s", diff)
	}
}

func TestBadItems(t *testing.T) { eachVariant(t, testBadItems) }

func testBadItems(t *testing.T, variant Variant) {
	n := newNode(t, variant)
	p := newTables()
	p.Endpoints.Set("eth0", unrestricted(otherPod))
	p.Endpoints.Set("cali-with-a-long-name", unrestricted(otherPod))
	p.Endpoints.Set("calic+", unrestricted(otherPod))
	p.Endpoints.Set("cali a", unrestricted(otherPod))
	p.Sets.Set("s", tables.Addresses)
	p.Members.Set(member("s", "10.0.0.0/8"), struct{}{})
	p.Sets.Set("zero", tables.Addresses)
	p.Members.Set(member("zero", "0.0.0.0/32"), struct{}{}) // the kernel's sets can't hold it
	p.Members.Set(member("zero", "10.48.0.7/32"), struct{}{})
	p.Pools.Set(netip.MustParsePrefix("10.48.0.1/16"), tables.Pool{})
	p.Programs.Set("odd", tables.Program{Ingress: []tables.Rule{{}}})
	p.Programs.Set("type", tables.Program{Ingress: []tables.Rule{{Action: tables.Allow, IPVersion: 4, ICMP: &tables.ICMP{Type: 255, Code: -1}}}})
	n.wantItems(n.tryApply(p), "Endpoint cali a", "Endpoint cali-with-a-long-name", "Endpoint calic+", "Endpoint eth0", "PolicyProgram odd", "PolicyProgram type", "Pool 10.48.0.1/16", "Set s", "Set zero")
	n.verify(tcp(ipv4, clientPod, serverPod, 80, true))
	if !slices.Contains(dump(t, n.NS, variant), "ipset add "+setName("zero", tables.Addresses, ipv4)+" 10.48.0.7") {
		t.Error("the good member is missing")
	}
}

func TestApplyEndsWithItsContext(t *testing.T) { eachVariant(t, testApplyEndsWithItsContext) }

func testApplyEndsWithItsContext(t *testing.T, variant Variant) {
	n := newNode(t, variant)
	p := newTables()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var err error
	n.Do(func() { err = n.driver.Apply(ctx, p) })
	if !errors.Is(err, context.Canceled) || !p.HasDirty() {
		t.Errorf("Apply = %v, dirty %v; want it canceled with the tables still dirty", err, p.HasDirty())
	}
	n.apply(p)
}

// At no time may a packet see half of an old and half of a new state: while policies that all let one flow through
// follow each other, none of its packets may be lost; and one that none of them lets through must never pass.
func TestAtomic(t *testing.T) { eachVariant(t, testAtomic) }

func testAtomic(t *testing.T, variant Variant) {
	n := newNode(t, variant)
	p := newTables()
	states := []func(){
		func() { // by address
			p.Sets.Set("a", tables.Addresses)
			p.Members.Set(addressMember("a", addresses[clientPod][ipv4]), struct{}{})
			p.Programs.Set("p", tables.Program{Ingress: []tables.Rule{{Action: tables.Deny, Protocol: protoUDP, Destination: tables.Entity{Ports: ports(54)}}, {Action: tables.Allow, Source: tables.Entity{Sets: []string{"a"}}}}})
			p.Members.Delete(addressMember("b", addresses[clientPod][ipv4]))
			p.Sets.Delete("b")
			n.tiers(p, tier(tables.Deny, "p"))
		},
		func() { // by another set, in another order of tiers
			p.Sets.Set("b", tables.Nets)
			p.Members.Set(addressMember("b", addresses[clientPod][ipv4]), struct{}{})
			p.Programs.Set("p", tables.Program{Ingress: []tables.Rule{{Action: tables.Pass, Source: tables.Entity{Sets: []string{"b"}}}}})
			p.Programs.Set("q", tables.Program{Ingress: []tables.Rule{rule(tables.Deny, protoUDP, 54), {Action: tables.Allow, Protocol: protoUDP}}})
			p.Members.Delete(addressMember("a", addresses[clientPod][ipv4]))
			p.Sets.Delete("a")
			n.tiers(p, tier(tables.Deny, "p"), tier(tables.Deny, "q"))
		},
		func() { // by CIDRs and a port
			p.Programs.Set("r", tables.Program{Ingress: []tables.Rule{{Action: tables.Allow, Protocol: protoUDP, Source: nets("10.48.0.0/24", "192.0.2.0/24"), Destination: tables.Entity{Ports: ports(53)}}}})
			p.Programs.Delete("p")
			p.Programs.Delete("q")
			n.tiers(p, tier(tables.Deny, "r"))
		},
	}
	states[0]()
	n.apply(p)
	var stop atomic.Bool
	var sender sync.WaitGroup
	sender.Go(func() {
		other := &node{NS: n.NS, t: t, peers: n.peers, port: 40000}
		for !stop.Load() {
			var probes []probe
			for range 40 {
				probes = append(probes, udp(ipv4, clientPod, serverPod, 53, true), udp(ipv4, clientPod, serverPod, 54, false))
			}
			other.verify(probes...)
		}
	})
	for i := range 45 {
		states[(i+1)%len(states)]()
		n.apply(p)
	}
	stop.Store(true)
	sender.Wait()
}

func (n *node) tiers(p *tables.Policy, tiers ...tables.Tier) {
	e := unrestricted(serverPod)
	e.Ingress = tiers
	p.Endpoints.Set(interfaceOf(serverPod), e)
}
