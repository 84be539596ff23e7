package agent

import (
	"errors"
	"strings"

	"github.com/manul-net/manul/api/v1alpha1"
)

// second is what the loop knows of pods' interfaces beside their first.
type second struct {
	// errors: why an interface got no addresses.
	errors map[owner]error
}

// ownerOf is whose addresses an ADD is about.
func (a *Agent) ownerOf(w *waiter) owner {
	return owner{Endpoint: w.endpoint(), UID: a.uidOf(w), Interface: a.interfaceOf(w)}
}

// interfaceOf is the name of the interface that is to be made, when the container has another one on this network already; empty: it is
// the pod's first. Whichever came first stays the first: runtimes make a container's interfaces one after another.
func (a *Agent) interfaceOf(w *waiter) string {
	if o, known := a.Addresses.Attached(attachmentName(w.request.Attachment)); known {
		return o.Interface
	}
	for _, name := range a.Addresses.AttachmentsOf(first(w.endpoint(), a.uidOf(w))) {
		if container, ifName, _ := strings.Cut(name, "/"); container == w.request.ContainerID && ifName != w.request.IfName {
			return w.request.IfName
		}
	}
	return ""
}

// giveSecond has interfaces beside pods' first get their addresses, for which an ADD waits: those that another plugin gave, or some of the
// pools that the network configuration of the interface names.
func (a *Agent) giveSecond(asks asks) {
	a.second.errors = nil
	for w := range a.waiters {
		e := a.namedEndpoint(w.endpoint())
		if e == nil || w.request.PodUID != "" && w.request.PodUID != string(e.UID) || a.interfaceOf(w) == "" {
			continue
		}
		o := a.ownerOf(w)
		_, has := a.held[o]
		if has && len(w.request.Given) == 0 {
			continue
		}
		if err := a.giveTo(o, e, w, asks); err != nil {
			if a.second.errors == nil {
				a.second.errors = map[owner]error{}
			}
			a.second.errors[o] = err
			continue
		}
		a.pending.urgent = true
	}
}

// giveTo gives an interface beside a pod's first its addresses. What the pod's annotations say is about the first alone.
func (a *Agent) giveTo(o owner, e *v1alpha1.Endpoint, w *waiter, asks asks) error {
	name := attachmentName(w.request.Attachment)
	if len(w.request.Given) > 0 {
		return a.Addresses.Take(o, w.request.Given, name, w.request.Chained)
	}
	wanted, pools := e.Addresses, w.request.Pools
	wanted.Fixed, wanted.Unmanaged, wanted.NamedIPv4, wanted.NamedIPv6 = nil, false, false, false
	request, changed, err := a.requestWith(wanted, pools)
	if err == nil && request.Impossible != "" {
		err = errors.New(request.Impossible)
	}
	if err != nil {
		return err
	}
	if changed {
		asks.count(pools, &request, true)
	}
	return a.Addresses.AllocateAttached(o, request, name)
}
