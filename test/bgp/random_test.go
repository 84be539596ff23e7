package bgp

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"pgregory.net/rapid"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	compiler "github.com/manul-net/manul/internal/render"
	"github.com/manul-net/manul/internal/routing"
	"github.com/manul-net/manul/internal/validate"
	"github.com/manul-net/manul/nodeagent/render"
)

// The routers that random clusters peer with: one of another AS, one of the nodes' own.
const external, internal = "192.0.2.100", "192.0.2.101"

func routerAS(router string) uint32 {
	if router == internal {
		return nodes
	}
	return rack
}

// clusters are random ones, each valid by what admission says of its objects.
func clusters() *rapid.Generator[*cluster] {
	return rapid.Custom(func(t *rapid.T) *cluster {
		c := &cluster{
			configurations: map[string]*v3.BGPConfiguration{}, blocks: map[string][]netip.Prefix{}, pods: map[string][]netip.Prefix{},
			endpoints: map[string][]string{},
		}
		chance := func(of int, what string) bool { return rapid.IntRange(1, of).Draw(t, what) == 1 }
		for i := range 3 {
			n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("n%d", i+1), Labels: map[string]string{"rack": rapid.SampledFrom([]string{"a", "b"}).Draw(t, "rack")}}}
			n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("192.0.2.%d", i+1)}}
			if chance(6, "excluded") {
				n.Labels["node.kubernetes.io/exclude-from-external-load-balancers"] = ""
			}
			c.nodes = append(c.nodes, n)
			for pool, base := range []string{"10.48.%d.%d/26", "10.60.%d.%d/26"} {
				if chance(2, fmt.Sprint("block of pool ", pool)) {
					c.blocks[n.Name] = append(c.blocks[n.Name], netip.MustParsePrefix(fmt.Sprintf(base, i, rapid.IntRange(0, 3).Draw(t, "block")*64)))
				}
				if chance(3, "a pod outside") {
					c.pods[n.Name] = append(c.pods[n.Name], netip.PrefixFrom(netip.MustParseAddr(fmt.Sprintf([]string{"10.48.9.%d", "10.60.9.%d"}[pool], i)), 32))
				}
			}
		}
		for _, cidr := range []string{"10.48.0.0/16", "10.60.0.0/16"} {
			c.pools = append(c.pools, &v3.IPPool{ObjectMeta: metav1.ObjectMeta{Name: "p" + cidr[:5]}, Spec: v3.IPPoolSpec{CIDR: cidr, DisableBGPExport: chance(3, "private")}})
		}
		c.drawConfigurations(t, chance)
		c.drawServices(t, chance)
		c.drawPeers(t, chance)
		return c
	})
}

func (c *cluster) drawConfigurations(t *rapid.T, chance func(int, string) bool) {
	for _, name := range []string{"default", "node.n1"} {
		if chance(3, name+" is absent") {
			continue
		}
		o := &v3.BGPConfiguration{ObjectMeta: metav1.ObjectMeta{Name: name}}
		s := &o.Spec
		ranges := func(net string) []string {
			return rapid.SliceOfNDistinct(rapid.SampledFrom([]string{net + "0/24", net + "1/32", net + "2/31"}), 0, 2, rapid.ID).Draw(t, net)
		}
		for _, cidr := range ranges("10.49.0.") {
			s.ServiceClusterIPs = append(s.ServiceClusterIPs, v3.ServiceClusterIPBlock{CIDR: cidr})
		}
		for _, cidr := range ranges("10.50.0.") {
			s.ServiceExternalIPs = append(s.ServiceExternalIPs, v3.ServiceExternalIPBlock{CIDR: cidr})
		}
		for _, cidr := range ranges("10.51.0.") {
			s.ServiceLoadBalancerIPs = append(s.ServiceLoadBalancerIPs, v3.ServiceLoadBalancerIPBlock{CIDR: cidr})
		}
		s.ServiceLoadBalancerAggregation = rapid.SampledFrom([]string{"", "Enabled", "Disabled"}).Draw(t, "aggregation")
		s.Communities = []v3.Community{{Name: "blue", Value: rapid.SampledFrom([]string{"64512:1", "64512:1:1"}).Draw(t, "blue")}}
		for _, cidr := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"10.48.0.0/16", "10.49.0.0/16", "10.51.0.1/32", "10.0.0.0/8", "0.0.0.0/0"}), 0, 2, rapid.ID).Draw(t, "communities of") {
			s.PrefixAdvertisements = append(s.PrefixAdvertisements, v3.PrefixAdvertisement{
				CIDR: cidr, Communities: rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"blue", "64512:2", "64512:2:2"}), 1, 2, rapid.ID).Draw(t, "communities"),
			})
		}
		c.configurations[name] = o
	}
	if c.configurations["default"] == nil {
		c.configurations["default"] = &v3.BGPConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	}
	c.configurations["default"].Spec.NodeToNodeMeshEnabled = new(bool) // the nodes' own sessions are another test's
}

