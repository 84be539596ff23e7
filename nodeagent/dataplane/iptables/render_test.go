package iptables

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/test/packets"
)

// What the rules of one family look like that a rule becomes. Sets are shown by their IDs.
func TestRuleText(t *testing.T) {
	types := map[string]tables.SetType{"a": tables.Addresses, "n": tables.Nets, "p": tables.NamedPorts}
	list := listName(packets.Prefixes("10.0.0.0/8", "192.168.0.0/16"), ipv4)
	names := strings.NewReplacer(
		setName("a", tables.Addresses, ipv4), "A", setName("n", tables.Nets, ipv4), "N", setName("p", tables.NamedPorts, ipv4), "P",
		setName("a", tables.Addresses, ipv6), "A6", list, "LIST", listName(packets.Prefixes("10.1.0.0/16"), ipv4), "ONE",
	)
	many := make([]uint16, 17)
	for i := range many {
		many[i] = uint16(2 * i)
	}
	for name, tc := range map[string]struct {
		fam  family
		rule tables.Rule
		want []string
	}{
		"all":                     {ipv4, tables.Rule{Action: tables.Allow}, []string{"-g manul-allow"}},
		"deny":                    {ipv4, tables.Rule{Action: tables.Deny}, []string{"-j DROP"}},
		"pass":                    {ipv4, tables.Rule{Action: tables.Pass}, []string{"-g manul-pass"}},
		"log":                     {ipv4, tables.Rule{Action: tables.Log}, []string{`-j LOG --log-prefix "calico-packet: " --log-level 5`}},
		"other family":            {ipv6, tables.Rule{Action: tables.Deny, IPVersion: 4}, nil},
		"net of the other family": {ipv6, tables.Rule{Action: tables.Deny, Source: packets.Nets("10.0.0.0/8")}, nil},
		"one net":                 {ipv4, tables.Rule{Action: tables.Deny, Source: packets.Nets("10.0.0.0/8", "10.1.0.0/16")}, []string{"-s 10.0.0.0/8 -j DROP"}},
		"nets":                    {ipv4, tables.Rule{Action: tables.Deny, Destination: packets.Nets("192.168.0.0/16", "10.0.0.0/8")}, []string{"-m set --match-set LIST dst -j DROP"}},
		"every net":               {ipv4, tables.Rule{Action: tables.Deny, Source: packets.Nets("0.0.0.0/0", "10.0.0.0/8")}, []string{"-j DROP"}},
		"not every net":           {ipv4, tables.Rule{Action: tables.Deny, Source: packets.NotNets("0.0.0.0/0")}, nil},
		"not nets":                {ipv4, tables.Rule{Action: tables.Deny, Source: packets.NotNets("192.168.0.0/16", "10.0.0.0/8")}, []string{"-m set ! --match-set LIST src -j DROP"}},
		"not net":                 {ipv4, tables.Rule{Action: tables.Deny, Source: packets.NotNets("10.0.0.0/8")}, []string{"! -s 10.0.0.0/8 -j DROP"}},
		"net and not net":         {ipv4, tables.Rule{Action: tables.Deny, Source: tables.Entity{Nets: packets.Prefixes("10.0.0.0/8"), NotNets: packets.Prefixes("10.1.0.0/16")}}, []string{"-s 10.0.0.0/8 -m set ! --match-set ONE src -j DROP"}},
		"a set and a port: the cheap match first": {ipv4, tables.Rule{Action: tables.Allow, Protocol: 17, Source: tables.Entity{Sets: []string{"a"}, NotNets: packets.Prefixes("10.0.0.0/8")}, Destination: tables.Entity{Ports: []tables.PortRange{{First: 80, Last: 90}}, NotSets: []string{"n"}}}, []string{
			"-p 17 -m udp --dport 80:90 ! -s 10.0.0.0/8 -m set --match-set A src -m set ! --match-set N dst -g manul-allow",
		}},
		"sets":                    {ipv4, tables.Rule{Action: tables.Deny, Source: tables.Entity{Sets: []string{"a"}, NotSets: []string{"n"}}}, []string{"-m set --match-set A src -m set ! --match-set N src -j DROP"}},
		"set of IPv6":             {ipv6, tables.Rule{Action: tables.Deny, Destination: tables.Entity{Sets: []string{"a"}}}, []string{"-m set --match-set A6 dst -j DROP"}},
		"protocol":                {ipv4, tables.Rule{Action: tables.Deny, Protocol: 47}, []string{"-p 47 -j DROP"}},
		"not protocol":            {ipv4, tables.Rule{Action: tables.Deny, NotProtocol: 47}, []string{"! -p 47 -j DROP"}},
		"protocol and not":        {ipv4, tables.Rule{Action: tables.Deny, Protocol: 6, NotProtocol: 17}, []string{"-p 6 -j DROP"}},
		"protocol and not itself": {ipv4, tables.Rule{Action: tables.Deny, Protocol: 6, NotProtocol: 6}, nil},
		"ICMP":                    {ipv4, tables.Rule{Action: tables.Deny, Protocol: 1, ICMP: &tables.ICMP{Type: 8, Code: -1}, NotICMP: &tables.ICMP{Type: 8, Code: 2}}, []string{"-p 1 -m icmp --icmp-type 8 -m icmp ! --icmp-type 8/2 -j DROP"}},
		"ICMP without protocol":   {ipv6, tables.Rule{Action: tables.Deny, ICMP: &tables.ICMP{Type: 128, Code: 0}}, []string{"-p 58 -m icmp6 --icmpv6-type 128/0 -j DROP"}},
		"ICMP of the other":       {ipv6, tables.Rule{Action: tables.Deny, Protocol: 1, ICMP: &tables.ICMP{Type: 8, Code: -1}}, nil},
		"ports": {ipv4, tables.Rule{Action: tables.Deny, Protocol: 6, Source: tables.Entity{Ports: packets.Ports(1)}, Destination: tables.Entity{Ports: []tables.PortRange{{First: 5, Last: 9}, {First: 8, Last: 10}, {First: 11, Last: 11}, {First: 80, Last: 80}}}}, []string{
			"-p 6 -m tcp --sport 1 -m multiport --dports 5:11,80 -j DROP",
		}},
		"many ports": {ipv4, tables.Rule{Action: tables.Deny, Protocol: 17, Destination: tables.Entity{Ports: packets.Ports(many...)}}, []string{
			"-p 17 -m multiport --dports 0,2,4,6,8,10,12,14,16,18,20,22,24,26,28 -j DROP", "-p 17 -m multiport --dports 30,32 -j DROP",
		}},
		"not many ports": {ipv4, tables.Rule{Action: tables.Deny, Protocol: 17, Destination: tables.Entity{NotPorts: packets.Ports(many...)}}, []string{
			"-p 17 -m multiport ! --dports 0,2,4,6,8,10,12,14,16,18,20,22,24,26,28 -m multiport ! --dports 30,32 -j DROP",
		}},
		"range at the edge": {ipv4, tables.Rule{Action: tables.Deny, Protocol: 17, Destination: tables.Entity{Ports: append(packets.Ports(many[:14]...), tables.PortRange{First: 100, Last: 65535})}}, []string{
			"-p 17 -m multiport --dports 0,2,4,6,8,10,12,14,16,18,20,22,24,26 -j DROP", "-p 17 -m multiport --dports 100:65535 -j DROP",
		}},
		"empty range":   {ipv4, tables.Rule{Action: tables.Deny, Protocol: 6, Destination: tables.Entity{Ports: []tables.PortRange{{First: 2, Last: 1}}}}, nil},
		"named port":    {ipv4, tables.Rule{Action: tables.Deny, Protocol: 6, Destination: tables.Entity{PortSets: []string{"p"}}}, []string{"-p 6 -m set --match-set P dst,dst -j DROP"}},
		"either port":   {ipv4, tables.Rule{Action: tables.Deny, Protocol: 6, Destination: tables.Entity{Ports: packets.Ports(80), PortSets: []string{"p"}}}, []string{"-p 6 -m tcp --dport 80 -j DROP", "-p 6 -m set --match-set P dst,dst -j DROP"}},
		"neither":       {ipv4, tables.Rule{Action: tables.Deny, Protocol: 6, Source: tables.Entity{NotPorts: packets.Ports(80), NotPortSets: []string{"p"}}}, []string{"-p 6 -m multiport ! --sports 80 -m set ! --match-set P src,src -j DROP"}},
		"any protocol":  {ipv4, tables.Rule{Action: tables.Deny, NotProtocol: 17, Destination: tables.Entity{Ports: packets.Ports(80)}}, []string{"-p 6 -m tcp --dport 80 -j DROP", "-p 132 -m multiport --dports 80 -j DROP"}},
		"ports of ICMP": {ipv4, tables.Rule{Action: tables.Deny, Protocol: 1, Destination: tables.Entity{Ports: packets.Ports(80)}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			setType := func(id string) (tables.SetType, bool) { typ, ok := types[id]; return typ, ok }
			c, _, err := program(tc.fam, setType, "x", []tables.Rule{tc.rule})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, rule := range c.rules {
				got = append(got, names.Replace(rule))
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("rules (-want +got):\n%s", diff)
			}
		})
	}
}

