package nftables

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/test/netns"
	"github.com/manul-net/manul/test/packets"
)

// news is a socket that gets what the kernel tells of changes of nftables in a namespace.
type news struct {
	t  testing.TB
	fd int
}

func listenForNews(t testing.TB, ns *netns.NS) *news {
	t.Helper()
	n := &news{t: t, fd: -1}
	ns.Must("listening for changes of nftables", func() error {
		var err error
		if n.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER); err != nil {
			return err
		}
		return errors.Join(
			unix.Bind(n.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}),
			unix.SetsockoptInt(n.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer),
			unix.SetsockoptInt(n.fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, nfnlgrpNftables),
		)
	})
	t.Cleanup(func() { _ = unix.Close(n.fd) })
	return n
}

// read returns what has changed since it was last read, as "<what> <where>" with the number of messages. The kernel has told
// of a transaction when it answers it.
func (n *news) read() map[string]int {
	n.t.Helper()
	names := map[uint16]string{
		unix.NFT_MSG_NEWTABLE: "new table", unix.NFT_MSG_DELTABLE: "deleted table", unix.NFT_MSG_NEWCHAIN: "new chain", unix.NFT_MSG_DELCHAIN: "deleted chain",
		unix.NFT_MSG_NEWRULE: "new rule in", unix.NFT_MSG_DELRULE: "deleted rule in", unix.NFT_MSG_NEWSET: "new set", unix.NFT_MSG_DELSET: "deleted set",
		unix.NFT_MSG_NEWSETELEM: "new element in", unix.NFT_MSG_DELSETELEM: "deleted element in", unix.NFT_MSG_NEWGEN: "transaction",
	}
	// The attribute that has the name of the chain or set.
	where := map[uint16]uint16{
		unix.NFT_MSG_NEWCHAIN: unix.NFTA_CHAIN_NAME, unix.NFT_MSG_DELCHAIN: unix.NFTA_CHAIN_NAME, unix.NFT_MSG_NEWRULE: unix.NFTA_RULE_CHAIN, unix.NFT_MSG_DELRULE: unix.NFTA_RULE_CHAIN,
		unix.NFT_MSG_NEWSET: unix.NFTA_SET_NAME, unix.NFT_MSG_DELSET: unix.NFTA_SET_NAME, unix.NFT_MSG_NEWSETELEM: unix.NFTA_SET_ELEM_LIST_SET, unix.NFT_MSG_DELSETELEM: unix.NFTA_SET_ELEM_LIST_SET,
	}
	counts := map[string]int{}
	buffer := make([]byte, readSize)
	for {
		length, err := receiveInto(n.fd, buffer)
		if errors.Is(err, unix.EAGAIN) {
			return counts
		}
		if err != nil {
			n.t.Fatalf("reading changes of nftables: %v", err)
		}
		for b := buffer[:length]; len(b) >= nlHeaderLen+nfHeaderLen; {
			size := int(binary.NativeEndian.Uint32(b))
			message := binary.NativeEndian.Uint16(b[4:]) & 0xff
			text := names[message]
			attributes(b[nlHeaderLen+nfHeaderLen:size], func(typ uint16, value []byte) {
				if at, ok := where[message]; ok && typ == at {
					text += " " + cString(value)
				}
			})
			counts[text]++
			next := (size + 3) &^ 3
			if next >= len(b) {
				break
			}
			b = b[next:]
		}
	}
}

// A change costs what has changed: a member one element and no rule, a policy its own chain. What the kernel tells of changes
// is an eye of its own.
func TestMinimalChange(t *testing.T) {
	n := packets.NewNode(t, subject())
	p := packets.ManyThings()
	packets.ManyHosts(p)
	n.Apply(p)
	news := listenForNews(t, n.NS)
	one := func(text string) map[string]int { return map[string]int{text: 1, "transaction": 1} }
	address := netip.MustParseAddr
	endpoint := func(change func(*tables.Endpoint)) func() {
		return func() {
			e, _ := p.Endpoints.Get("caliother")
			change(&e)
			p.Endpoints.Set("caliother", e)
		}
	}
	member := packets.AddressMember(packets.ClientSet, address("10.48.7.7"))
	port := tables.Member{Set: packets.PortsSet, Prefix: netip.MustParsePrefix("10.48.7.7/32"), Protocol: unix.IPPROTO_TCP, Port: 80}
	before, _ := p.HostEndpoints.Get("eth0")
	for _, step := range []struct {
		name   string
		change func()
		want   map[string]int
	}{
		{"nothing", func() {}, map[string]int{}},
		{"the same once more", func() {
			program, _ := p.Programs.Get("np.ns.policy-7")
			p.Programs.Set("np.ns.policy-7", program)
			p.Settings.VXLANPort, p.SettingsDirty = 4789, true // it is that without
		}, map[string]int{}},
		{"a member", func() { p.Members.Set(member, struct{}{}) }, one("new element in a4-clients")},
		{"a member goes", func() { p.Members.Delete(member) }, one("deleted element in a4-clients")},
		{"a member comes and goes", func() { p.Members.Set(member, struct{}{}); p.Members.Delete(member) }, map[string]int{}},
		{"a named port", func() { p.Members.Set(port, struct{}{}) }, one("new element in p4-web-ports")},
		{"a CIDR: both its ends", func() { p.Members.Set(packets.Member(packets.NetSet, "203.0.113.0/24"), struct{}{}) }, map[string]int{"new element in n4-networks": 2, "transaction": 1}},
		{"a CIDR within another", func() { p.Members.Set(packets.Member(packets.NetSet, "203.0.113.128/25"), struct{}{}) }, map[string]int{}},
		{"an address", endpoint(func(e *tables.Endpoint) { e.Addresses = append(slices.Clone(e.Addresses), address("10.48.7.8")) }), one("new element in source4")},
		{"a policy", func() {
			p.Programs.Set("np.ns.policy-12", tables.Program{Ingress: []tables.Rule{{Action: tables.Deny}}, Egress: []tables.Rule{{Action: tables.Pass, Source: tables.Entity{NotSets: []string{packets.NetSet}}}, {Action: tables.Deny}}})
		}, map[string]int{"deleted rule in pi-np.ns.policy-12": 9, "new rule in pi-np.ns.policy-12": 1, "transaction": 1}},
		{"a host endpoint's profile: two elements each replaced", func() {
			p.HostEndpoints.Set("eth2", tables.HostEndpoint{LocalDefault: tables.Allow})
		}, map[string]int{"deleted element in local-in": 1, "new element in local-in": 1, "deleted element in local-out": 1, "new element in local-out": 1, "transaction": 1}},
		{"a host endpoint whose policies another has", func() { p.HostEndpoints.Set("eth3", before) }, map[string]int{
			"new element in untracked-in": 1, "new element in untracked-out": 1, "new element in pre-dnat": 1, "new element in forward-in": 1, "new element in forward-out": 1, "new element in local-in": 1, "new element in local-out": 1, "transaction": 1,
		}},
	} {
		step.change()
		n.Apply(p)
		if diff := cmp.Diff(step.want, news.read()); diff != "" {
			t.Errorf("%s: what changed in the kernel (-want +got):\n%s", step.name, diff)
		}
	}
	n.SameAsFresh(p)
}

