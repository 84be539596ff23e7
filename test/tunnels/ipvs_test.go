package tunnels

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/manul-net/manul/test/netns"
)

// The services of TestPolicyWithIPVS: by a pod of the node, by one of another node, and by the node itself.
const (
	nearService, farService, nodeService = "10.96.0.10", "10.96.0.11", "10.96.0.12"
	nearService6                         = "fd00:96::10"
	externalIP                           = "203.0.113.10"
	nodePort                             = 30080
)

func service(name, ip, more string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: default}\nspec: {type: NodePort, clusterIP: %q, clusterIPs: [%q], ipFamilies: [%s]%s}",
		name, ip, ip, familyName(ip), more)
}

func endpointsOf(name string, addr netip.Addr, port int, node string) string {
	return fmt.Sprintf("apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: %s-1, namespace: default, labels: {kubernetes.io/service-name: %s}}\n"+
		"addressType: %s\nports: [{name: web, protocol: TCP, port: %d}]\nendpoints: [{addresses: [%q], nodeName: %s, conditions: {ready: true, serving: true}}]",
		name, name, familyName(addr.String()), port, addr, node)
}

func familyName(ip string) string {
	if strings.Contains(ip, ":") {
		return "IPv6"
	}
	return "IPv4"
}

// TestPolicyWithIPVS: what the real kube-proxy in mode ipvs passes on meets policy as what it translates in other modes. It begins an
// emulated machine, whose kernel has IPVS, and goes on there.
func TestPolicyWithIPVS(t *testing.T) {
	if os.Getenv("MANUL_MACHINE") == "" {
		ipvsOnAMachine(t)
		return
	}
	w := NewWorld(t)
	w.Give(poolWith("pool", pool4, "") + "\n---\n" + poolWith("six", pool6, "") + "\n---\n" +
		"apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: default}\nspec: {order: 1000000}\n---\n" +
		"apiVersion: projectcalico.org/v3\nkind: FelixConfiguration\nmetadata: {name: default}\nspec: {defaultEndpointToHostAction: Accept}")
	n1, n2 := w.Node("w1", "a", pool4, pool6), w.Node("w2", "a", pool4, pool6)
	near, client, far := n1.Pod("near"), n1.Pod("client"), n2.Pod("far")
	outside := w.outside(n1)
	defer answers(near.NS, netip.AddrPortFrom(near.V4, 8080))()
	defer answers(near.NS, netip.AddrPortFrom(near.V6, 8080))()
	defer answers(far.NS, netip.AddrPortFrom(far.V4, 8080))()
	defer answers(n1.NS, netip.AddrPortFrom(n1.V4, 8080))()

	api := newKubeAPI()
	const web = ", ports: [{name: web, protocol: TCP, port: 80, targetPort: web%s}]%s"
	for _, manifest := range []string{
		n1.manifest(),
		service("near", nearService, fmt.Sprintf(web, fmt.Sprint(", nodePort: ", nodePort), ", externalIPs: ["+externalIP+"]")), endpointsOf("near", near.V4, 8080, "w1"),
		service("six", nearService6, fmt.Sprintf(web, ", nodePort: 30086", "")), endpointsOf("six", near.V6, 8080, "w1"),
		service("far", farService, fmt.Sprintf(web, ", nodePort: 30081", "")), endpointsOf("far", far.V4, 8080, "w2"),
		service("node", nodeService, fmt.Sprintf(web, ", nodePort: 30082", "")), endpointsOf("node", n1.V4, 8080, "w1"),
	} {
		if err := api.apply(manifest); err != nil {
			t.Fatal(err)
		}
	}
	n2.Route("10.96.0.0/16", n1.V4.String(), "eth0")
	n2.Sysctl("ipv4/conf/all/accept_redirects", "0")
	n1.KubeProxy("kube-proxy", "ipvs", api)
	eventually(t, func() string {
		for _, f := range w.status("w1").Failures {
			return f.Message
		}
		return n1.lacks(nearService, nearService6, farService, nodeService, externalIP)
	})

	pods := map[string]*netns.NS{"a pod of the node": client.NS, "the pod itself": near.NS, "another node": n2.NS, "the node": n1.NS, "outside": outside}
	address := strings.NewReplacer("NEAR6", near.V6.String(), "NEAR", near.V4.String(), "CLIENT6", client.V6.String(), "CLIENT", client.V4.String(), "FAR", far.V4.String(),
		"OUTSIDE", "192.0.2.100", "OTHER", n2.V4.String(), "NODE", n1.V4.String())
	const host = "apiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata: {name: eth0, labels: {host: 'yes'}}\nspec: {node: w1, interfaceName: eth0, profiles: [projectcalico-default-allow]}"
	for _, test := range []struct {
		what, from, to string
		// rules of a policy; hosts: it selects the host endpoint of eth0, with more of its spec.
		rules string
		hosts bool
		want  bool
	}{
		{"nothing denies it", "a pod of the node", nearService, "", false, true},
		{"ingress policy of the pod denies the client", "a pod of the node", nearService, "ingress: [{action: Deny, source: {nets: [CLIENT/32]}}, {action: Allow}]", false, false},
		{"ingress policy of the pod denies another", "a pod of the node", nearService, "ingress: [{action: Deny, source: {nets: [FAR/32]}}, {action: Allow}]", false, true},
		{"egress policy of the client denies the pod", "a pod of the node", nearService, "egress: [{action: Deny, destination: {nets: [NEAR/32]}}, {action: Allow}]", false, false},
		{"egress policy of the client denies the service's address, which it does not see", "a pod of the node", nearService, "egress: [{action: Deny, destination: {nets: [10.96.0.0/16]}}, {action: Allow}]", false, true},
		{"egress policy of the client allows the pod's port alone", "a pod of the node", nearService, "egress: [{action: Allow, protocol: TCP, destination: {ports: [8080]}}]", false, true},
		{"egress policy of the client allows the service's port alone", "a pod of the node", nearService, "egress: [{action: Allow, protocol: TCP, destination: {ports: [80]}}]", false, false},

		{"nothing denies it", "a pod of the node", nearService6, "", false, true},
		{"ingress policy of the pod denies the client", "a pod of the node", nearService6, "ingress: [{action: Deny, source: {nets: [CLIENT6/128]}}, {action: Allow}]", false, false},
		{"egress policy of the client denies the pod", "a pod of the node", nearService6, "egress: [{action: Deny, destination: {nets: [NEAR6/128]}}, {action: Allow}]", false, false},

		{"nothing denies it", "a pod of the node", farService, "", false, true},
		{"egress policy of the client denies the pod", "a pod of the node", farService, "egress: [{action: Deny, destination: {nets: [FAR/32]}}, {action: Allow}]", false, false},
		{"ingress policy of the pod on the other node denies the client", "a pod of the node", farService, "ingress: [{action: Deny, source: {nets: [CLIENT/32]}}, {action: Allow}]", false, false},

		{"nothing denies it", "a pod of the node", nodeService, "", false, true},
		{"egress policy of the client denies the node's address", "a pod of the node", nodeService, "egress: [{action: Deny, destination: {nets: [NODE/32]}}, {action: Allow}]", false, false},

		{"nothing denies it", "the pod itself", nearService, "", false, true},

		{"nothing denies it", "another node", nearService, "", false, true},
		{"ingress policy of the pod denies the client", "another node", nearService, "ingress: [{action: Deny, source: {nets: [OTHER/32]}}, {action: Allow}]", false, false},

		{"the node reaches its own pods whatever policy says", "the node", nearService, "ingress: [{action: Deny}]", false, true},
		{"nothing denies it", "the node", farService, "", false, true},

		{"nothing denies it", "outside", nearService, "", false, true},
		{"ingress policy of the pod denies the client", "outside", nearService, "ingress: [{action: Deny, source: {nets: [OUTSIDE/32]}}, {action: Allow}]", false, false},
		{"by the external IP, nothing denies it", "outside", externalIP, "", false, true},
		{"by the external IP, ingress policy of the pod denies the client", "outside", externalIP, "ingress: [{action: Deny, source: {nets: [OUTSIDE/32]}}, {action: Allow}]", false, false},
		{"by the node port, nothing denies it", "outside", "NODE:30080", "", false, true},
		{"by the node port, ingress policy of the pod denies the client", "outside", "NODE:30080", "ingress: [{action: Deny, source: {nets: [OUTSIDE/32]}}, {action: Allow}]", false, false},

		{"policy of the host endpoint on what is forwarded denies the client", "outside", nearService, "applyOnForward: true, ingress: [{action: Deny, source: {nets: [OUTSIDE/32]}, destination: {nets: [NEAR/32]}}, {action: Allow}]", true, false},
		{"policy of the host endpoint on what is forwarded denies another pod", "outside", nearService, "applyOnForward: true, ingress: [{action: Deny, destination: {nets: [FAR/32]}}, {action: Allow}]", true, true},
		{"policy of the host endpoint on what is forwarded denies the pod elsewhere", "a pod of the node", farService, "applyOnForward: true, egress: [{action: Deny, destination: {nets: [FAR/32]}}, {action: Allow}]", true, false},
		{"policy of the host endpoint on what is the node's own denies it, and is not asked", "outside", nearService, "ingress: [{action: Deny}], egress: [{action: Deny}]", true, true},
		{"policy of the host endpoint before DNAT denies the service's address", "outside", nearService, "applyOnForward: true, preDNAT: true, ingress: [{action: Deny, destination: {nets: [10.96.0.10/32]}}, {action: Allow}]", true, false},
		{"policy of the host endpoint before DNAT allows it", "outside", nearService, "applyOnForward: true, preDNAT: true, ingress: [{action: Allow, destination: {nets: [10.96.0.10/32]}}, {action: Deny}]", true, true},
		{"policy of the host endpoint on what the node sends denies the pod elsewhere", "the node", farService, "egress: [{action: Deny, destination: {nets: [FAR/32]}}, {action: Allow}]", true, false},
		{"policy of the host endpoint on what the node sends allows the pod elsewhere", "the node", farService, "egress: [{action: Allow, destination: {nets: [FAR/32]}}]", true, true},
		{"policy of the host endpoint on what is for the node denies it", "outside", nodeService, "ingress: [{action: Deny, destination: {nets: [NODE/32]}}, {action: Allow}]", true, false},
		{"policy of the host endpoint on what is for the node allows its own address", "outside", nodeService, "ingress: [{action: Allow, protocol: TCP, destination: {nets: [NODE/32], ports: [8080]}}]", true, true},
	} {
		name := fmt.Sprintf("%s to %s: %s", test.from, test.to, test.what)
		t.Run(name, func(t *testing.T) {
			policy := ""
			if test.rules != "" {
				selector := "projectcalico.org/orchestrator == 'k8s'"
				if test.hosts {
					selector = "has(host)"
					w.Give(host)
				}
				var types []string
				for _, direction := range []string{"ingress", "egress"} {
					if strings.Contains(test.rules, direction+":") {
						types = append(types, strings.ToUpper(direction[:1])+direction[1:])
					}
				}
				policy = fmt.Sprintf("apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: default.test}\nspec: {selector: %q, types: [%s], %s}",
					selector, strings.Join(types, ", "), address.Replace(test.rules))
				w.Give(policy)
			}
			n1.settles()
			n2.settles()
			to := address.Replace(test.to)
			if !strings.Contains(to, ":") || strings.HasPrefix(to, "fd") {
				to = net.JoinHostPort(to, "80")
			}
			if err := dial(t, pods[test.from], to, test.want); (err == nil) != test.want || err != nil && !timedOut(err) {
				t.Errorf("connecting: %v, want %s", err, map[bool]string{true: "an answer", false: "no answer in time"}[test.want])
			}
			if policy != "" {
				w.take(policy)
			}
			if test.hosts {
				w.take(host)
			}
		})
	}
}

