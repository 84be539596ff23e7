package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/manul-net/manul/test/e2e/lab"
)

// serviceAddress is where the server's service is.
const serviceAddress = "10.49.77.1:8080"

// pathPods are a server with services before it, clients on every node, and programs in the network of two nodes.
func pathPods() string {
	const container = `
  terminationGracePeriodSeconds: 1
  containers: [{name: prober, image: "ghcr.io/manul-net/prober:v0.1.0", args: [serve, %s]}]`
	pod := func(name, labels, node, extra, args string) string {
		return fmt.Sprintf("---\napiVersion: v1\nkind: Pod\nmetadata: {name: %s, namespace: paths, labels: {%s}}\nspec:\n  nodeName: %s%s%s\n",
			name, labels, node, extra, fmt.Sprintf(container, args))
	}
	const inPod, onHost = `-udp, "80", -sctp, "80", -control, ":7000", ":80"`, `-control, ":7001", ":8085"`
	return "apiVersion: v1\nkind: Namespace\nmetadata: {name: paths}\n" +
		pod("server", "name: server, app: server", "worker1", "", inPod) +
		pod("client1", "name: client1, app: client", "worker1", "", inPod) +
		pod("client2", "name: client2, app: client", "worker2", "", inPod) +
		pod("host1st", "app: host", "worker1", "\n  hostNetwork: true", onHost) +
		pod("host2nd", "app: host", "worker2", "\n  hostNetwork: true", onHost) + `---
apiVersion: v1
kind: Service
metadata: {name: anywhere, namespace: paths}
spec:
  type: NodePort
  clusterIP: 10.49.77.1
  selector: {app: server}
  ports:
  - {name: tcp, protocol: TCP, port: 8080, targetPort: 80, nodePort: 30280}
  - {name: udp, protocol: UDP, port: 8080, targetPort: 80, nodePort: 30280}
  - {name: sctp, protocol: SCTP, port: 8080, targetPort: 80, nodePort: 30280}
---
apiVersion: v1
kind: Service
metadata: {name: local, namespace: paths}
spec:
  type: NodePort
  externalTrafficPolicy: Local
  selector: {app: server}
  ports: [{name: tcp, port: 8080, targetPort: 80, nodePort: 30290}]
`
}

// way is a path of packets and whether an answer should come.
type way struct {
	from, protocol, to string
	want               bool
}

// stage is what policies there are, and what should be seen.
type stage struct {
	name   string
	policy string // manifest; "": none
	ways   []way
}

func stages() []stage {
	const (
		service  = serviceAddress
		at1, at2 = "10.0.0.11:", "10.0.0.12:"
		anywhere = "30280"
		local    = "30290"
		ingress  = "\nspec: {selector: app == 'server', types: [Ingress], ingress: [%s]}"
		egress   = "\nspec: {selector: app == 'client', types: [Egress], egress: [%s]}"
		policy   = "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: paths, namespace: paths}"
	)
	return []stage{
		{"without a policy", "", []way{
			{"client1", "TCP", service, true},
			{"client1", "UDP", service, true},
			{"client1", "SCTP", service, true},
			{"client2", "TCP", service, true},
			{"client2", "UDP", service, true},
			{"client2", "SCTP", service, true},
			{"server", "TCP", service, true}, // through its own service
			{"host1", "TCP", at1 + anywhere, true},
			{"host1", "TCP", at2 + anywhere, true},
			{"host1", "UDP", at2 + anywhere, true},
			{"host1", "TCP", at1 + local, true},
			{"host1", "TCP", at2 + local, false}, // no endpoint there
			{"client2", "TCP", at1 + anywhere, true},
			{"client2", "TCP", at2 + anywhere, true},
			{"client1", "TCP", at1 + "8085", true},
			{"client2", "TCP", at1 + "8085", true}, // its own node, another
			{"host1st", "TCP", "server:80", true},
			{"host2nd", "TCP", "server:80", true},
			{"host2nd", "TCP", service, true},
		}},
		{"egress to the service's pods", policy + fmt.Sprintf(egress, "{action: Allow, protocol: TCP, destination: {selector: app == 'server', ports: [80]}}"), []way{
			{"client1", "TCP", service, true},
			{"client1", "UDP", service, false},
			{"client1", "SCTP", service, false},
			{"client2", "TCP", service, true},
			{"client2", "UDP", service, false},
			{"client2", "SCTP", service, false},
			{"client1", "TCP", at1 + "8085", false},
			{"client2", "TCP", at1 + "8085", false},
			{"server", "TCP", at1 + "8085", true}, // no client
		}},
		{"egress to the addresses of services: policies see pods", policy + fmt.Sprintf(egress, "{action: Allow, destination: {nets: [10.49.0.0/16]}}"), []way{
			{"client1", "TCP", service, false}, {"client2", "TCP", service, false}, {"client2", "UDP", service, false}, {"client1", "SCTP", service, false},
		}},
		{"egress to nodes", policy + fmt.Sprintf(egress, "{action: Allow, destination: {nets: [10.0.0.0/24]}}"), []way{
			{"client1", "TCP", at1 + "8085", true}, {"client2", "TCP", at1 + "8085", true}, {"client2", "TCP", service, false},
		}},
		{"ingress from outside", policy + fmt.Sprintf(ingress, "{action: Allow, source: {nets: [10.0.0.20/32]}}"), []way{
			{"client1", "TCP", service, false},
			{"client2", "UDP", service, false},
			{"server", "TCP", service, false},
			{"host1", "TCP", at1 + local, true},     // whose address is kept
			{"host1", "TCP", at1 + anywhere, true},  // seen before it is masqueraded
			{"host1", "TCP", at2 + anywhere, false}, // comes from worker2
			{"host1", "UDP", at2 + anywhere, false},
			{"host1st", "TCP", "server:80", true}, // the server's own node
			{"host2nd", "TCP", "server:80", false},
			{"host2nd", "TCP", service, false},
		}},
		{"ingress from the nodes", policy + fmt.Sprintf(ingress, "{action: Allow, source: {nets: [10.0.0.11/32, 10.0.0.12/32]}}"), []way{
			{"host1", "TCP", at1 + local, false},
			{"host1", "TCP", at2 + anywhere, true},
			{"host1", "UDP", at2 + anywhere, true},
			{"host2nd", "TCP", "server:80", true},
			{"host2nd", "TCP", service, true},
			{"client2", "TCP", service, false},
		}},
		{"ingress from itself", policy + fmt.Sprintf(ingress, "{action: Allow, source: {selector: app == 'server'}}"), []way{
			{"server", "TCP", service, true}, {"client1", "TCP", service, false}, {"host2nd", "TCP", "server:80", false}, {"host1st", "TCP", "server:80", true},
		}},
		// Programs in a node's network are no endpoints: their labels count for nothing.
		{"ingress by labels of host-networked pods", policy + fmt.Sprintf(ingress, "{action: Allow, source: {selector: app == 'host'}}"), []way{
			{"host2nd", "TCP", "server:80", false}, {"host1st", "TCP", "server:80", true},
		}},
	}
}

