package iptables

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/fold"
	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/test/packets"
)

func isFold(line string) bool { return strings.HasPrefix(line, "ipset create "+setPrefix(ipv4)+"f") }

// Policies come to be folded and cease to be, and packets see nothing of it.
func TestFoldingComesAndGoes(t *testing.T) {
	eachVariant(t, func(t *testing.T, variant Variant) { packets.FoldingComesAndGoes(t, subject(variant), isFold) })
}

// An edit of policies that are folded is as many elements as it changes: no rule, no chain, no set, and no program is run.
func TestMinimalChangeOfFolds(t *testing.T) { eachVariant(t, testMinimalChangeOfFolds) }

func testMinimalChangeOfFolds(t *testing.T, variant Variant) {
	n := newNode(t, variant)
	p := packets.ManyPolicies(40)
	n.Apply(p)
	for _, line := range dump(t, n.NS, variant) {
		if strings.Contains(line, setName("peers-07", tables.Addresses, ipv4)) || strings.Contains(line, programChain(ingress, packets.ManyName(7))) {
			t.Errorf("what is folded is there as it was, too: %s", line)
		}
	}
	n.driver().programs.restore = [families]string{"false", "false"}
	client := packets.AddressMember("peers-07", packets.Address(packets.ClientPod, packets.IPv4))
	everybody := tables.Rule{Action: tables.Allow, IPVersion: 4, Protocol: unix.IPPROTO_TCP, Destination: tables.Entity{Ports: packets.Ports(82)}}
	half := everybody
	half.Source.Nets = packets.Prefixes("128.0.0.0/1")
	from7, from8, from9 := packets.ManyProgram("peers-07", 80).Ingress, packets.ManyProgram("peers-08", 80).Ingress, packets.ManyProgram("peers-09", 80).Ingress
	programs := func(name string, rules ...tables.Rule) func() {
		return func() { p.Programs.Set(name, tables.Program{Ingress: rules}) }
	}
	for _, step := range []struct {
		name   string
		change func()
		want   []string
	}{
		{"nothing", func() {}, nil},
		{"a member comes", func() { p.Members.Set(client, struct{}{}) }, []string{"+ 10.48.0.1,tcp:80"}},
		{"a member goes", func() { p.Members.Delete(client) }, []string{"- 10.48.0.1,tcp:80"}},
		{"another port", func() { p.Programs.Set(packets.ManyName(7), packets.ManyProgram("peers-07", 81)) }, []string{"+ 10.50.0.7,tcp:81", "- 10.50.0.7,tcp:80"}},
		{"what another says, too", programs(packets.ManyName(6), append(packets.ManyProgram("peers-06", 80).Ingress, packets.ManyProgram("peers-07", 81).Ingress...)...), nil},
		{"what another still says", programs(packets.ManyName(7), from9...), nil},
		{"everybody: two halves, which is what a set can hold", programs(packets.ManyName(7), everybody), []string{"+ 0.0.0.0/1,tcp:82", "+ 128.0.0.0/1,tcp:82"}},
		{"a half, too", programs(packets.ManyName(8), append(from8, half)...), nil},
		{"not everybody any more", programs(packets.ManyName(7), from7...), []string{"+ 10.50.0.7,tcp:80", "- 0.0.0.0/1,tcp:82"}},
		{"everybody again", programs(packets.ManyName(7), everybody), []string{"+ 0.0.0.0/1,tcp:82", "- 10.50.0.7,tcp:80"}},
		{"without the half", programs(packets.ManyName(8), from8...), nil},
	} {
		before := dump(t, n.NS, variant)
		step.change()
		n.Apply(p)
		if diff := cmp.Diff(step.want, changed(before, dump(t, n.NS, variant))); diff != "" {
			t.Errorf("%s: what changed in the kernel (-want +got):\n%s", step.name, diff)
		}
	}
	n.Reopen()
	n.driver().programs.restore = [families]string{"false", "false"}
	before := dump(t, n.NS, variant)
	n.Apply(p)
	if got := changed(before, dump(t, n.NS, variant)); len(got) > 0 {
		t.Errorf("a restart changes %q", got)
	}
	n.SameAsFresh(p)
}

// changed are the lines that came and went, and of elements of sets of folds the elements alone.
func changed(before, after []string) []string {
	var out []string
	show := func(sign, line string) {
		words := strings.Fields(line)
		if strings.HasPrefix(line, "ipset add "+setPrefix(ipv4)+"fp-i-") {
			line = words[3]
		}
		out = append(out, sign+" "+line)
	}
	for _, line := range after {
		if !slices.Contains(before, line) {
			show("+", line)
		}
	}
	for _, line := range before {
		if !slices.Contains(after, line) {
			show("-", line)
		}
	}
	slices.Sort(out)
	return out
}

// What others do to sets of folds is undone.
func TestForeignChangesOfFolds(t *testing.T) { eachVariant(t, testForeignChangesOfFolds) }

func testForeignChangesOfFolds(t *testing.T, variant Variant) {
	n := newNode(t, variant)
	p := packets.ManyPolicies(20)
	client := packets.AddressMember("peers-07", packets.Address(packets.ClientPod, packets.IPv4))
	p.Members.Set(client, struct{}{})
	n.Apply(p)
	want := dump(t, n.NS, variant)
	var set string
	for name := range n.driver().state.foldSets {
		set = name
	}
	reaches := packets.TCP(packets.IPv4, packets.ClientPod, packets.ServerPod, 80, true)
	n.Verify(reaches, packets.TCP(packets.IPv4, packets.OtherPod, packets.ServerPod, 80, false))
	for _, command := range []string{"ipset flush " + set, "ipset add " + set + " 10.48.0.3,tcp:80", "ipset del " + set + " 10.48.0.1,tcp:80"} {
		n.shell(command)
		n.driver().watch.due.Store(true)
		before := n.driver().Disturbances()
		n.Apply(p)
		if diff := cmp.Diff(want, dump(t, n.NS, variant)); diff != "" {
			t.Errorf("%s: not undone (-want +got):\n%s", command, diff)
		}
		if got := n.driver().Disturbances(); got != before+1 {
			t.Errorf("%s: %d disturbances were counted, want 1", command, got-before)
		}
	}
	n.Verify(reaches, packets.TCP(packets.IPv4, packets.OtherPod, packets.ServerPod, 80, false))
}