// outside makes a machine beside a node that sends what is for services there.
func (w *World) outside(by *Node) *netns.NS {
	w.t.Helper()
	ns := netns.New(w.t)
	ns.Sysctl("ipv4/conf/all/accept_redirects", "0")
	ns.Veth("eth0", w.Router, "outside")
	w.Router.Master("outside", "a")
	ns.Address("eth0", "192.0.2.100/24", "2001:db8:a::100/64")
	for _, cidr := range []string{"10.96.0.0/16", "203.0.113.0/24"} {
		ns.Route(cidr, by.V4.String(), "eth0")
	}
	ns.Route("fd00:96::/64", by.V6.String(), "eth0")
	return ns
}

// lacks says which address of a service kube-proxy has not given the node yet; "": none. They come with what leads on from them.
func (n *Node) lacks(services ...string) string {
	link, err := n.LinkByName("kube-ipvs0")
	if err != nil {
		return err.Error()
	}
	have, err := n.AddrList(link, 0)
	if err != nil {
		return err.Error()
	}
	for _, service := range services {
		if !slices.ContainsFunc(have, func(a netlink.Addr) bool { return a.IP.Equal(net.ParseIP(service)) }) {
			return "kube-proxy has not set up " + service
		}
	}
	return ""
}

// settles waits until what was rendered for a node is in effect there.
func (n *Node) settles() {
	n.world.t.Helper()
	eventually(n.world.t, func() string { return n.world.behind(n.Name) })
}

// dial connects to a service and has something sent back.
func dial(t *testing.T, from *netns.NS, to string, want bool) (err error) {
	t.Helper()
	wait := time.Minute
	if !want {
		wait = 1500 * time.Millisecond
	}
	from.Do(func() {
		var c net.Conn
		if c, err = net.DialTimeout("tcp", to, wait); err != nil {
			return
		}
		defer c.Close()
		if err = c.SetDeadline(time.Now().Add(wait)); err != nil {
			return
		}
		if _, err = c.Write([]byte("?")); err == nil {
			_, err = c.Read(make([]byte, 1))
		}
	})
	return err
}

func timedOut(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// answers has a port send back what it gets, whoever connects, and gives what ends it.
func answers(at *netns.NS, addr netip.AddrPort) (stop func()) {
	var listener net.Listener
	at.Must("listening", func() (err error) {
		listener, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(addr))
		return err
	})
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			})
		}
	})
	return func() {
		_ = listener.Close()
		serving.Wait()
	}
}
