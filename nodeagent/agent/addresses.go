package agent

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/nodeagent/attachments"
	"github.com/manul-net/manul/nodeagent/render"
	"github.com/manul-net/manul/nodeagent/source"
)

// Addresses gives addresses out of the node's leased blocks. What a call changes is durable once a Save that began after it returns.
type Addresses interface {
	// Mark is a point in time, to be taken before a change, or before a look at what is to be told.
	Mark() int
	// Save brings all that was changed to disk. An error tells that some of what was changed since the mark, or before it and not saved then, is
	// undone, whoever tried to save it. It may be called from any goroutine.
	Save(ctx context.Context, since int) error
	// Failing is why the newest attempt to save anything failed; nil: it did not.
	Failing() error
	// Unsaved tells whether anything that was changed is not on disk.
	Unsaved() bool
	// SetLeases gives the blocks that are leased to the node, the addresses that it borrowed, and how long an address rests after
	// use.
	SetLeases(blocks []v1alpha1.BlockLease, borrowed []v1alpha1.BorrowedAddress, cooldown time.Duration) error
	// Leases is what the node has agreed to about leases, in order of CIDR. cooling: time alone will add to it.
	Leases() (list []v1alpha1.LeaseStatus, cooling bool)
	// NeedsAdoption tells whether nothing is known of the addresses that were in use before.
	NeedsAdoption() (bool, error)
	// Adopt notes which addresses pods and ends of tunnels had before, in as far as it is known. The other addresses of resting, which are
	// CIDRs and single addresses, may have been in use a moment ago.
	Adopt(before []v1alpha1.EndpointStatus, resting []string) error
	// Allocate gives a pod its addresses: the same for the same UID.
	Allocate(endpoint, uid string, request v1alpha1.AddressRequest) ([]netip.Addr, error)
	// AllocateAttached gives an interface beside a pod's first its addresses, for as long as it has attachments.
	AllocateAttached(o attachments.Owner, request v1alpha1.AddressRequest, attachment string) error
	// Take notes that the owner has the addresses that another plugin gave to an attachment, in place of those that it had. chained: the
	// interface is that plugin's too.
	Take(o attachments.Owner, addrs []netip.Addr, attachment string, chained bool) error
	// Drop lets go of the addresses of a pod without attachments, and tells whether it did.
	Drop(endpoint, uid string) (bool, error)
	// AllocateTunnel gives an end of a tunnel its address out of the blocks of one pool: the same for the same owner, which no pod
	// is named like.
	AllocateTunnel(owner, pool string) (netip.Addr, error)
	// Attach notes that an attachment uses the owner's addresses.
	Attach(o attachments.Owner, attachment string) error
	// AttachmentsOf lists the attachments that use the owner's addresses.
	AttachmentsOf(o attachments.Owner) []string
	// Detach notes that an attachment is no more. One that is not known is no error.
	Detach(attachment string) error
	// Retain lets go of the addresses of all pods but these and those with attachments.
	Retain(uids []string) error
	// KeepAttachments is Detach for all attachments but these.
	KeepAttachments(attachments []string) error
	// EachAttachment calls each for every attachment.
	EachAttachment(each func(attachment string, of attachments.Held)) error
	// Attached gives the owner of an attachment's addresses.
	Attached(attachment string) (attachments.Owner, bool)
	// Held calls each for every owner of addresses.
	Held(each func(attachments.Held)) error
}

type owner = attachments.Owner

// first is the owner that a pod's first interface is.
func first(endpoint, uid string) owner { return owner{Endpoint: endpoint, UID: uid} }

const addressRetry = time.Second

