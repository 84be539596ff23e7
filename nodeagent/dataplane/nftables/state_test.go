package nftables

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/test/packets"
)

// A restart with other tables changes the rules of what is different and no others.
func TestRestartTouchesLittle(t *testing.T) {
	n := packets.NewNode(t, subject())
	n.Apply(packets.ManyThings())
	before := dump(t, n.NS, true)
	n.Reopen()
	p := packets.ManyThings()
	packets.ChangeOfManyThings(p)
	n.Apply(p)
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

// Base chains that an earlier version had go, and all else stays as it is.
func TestChainsOfEarlierVersions(t *testing.T) {
	n := packets.NewNode(t, subject())
	n.Apply(packets.ManyThings())
	before := dump(t, n.NS, true)
	n.Shell("nft 'add chain inet manul tunnels-prerouting { type filter hook prerouting priority -297; }'")
	n.Shell("nft add rule inet manul tunnels-prerouting udp dport 4789 ip saddr @nodes4 ip daddr @nodes4 notrack")
	n.Reopen()
	n.Apply(packets.ManyThings())
	if diff := cmp.Diff(before, dump(t, n.NS, true)); diff != "" {
		t.Errorf("after the start over an earlier version's chains (-before +after):\n%s", diff)
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
			n := packets.NewNode(t, subject())
			n.Shell("nft add table ip other; nft add chain ip other c; nft add rule ip other c accept")
			p := packets.ManyThings()
			n.Apply(p)
			want := dump(t, n.NS, false)
			n.WantNoChange()
			n.Shell("nft add rule ip other c drop")
			n.WantNoChange() // none of our business

			n.Shell("nft '" + strings.ReplaceAll(strings.ReplaceAll(command, "; nft ", "'; nft '"), "$(", "'$(") + closing(command))
			n.WantChange()
			n.Apply(p)
			if d, ok := n.Driver.(*Driver); !ok || d.Disturbances() != 1 {
				t.Errorf("%d disturbances were counted, want 1", d.Disturbances())
			}
			if diff := cmp.Diff(want, dump(t, n.NS, false)); diff != "" {
				t.Errorf("not undone (-want +got):\n%s", diff)
			}
			if name != "everything deleted" && !strings.Contains(n.Shell("nft list ruleset"), "table ip other") {
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

// The key of the set is not an address: the kernel refuses the look-up.
func TestRefusedProgram(t *testing.T) {
	packets.RefusedProgram(t, subject(), tables.Rule{Action: tables.Allow, Source: tables.Entity{Sets: []string{packets.PortsSet}}}, packets.AddSets)
}

func TestBadItems(t *testing.T) {
	n := packets.NewNode(t, subject())
	p := packets.NewTables()
	p.Endpoints.Set("eth0", packets.Unrestricted(packets.OtherPod))
	p.Endpoints.Set("cali-with-a-long-name", packets.Unrestricted(packets.OtherPod))
	p.Sets.Set("s", tables.Addresses)
	p.Members.Set(packets.Member("s", "10.0.0.0/8"), struct{}{})
	p.Pools.Set(netip.MustParsePrefix("10.48.0.1/16"), tables.Pool{})
	p.Programs.Set("odd", tables.Program{Ingress: []tables.Rule{{}}})
	bad := []string{"Endpoint cali-with-a-long-name", "Endpoint eth0", "PolicyProgram odd", "Pool 10.48.0.1/16", "Set s"}
	n.WantItems(n.TryApply(p), bad...)
	// They are told of until they are good, whatever else changes.
	p.Members.Set(packets.Member("s", "10.48.0.9/32"), struct{}{})
	n.WantItems(n.TryApply(p), bad...)
	p.Endpoints.Delete("eth0")
	p.Members.Delete(packets.Member("s", "10.0.0.0/8"))
	n.WantItems(n.TryApply(p), slices.DeleteFunc(bad, func(item string) bool { return item == "Endpoint eth0" || item == "Set s" })...)
	n.Verify(packets.TCP(packets.IPv4, packets.ClientPod, packets.ServerPod, 80, true))
}

// While something is unfit a change costs what it concerns: nothing is compared, and each item is told of until it is good.
func TestUnfitItemsCompareNothing(t *testing.T) {
	n := packets.NewNode(t, subject())
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
