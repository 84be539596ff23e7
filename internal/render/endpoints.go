package render

import (
	"encoding/json"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/policy"
	"github.com/manul-net/manul/internal/validate"
)

// endpoint is a pod with a network of its own, or a host endpoint.
type endpoint struct {
	id        string // "namespace/name" of the pod, the bare name of the host endpoint
	uid       types.UID
	host      *host // nil: a pod
	node      *node
	namespace *namespace
	account   *account
	labels    map[string]string
	ports     []v1alpha1.NamedPort
	// asks is what annotations ask for.
	*asks
	// floating are the addresses of the annotation that asks for floating ones.
	floating []netip.Addr

	// policies that apply, in either direction.
	policies map[*policyState]struct{}
	// ingress and egress are the lists made of them; valid only while listed is true. The lists of a host endpoint are in host.
	ingress, egress []v1alpha1.TierPolicies
	listed          bool

	// staged policies that would apply, or would no longer.
	staged map[*policyState]struct{}

	// identity is the class of endpoints that no selector in use can tell apart to which this one belongs.
	identity *identity
	// former identities that the endpoint bears beside it for a while, in order.
	former []*identity
	// bridged are the IDs of the identities that it has or that nodes may know it by, when these are not one.
	bridged []string
}

// asks is what annotations of a pod ask for. Most pods have none of these annotations.
type asks struct {
	// wishes are the annotations that ask for addresses.
	wishes addressWishes
	// sourcePrefixes is the annotation with the prefixes that the pod wants to send from.
	sourcePrefixes string
	// bandwidth are the annotations that limit traffic.
	bandwidth bandwidthWishes
	// packets are the annotations that limit packets and connections.
	packets packetWishes
}

// noWishes is that of all endpoints that ask for nothing. It never changes.
var noWishes = &asks{} //nolint:gochecknoglobals // one for all of them

func asksOf(annotations map[string]string) *asks {
	if len(annotations) == 0 {
		return noWishes
	}
	a := asks{
		wishes: wishesOf(annotations), sourcePrefixes: annotations[annotationSourcePrefixes],
		bandwidth: bandwidthOf(annotations), packets: packetsOf(annotations),
	}
	if a == *noWishes {
		return noWishes
	}
	return &a
}

// annotationSourcePrefixes on a pod is a JSON list of CIDRs that the pod wants to send from beside its own addresses.
const annotationSourcePrefixes = "cni.projectcalico.org/allowedSourcePrefixes"

// prefixesOf reads that list, whose addresses stand for themselves. Of a list that can't be read nothing counts: the pod then
// sends from its own addresses only.
func prefixesOf(text string) []string {
	var list []string
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return nil
	}
	var prefixes []netip.Prefix
	for _, cidr := range list {
		prefix, err := validate.ParseNet(strings.TrimSpace(cidr))
		if err != nil && !prefix.IsValid() {
			return nil
		}
		prefixes = append(prefixes, prefix)
	}
	slices.SortFunc(prefixes, comparePrefixes)
	var out []string
	for _, prefix := range slices.Compact(prefixes) {
		out = append(out, prefix.String())
	}
	return out
}

func (c *Cluster) setPod(p *Pod) {
	if !p.Networked {
		c.deletePod(p.ID)
		return
	}
	namespace, _ := p.Namespace()
	account := objectName{namespace, p.Account}
	e := c.endpoints[p.ID]
	if e != nil && (e.uid != p.UID || e.node.name != p.Node || e.account != c.accounts[account]) {
		c.deletePod(p.ID) // another pod of the same name
		e = nil
	}
	asked := asksOf(p.Annotations)
	if e == nil {
		e = &endpoint{
			id: p.ID, uid: p.UID, labels: p.Labels, ports: p.Ports, asks: asked,
			node: c.node(p.Node), namespace: c.namespace(namespace), account: c.account(account),
			policies: map[*policyState]struct{}{},
		}
		c.addEndpoint(e)
		return
	}
	if !slices.Equal(e.ports, p.Ports) {
		e.ports = p.Ports
		c.touchEndpoint(e)
	}
	if before := e.asks; *before != *asked {
		e.asks = asked
		c.touch(KindNodeState, e.node.name)
		if before.wishes != asked.wishes {
			c.claimFloating(e)
			c.touch(KindNodeNetwork, e.node.name)
		}
	}
	if !maps.Equal(e.labels, p.Labels) {
		e.labels = p.Labels
		c.routes.PodsChanged(e.node.name)
		c.relabel(e)
		c.pending.identities[e] = struct{}{}
	}
}