// paths tries what packets can come by: services, node ports, the nodes themselves, programs in their networks.
func paths(t *testing.T, c *lab.Cluster) {
	ctx := t.Context()
	if err := c.Apply(ctx, pathPods()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := c.Kubectl(context.WithoutCancel(ctx), "delete", "namespace", "paths", "--timeout=120s"); err != nil {
			t.Error(err)
		}
	})
	if _, err := c.Kubectl(ctx, "wait", "-n", "paths", "--for=condition=Ready", "pod", "--all", "--timeout=120s"); err != nil {
		t.Fatal(err)
	}
	p := &pathProbes{cluster: c, places: map[string]place{}}
	p.locate(t)
	for _, s := range stages() {
		t.Run(s.name, func(t *testing.T) { p.stage(t, s) })
	}
	t.Run("nodes are closed to their own pods", p.ownNode)
	t.Run("connections that exist", p.established)
}

// place is where a prober is.
type place struct {
	host    string
	address string
	control string
}

type pathProbes struct {
	cluster *lab.Cluster
	places  map[string]place
}

func (p *pathProbes) locate(t *testing.T) {
	t.Helper()
	out, err := p.cluster.Kubectl(t.Context(), "get", "pods", "-n", "paths", "-o",
		`jsonpath={range .items[*]}{.metadata.name} {.spec.nodeName} {.status.podIP} {.spec.hostNetwork}{"\n"}{end}`)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		port := "7000"
		if len(f) == 4 {
			port = "7001"
		}
		p.places[f[0]] = place{host: f[1], address: f[2], control: f[2] + ":" + port}
	}
}

func (p *pathProbes) stage(t *testing.T, s stage) {
	ctx := t.Context()
	if s.policy == "" {
		if _, err := p.cluster.Kubectl(ctx, "delete", "networkpolicies.projectcalico.org", "-n", "paths", "--all"); err != nil {
			t.Fatal(err)
		}
	} else if err := p.cluster.Apply(ctx, s.policy); err != nil {
		t.Fatal(err)
	}
	eventually(t, "what answers is what should", func(ctx context.Context) error {
		errs := make([]error, len(s.ways))
		var wg sync.WaitGroup
		for i, w := range s.ways {
			wg.Go(func() { errs[i] = p.check(ctx, w) })
		}
		wg.Wait()
		return errors.Join(errs...)
	})
}

func (p *pathProbes) check(ctx context.Context, w way) error {
	got, err := p.try(ctx, w)
	if err == nil && got != w.want {
		err = fmt.Errorf("from %s by %s to %s: answers: %t, should: %t", w.from, w.protocol, w.to, got, w.want)
	}
	return err
}

// ownNode closes nodes to their own pods: neither others' pods nor what passes through are concerned.
func (p *pathProbes) ownNode(t *testing.T) {
	ctx := t.Context()
	set := func(ctx context.Context, action string) {
		patch := `{"spec":{"defaultEndpointToHostAction":"` + action + `"}}`
		if _, err := p.cluster.Kubectl(ctx, "patch", "felixconfiguration", "default", "--type=merge", "-p", patch); err != nil {
			t.Error(err)
		}
	}
	set(ctx, "Drop")
	t.Cleanup(func() { set(context.WithoutCancel(ctx), "Accept") })
	p.stage(t, stage{ways: []way{
		{"client1", "TCP", "10.0.0.11:8085", false},
		{"client2", "TCP", "10.0.0.12:8085", false},
		{"client2", "TCP", "10.0.0.11:8085", true},
		{"host1st", "TCP", "server:80", true},
		{"client2", "TCP", "server:80", true},
	}})
}

func (p *pathProbes) try(ctx context.Context, w way) (bool, error) {
	const timeout = 700 * time.Millisecond
	to := p.resolve(w.to)
	if from, ok := p.places[w.from]; ok {
		answers, err := p.cluster.Ask(ctx, from.host, from.control, timeout, []lab.Target{{Protocol: w.protocol, Address: to}})
		return err == nil && answers[0], err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return answers(ctx, p.cluster.Dialer(w.from), strings.ToLower(w.protocol), to), nil
}

// resolve puts the address for the name of a pod.
func (p *pathProbes) resolve(to string) string {
	host, port, _ := strings.Cut(to, ":")
	if _, err := netip.ParseAddr(host); err != nil {
		host = p.places[host].address
	}
	return host + ":" + port
}
