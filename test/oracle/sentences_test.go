package oracle_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/manul-net/manul/test/oracle"
	"github.com/manul-net/manul/test/oracle/kernels"
)

// A sentence says something of policies: what users apply, and what then becomes of packets. Each is a line of text, "from -> to
// protocol port: verdict". Ends are pods ("shop/db"), nodes ("node x", "node x eth1" by its other address), and what is outside:
// "front@x" is a machine that is seen through node x's eth0, "back@x" one through its eth1. Protocols are tcp, udp, sctp, gre, ipip
// and icmp, whose port is the type, or type and code ("8/0"; echo requests of IPv6 are 8, too). "tcp 80 from 53" tells the source port.
// "as front" gives it another source. Verdicts are "arrives" and "dropped", or "arrives at" somebody. A line is of both families
// unless it begins with 4 or 6.
type sentence struct {
	says      string
	manifests string
	packets   string
	// refused: the policies are none that the compiler takes.
	refused bool
	// services that nodes translate.
	services []oracle.Translation
}

// section of sentences, all about one part of what policies mean.
type section struct {
	about     string
	sentences []sentence
}

func sections() []section {
	return []section{
		{"selectors", selectorSentences()},
		{"endpoints", endpointSentences()},
		{"who a policy applies to", appliesSentences()},
		{"who a rule matches", peerSentences()},
		{"what a rule matches", matchSentences()},
		{"order", orderSentences()},
		{"evaluation", evaluationSentences()},
		{"kinds of Kubernetes", kubernetesSentences()},
		{"host endpoints", hostSentences()},
	}
}

// townPods are the pods of all sentences, in their places.
func townPods() []string {
	return []string{"shop/web", "shop/db", "shop/cache", "bank/web", "bank/teller", "bank/vault"}
}

// town is the cluster of all sentences.
const town = `
{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {team: red}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: bank, labels: {team: blue}}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: default, namespace: shop}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: robot, namespace: shop, labels: {role: front}}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: default, namespace: bank}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: robot, namespace: bank, labels: {role: back}}}
---
{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop, uid: u0, labels: {app: web, tier: front}}, spec: {nodeName: x, serviceAccountName: robot, containers: [{name: main, image: a, ports: [{name: http, containerPort: 8080}]}]}, status: {phase: Running, podIPs: [{ip: 10.0.0.1}, {ip: "fd00::1"}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: db, namespace: shop, uid: u1, labels: {app: db, tier: back}}, spec: {nodeName: "y", serviceAccountName: default, containers: [{name: main, image: a, ports: [{name: http, containerPort: 80}, {name: dns, containerPort: 53, protocol: UDP}]}]}, status: {phase: Running, podIPs: [{ip: 10.0.0.2}, {ip: "fd00::2"}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: cache, namespace: shop, uid: u2, labels: {app: cache}}, spec: {nodeName: x, serviceAccountName: default, containers: [{name: main, image: a}]}, status: {phase: Running, podIPs: [{ip: 10.0.0.3}, {ip: "fd00::3"}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: bank, uid: u3, labels: {app: web}}, spec: {nodeName: "y", serviceAccountName: default, containers: [{name: main, image: a, ports: [{name: http, containerPort: 8081}]}]}, status: {phase: Running, podIPs: [{ip: 10.0.0.4}, {ip: "fd00::4"}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: teller, namespace: bank, uid: u4, labels: {app: teller, tier: front-office}}, spec: {nodeName: x, serviceAccountName: robot, containers: [{name: main, image: a}]}, status: {phase: Running, podIPs: [{ip: 10.0.0.5}, {ip: "fd00::5"}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: vault, namespace: bank, uid: u5, labels: {}}, spec: {nodeName: "y", serviceAccountName: default, containers: [{name: main, image: a}]}, status: {phase: Running, podIPs: [{ip: 10.0.0.6}, {ip: "fd00::6"}]}}
---
{apiVersion: v1, kind: Node, metadata: {name: x, labels: {zone: one}}, status: {addresses: [{type: InternalIP, address: 192.168.0.1}, {type: InternalIP, address: "fd10::1"}]}}
---
{apiVersion: v1, kind: Node, metadata: {name: "y"}, status: {addresses: [{type: InternalIP, address: 192.168.0.2}, {type: InternalIP, address: "fd10::2"}]}}
`