// The chain of a tier jumps to one program after the other. A jump behind another is for packets on which that has not decided, and
// after every few of them, and before all else, those return on which one has.
func TestTierText(t *testing.T) {
	shapes := map[string]shape{"a": present, "b": present, "none": empty}
	names := strings.NewReplacer(programChain(ingress, "a"), "A", programChain(ingress, "b"), "B", "-m mark --mark 0x0/0xc0000", "UNDECIDED", "-m mark ! --mark 0x0/0xc0000", "DECIDED")
	long := slices.Repeat([]string{"a"}, jumpsToReturn+2)
	for name, tc := range map[string]struct {
		tier tables.Tier
		want []string
	}{
		"none":                {tables.Tier{Default: tables.Deny}, []string{"-j DROP"}},
		"none, and pass":      {tables.Tier{Default: tables.Pass}, nil},
		"one":                 {tables.Tier{Programs: []string{"a"}, Default: tables.Deny}, []string{"-j A", "DECIDED -j RETURN", "-j DROP"}},
		"one, and pass":       {tables.Tier{Programs: []string{"a"}, Default: tables.Pass}, []string{"-j A"}},
		"without rules":       {tables.Tier{Programs: []string{"none", "a", "none"}, Default: tables.Deny}, []string{"-j A", "DECIDED -j RETURN", "-j DROP"}},
		"two":                 {tables.Tier{Programs: []string{"a", "b"}, Default: tables.Deny}, []string{"-j A", "UNDECIDED -j B", "DECIDED -j RETURN", "-j DROP"}},
		"one is missing":      {tables.Tier{Programs: []string{"a", "x", "b"}, Default: tables.Pass}, []string{"-j A", "DECIDED -j RETURN", "-j DROP", "-j B"}},
		"the first misses":    {tables.Tier{Programs: []string{"x"}, Default: tables.Pass}, []string{"-j DROP"}},
		"more than a few":     {tables.Tier{Programs: long, Default: tables.Deny}, slices.Concat([]string{"-j A"}, slices.Repeat([]string{"UNDECIDED -j A"}, jumpsToReturn-1), []string{"DECIDED -j RETURN", "-j A", "UNDECIDED -j A", "DECIDED -j RETURN", "-j DROP"})},
		"more, and then pass": {tables.Tier{Programs: long[:jumpsToReturn], Default: tables.Pass}, slices.Concat([]string{"-j A"}, slices.Repeat([]string{"UNDECIDED -j A"}, jumpsToReturn-1))},
	} {
		t.Run(name, func(t *testing.T) {
			_, tier := newTierChain(ingress, tc.tier)
			c := tier.render("x", ipv4, func(program string) shape { return shapes[program] }, nil)
			var got []string
			for _, r := range c.rules {
				got = append(got, names.Replace(r))
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("rules (-want +got):\n%s", diff)
			}
		})
	}
}