func (c *cluster) drawServices(t *rapid.T, chance func(int, string) bool) {
	for i := range rapid.IntRange(0, 4).Draw(t, "services") {
		address := func(net string) string { return fmt.Sprint(net, rapid.IntRange(1, 3).Draw(t, net)) }
		s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "x", Name: fmt.Sprint("s", i)}}
		s.Spec.ClusterIP = address("10.49.0.")
		s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
		if chance(8, "headless") {
			s.Spec.ClusterIP, s.Spec.ClusterIPs = "None", []string{"None"}
		}
		if chance(2, "external") {
			s.Spec.ExternalIPs = []string{address("10.50.0.")}
		}
		if chance(2, "balanced") {
			s.Spec.Type = corev1.ServiceTypeLoadBalancer
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: address("10.51.0.")}}
		}
		if chance(2, "local") {
			s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		}
		if from := rapid.SampledFrom([]string{"", "", "rack == 'a'", "rack ==="}).Draw(t, "from"); from != "" {
			s.Annotations = map[string]string{"manul.projectcalico.org/advertiseFrom": from}
		}
		c.services = append(c.services, s)
		c.endpoints[s.Name] = rapid.SliceOfDistinct(rapid.SampledFrom([]string{"n1", "n2", "n3", ""}), rapid.ID).Draw(t, "endpoints")
	}
}

func (c *cluster) drawPeers(t *rapid.T, chance func(int, string) bool) {
	for i := range rapid.IntRange(1, 4).Draw(t, "peers") {
		p := &v3.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("p", i)}}
		p.Spec.PeerIP = rapid.SampledFrom([]string{external, internal}).Draw(t, "router")
		p.Spec.ASNumber = v3.ASNumber(routerAS(p.Spec.PeerIP))
		switch rapid.IntRange(0, 3).Draw(t, "of") {
		case 0:
			p.Spec.Node = rapid.SampledFrom([]string{"n1", "n2", "n3"}).Draw(t, "node")
		case 1:
			p.Spec.NodeSelector = rapid.SampledFrom([]string{"rack == 'a'", "!has(rack)", "all()"}).Draw(t, "nodes")
		}
		p.Spec.Filters = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"f0", "f1", "f2"}), 0, 2, rapid.ID).Draw(t, "filters")
		c.peers = append(c.peers, p)
	}
	for i := range 3 {
		if chance(8, "filter is absent") {
			continue
		}
		f := &v3.BGPFilter{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("f", i)}}
		for range rapid.IntRange(0, 3).Draw(t, "rules") {
			f.Spec.ExportV4 = append(f.Spec.ExportV4, drawRule(t, chance))
		}
		c.filters = append(c.filters, f)
	}
}

