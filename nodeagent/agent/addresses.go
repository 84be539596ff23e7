package agent

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/nodeagent/source"
)

// Addresses gives addresses out of the node's leased blocks, durably.
type Addresses interface {
	// SetLeases gives the blocks that are leased to the node, the addresses that it borrowed, and how long an address rests after
	// use.
	SetLeases(blocks []v1alpha1.BlockLease, borrowed []v1alpha1.BorrowedAddress, cooldown time.Duration) error
	// Leases is what the node has agreed to about leases, in order of CIDR. cooling: time alone will add to it.
	Leases() (list []v1alpha1.LeaseStatus, cooling bool)
	// NeedsAdoption tells whether nothing is known of the addresses that were in use before.
	NeedsAdoption() (bool, error)
	// Adopt notes which addresses pods had before, in as far as it is known.
	Adopt(before []v1alpha1.EndpointStatus) error
	// Allocate gives a pod its addresses: the same for the same UID.
	Allocate(endpoint, uid string, request v1alpha1.AddressRequest) ([]netip.Addr, error)
	// AllocateTunnel gives an end of a tunnel its address out of the blocks of one pool: the same for the same owner, which no pod
	// is named like.
	AllocateTunnel(owner, pool string) (netip.Addr, error)
	// Attach notes that an attachment uses the pod's addresses.
	Attach(endpoint, uid, attachment string) error
	// Detach notes that an attachment is no more. One that is not known is no error.
	Detach(attachment string) error
	// Retain lets go of the addresses of all pods but these and those with attachments.
	Retain(uids []string) error
	// KeepAttachments is Detach for all attachments but these.
	KeepAttachments(attachments []string) error
	// EachAttachment calls each for every attachment.
	EachAttachment(each func(attachment, endpoint, uid string, addrs []netip.Addr)) error
	// Attached gives the pod of an attachment.
	Attached(attachment string) (endpoint, uid string, ok bool)
	// Held calls each for every pod that holds addresses.
	Held(each func(endpoint, uid string, addrs []netip.Addr)) error
}

// owner of addresses.
type owner struct{ endpoint, uid string }

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
	for i := range spec.Endpoints {
		e := &spec.Endpoints[i]
		uids = append(uids, string(e.UID))
		if _, ok := a.held[owner{e.ID, string(e.UID)}]; ok {
			continue
		}
		if err := a.allocate(e); err != nil {
			problems[e.ID] = err
			if old := a.addressErrors[e.ID]; old == nil || old.Error() != err.Error() {
				a.Log.Warn("no address for pod", "pod", e.ID, "error", err)
			}
			continue
		}
		a.pending.urgent = true
	}
	uids = a.giveTunnelAddresses(uids)
	// A checkpoint may be older than the newest pods: their addresses must not be let go of.
	if a.synced[source.NodeState] {
		if err := a.Addresses.Retain(uids); err != nil {
			a.Log.Error("addresses of departed pods were not released", "error", err)
		}
	}
	a.addressErrors = problems
	if len(problems) > 0 {
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
		if err = a.Addresses.Adopt(a.reported.Endpoints); err == nil {
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

func (a *Agent) allocate(e *v1alpha1.Endpoint) error {
	if e.Addresses.Impossible != "" {
		return impossibleError(e.Addresses.Impossible)
	}
	_, err := a.Addresses.Allocate(e.ID, string(e.UID), e.Addresses)
	return err
}

// impossibleError is why a pod can get no address, whatever time goes by.
type impossibleError string

func (e impossibleError) Error() string { return string(e) }

// lookAtAddresses brings the addresses that pods hold into the tables.
func (a *Agent) lookAtAddresses() error {
	held, ends := map[owner][]netip.Addr{}, map[string]netip.Addr{}
	err := a.Addresses.Held(func(endpoint, uid string, addrs []netip.Addr) {
		if isTunnelOwner(endpoint) {
			ends[endpoint] = addrs[0]
			return
		}
		addrs = slices.Clone(addrs)
		slices.SortFunc(addrs, func(x, y netip.Addr) int {
			if x.BitLen() != y.BitLen() {
				return x.BitLen() - y.BitLen()
			}
			return x.Compare(y)
		})
		held[owner{endpoint, uid}] = addrs
	})
	if err != nil {
		return fmt.Errorf("reading addresses in use: %w", err)
	}
	for o := range a.held {
		if _, ok := held[o]; !ok {
			a.state.DeleteLocal(o.endpoint, o.uid)
		}
	}
	for o, addrs := range held {
		if old, ok := a.held[o]; !ok || !slices.Equal(old, addrs) {
			a.state.SetLocal(o.endpoint, o.uid, addrs)
		}
	}
	a.held = held
	for o := range held {
		if !a.isNamed(o) { // a container holds it, which somebody should end
			a.compareSoon()
			break
		}
	}
	a.setTunnelEnds(ends)
	return nil
}

// endpointStatus lists the addresses that pods hold, in order of ID. While two pods bear one name, the one that the
// operator knows counts.
func (a *Agent) endpointStatus() []v1alpha1.EndpointStatus {
	byID := map[string]owner{}
	for o := range a.held {
		if first, ok := byID[o.endpoint]; !ok || a.isNamed(o) || !a.isNamed(first) && o.uid < first.uid {
			byID[o.endpoint] = o
		}
	}
	var out []v1alpha1.EndpointStatus
	for _, id := range slices.Sorted(maps.Keys(byID)) {
		o := byID[id]
		s := v1alpha1.EndpointStatus{ID: id}
		s.UID = uidType(o.uid)
		for _, addr := range a.held[o] {
			s.Addresses = append(s.Addresses, addr.String())
		}
		out = append(out, s)
	}
	return out
}

func (a *Agent) isNamed(o owner) bool {
	if a.nodeState == nil {
		return false
	}
	endpoints := a.nodeState.Spec.Endpoints // in order of ID
	i, ok := slices.BinarySearchFunc(endpoints, o.endpoint, func(e v1alpha1.Endpoint, id string) int {
		if e.ID < id {
			return -1
		}
		if e.ID > id {
			return 1
		}
		return 0
	})
	return ok && string(endpoints[i].UID) == o.uid
}