// Names must fit into the kernel's limits, whatever they are made from.
func TestNamesFit(t *testing.T) {
	const maxChainName, maxSetName = 28, 31
	long := strings.Repeat("x", 300)
	tierName, _ := newTierChain(ingress, tables.Tier{Programs: []string{long}})
	listChainName, _ := newListChain(egress, podList, []string{long})
	prefixChainName, _ := newPrefixChain(packets.Prefixes("10.0.0.0/8"))
	names := []string{programChain(ingress, long), tierName, listChainName, prefixChainName, trialChain}
	roots := []string{dispatchRoot(egress), dispatchRoot(ingress), prefixRoot}
	for h := range hostHooks {
		roots = append(roots, h.root())
	}
	for _, root := range roots {
		names = append(names, root+"-"+strings.Repeat("x", interfaceNameLen-1))
	}
	for _, table := range kernelTables() {
		for _, c := range (layout{use: use{hosts: true, untracked: true, preDNAT: true, forward: true, prefixes: true}}).chains(table) {
			names = append(names, c.name)
		}
	}
	for _, name := range names {
		if len(name) > maxChainName || !strings.HasPrefix(name, chainPrefix) {
			t.Errorf("%q does not fit a chain", name)
		}
	}
	for _, name := range []string{setName(long, tables.Addresses, ipv6), listName(packets.Prefixes("10.0.0.0/8"), ipv4), sourceSet(ipv6), poolSet(ipv4), natSet(ipv4)} {
		if len(name) > maxSetName || !strings.HasPrefix(name, "manul") {
			t.Errorf("%q does not fit a set", name)
		}
	}
}