func drawRule(t *rapid.T, chance func(int, string) bool) v3.BGPFilterRuleV4 {
	var r v3.BGPFilterRuleV4
	r.Action = rapid.SampledFrom([]string{"Accept", "Reject"}).Draw(t, "action")
	if !chance(4, "any prefix") {
		r.CIDR = rapid.SampledFrom([]string{"10.48.0.0/16", "10.49.0.0/24", "10.51.0.0/24", "10.50.0.1/32", "10.48.0.0/12", "0.0.0.0/0"}).Draw(t, "cidr")
		r.MatchOperator = rapid.SampledFrom([]string{"Equal", "NotEqual", "In", "NotIn"}).Draw(t, "operator")
		if (r.MatchOperator == "In" || r.MatchOperator == "NotIn") && chance(2, "of some lengths") {
			low := int32(rapid.IntRange(netip.MustParsePrefix(r.CIDR).Bits(), 32).Draw(t, "least"))
			r.PrefixLength = &v3.BGPFilterPrefixLengthV4{}
			if chance(2, "least") {
				r.PrefixLength.Min = &low
			}
			if chance(2, "most") {
				r.PrefixLength.Max = new(int32(rapid.IntRange(int(low), 32).Draw(t, "most")))
			}
		}
	}
	r.PeerType = rapid.SampledFrom([]string{"", "", "eBGP", "iBGP"}).Draw(t, "type of peer")
	if chance(4, "with a community") {
		r.Communities = &v3.BGPFilterCommunities{Values: []v3.BGPCommunity{rapid.SampledFrom([]v3.BGPCommunity{"64512:1", "64512:2", "64512:2:2"}).Draw(t, "community")}}
	}
	switch {
	case chance(8, "source"):
		r.Source = "RemotePeers"
	case chance(8, "interface"):
		r.Interface = "eth*"
	case chance(8, "path"):
		r.ASPathPrefix = []v3.ASNumber{nodes}
	}
	if r.Action == "Accept" {
		for range rapid.IntRange(0, 3).Draw(t, "operations") {
			var o v3.BGPFilterOperation
			switch rapid.IntRange(0, 2).Draw(t, "operation") {
			case 0:
				o.AddCommunity = &v3.BGPFilterAddCommunity{Value: rapid.SampledFrom([]v3.BGPCommunity{"64512:8", "64512:8:8"}).Draw(t, "value")}
			case 1:
				o.PrependASPath = &v3.BGPFilterPrependASPath{Prefix: rapid.SliceOfN(rapid.SampledFrom([]v3.ASNumber{64600, 64601}), 1, 3).Draw(t, "path")}
			case 2:
				o.SetPriority = &v3.BGPFilterSetPriority{Value: 50}
			}
			r.Operations = append(r.Operations, o)
		}
	}
	return r
}

// objects are all of the cluster's, for the compiler.
func (c *cluster) objects() []runtime.Object {
	var out []runtime.Object
	for _, n := range c.nodes {
		out = append(out, n)
		for i, block := range c.blocks[n.Name] {
			out = append(out, &v3.IPAMBlock{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint(n.Name, "-", i)}, Spec: v3.IPAMBlockSpec{CIDR: block.String(), Affinity: new("host:" + n.Name)}})
		}
	}
	for _, o := range c.configurations {
		out = append(out, o)
	}
	for _, o := range c.peers {
		out = append(out, o)
	}
	for _, o := range c.filters {
		out = append(out, o)
	}
	for _, o := range c.pools {
		out = append(out, o)
	}
	for _, o := range c.services {
		slice := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "x", Name: o.Name, Labels: map[string]string{discoveryv1.LabelServiceName: o.Name}}, AddressType: discoveryv1.AddressTypeIPv4}
		for i, node := range c.endpoints[o.Name] {
			e := discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.48.200.%d", i)}}
			if node != "" {
				e.NodeName = &node
			}
			slice.Endpoints = append(slice.Endpoints, e)
		}
		out = append(out, o, slice)
	}
	return out
}

// compiled is what the operator renders for each node; its pods outside blocks are there, too.
func (c *cluster) compiled(t interface{ Fatalf(string, ...any) }) map[string]v1alpha1.NodeStateSpec {
	world := compiler.New()
	for _, o := range c.objects() {
		if err := world.Set(o); err != nil {
			t.Fatalf("compiling: %v", err)
		}
	}
	out := map[string]v1alpha1.NodeStateSpec{}
	for _, n := range c.nodes {
		state, ok := world.Desired(compiler.Key{Kind: compiler.KindNodeState, Name: n.Name}).(*v1alpha1.NodeState)
		if !ok {
			t.Fatalf("there is no NodeState of %s", n.Name)
		}
		spec := state.Spec.DeepCopy()
		for i := range c.pods[n.Name] {
			spec.Endpoints = append(spec.Endpoints, v1alpha1.Endpoint{ID: fmt.Sprint("x/", i), UID: "u"})
		}
		out[n.Name] = *spec
	}
	return out
}

// validated tells that admission would have let the objects in: the model says nothing about others.
func (c *cluster) validated() error {
	for _, o := range c.configurations {
		if errs := validate.BGPConfiguration(o); len(errs) > 0 {
			return errs.ToAggregate()
		}
	}
	for _, o := range c.peers {
		if errs := validate.BGPPeer(o); len(errs) > 0 {
			return errs.ToAggregate()
		}
	}
	for _, o := range c.filters {
		if errs := validate.BGPFilter(o); len(errs) > 0 {
			return errs.ToAggregate()
		}
	}
	return nil
}