// giveAddresses gives every pod that the node's state names its addresses, ahead of the runtime's request.
func (a *Agent) giveAddresses() {
	if !a.pending.addresses || a.nodeState == nil {
		return
	}
	a.pending.addresses = false
	if !a.adopted() {
		return
	}
	spec := &a.nodeState.Spec
	a.takeLeases(spec)
	uids := make([]string, 0, len(spec.Endpoints))
	problems := map[string]error{}
	given := a.givenByPlugins()
	asks := asks{}
	for i := range spec.Endpoints {
		e := &spec.Endpoints[i]
		uids = append(uids, string(e.UID))
		_, has := a.held[first(e.ID, string(e.UID))]
		w := given[e.ID]
		if w == nil && has {
			asks.add(a, e, has)
			continue
		}
		gave, err := a.give(e, w)
		asks.add(a, e, gave)
		if err != nil {
			problems[e.ID] = err
			if old := a.addressErrors[e.ID]; old == nil || old.Error() != err.Error() {
				a.Log.Warn("no address for pod", "pod", e.ID, "error", err)
			}
			continue
		}
		a.pending.urgent = a.pending.urgent || gave
	}
	a.giveSecond(asks)
	a.network.asks = asks.list()
	a.forgetPools(spec)
	uids = a.giveTunnelAddresses(uids)
	// A checkpoint may be older than the newest pods: their addresses must not be let go of.
	if a.synced[source.NodeState] {
		if err := a.Addresses.Retain(uids); err != nil {
			a.Log.Error("addresses of departed pods were not released", "error", err)
		}
	}
	a.addressErrors = problems
	if len(problems)+len(a.second.errors) > 0 {
		a.timers.addresses.within(addressRetry)
	}
	if err := a.lookAtAddresses(); err != nil {
		a.Log.Error("addresses in use are not known", "error", err)
	}
}

// adopted sees to it that the addresses which are in use are known before any is given. After the loss of the journal, what the
// node last reported tells.
func (a *Agent) adopted() bool {
	needed, err := a.Addresses.NeedsAdoption()
	if err == nil && needed {
		if !a.synced[source.NodeState] {
			return false // the end of the first synchronization looks again
		}
		if err = a.Addresses.Adopt(slices.Concat(a.earlier.Endpoints, a.reportedEnds()), a.resting()); err == nil {
			err = a.adoptAttachments()
		}
	}
	if err != nil {
		a.Log.Error("addresses in use are not known, so none are given", "error", err)
		a.timers.addresses.within(addressRetry)
		return false
	}
	return true
}

// resting are the blocks and borrowed addresses that the node had when it lost its journal, if addresses rest after use: nobody knows which
// of them do. A node that never reported has given none.
func (a *Agent) resting() []string {
	spec := &a.nodeState.Spec
	if spec.Settings.IPAMCooldownSeconds <= 0 || a.earlier.Conditions == nil {
		return nil
	}
	var out []string
	for i := range spec.Blocks {
		out = append(out, spec.Blocks[i].CIDR)
	}
	for i := range spec.Borrowed {
		out = append(out, spec.Borrowed[i].Address)
	}
	return out
}

// takeLeases takes over what the node may give addresses from. When its state is gone, so is the node as far as the cluster knows: it
// gives no more, for others may.
func (a *Agent) takeLeases(spec *v1alpha1.NodeStateSpec) {
	blocks, borrowed := spec.Blocks, spec.Borrowed
	if _, there := a.known[source.NodeState][a.Node]; a.synced[source.NodeState] && !there {
		blocks, borrowed = nil, nil
	}
	cooldown := time.Duration(spec.Settings.IPAMCooldownSeconds) * time.Second
	if err := a.Addresses.SetLeases(blocks, borrowed, cooldown); err != nil {
		a.Log.Error("address blocks were not taken over", "error", err)
		a.timers.addresses.within(addressRetry)
	}
}

// leaseStatus is what the node has agreed to about leases.
func (a *Agent) leaseStatus() []v1alpha1.LeaseStatus {
	list, cooling := a.Addresses.Leases()
	if cooling {
		a.timers.addresses.within(addressRetry)
	}
	return list
}

// give has a pod get its addresses: those that an IPAM plugin gave to an ADD that waits, or else some of the node's blocks. It tells
// whether the pod has any now.
func (a *Agent) give(e *v1alpha1.Endpoint, w *waiter) (bool, error) {
	external := w != nil || a.ExternalIPAM
	request, err := e.Addresses, error(nil)
	if !external {
		request, _, err = a.requestFor(e)
	}
	switch {
	case err != nil:
		return false, err
	case request.Impossible != "" && (!external || !request.Unserved):
		return false, impossibleError(request.Impossible)
	case w != nil:
		err = a.Addresses.Take(first(e.ID, string(e.UID)), w.request.Given, attachmentName(w.request.Attachment), w.request.Chained)
	case external:
		return false, nil // its ADD brings them
	default:
		_, err = a.Addresses.Allocate(e.ID, string(e.UID), request)
	}
	return err == nil, err
}