// walk follows a packet of an interface through the tree and returns the rule that decides, and how many were read.
func walk(chains []*chain, at, iface string) (string, int) {
	read := 0
	for _, c := range chains {
		if c.name != at {
			continue
		}
		for _, rule := range c.rules {
			read++
			words := strings.SplitN(rule, " ", 3)
			if words[0] == "-j" {
				return rule, read
			}
			pattern, open := strings.CutSuffix(words[1], "+")
			if pattern != iface && (!open || !strings.HasPrefix(iface, pattern)) {
				continue
			}
			if next, ok := strings.CutPrefix(words[2], "-g "); ok && slices.ContainsFunc(chains, func(c *chain) bool { return c.name == next }) {
				rule, more := walk(chains, next, iface)
				return rule, read + more
			}
			return words[2], read
		}
	}
	return "", read
}

// Every interface finds its own target and no other does, whatever the names are.
func TestDispatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfDistinct(rapid.StringMatching(`cali[ab0-3]{0,11}`), rapid.ID).Draw(t, "names")
		var list []target
		for i, name := range names {
			list = append(list, target{name, fmt.Sprintf("-g manul-le-%d", i)})
		}
		chains := workloadTree(egress).render(slices.Clone(list))
		for _, to := range list {
			if got, _ := walk(chains, dispatchRoot(egress), to.name); got != to.rule {
				t.Fatalf("%s leads to %q, want %q", to.name, got, to.rule)
			}
		}
		stranger := rapid.StringMatching(`cali[ab0-3]{0,11}`).Draw(t, "stranger")
		if slices.Contains(names, stranger) {
			return
		}
		if got, _ := walk(chains, dispatchRoot(egress), stranger); got != drop {
			t.Fatalf("a stranger, %s, leads to %q", stranger, got)
		}
	})
}

// The cost of dispatch hardly grows with the number of endpoints.
func TestDispatchIsNotLinear(t *testing.T) {
	var list []target
	for i := range 4000 {
		list = append(list, target{"cali" + string(digestOf("test", fmt.Sprint(i)))[:11], goReturn})
	}
	chains := workloadTree(ingress).render(list)
	most := 0
	for _, to := range list {
		_, read := walk(chains, dispatchRoot(ingress), to.name)
		most = max(most, read)
	}
	if most > 64 {
		t.Errorf("a packet reads %d rules to find its endpoint among %d", most, len(list))
	}
}