// An unchanged policy is not touched when others change, come and go, nor are the chains that lead to it.
func TestUnchangedPolicyIsNotTouched(t *testing.T) {
	n := packets.NewNode(t, subject())
	p := packets.ManyThings()
	n.Apply(p)
	news := listenForNews(t, n.NS)
	allowed := func(text string) bool {
		for _, part := range []string{"transaction", "policy-3", "policy-new", "set-new", "new chain li-", "new chain ti-", "new rule in li-", "new rule in ti-", "element in ingress", "deleted chain li-", "deleted rule in li-", "deleted chain ti-", "deleted rule in ti-"} {
			if strings.Contains(text, part) {
				return true
			}
		}
		return false
	}
	for i := range 5 {
		p.Programs.Set("np.ns.policy-3", tables.Program{Ingress: []tables.Rule{packets.Rule(tables.Allow, unix.IPPROTO_TCP, uint16(i+1))}})
		e, _ := p.Endpoints.Get("caliother")
		e.Ingress = []tables.Tier{packets.Tier(tables.Deny, "np.ns.policy-3", "np.ns.policy-7")}
		if i%2 == 0 {
			p.Sets.Set("set-new", tables.Nets)
			p.Members.Set(packets.Member("set-new", "10.1.0.0/16"), struct{}{})
			p.Programs.Set("np.ns.policy-new", tables.Program{Ingress: []tables.Rule{{Action: tables.Allow, Source: tables.Entity{Sets: []string{"set-new"}}}}})
			e.Ingress = []tables.Tier{packets.Tier(tables.Deny, "np.ns.policy-new", "np.ns.policy-7")}
		} else {
			p.Programs.Delete("np.ns.policy-new")
			p.Members.Delete(packets.Member("set-new", "10.1.0.0/16"))
			p.Sets.Delete("set-new")
		}
		p.Endpoints.Set("caliother", e)
		n.Apply(p)
		for text, count := range news.read() {
			if !allowed(text) {
				t.Errorf("change %d: %d times %s", i, count, text)
			}
		}
	}
}

// What a packet costs does not grow with the number of workloads and host endpoints: base chains, and what they go to, are
// the same rules for one as for many, and interfaces are in maps. A node without host endpoints has none of their chains.
func TestBaseChainsDoNotGrow(t *testing.T) {
	n := packets.NewNode(t, subject())
	p := packets.ManyThings()
	chains := func() map[string]int {
		rules := map[string]int{}
		for _, line := range dump(t, n.NS, false) {
			words := strings.Fields(line)
			for _, base := range baseChains() {
				if words[0] == "rule" && strings.HasPrefix(words[1], base.name+"<nil>") {
					rules[base.name]++
				}
			}
		}
		return rules
	}
	n.Apply(p)
	for name, rules := range chains() {
		if strings.HasPrefix(name, "host-") {
			t.Errorf("a node without host endpoints has a chain %s of %d rules", name, rules)
		}
	}
	p.Floating.Set(netip.MustParseAddr("10.50.0.7"), netip.MustParseAddr("10.48.0.2"))
	packets.ManyHosts(p)
	p.Settings.Tunnels, p.SettingsDirty = []tables.TunnelKind{tables.VXLAN}, true
	n.Apply(p)
	few := chains()
	all, _ := p.HostEndpoints.Get("eth0")
	for i := range 300 {
		p.HostEndpoints.Set(fmt.Sprintf("bond0.%d", i), all)
		p.Endpoints.Set(fmt.Sprintf("cali%d", i), tables.Endpoint{Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 49, byte(i >> 8), byte(i)})}, SourcePrefixes: packets.Prefixes("172.16.0.0/24")})
	}
	n.Apply(p)
	if diff := cmp.Diff(few, chains()); diff != "" {
		t.Errorf("rules in base chains with few and with many endpoints (-few +many):\n%s", diff)
	}
	p.Settings.IPVS, p.SettingsDirty = true, true
	n.Apply(p)
	either := maps.Clone(few)
	maps.Copy(either, chains())
	if len(either) != len(baseChains()) {
		t.Errorf("%d base chains have rules, with IPVS or without, want all %d", len(either), len(baseChains()))
	}
}