func (c *Cluster) addEndpoint(e *endpoint) {
	c.endpoints[e.id] = e
	e.node.endpoints[e.id] = e
	c.routes.PodsChanged(e.node.name)
	e.namespace.endpoints[e] = struct{}{}
	e.account.endpoints[e] = struct{}{}
	c.demandChanged = true
	c.touchEndpoint(e)
	c.claimFloating(e)
	if e.wishes.unmanaged != "" {
		c.touch(KindNodeNetwork, e.node.name)
	}
	c.relabel(e)
	c.pending.identities[e] = struct{}{}
}

func (c *Cluster) deletePod(id string) {
	e := c.endpoints[id]
	if e == nil {
		return
	}
	c.dropEndpoint(e)
	c.releaseFloating(e)
	if e.wishes.unmanaged != "" {
		c.touch(KindNodeNetwork, e.node.name)
	}
	delete(c.endpoints, id)
	delete(e.node.endpoints, id)
	c.routes.PodsChanged(e.node.name)
	c.demandChanged = true
	c.dropNode(e.node)
}

// dropEndpoint ends what pods and host endpoints alike take part in.
func (c *Cluster) dropEndpoint(e *endpoint) {
	c.selecting.DeleteItem(e)
	c.leaveIdentity(e)
	c.transition.forget(e)
	delete(c.pending.staged, e)
	delete(c.pending.identities, e)
	delete(e.namespace.endpoints, e)
	delete(e.account.endpoints, e)
	c.touchEndpoint(e)
	c.dropNamespace(e.namespace)
	c.dropAccount(e.account)
}

// touchEndpoint notes a change that the endpoint's own node and all others have to know.
func (c *Cluster) touchEndpoint(e *endpoint) {
	c.touch(KindNodeState, e.node.name)
	c.touch(KindNodeEndpoints, e.node.name)
}

// relabel looks up again which policies apply.
func (c *Cluster) relabel(e *endpoint) { c.selecting.SetItem(e, e.view().Map()) }

// view is what the endpoint looks like to selectors.
func (e *endpoint) view() *policy.EndpointLabels {
	return &policy.EndpointLabels{
		Own:                  e.labels,
		Pod:                  e.host == nil,
		Namespace:            e.namespace.name,
		NamespaceLabels:      e.namespace.labels(),
		ServiceAccount:       e.account.name.name,
		ServiceAccountLabels: e.account.labels,
	}
}

// namedPorts are the ports of a pod's containers that have a name, in order.
func namedPorts(spec *corev1.PodSpec) []v1alpha1.NamedPort {
	var out []v1alpha1.NamedPort
	add := func(containers []corev1.Container) {
		for i := range containers {
			for _, p := range containers[i].Ports {
				number, ok := policy.ProtocolNumber(p.Protocol)
				if p.Name != "" && ok {
					out = append(out, v1alpha1.NamedPort{Name: p.Name, Protocol: number, Port: p.ContainerPort})
				}
			}
		}
	}
	add(spec.Containers)
	for i := range spec.InitContainers {
		// Such an init container runs beside the others for the pod's whole life.
		if r := spec.InitContainers[i].RestartPolicy; r != nil && *r == corev1.ContainerRestartPolicyAlways {
			add(spec.InitContainers[i : i+1])
		}
	}
	return sortPorts(out)
}