func TestParseSaved(t *testing.T) {
	c := newChain("manul-a", "-j DROP", "-p 6 -j RETURN")
	good := strings.Join(c.lines(c.digest()), "\n") + "\n"
	head := "# Generated\n*filter\n:FORWARD ACCEPT [1:2]\n:other - [0:0]\n:manul-a - [0:0]\n"
	for name, tc := range map[string]struct {
		text string
		want digest
	}{
		"right":         {good, c.digest()},
		"empty":         {"", ""},
		"rule missing":  {strings.SplitAfter(good, "\n")[0], ""},
		"first missing": {strings.SplitAfter(good, "\n")[1], ""},
		"rule more":     {good + "-A manul-a -j ACCEPT\n", ""},
		"rule within":   {strings.Replace(good, "\n", "\n-A manul-a -j ACCEPT\n", 1), ""},
		"rule twice":    {good + strings.SplitAfter(good, "\n")[1], ""},
		"other content": {strings.Replace(good, string(c.digest()), "0123456789abcdef", 1), ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := parseSaved([]byte(head + "-A FORWARD -j other\n-A FORWARD -m comment --comment \"manul:hook\" -j manul-a\n" + tc.text + "COMMIT\n"))
			if s.chains["manul-a"] != tc.want {
				t.Errorf("digest %q, want %q", s.chains["manul-a"], tc.want)
			}
			if len(s.chains) != 1 || s.first["FORWARD"] != "-j other" {
				t.Errorf("saved = %+v", s)
			}
			if diff := cmp.Diff([]savedRule{{"FORWARD", "-m comment --comment \"manul:hook\" -j manul-a"}}, s.others, cmp.AllowUnexported(savedRule{})); diff != "" {
				t.Errorf("rules that lead to us (-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzParseSaved(f *testing.F) {
	f.Add("*filter\n:manul-a - [0:0]\n-A manul-a -m comment --comment \"manul:0123456789abcdef 1/1\" -j DROP\nCOMMIT\n")
	f.Add("-A\n-A \n:manul-\n-A manul- --comment \"manul:")
	f.Fuzz(func(t *testing.T, text string) {
		s := parseSaved([]byte(text))
		for name := range s.chains {
			if !strings.HasPrefix(name, chainPrefix) {
				t.Errorf("%q is taken for a chain of the driver's", name)
			}
		}
	})
}

func TestVersions(t *testing.T) {
	for line, want := range map[string]Variant{
		"iptables v1.8.9 (nf_tables)\n": NFT, "iptables v1.8.9 (legacy)\n": Legacy, "iptables v1.6.1\n": Legacy,
	} {
		if got := parseVersion(line); got != want {
			t.Errorf("%q is of the variant %q, want %q", line, got, want)
		}
	}
}

func TestBatchText(t *testing.T) {
	b := newBatch(filterTable)
	c := newChain("manul-a", "-j DROP")
	b.write(c, "0123456789abcdef")
	b.write(newChain("manul-empty"), "0123456789abcdef")
	b.write(newChain("manul-b", "-j DROP"), "0123456789abcdef")
	b.hooks = append(b.hooks, "-I FORWARD 1 -j manul-a")
	b.remove("manul-b")
	want := `*filter
:manul-a - [0:0]
:manul-empty - [0:0]
:manul-b - [0:0]
-A manul-a -m comment --comment "manul:0123456789abcdef 1/1" -j DROP
-A manul-empty -m comment --comment "manul:0123456789abcdef 1/1"
-I FORWARD 1 -j manul-a
-X manul-b
COMMIT
`
	if diff := cmp.Diff(want, b.text()); diff != "" {
		t.Errorf("batch (-want +got):\n%s", diff)
	}
}

func TestNewRefusesBadOptions(t *testing.T) {
	for name, options := range map[string]Options{
		"no prefix": {}, "long prefix": {WorkloadPrefix: strings.Repeat("x", 15)}, "prefix with a plus": {WorkloadPrefix: "cali+"},
		"odd variant": {WorkloadPrefix: "cali", Variant: "ebtables"},
	} {
		if d, err := New(t.Context(), options); err == nil {
			_ = d.Close()
			t.Errorf("%s: no error", name)
		}
	}
}

func TestEntriesOfEverything(t *testing.T) {
	for cidr, want := range map[string][]string{"0.0.0.0/0": {"0.0.0.0/1", "128.0.0.0/1"}, "::/0": {"::/1", "8000::/1"}, "10.0.0.0/8": {"10.0.0.0/8"}} {
		var got []string
		for _, e := range cidrEntries(netip.MustParsePrefix(cidr)) {
			got = append(got, e.prefix.String())
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s becomes %v, want %v", cidr, got, want)
		}
	}
}
