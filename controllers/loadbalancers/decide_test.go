package loadbalancers

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v3 "github.com/manul-net/manul/api/v3"
)

// service is one of type LoadBalancer, created at the given second; words are addresses that it has, annotations key=value, IPv6 or
// IPv4 for its families, and class=.
func service(name string, created int, words ...string) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), CreationTimestamp: metav1.Unix(int64(created), 0), Annotations: map[string]string{}},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer},
	}
	for _, word := range words {
		key, value, annotated := strings.Cut(word, "=")
		switch {
		case key == "class":
			s.Spec.LoadBalancerClass = &value
		case annotated:
			s.Annotations["projectcalico.org/"+key] = value
		case strings.HasPrefix(word, "IPv"):
			s.Spec.IPFamilies = append(s.Spec.IPFamilies, corev1.IPFamily(word))
		default:
			s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: word})
		}
	}
	return s
}

func loadBalancerPool(name, cidr string, change func(*v3.IPPoolSpec)) v3.IPPool {
	p := v3.IPPool{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v3.IPPoolSpec{CIDR: cidr, AllowedUses: []v3.IPPoolAllowedUse{v3.IPPoolAllowedUseLoadBalancer}}}
	if change != nil {
		change(&p.Spec)
	}
	return p
}

func TestWhichAddressesServicesGet(t *testing.T) {
	pools := []v3.IPPool{
		loadBalancerPool("services", "10.51.0.0/30", nil),
		loadBalancerPool("manual", "10.52.0.0/30", func(s *v3.IPPoolSpec) { s.AssignmentMode = v3.AssignmentManual }),
		loadBalancerPool("six", "2001:db8:51::/126", nil),
		loadBalancerPool("off", "10.40.0.0/30", func(s *v3.IPPoolSpec) { s.Disabled = true }),
		{ObjectMeta: metav1.ObjectMeta{Name: "pods"}, Spec: v3.IPPoolSpec{CIDR: "10.30.0.0/16"}},
	}
	for sentence, tc := range map[string]struct {
		assign   string
		services []*corev1.Service
		reserved []string
		made     map[types.UID][]netip.Addr
		want     string
	}{
		"the first free address, the older service first": {
			services: []*corev1.Service{service("b", 1), service("a", 2)}, want: "b: [10.51.0.0]\na: [10.51.0.1]",
		},
		"a service keeps its address": {services: []*corev1.Service{service("a", 1), service("b", 2, "10.51.0.0")}, want: "a: [10.51.0.1]"},
		"one address of each family":  {services: []*corev1.Service{service("a", 1, "IPv6", "IPv4")}, want: "a: [2001:db8:51:: 10.51.0.0]"},
		"reserved addresses are left out": {
			services: []*corev1.Service{service("a", 1)}, reserved: []string{"10.51.0.0/31"}, want: "a: [10.51.0.2]",
		},
		"from the pool that it names, whether manual or not": {services: []*corev1.Service{service("a", 1, `ipv4pools=["manual"]`)}, want: "a: [10.52.0.0]"},
		"a pool by its CIDR":                      {services: []*corev1.Service{service("a", 1, `ipv4pools=["10.52.0.0/30"]`)}, want: "a: [10.52.0.0]"},
		"a service that names another pool moves": {services: []*corev1.Service{service("a", 1, "10.51.0.0", `ipv4pools=["manual"]`)}, want: "a: [10.52.0.0]"},
		"exactly the address that it asks for":    {services: []*corev1.Service{service("a", 1, `loadBalancerIPs=["10.51.0.3"]`)}, want: "a: [10.51.0.3]"},
		"an address that another has":             {services: []*corev1.Service{service("a", 1, "10.51.0.3"), service("b", 2, `loadBalancerIPs=["10.51.0.3"]`)}, want: "b: another service has 10.51.0.3: choose a free address"},
		"an address outside the pools":            {services: []*corev1.Service{service("a", 1, `loadBalancerIPs=["10.30.0.1"]`)}, want: "a: 10.30.0.1 lies outside every IPPool"},
		"a pool that is none for services":        {services: []*corev1.Service{service("a", 1, `ipv4pools=["pods"]`)}, want: "a: there is no IPPool pods"},
		"a disabled pool gives none":              {services: []*corev1.Service{service("a", 1, `ipv4pools=["off"]`)}, want: "a: no IPv4 address is free"},
		"but what is held stays":                  {services: []*corev1.Service{service("a", 1, "10.40.0.1")}},
		"a pool that is exhausted": {
			services: []*corev1.Service{service("a", 1, "10.51.0.0"), service("b", 2, "10.51.0.1"), service("c", 3, "10.51.0.2"), service("d", 4, "10.51.0.3"), service("e", 5)},
			want:     "e: no IPv4 address is free",
		},
		"another class is another's":             {services: []*corev1.Service{service("a", 1, "class=other"), service("b", 2, "class=calico")}, want: "b: [10.51.0.0]"},
		"what another implementation gave stays": {services: []*corev1.Service{service("a", 1, "203.0.113.1")}},
		"RequestedServicesOnly: who asks": {
			assign:   assignRequested,
			services: []*corev1.Service{service("a", 1), service("b", 2, `loadBalancerIPs=["10.51.0.3"]`), service("c", 3, `ipv4pools=["services"]`)},
			want:     "b: [10.51.0.3]\nc: [10.51.0.0]",
		},
		"two services with one address: the older keeps it": {
			services: []*corev1.Service{service("a", 1, "10.51.0.1"), service("b", 2, "10.51.0.1")}, want: "b: [10.51.0.0]",
		},
		"what was written counts before it comes back": {
			services: []*corev1.Service{service("a", 1), service("b", 2)}, made: map[types.UID][]netip.Addr{"a": {netip.MustParseAddr("10.51.0.0")}},
			want: "b: [10.51.0.1]",
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			if tc.assign == "" {
				tc.assign = assignAll
			}
			p := decide(tc.assign, tc.services, pools, []v3.IPReservation{{Spec: v3.IPReservationSpec{ReservedCIDRs: tc.reserved}}}, tc.made)
			var lines []string
			for _, c := range p.changes {
				lines = append(lines, fmt.Sprintf("%s: %v", c.service.Name, c.addresses))
			}
			for uid, problem := range p.problems {
				lines = append(lines, string(uid)+": "+problem)
			}
			got := strings.Join(lines, "\n")
			if len(p.problems) > 0 {
				name, text, _ := strings.Cut(tc.want, ": ")
				if !strings.HasPrefix(got, name+": ") || !strings.Contains(got, text) {
					t.Errorf("got %q, want %q", got, tc.want)
				}
			} else if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("addresses (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWhoGetsAddresses(t *testing.T) {
	config := &v3.KubeControllersConfiguration{}
	if got := assignIPs(nil); got != assignAll {
		t.Errorf("without a configuration %q", got)
	}
	if got := assignIPs(config); got != assignNone {
		t.Errorf("with a configuration without loadBalancer %q", got)
	}
	config.Spec.Controllers.LoadBalancer = &v3.LoadBalancerControllerConfig{AssignIPs: "RequestedServicesOnly"}
	if got := assignIPs(config); got != assignRequested {
		t.Errorf("with RequestedServicesOnly %q", got)
	}
}

// TestManyServices bounds the work of a look.
func TestManyServices(t *testing.T) {
	var services []*corev1.Service
	for i := range 10_000 {
		services = append(services, service(fmt.Sprint("s", i), i))
	}
	start := time.Now()
	p := decide(assignAll, services, []v3.IPPool{loadBalancerPool("p", "10.51.0.0/16", nil)}, nil, nil)
	if len(p.changes) != 10_000 || len(p.problems) > 0 {
		t.Fatalf("%d changes, %d problems", len(p.changes), len(p.problems))
	}
	t.Logf("10,000 services took %s", time.Since(start).Round(time.Millisecond))
}
