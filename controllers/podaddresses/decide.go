package podaddresses

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/usage"
)

// Reasons of the events.
const (
	// ReasonAnnotation: an annotation asks for what can't be had.
	ReasonAnnotation = "AddressAnnotation"
	// ReasonExhausted: all addresses of the pools from which the pod may have one are in use.
	ReasonExhausted = "PoolExhausted"
	// ReasonNoAddress: the node could not give an address; the message says why.
	ReasonNoAddress = "NoAddress"
	// ReasonAddressGiven: the pod has its address after all.
	ReasonAddressGiven = "AddressGiven"
)

// trouble is what keeps a pod from an address.
type trouble struct {
	// id is "namespace/name" of the pod.
	id  string
	uid types.UID
	// settled: it is not going to pass by itself. Otherwise it has to last before it is told: a block may be on its way.
	settled bool
	reason  string
	message string
	// pools are the CIDRs of the pools from which the pod may have an address, when that matters.
	pools []netip.Prefix
}

// kindAddress is the kind of failures to give a pod an address (v1alpha1.Failure).
const kindAddress = "Address"

// annotation by which pods ask for certain addresses.
const annotationAddresses = "cni.projectcalico.org/ipAddrs"

// troublesOf finds the pods of a node that lack an address, in order.
func troublesOf(s *v1alpha1.NodeState) []trouble {
	failed := map[string]string{}
	for _, f := range s.Status.Failures {
		if f.Kind == kindAddress {
			failed[f.Name] = f.Message
		}
	}
	has := map[types.UID]bool{}
	for i := range s.Status.Endpoints {
		has[s.Status.Endpoints[i].UID] = len(s.Status.Endpoints[i].Addresses) > 0
	}
	var out []trouble
	for i := range s.Spec.Endpoints {
		e := &s.Spec.Endpoints[i]
		t := trouble{id: e.ID, uid: e.UID, reason: ReasonNoAddress, message: failed[e.ID]}
		for _, f := range e.Floating {
			if f.Problem != "" {
				out = append(out, trouble{id: e.ID, uid: e.UID, settled: true, reason: ReasonAnnotation, message: f.Problem})
			}
		}
		switch {
		case has[e.UID]:
			continue // what it has stays its own, whatever its annotations say now
		case e.Addresses.Impossible != "" && (!e.Addresses.Unserved || s.Status.Network == nil):
			t.settled, t.message = true, e.Addresses.Impossible
			if strings.HasPrefix(t.message, "annotation ") {
				t.reason = ReasonAnnotation
			}
		case t.message == "":
			continue
		case len(e.Addresses.Fixed) > 0:
			t.reason = ReasonAnnotation
			if !strings.Contains(t.message, annotationAddresses) {
				t.message = "annotation " + annotationAddresses + ": " + t.message
			}
		default:
			t.pools = poolsFor(s, e)
		}
		out = append(out, t)
	}
	return out
}

// poolsFor are the pools from which an endpoint may have an address: those that it is to take from, or those that the node's
// network configuration has pods ask for, or those of the node's blocks.
func poolsFor(s *v1alpha1.NodeState, e *v1alpha1.Endpoint) []netip.Prefix {
	texts := slices.Clone(e.Addresses.Pools)
	if n := s.Status.Network; n != nil && len(n.Asks) > 0 && !e.Addresses.NamedIPv4 && !e.Addresses.NamedIPv6 {
		texts = nil
		for i := range n.Asks {
			texts = append(texts, n.Asks[i].Pools...)
		}
	}
	if len(texts) == 0 {
		for i := range s.Spec.Blocks {
			texts = append(texts, s.Spec.Blocks[i].Pool)
		}
	}
	var out []netip.Prefix
	for _, text := range texts {
		if cidr, err := netip.ParsePrefix(text); err == nil && !slices.Contains(out, cidr) {
			out = append(out, cidr)
		}
	}
	return out
}

// maxPools is how many pools an event names.
const maxPools = 3

// explained adds to a trouble how full the pools are, and what to do.
func (t trouble) explained(a *usage.Account) trouble {
	full, known := true, 0
	var parts []string
	for i := range a.Pools {
		p := &a.Pools[i]
		if !slices.Contains(t.pools, p.CIDR) {
			continue
		}
		known++
		full = full && p.Allocated >= p.Capacity
		if len(parts) < maxPools {
			parts = append(parts, fmt.Sprintf("IPPool %s (%s) has %d of %d addresses in use", p.Name, p.CIDR, p.Allocated, p.Capacity))
		}
	}
	if known == 0 {
		return t
	}
	if known > len(parts) {
		parts = append(parts, fmt.Sprintf("and %d more pools", known-len(parts)))
	}
	how := strings.Join(parts, ", ")
	if full {
		t.reason = ReasonExhausted
		t.message = how + ": add a pool, or delete pods that are not needed; " + t.message
	} else {
		t.message += "; " + how
	}
	return t
}

// key tells troubles apart that are worth an event each. Of what numbers say only the reason counts: they change all the time.
func (t trouble) key() string {
	if t.reason == ReasonAnnotation {
		return t.reason + ": " + t.message
	}
	return t.reason
}