// world is the town after the sentence's manifests were applied.
func (s *sentence) world(t *testing.T) *oracle.World {
	t.Helper()
	w := &oracle.World{Interfaces: interfaces(), Translations: s.services}
	for _, text := range []string{town, s.manifests} {
		if err := w.Add(strings.Trim(text, "\n") + "\n"); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// townNetwork is the network of all sentences.
func townNetwork() *oracle.Network {
	n := everyPlace()
	for i, id := range townPods() {
		n.Pods[i].ID = id
	}
	return n
}

// said is a packet of a sentence with its verdict.
type said struct {
	oracle.Flow
	arrives bool
	at      *oracle.Place
}

// flows of a sentence.
func (s *sentence) flows(t *testing.T) []said {
	t.Helper()
	var out []said
	for line := range strings.SplitSeq(strings.Trim(s.packets, "\n"), "\n") {
		line = strings.TrimSpace(line)
		families := []bool{true, false}
		if rest, is := strings.CutPrefix(line, "4 "); is {
			families, line = families[:1], rest
		} else if rest, is := strings.CutPrefix(line, "6 "); is {
			families, line = families[1:], rest
		}
		for _, v4 := range families {
			f, err := parseSaid(line, v4)
			if err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			out = append(out, f)
		}
	}
	return out
}

func parseSaid(line string, v4 bool) (said, error) {
	head, verdict, ok := strings.Cut(line, ": ")
	from, rest, ok2 := strings.Cut(head, " -> ")
	if !ok || !ok2 {
		return said{}, fmt.Errorf("not a packet")
	}
	var f said
	from, as, pretends := strings.Cut(from, " as ")
	var err error
	if f.From, f.Source, err = spot(from, v4); err != nil {
		return f, err
	}
	if pretends {
		if _, f.Source, err = spot(as, v4); err != nil {
			return f, err
		}
	}
	words := strings.Fields(rest)
	at := slices.IndexFunc(words, func(w string) bool { return slices.Contains([]string{"tcp", "udp", "sctp", "icmp", "gre", "ipip"}, w) })
	if at < 0 {
		return f, fmt.Errorf("no protocol")
	}
	if _, f.Destination, err = spot(strings.Join(words[:at], " "), v4); err != nil {
		return f, err
	}
	if err = f.parseProtocol(words[at:], v4); err != nil {
		return f, err
	}
	to, elsewhere := strings.CutPrefix(verdict, "arrives at ")
	f.arrives = verdict == "arrives" || elsewhere
	if elsewhere {
		place, _, err := spot(to, v4)
		if err != nil {
			return f, err
		}
		f.at = &place
	} else if !f.arrives && verdict != "dropped" {
		return f, fmt.Errorf("no verdict: %s", verdict)
	}
	return f, nil
}

func (f *said) parseProtocol(words []string, v4 bool) error {
	f.Protocol = map[string]int{"tcp": oracle.TCP, "udp": oracle.UDP, "sctp": oracle.SCTP, "icmp": oracle.ICMP, "gre": oracle.GRE, "ipip": oracle.IPIP}[words[0]]
	if len(words) == 1 {
		return nil
	}
	first, second, _ := strings.Cut(words[1], "/")
	n, err := strconv.Atoi(first)
	if err != nil {
		return err
	}
	if f.Protocol == oracle.ICMP {
		const echo, echo6 = 8, 128
		if f.ICMPType = n; !v4 {
			f.Protocol = oracle.ICMPv6
			if n == echo {
				f.ICMPType = echo6
			}
		}
		if second != "" {
			f.ICMPCode, err = strconv.Atoi(second)
		}
		return err
	}
	f.DestinationPort, f.SourcePort = n, 40000
	if len(words) == 4 && words[2] == "from" {
		f.SourcePort, err = strconv.Atoi(words[3])
	}
	return err
}

// spot is somebody's place and address.
func spot(who string, v4 bool) (oracle.Place, netip.Addr, error) {
	if i := slices.Index(townPods(), who); i >= 0 {
		return oracle.Place{Pod: who}, netip.MustParseAddr(podAddress(i, v4)), nil
	}
	if machine, node, is := strings.Cut(who, "@"); is || machine == "front" || machine == "back" {
		if machine == "front" {
			return oracle.Place{Node: node, Interface: "eth0"}, front(v4), nil
		}
		return oracle.Place{Node: node, Interface: "eth1"}, back(v4), nil
	}
	if who == "service" {
		return oracle.Place{}, family(v4, "10.96.0.10", "fd96::10"), nil
	}
	words := strings.Fields(who + " eth0")
	for _, l := range interfaces() {
		if words[0] == "node" && l.Node == words[1] && l.Name == words[2] {
			return oracle.Place{Node: l.Node}, l.Addresses[map[bool]int{true: 0, false: 1}[v4]], nil
		}
	}
	return oracle.Place{}, netip.Addr{}, fmt.Errorf("nobody is called %q", who)
}

// is tells what is wrong with a verdict.
func (f *said) is(v oracle.Verdict) bool {
	return v.Arrived == f.arrives && (f.at == nil || *f.at == v.Place)
}

// eachSentence runs a test for each sentence.
func eachSentence(t *testing.T, test func(t *testing.T, s *sentence, w *oracle.World, flows []said)) {
	t.Helper()
	for _, section := range sections() {
		t.Run(section.about, func(t *testing.T) {
			for _, s := range section.sentences {
				t.Run(s.says, func(t *testing.T) { test(t, &s, s.world(t), s.flows(t)) })
			}
		})
	}
}

// Sentences hold for what users write, for what is rendered of it, and for what nodes make of that.
func TestSentences(t *testing.T) {
	eachSentence(t, func(t *testing.T, s *sentence, w *oracle.World, flows []said) {
		if got := len(refused(w)) > 0; got != s.refused {
			t.Errorf("refused: %v, which is %v", refused(w), got)
		}
		r, err := compile(w)
		if err != nil {
			t.Fatal(err)
		}
		tables, err := r.Tables(w.Network())
		if err != nil {
			t.Fatal(err)
		}
		for name, e := range map[string]*oracle.Evaluator{"users": w.Users(), "rendered": r.Evaluator(w.Network()), "tables": tables.Evaluator(w.Network())} {
			if s.refused && name == "users" {
				continue // users' objects are read as valid ones
			}
			for _, f := range flows {
				if v := e.Verdict(f.Flow); !f.is(v) {
					t.Errorf("%s: %s, which should arrive: %v: %s", name, f.Flow, f.arrives, v)
				}
			}
		}
	})
}

// Sentences hold for packets, on every dataplane.
func TestSentencesInKernels(t *testing.T) {
	all := openKernels(t, townNetwork())
	eachSentence(t, func(t *testing.T, s *sentence, w *oracle.World, flows []said) {
		var plain []oracle.Flow
		for _, f := range flows {
			plain = append(plain, f.Flow)
		}
		r, err := compile(w)
		if err != nil {
			t.Fatal(err)
		}
		if err := all.Become(w.Network(), func() (oracle.Tables, error) { return r.Tables(w.Network()) }); err != nil {
			t.Fatal(err)
		}
		e := w.Users()
		if s.refused {
			e = r.Evaluator(w.Network())
		}
		differences, err := all.Send(w.Network(), kernels.Showable(plain, w.Network(), e))
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range differences {
			t.Error(d)
		}
	})
}

// Words by which manifests are written down. The text is a spec.

func manifestOf(apiVersion, kind, namespace, name, spec string) string {
	if namespace != "" {
		namespace = "\n  namespace: " + namespace
	}
	return fmt.Sprintf("apiVersion: %s\nkind: %s\nmetadata:\n  name: %s%s\nspec:\n  %s\n---\n", apiVersion, kind, name, namespace, strings.ReplaceAll(strings.TrimSpace(spec), "\n", "\n  "))
}

func policyIn(namespace, name, spec string) string {
	return manifestOf("projectcalico.org/v3", "NetworkPolicy", namespace, name, spec)
}

func globalPolicy(name, spec string) string {
	return manifestOf("projectcalico.org/v3", "GlobalNetworkPolicy", "", name, spec)
}

func kubernetesPolicy(namespace, name, spec string) string {
	return manifestOf("networking.k8s.io/v1", "NetworkPolicy", namespace, name, spec)
}

func hostEndpoint(name, labels, spec string) string {
	return strings.Replace(manifestOf("projectcalico.org/v3", "HostEndpoint", "", name, spec), "metadata:\n", "metadata:\n  labels: {"+labels+"}\n", 1)
}

func tier(name, spec string) string {
	return manifestOf("projectcalico.org/v3", "Tier", "", name, spec)
}

func networkSet(kind, namespace, name, labels, nets string) string {
	return strings.Replace(manifestOf("projectcalico.org/v3", kind, namespace, name, "nets: ["+nets+"]"), "metadata:\n", "metadata:\n  labels: {"+labels+"}\n", 1)
}

func felix(spec string) string {
	return manifestOf("projectcalico.org/v3", "FelixConfiguration", "", "default", spec)
}

// verdicts are lines for packets of one sort from everybody to one, who arrive if they are named.
func verdicts(everybody []string, line string, arrive ...string) string {
	var b strings.Builder
	for _, who := range everybody {
		verdict := "dropped"
		if slices.Contains(arrive, who) {
			verdict = "arrives"
		}
		fmt.Fprintf(&b, "%s: %s\n", fmt.Sprintf(line, who), verdict)
	}
	return b.String()
}