// TestExportsEqualASimpleModel has random clusters: which prefixes each node sends to which router, by what the operator renders and the
// agent makes of it, equals what the model says.
func TestExportsEqualASimpleModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := clusters().Draw(t, "cluster")
		if err := c.validated(); err != nil {
			t.Fatalf("the cluster is not valid: %v", err)
		}
		for name, spec := range c.compiled(t) {
			i := slices.IndexFunc(c.nodes, func(n *corev1.Node) bool { return n.Name == name })
			state := render.New(name)
			for j, p := range c.pods[name] {
				state.SetLocal(fmt.Sprint("x/", j), "u", []netip.Addr{p.Addr()})
			}
			state.SetNodeState(&spec)
			for _, router := range []string{external, internal} {
				want := map[string]bool{}
				for _, text := range c.sends(c.nodes[i], router, routerAS(router)) {
					var s sent
					_, _ = fmt.Sscan(text, &s.prefix)
					want[s.prefix] = true
				}
				got := map[string]bool{}
				for j := range spec.BGP.Sessions {
					s := &spec.BGP.Sessions[j]
					if s.Address != router {
						continue
					}
					for p, e := range state.BGP().Exports.All() {
						if passes, _ := routing.Judge(spec.BGP.Filters, s.Filters, p, e.Communities, router == internal); passes {
							got[p.String()] = true
						}
					}
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Fatalf("%s to %s (-model +rendered):\n%s", name, router, diff)
				}
			}
		}
	})
}

// samples is how many random clusters routers see.
const samples = 12

// TestRoutersLearnWhatAModelSays gives some of the same clusters to node agents one after the other, and compares what two BIRD routers
// have learned, with communities and paths.
func TestRoutersLearnWhatAModelSays(t *testing.T) {
	ns := Bridged(t, []string{"192.0.2.1/24"}, []string{"192.0.2.2/24"}, []string{"192.0.2.3/24"}, []string{external + "/24"}, []string{internal + "/24"})
	routers := map[string]*Router{}
	for i, router := range []string{external, internal} {
		s := Setup{ID: router}
		for j := range 3 {
			s.Peerings = append(s.Peerings, Peering{Router: router, Node: fmt.Sprintf("192.0.2.%d", j+1), RouterAS: int(routerAS(router)), NodeAS: nodes, Mute: true})
		}
		routers[router] = s.Start(t, ns[3+i], BIRD)
	}
	agents := map[string]*Node{}
	for i := range 3 {
		name := fmt.Sprintf("n%d", i+1)
		agents[name] = NewNode(t, ns[i], name)
	}
	for seed := range samples {
		c := clusters().Example(seed)
		for name, spec := range c.compiled(t) {
			n := agents[name]
			n.Input.State, n.Input.Pods = spec, map[string][]string{}
			for i, p := range c.pods[name] {
				n.Input.Pods[fmt.Sprint("x/", i)] = []string{p.Addr().String()}
			}
			n.Tell()
		}
		count := 0
		for address, router := range routers {
			var want []string
			for _, n := range c.nodes {
				for _, s := range c.sends(n, address, routerAS(address)) {
					want = append(want, n.Status.Addresses[0].Address+" sends "+s)
				}
			}
			slices.Sort(want)
			count += len(want)
			Eventually(t, func() string {
				if diff := cmp.Diff(want, learnedBy(router)); diff != "" {
					return fmt.Sprintf("cluster %d: router %s has learned (-model +router):\n%s", seed, address, diff)
				}
				return ""
			})
		}
		t.Logf("cluster %d: %d routes", seed, count)
	}
}

// learnedBy are the routes that BIRD has learned, in the model's words.
func learnedBy(r *Router) []string {
	var out []string
	all := birdKnows(r.Ask("show", "route", "all"))
	for _, prefix := range slices.Sorted(maps.Keys(all)) {
		for _, k := range all[prefix] {
			out = append(out, k.NextHop+" sends "+sent{prefix, k.Path, k.Communities}.String())
		}
	}
	slices.Sort(out)
	return out
}