// impossibleError is why a pod can get no address, whatever time goes by.
type impossibleError string

func (e impossibleError) Error() string { return string(e) }

// lookAtAddresses brings the addresses that pods hold into the tables.
func (a *Agent) lookAtAddresses() error {
	held, ends, manner := map[owner][]netip.Addr{}, map[string]netip.Addr{}, map[owner]manner{}
	err := a.Addresses.Held(func(h attachments.Held) {
		if isTunnelOwner(h.Endpoint) {
			ends[h.Endpoint] = h.Addresses[0]
			return
		}
		addrs := slices.Clone(h.Addresses)
		slices.SortFunc(addrs, func(x, y netip.Addr) int {
			if x.BitLen() != y.BitLen() {
				return x.BitLen() - y.BitLen()
			}
			return x.Compare(y)
		})
		held[h.Owner] = addrs
		if h.External || h.Chained {
			manner[h.Owner] = mannerOf(h)
		}
	})
	if err != nil {
		return fmt.Errorf("reading addresses in use: %w", err)
	}
	for o := range a.held {
		if _, ok := held[o]; !ok {
			a.state.DeleteInterface(o.Endpoint, o.UID, o.Interface)
		}
	}
	for o, addrs := range held {
		if old, ok := a.held[o]; !ok || !slices.Equal(old, addrs) || a.network.manner[o] != manner[o] {
			a.state.SetInterface(o.Endpoint, render.Local{UID: o.UID, Interface: o.Interface, Addresses: addrs, Unrouted: manner[o].chained})
		}
	}
	a.held, a.network.manner = held, manner
	for o := range held {
		if !a.isNamed(o) { // a container holds it, which somebody should end
			a.compareSoon()
			break
		}
	}
	a.setTunnelEnds(ends)
	return nil
}

// manner is how an owner came by its addresses.
type manner struct{ external, chained bool }

func mannerOf(h attachments.Held) manner {
	return manner{external: h.External && !h.Chained, chained: h.Chained}
}

// endpointStatus lists the addresses that pods hold, in order of ID. While two pods bear one name, the one that the
// operator knows counts.
func (a *Agent) endpointStatus() []v1alpha1.EndpointStatus {
	byID := map[string]owner{}
	others := map[owner][]owner{}
	for o := range a.held {
		pod := first(o.Endpoint, o.UID)
		if o.Interface != "" {
			others[pod] = append(others[pod], o)
		}
		if other, ok := byID[o.Endpoint]; !ok || a.isNamed(pod) || !a.isNamed(other) && o.UID < other.UID {
			byID[o.Endpoint] = pod
		}
	}
	var out []v1alpha1.EndpointStatus
	for _, id := range slices.Sorted(maps.Keys(byID)) {
		o := byID[id]
		how := a.network.manner[o]
		s := v1alpha1.EndpointStatus{ID: id, External: how.external, Chained: how.chained, Addresses: texts(a.held[o])}
		s.UID = uidType(o.UID)
		list := others[o]
		slices.SortFunc(list, func(x, y owner) int { return strings.Compare(x.Interface, y.Interface) })
		for _, other := range list {
			how, addrs := a.network.manner[other], texts(a.held[other])
			s.Others = append(s.Others, v1alpha1.InterfaceStatus{Name: other.Interface, Addresses: addrs, External: how.external, Chained: how.chained})
			s.Addresses = append(s.Addresses, addrs...)
		}
		out = append(out, s)
	}
	return out
}

func texts(addrs []netip.Addr) []string {
	var out []string
	for _, addr := range addrs {
		out = append(out, addr.String())
	}
	return out
}

func (a *Agent) isNamed(o owner) bool {
	e := a.namedEndpoint(o.Endpoint)
	return e != nil && string(e.UID) == o.UID
}
