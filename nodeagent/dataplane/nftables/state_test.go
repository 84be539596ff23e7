package nftables

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/test/netns"
)

// onlyFrom makes tables in which the server takes TCP 80 from members of a set only.
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

func TestMembersComeAndGo(t *testing.T) {
	n := newNode(t)
	p := onlyFrom("s", tables.Addresses)
	n.apply(p)
	expect := func(client, other bool) {
		t.Helper()
		n.verify(both(func(f family) []probe {
			return []probe{tcp(f, clientPod, serverPod, 80, client), tcp(f, otherPod, serverPod, 80, other)}
		})...)
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
func TestOverlappingNets(t *testing.T) {
	n := newNode(t)
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
func TestSetsChange(t *testing.T) {
	n := newNode(t)
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

// sameAsFresh checks that the kernel is what a fresh driver makes of the same tables, and that a restarted driver finds
// nothing to do.
func (n *node) sameAsFresh(p *tables.Policy) {
	n.t.Helper()
	ns := netns.New(n.t)
	defer ns.Close()
	want := freshDump(n.t, ns, p)
	if diff := cmp.Diff(want, dump(n.t, n.NS, false)); diff != "" {
		n.t.Fatalf("the kernel is not what a fresh driver makes (-fresh +got):\n%s", diff)
	}
}

func freshDump(t testing.TB, ns *netns.NS, p *tables.Policy) []string {
	t.Helper()
	var d *Driver
	ns.Must("opening a fresh driver", func() error {
		var err error
		d, err = New(Options{WorkloadPrefix: testPrefix})
		return err
	})
	defer d.Close()
	_ = d.Apply(t.Context(), p) // refused items are no matter here
	return dump(t, ns, false)
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
	p.Pools.Set(netip.MustParsePrefix("10.48.0.0/16"), tables.Pool{NATOutgoing: true})
	p.Pools.Set(netip.MustParsePrefix("fd00:48::/48"), tables.Pool{})
	return p
}

// A restart changes no rule that is right, drops no connection, and removes what is left over.
func TestRestart(t *testing.T) {
	n := newNode(t)
	p := manyThings()
	n.apply(p)
	to := netip.AddrPortFrom(addresses[serverPod][ipv4], 80)
	echo := n.peers[serverPod].Echo(to)
	connection := n.peers[clientPod].Connect(to)
	connection.Exchange("before")
	before := dump(t, n.NS, true)

	n.reopen()
	n.apply(manyThings())
	if diff := cmp.Diff(before, dump(t, n.NS, true)); diff != "" {
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
	touched := 0
	after := dump(t, n.NS, true)
	for _, line := range before {
		if strings.HasPrefix(line, "rule") && !slices.Contains(after, line) {
			touched++
			if !strings.Contains(line, "policy-18") && !strings.Contains(line, "policy-19") && !strings.Contains(line, "policy-2\"") && !strings.Contains(line, "rule ti-") && !strings.Contains(line, "rule li-") {
				t.Errorf("the restart touched %s", line)
			}
		}
	}
	if touched == 0 {
		t.Error("nothing was touched")
	}
}

// What others do to the table is noticed and undone; other tables are left alone.
func TestForeignChanges(t *testing.T) {
	for name, command := range map[string]string{
		"a rule deleted":          "delete rule inet manul forward-egress handle $(nft -a list chain inet manul forward-egress | sed -n 's/.*vmap.*handle //p')",
		"a rule added":            "insert rule inet manul forward-egress accept",
		"a chain flushed":         "flush chain inet manul pi-np.ns.policy-7",
		"an element added":        "add element inet manul a4-clients { 203.0.113.7 }",
		"an element deleted":      "delete element inet manul a4-clients { 10.48.0.1 }",
		"an interval added":       "add element inet manul n4-networks { 203.0.113.0/24 }",
		"dispatch changed":        "delete element inet manul egress { \"caliclient\" }",
		"a chain added":           "add chain inet manul foreign",
		"a base chain added":      "add chain inet manul foreign { type filter hook input priority 0; policy drop; }",
		"a set added":             "add set inet manul foreign { type ipv4_addr; }",
		"the table deleted":       "delete table inet manul",
		"everything deleted":      "flush ruleset",
		"all rules deleted":       "flush table inet manul",
		"the table made asleep":   "add table inet manul { flags dormant; }",
		"a set of another type":   "delete table inet manul; nft add table inet manul; nft add set inet manul a4-clients { type ipv4_addr . inet_service; }",
		"a chain of another hook": "delete table inet manul; nft add table inet manul; nft add chain inet manul prerouting { type filter hook output priority 0; policy drop; }",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			n.shell("nft add table ip other; nft add chain ip other c; nft add rule ip other c accept")
			p := manyThings()
			n.apply(p)
			want := dump(t, n.NS, false)
			n.noChange()
			n.shell("nft add rule ip other c drop")
			n.noChange() // none of our business

			n.shell("nft '" + strings.ReplaceAll(strings.ReplaceAll(command, "; nft ", "'; nft '"), "$(", "'$(") + closing(command))
			select {
			case <-n.driver.Changed():
			case <-time.After(3 * time.Second):
				t.Fatal("the driver does not notice")
			}
			n.apply(p)
			if diff := cmp.Diff(want, dump(t, n.NS, false)); diff != "" {
				t.Errorf("not undone (-want +got):\n%s", diff)
			}
			if name != "everything deleted" && !strings.Contains(n.shell("nft list ruleset"), "table ip other") {
				t.Error("another table is gone")
			}
		})
	}
}

// closing is the quote that ends a command which does not end in a substitution.
func closing(command string) string {
	if strings.HasSuffix(command, ")") {
		return ""
	}
	return "'"
}

func (n *node) shell(command string) string {
	n.t.Helper()
	var out []byte
	n.Must(command, func() error {
		var err error
		if out, err = exec.Command("sh", "-ec", command).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	return string(out)
}

func (n *node) noChange() {
	n.t.Helper()
	select {
	case <-n.driver.Changed():
		n.t.Error("the driver notices a foreign change where there is none")
	case <-time.After(20 * time.Millisecond):
	}
}

// One program that the kernel refuses does not keep others from being in force. It stays in its previous form; where
// there is none, what needs it drops.
func TestRefusedProgram(t *testing.T) {
	n := newNode(t)
	p := newTables()
	addSets(p)
	good := tables.Program{Ingress: []tables.Rule{rule(tables.Allow, protoTCP, 80)}}
	// The key of the set is not an address: the kernel refuses the look-up.
	bad := tables.Program{Ingress: []tables.Rule{{Action: tables.Allow, Source: tables.Entity{Sets: []string{portsSet}}}}}
	incomplete := tables.Program{Ingress: []tables.Rule{{Action: tables.Allow, Source: tables.Entity{Sets: []string{"no-such-set"}}}}}
	p.Programs.Set("p", good)
	server, client := unrestricted(serverPod), unrestricted(clientPod)
	server.Ingress = []tables.Tier{tier(tables.Deny, "p")}
	client.Ingress = []tables.Tier{tier(tables.Pass, "q")}
	p.Endpoints.Set(interfaceOf(serverPod), server)
	n.apply(p)

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
				n.wantItems(n.driver.Apply(t.Context(), p), "PolicyProgram p", "PolicyProgram q")
				n.verify(
					tcp(ipv4, clientPod, serverPod, 80, true), tcp(ipv4, clientPod, serverPod, 81, false), // the previous form
					tcp(ipv4, serverPod, clientPod, 80, false),                                          // there was none: fail closed
					tcp(ipv4, serverPod, otherPod, 81, false), tcp(ipv4, serverPod, otherPod, 80, true), // in force
				)
			}
			check()
			p.Members.Set(addressMember(clientSet, addresses[otherPod][ipv4]), struct{}{})
			check() // an unrelated change
			n.reopen()
			check() // a restart
			p.Programs.Set("p", good)
			p.Programs.Set("q", good)
			n.apply(p)
			n.verify(tcp(ipv4, serverPod, clientPod, 80, true))
			n.sameAsFresh(p)
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

func TestBadItems(t *testing.T) {
	n := newNode(t)
	p := newTables()
	p.Endpoints.Set("eth0", unrestricted(otherPod))
	p.Endpoints.Set("cali-with-a-long-name", unrestricted(otherPod))
	p.Sets.Set("s", tables.Addresses)
	p.Members.Set(member("s", "10.0.0.0/8"), struct{}{})
	p.Pools.Set(netip.MustParsePrefix("10.48.0.1/16"), tables.Pool{})
	p.Programs.Set("odd", tables.Program{Ingress: []tables.Rule{{}}})
	n.wantItems(n.driver.Apply(t.Context(), p), "Endpoint cali-with-a-long-name", "Endpoint eth0", "PolicyProgram odd", "Pool 10.48.0.1/16", "Set s")
	n.verify(tcp(ipv4, clientPod, serverPod, 80, true))
}

func TestApplyEndsWithItsContext(t *testing.T) {
	n := newNode(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := newTables()
	if err := n.driver.Apply(ctx, p); !errors.Is(err, context.Canceled) {
		t.Errorf("Apply = %v, want %v", err, context.Canceled)
	}
	if !p.HasDirty() {
		t.Error("the tables are clean, but nothing was done")
	}
	n.apply(p)
	n.verify(tcp(ipv4, clientPod, serverPod, 80, true))
}

// While a policy is rewritten over and over, a peer that all its forms deny gets not one packet through, and one that
// all allow loses none.
func TestAtomicity(t *testing.T) {
	n := newNode(t)
	p := newTables()
	addSets(p)
	forms := [][]tables.Rule{
		{{Action: tables.Deny, Source: tables.Entity{Sets: []string{clientSet}}}, {Action: tables.Allow}},
		{{Action: tables.Allow, Source: nets("10.48.0.2/31", "fd00:48::2/127")}},
		{{Action: tables.Pass, Protocol: protoTCP}, {Action: tables.Allow, Source: tables.Entity{NotSets: []string{clientSet}}}, {Action: tables.Deny}},
		{{Action: tables.Deny, Source: nets("10.48.0.1/32", "fd00:48::1/128")}, {Action: tables.Allow, Protocol: protoUDP}},
	}
	lists := [][]tables.Tier{{tier(tables.Deny, "in")}, {tier(tables.Pass, "none"), tier(tables.Deny, "in", "none")}}
	p.Programs.Set("none", tables.Program{})
	set := func(i int) {
		p.Programs.Set("in", tables.Program{Ingress: forms[i%len(forms)]})
		e := unrestricted(serverPod)
		e.Ingress = lists[i/3%len(lists)]
		p.Endpoints.Set(interfaceOf(serverPod), e)
	}
	set(0)
	n.apply(p)

	stop := make(chan struct{})
	var senders sync.WaitGroup
	var denied, allowed netns.Flood
	server := n.peers[serverPod].CountUDP(netip.AddrPortFrom(addresses[serverPod][ipv4], 53))
	for _, flood := range []struct {
		from  string
		count *netns.Flood
	}{{clientPod, &denied}, {otherPod, &allowed}} {
		senders.Go(func() { flood.count.Run(n.peers[flood.from], netip.AddrPortFrom(addresses[serverPod][ipv4], 53), stop) })
	}
	rewrites := 0
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); rewrites++ {
		set(rewrites)
		if rewrites%50 == 49 {
			n.driver.Resync()
		}
		n.apply(p)
	}
	close(stop)
	senders.Wait()
	fromClient, fromOther := server.From(addresses[clientPod][ipv4]), server.From(addresses[otherPod][ipv4])
	t.Logf("%d rewrites; %d of %d denied and %d of %d allowed packets arrived", rewrites, fromClient, denied.Sent(), fromOther, allowed.Sent())
	if fromClient != 0 {
		t.Errorf("%d denied packets arrived", fromClient)
	}
	if fromOther == 0 || denied.Sent() == 0 {
		t.Error("no packets were sent")
	}
	if lost := allowed.Sent() - fromOther; lost != 0 {
		t.Errorf("%d allowed packets were lost", lost)
	}
}
