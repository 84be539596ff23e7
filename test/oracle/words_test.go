package oracle_test

import (
	"net/netip"

	"pgregory.net/rapid"

	"github.com/manul-net/manul/test/oracle"
)

// A small vocabulary makes collisions, and so matches, likely.

func keys() []string       { return []string{"app", "tier", "role"} }
func values() []string     { return []string{"a", "b", "ab"} }
func namespaces() []string { return []string{"n1", "n2", "n3"} }
func accounts() []string   { return []string{"default", "robot"} }
func portNames() []string  { return []string{"http", "dns"} }
func services() []string   { return []string{"s1", "s2"} }

// serviceNamespaces are those of services, most of them in one, so that rules find them.
func serviceNamespaces() []string { return []string{"n1", "n1", "n1", "n2"} }

func nodes() []string { return []string{"x", "y"} }

// portsOfInterest are ports that rules name, and those beside the ends of their ranges.
func portsOfInterest() []int { return []int{80, 53, 8080, 49, 50, 81, 7999, 8000, 9000, 9001, 22} }

// front and back are the machines outside, behind the nodes' interfaces eth0 and eth1.
func front(v4 bool) netip.Addr { return family(v4, "192.0.2.130", "2001:db8::1") }
func back(v4 bool) netip.Addr  { return family(v4, "203.0.113.9", "2001:db8:1::1") }

func family(v4 bool, four, six string) netip.Addr {
	if v4 {
		return netip.MustParseAddr(four)
	}
	return netip.MustParseAddr(six)
}

// interfaces of the nodes: eth0 leads to the other node and to the front, eth1 to the other node and to the back.
func interfaces() []oracle.Interface {
	var out []oracle.Interface
	reaches := map[string][]netip.Prefix{
		"eth0": prefixes("192.168.0.0/24", "192.0.2.0/24", "fd10::/64", "2001:db8::/64"),
		"eth1": prefixes("172.16.0.0/24", "203.0.113.0/24", "fd20::/64", "2001:db8:1::/64"),
	}
	for i, node := range nodes() {
		for _, name := range []string{"eth0", "eth1"} {
			var addrs []netip.Addr
			for _, p := range []netip.Prefix{reaches[name][0], reaches[name][2]} {
				a := p.Addr()
				for range i + 1 {
					a = a.Next()
				}
				addrs = append(addrs, a)
			}
			out = append(out, oracle.Interface{Node: node, Name: name, Addresses: addrs, Reaches: reaches[name]})
		}
	}
	return out
}

func prefixes(texts ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range texts {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

// nets of one family that contain pods, nodes, and what is outside.
func nets(v4 bool) []string {
	if v4 {
		return []string{"10.0.0.0/30", "192.0.2.0/24", "10.0.0.0/8", "10.0.0.2", "192.168.0.0/24", "0.0.0.0/0", "203.0.113.0/24", "192.0.2.128/25"}
	}
	return []string{"fd00::/126", "2001:db8::/64", "fd00::/64", "fd00::2/128", "fd10::/64", "2001:db8:1::/64", "::/0"}
}

// bits draws a number below 2^n, each as likely as the other, unlike what rapid's numbers are.
func bits(t *rapid.T, n int, label string) int {
	out := 0
	for range n {
		out *= 2
		if rapid.Bool().Draw(t, label) {
			out++
		}
	}
	return out
}

// chance is true so many times in a hundred, in steps of 3. What shrinks becomes false.
func chance(t *rapid.T, percent int, label string) bool {
	const n = 5
	return (1<<n-1-bits(t, n, label))*100 < percent<<n
}

// pick draws one of a list, each about as likely as the other. What shrinks becomes the first.
func pick[T any](t *rapid.T, from []T, label string) T { return from[bits(t, 6, label)%len(from)] }

// some draws up to most of a list, one at least.
func some[T any](t *rapid.T, from []T, most int, label string) []T {
	out := []T{pick(t, from, label)}
	for len(out) < most && chance(t, 40, "more "+label) {
		out = append(out, pick(t, from, label))
	}
	return out
}

// upTo draws a number from 0 to most, each as likely as the other.
func upTo(t *rapid.T, most int, label string) int { return bits(t, 6, label) % (most + 1) }

func drawLabels(t *rapid.T) map[string]string {
	out := map[string]string{}
	for _, key := range keys() {
		if chance(t, 60, "has "+key) {
			out[key] = pick(t, values(), key)
		}
	}
	return out
}

// drawSelector draws the text of a selector.
func drawSelector(t *rapid.T, depth int) string {
	if depth > 0 && chance(t, 25, "compound") {
		a, b := drawSelector(t, depth-1), drawSelector(t, depth-1)
		return pick(t, []string{a + " || " + b, "(" + a + ") && (" + b + ")", "!(" + a + ")", a + "&&" + b}, "compound")
	}
	key, value := pick(t, keys(), "key"), pick(t, values(), "value")
	if chance(t, 15, "built in") {
		key = pick(t, []string{"projectcalico.org/namespace", "projectcalico.org/name", "projectcalico.org/serviceaccount", "projectcalico.org/orchestrator"}, "key")
		value = pick(t, []string{"n1", "n2", "robot", "default", "k8s"}, "value")
	}
	return pick(t, []string{
		"has(" + key + ")", key + " == '" + value + "'", key + ` != "` + value + `"`, key + " in {'" + value + "', 'b'}", key + " not in {'a','" + value + "'}",
		key + " contains '" + value[:1] + "'", key + " starts with 'a'", key + " ends with 'b'", "!has(" + key + ")", "all()", "! " + key + " == '" + value + "'",
		key + " notin {'" + value + "'}",
	}, "term")
}

func maybeSelector(t *rapid.T, percent int, label string) string {
	if !chance(t, percent, label) {
		return ""
	}
	return drawSelector(t, 2)
}
