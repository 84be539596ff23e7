package render

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/manul-net/manul/internal/policy"
)

const mail = `
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {namespace: a, name: p}
spec:
  ingress: [{action: Allow, source: {services: {name: mail}}}]
  egress: [{action: Allow, destination: {services: {name: mail}}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {namespace: a, name: mail-1, labels: {kubernetes.io/service-name: mail}}
addressType: IPv4
endpoints:
- {addresses: [10.0.0.2], conditions: {ready: true}}
- {addresses: [10.0.0.3], conditions: {ready: false, serving: true, terminating: true}}
- {addresses: [10.0.0.1]}
ports: [{port: 25, protocol: TCP}, {name: any}, {port: 53, protocol: UDP}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {namespace: a, name: by-hand, labels: {kubernetes.io/service-name: mail}}
addressType: IPv6
endpoints: [{addresses: ["2001:db8::25"]}, {addresses: ["2001:db8::25"]}]
ports: [{port: 25}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {namespace: a, name: names, labels: {kubernetes.io/service-name: mail}}
addressType: FQDN
endpoints: [{addresses: [mail.example]}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {namespace: b, name: mail-1, labels: {kubernetes.io/service-name: mail}}
addressType: IPv4
endpoints: [{addresses: [10.9.9.9]}]
ports: [{port: 25}]`

func TestSetsHoldTheReadyEndpointsOfServices(t *testing.T) {
	addresses := policy.Set{Service: policy.Service{Namespace: "a", Name: "mail"}}.ID()
	ports := policy.Set{Service: policy.Service{Namespace: "a", Name: "mail"}, Ports: true}.ID()
	c := New()
	objects := parse(t, mail)
	give(t, c, objects...)
	for id, want := range map[string]string{
		addresses: "cidrs:\n  - 10.0.0.1/32\n  - 10.0.0.2/32\n  - 2001:db8::25/128\n  id: " + addresses + "\n  service: a/mail",
		ports: "id: " + ports + `
  members:
  - addresses:
    - 10.0.0.1
    - 10.0.0.2
    - 2001:db8::25
    port: 25
    protocol: 6
  - addresses:
    - 10.0.0.1
    - 10.0.0.2
    port: 53
    protocol: 17
  ofPorts: true
  service: a/mail`,
	} {
		if diff := cmp.Diff("count: 1\nsets:\n- "+want, spec(t, c, KindSetCatalog, shardOf(id))); diff != "" {
			t.Errorf("catalog (-want +got):\n%s", diff)
		}
	}

	shards := []Key{{KindSetCatalog, shardOf(addresses)}, {KindSetCatalog, shardOf(ports)}}
	slices.SortFunc(shards, func(a, b Key) int { return strings.Compare(a.Name, b.Name) })
	expect := func(what string, want []Key, change func(...runtime.Object)) {
		t.Helper()
		c.Dirty()
		change(objects[1])
		if got := c.Dirty(); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}
	expect("the same slice again", nil, func(o ...runtime.Object) { give(t, c, o...) })
	expect("a slice goes", shards, func(o ...runtime.Object) { take(t, c, o...) })
	expect("a slice comes", shards, func(o ...runtime.Object) { give(t, c, o...) })
	expect("a slice of a service that no policy names", nil, func(...runtime.Object) { take(t, c, objects[4]) })
	take(t, c, objects...)
	if len(c.services)+len(c.slices)+len(c.sets) > 0 {
		t.Errorf("left over: %d services, %d slices, %d sets", len(c.services), len(c.slices), len(c.sets))
	}
}