// What a tier's chain looks like in which there is a fold: a look-up for each kind of elements that it has, whatever the lengths of
// their prefixes.
func TestFoldText(t *testing.T) {
	p := tables.NewPolicy()
	rule := packets.Rule(tables.Allow, unix.IPPROTO_TCP, 80)
	rule.Destination.Nets = packets.Prefixes("10.0.0.0/8", "10.0.0.1/32", "fd00::/8")
	content := tables.Program{Egress: []tables.Rule{
		rule,
		{Action: tables.Allow, Protocol: unix.IPPROTO_UDP, IPVersion: 4},
		{Action: tables.Allow, Protocol: unix.IPPROTO_ICMP, IPVersion: 4},
		{Action: tables.Allow, Destination: packets.Nets("192.0.2.0/24")},
	}}
	f := fold.New(p, true, fold.EverythingFolds(), fold.ShapeByProtocol)
	f.Program("a", content, true)
	f.User("endpoint", []fold.Tier{{Name: "tier", Direction: fold.Egress, Programs: []string{"a", "b"}}})
	f.Settle()
	tier := &tierChain{direction: egress, fallback: tables.Deny}
	name := f.Steps("tier")[0].Fold.Name
	shapes := func(string) shape { return present }
	for fam, want := range [families][]string{
		{
			"-m set --match-set manul4-fp-FOLD dst,dst -g manul-allow",
			"-m set --match-set manul4-fa-FOLD dst -g manul-allow",
			"-p 1 -m set --match-set manul4-f1-FOLD dst -g manul-allow",
			"-p 17 -m set --match-set manul4-f17-FOLD dst -g manul-allow",
			"-j " + programChain(egress, "b"),
			"-m mark ! --mark 0x0/0xc0000 -j RETURN",
			"-j DROP",
		},
		{
			"-m set --match-set manul6-fp-FOLD dst,dst -g manul-allow",
			"-j " + programChain(egress, "b"),
			"-m mark ! --mark 0x0/0xc0000 -j RETURN",
			"-j DROP",
		},
	} {
		c := tier.render("tier", family(fam), shapes, f.Steps("tier"))
		var got []string
		for _, r := range c.rules {
			got = append(got, strings.ReplaceAll(r, name, "FOLD"))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("IPv%s (-want +got):\n%s", family(fam).digit(), diff)
		}
	}
	for _, fam := range []family{ipv4, ipv6} {
		longest := foldSet{fold: name, fam: fam, protocol: 255}.name()
		if len(longest) > 31 {
			t.Errorf("%q does not fit a set", longest)
		}
	}
}

// Whether the kernel has the type of sets that nothing but folds needs is asked before anything is folded.
func TestKernelsThatCanNotFold(t *testing.T) {
	n := newNode(t, NFT)
	d := n.driver()
	for kind, want := range map[string]bool{hashNetPort: true, hashNet: true, "hash:nothing": false} {
		for fam := range families {
			var got bool
			n.Must("asking for a type", func() (err error) {
				got, err = d.sets.knows(setSpec{kind, fam})
				return err
			})
			if got != want {
				t.Errorf("the kernel has %s for IPv%s: %v, want %v", kind, fam.digit(), got, want)
			}
		}
	}
	limits := fold.DefaultLimits()
	if got := d.foldable(limits); got != limits {
		t.Errorf("limits of folds are %+v, want %+v", got, limits)
	}
	n.Must("closing the connection to ipset", func() error { d.sets.close(); return nil })
	if got := d.foldable(limits).MinPrograms; got != math.MaxInt {
		t.Errorf("without an answer, %d policies fold, want none", got)
	}
	n.Must("opening it again", func() (err error) { d.sets, err = openIPSets(); return err })
}

// A set of a fold that the kernel does not let go yet is used again when the same fold comes back.
func TestFoldComesBack(t *testing.T) { eachVariant(t, testFoldComesBack) }

func testFoldComesBack(t *testing.T, variant Variant) {
	n := newNode(t, variant)
	p := packets.ManyPolicies(12)
	n.Apply(p)
	server, _ := p.Endpoints.Get(packets.InterfaceOf(packets.ServerPod))
	for i := range 3 {
		p.Endpoints.Set(packets.InterfaceOf(packets.ServerPod), packets.Unrestricted(packets.ServerPod))
		n.Apply(p)
		p.Members.Set(packets.Member("peers-03", fmt.Sprintf("10.51.0.%d/32", i)), struct{}{})
		p.Endpoints.Set(packets.InterfaceOf(packets.ServerPod), server)
		n.Apply(p)
		n.SameAsFresh(p)
	}
	p.Members.Set(tables.Member{Set: "peers-03", Prefix: netip.PrefixFrom(packets.Address(packets.ClientPod, packets.IPv4), 32)}, struct{}{})
	n.Apply(p)
	n.Verify(packets.TCP(packets.IPv4, packets.ClientPod, packets.ServerPod, 80, true))
}
