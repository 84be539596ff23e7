package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/manul-net/manul/cni/protocol"
	"github.com/manul-net/manul/nodeagent/cniserver"
	"github.com/manul-net/manul/nodeagent/render"
)

var _ cniserver.Handler = (*Agent)(nil)

// waiter is an ADD that waits for its pod's policy to be in the kernel.
type waiter struct {
	request protocol.AddRequest
	done    chan outcome // of one element
}

type outcome struct {
	result protocol.AddResult
	err    error
	since  int // its mark among the changes of addresses
}

func (w *waiter) endpoint() string { return w.request.PodNamespace + "/" + w.request.PodName }

// attachmentName is an attachment's name in the journal of addresses.
func attachmentName(a protocol.Attachment) string { return a.ContainerID + "/" + a.IfName }

// Add implements cniserver.Handler. It takes no address before the node's state names the pod: only then is it known
// from where the pod's addresses may come.
func (a *Agent) Add(ctx context.Context, r protocol.AddRequest) (protocol.AddResult, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, a.AddWait, fmt.Errorf("waited %s", a.AddWait))
	defer cancel()
	w := &waiter{request: r, done: make(chan outcome, 1)}
	if err := a.call(ctx, func() { a.waiters[w] = struct{}{}; a.heedNetwork(w) }); err != nil {
		return protocol.AddResult{}, err
	}
	select {
	case o := <-w.done:
		return a.prepared(ctx, w, o)
	case <-ctx.Done():
	}
	// The loop answers at once unless it is applying; the plugin has no more time than a moment for that.
	var reason string
	why, stop := context.WithTimeout(context.WithoutCancel(ctx), abandonWait)
	defer stop()
	if err := a.call(why, func() { reason = a.unready(w); delete(a.waiters, w) }); err != nil {
		reason = "the node agent is busy applying changes"
		go func() { // nobody waits any more, and the loop will come to it
			_ = a.call(context.WithoutCancel(ctx), func() { delete(a.waiters, w) })
		}()
	}
	select {
	case o := <-w.done: // it came about meanwhile
		return a.prepared(why, w, o)
	default:
	}
	return protocol.AddResult{}, protocol.Errorf(protocol.CodeTryAgainLater,
		"preparing the network of pod %s: %v: %s", w.endpoint(), context.Cause(ctx), reason)
}

// prepared answers an ADD when what it changed is on disk.
func (a *Agent) prepared(ctx context.Context, w *waiter, o outcome) (protocol.AddResult, error) {
	if o.err == nil {
		if err := a.durable(ctx, o.since); err != nil {
			return protocol.AddResult{}, fmt.Errorf("preparing the network of pod %s: %w", w.endpoint(), err)
		}
	}
	return o.result, o.err
}

// Del implements cniserver.Handler. It takes the agent's word that the attachment is released; the kernel follows.
func (a *Agent) Del(ctx context.Context, r protocol.DelRequest) error {
	return a.doDurably(ctx, func() error {
		if err := a.Addresses.Detach(attachmentName(r.Attachment)); err != nil {
			return fmt.Errorf("releasing attachment %s: %w", attachmentName(r.Attachment), err)
		}
		a.pending.addresses = true
		return nil
	})
}

// Check implements cniserver.Handler.
func (a *Agent) Check(ctx context.Context, r protocol.CheckRequest) (protocol.AddResult, error) {
	var result protocol.AddResult
	err := a.do(ctx, func() error {
		o, ok := a.Addresses.Attached(attachmentName(r.Attachment))
		if !ok {
			return protocol.Errorf(protocol.CodeUnknownAttachment, "checking pod %s/%s: attachment %s is not known",
				r.PodNamespace, r.PodName, attachmentName(r.Attachment))
		}
		w := &waiter{request: protocol.AddRequest{Attachment: r.Attachment, PodNamespace: r.PodNamespace, PodName: r.PodName, PodUID: o.UID}}
		if w.endpoint() != o.Endpoint {
			return protocol.Errorf(protocol.CodeMismatch, "checking pod %s: attachment %s belongs to pod %s",
				w.endpoint(), attachmentName(r.Attachment), o.Endpoint)
		}
		if reason := a.unready(w); reason != "" {
			return protocol.Errorf(protocol.CodeMismatch, "checking pod %s: %s", o.Endpoint, reason)
		}
		var err error
		result, err = a.result(w, o)
		return err
	})
	return result, err
}

// Status implements cniserver.Handler.
func (a *Agent) Status(context.Context) error {
	if err := a.ready.get(); err != nil {
		return protocol.Errorf(protocol.CodeNotAvailable, "pods can't be given a network now: %v", err)
	}
	return nil
}

// DescribeNode implements cniserver.Handler.
func (a *Agent) DescribeNode(ctx context.Context) (protocol.NodeResult, error) {
	var result protocol.NodeResult
	err := a.do(ctx, func() error {
		if a.nodeState == nil {
			return protocol.Errorf(protocol.CodeTryAgainLater, "no NodeState of this node has been received yet")
		}
		for _, text := range a.nodeState.Spec.PodCIDRs {
			cidr, err := netip.ParsePrefix(text)
			if err != nil {
				return fmt.Errorf("reading the node's spec.podCIDRs: %w", err)
			}
			result.PodCIDRs = append(result.PodCIDRs, cidr.Masked())
		}
		return nil
	})
	return result, err
}

// GC implements cniserver.Handler.
func (a *Agent) GC(ctx context.Context, r protocol.GCRequest) error {
	valid := make([]string, 0, len(r.Valid))
	for _, x := range r.Valid {
		valid = append(valid, attachmentName(x))
	}
	return a.doDurably(ctx, func() error {
		a.forgotten.watch.Spare(valid...)
		if err := a.Addresses.KeepAttachments(valid); err != nil {
			return fmt.Errorf("releasing attachments that the runtime does not know: %w", err)
		}
		a.pending.addresses = true
		return nil
	})
}

// call has the loop run f. When it returns nil, f has run.
func (a *Agent) call(ctx context.Context, f func()) error {
	done := make(chan struct{})
	select {
	case a.calls <- func() { f(); close(done) }:
		<-done
		return nil
	case <-ctx.Done():
		return protocol.Errorf(protocol.CodeTryAgainLater, "the node agent is busy applying changes: %v", context.Cause(ctx))
	}
}

func (a *Agent) do(ctx context.Context, f func() error) error {
	var err error
	if busy := a.call(ctx, func() { err = f() }); busy != nil {
		return busy
	}
	return err
}

// settle answers the ADDs whose pods are prepared.
func (a *Agent) settle() {
	for w := range a.waiters {
		if never, ok := errors.AsType[impossibleError](a.addressErrors[w.endpoint()]); ok {
			w.done <- outcome{err: protocol.Errorf(protocol.CodeNoAddress, "pod %s: no address: %v", w.endpoint(), never)}
			delete(a.waiters, w)
			continue
		}
		if a.unready(w) != "" {
			continue
		}
		o := a.ownerOf(w)
		result, err := a.result(w, o)
		if err == nil {
			err = a.Addresses.Attach(o, attachmentName(w.request.Attachment))
			a.forgotten.watch.Spare(attachmentName(w.request.Attachment))
		}
		if err != nil {
			result, err = protocol.AddResult{}, fmt.Errorf("preparing the network of pod %s: %w", w.endpoint(), err)
		}
		w.done <- outcome{result: result, err: err, since: a.saving.since}
		delete(a.waiters, w)
	}
}

// uidOf is the UID of the pod that asks; runtimes need not say it.
func (a *Agent) uidOf(w *waiter) string {
	if w.request.PodUID != "" || a.nodeState == nil {
		return w.request.PodUID
	}
	for i := range a.nodeState.Spec.Endpoints {
		if e := &a.nodeState.Spec.Endpoints[i]; e.ID == w.endpoint() {
			return string(e.UID)
		}
	}
	return ""
}

// unready says why a pod's network is not prepared; "" when it is.
func (a *Agent) unready(w *waiter) string {
	switch {
	case !a.started:
		return "the node agent has not received all rendered state yet; missing: " + strings.Join(a.missingKinds(), ", ")
	case a.applyError != nil:
		return "the kernel did not take the node's policies: " + clip(a.applyError.Error())
	}
	if reason := a.state.Unready(w.endpoint(), w.request.PodUID); reason != "" {
		return reason
	}
	if err := a.addressErrors[w.endpoint()]; err != nil {
		return "no address: " + err.Error()
	}
	o := a.ownerOf(w)
	if err := a.second.errors[o]; err != nil {
		return "no address: " + err.Error()
	}
	held, ok := a.held[o]
	if !ok {
		return "it has no address yet"
	}
	if given := w.request.Given; len(given) > 0 && !sameAddresses(given, held) {
		return "the addresses that another plugin gave are not noted yet"
	}
	if a.state.Policy().HasDirty() {
		return "its policies are not in the kernel yet"
	}
	return a.refusedFor(o)
}

// refusedFor tells which item that the interface needs the kernel refused.
func (a *Agent) refusedFor(o owner) string {
	if len(a.items) == 0 {
		return ""
	}
	iface := render.HostInterface(o.Endpoint, o.Interface)
	e, _ := a.state.Policy().Endpoints.Get(iface)
	named := map[string]bool{}
	for _, tiers := range [...][]string{programNames(e.Ingress), programNames(e.Egress)} {
		for _, name := range tiers {
			named[name] = true
		}
	}
	for _, item := range a.items {
		if item.Kind == render.KindEndpoint && item.Name == iface || item.Kind == render.KindPolicyProgram && named[item.Name] {
			return item.Error()
		}
	}
	return ""
}

func (a *Agent) result(w *waiter, o owner) (protocol.AddResult, error) {
	mtu := w.request.MTU
	if mtu == 0 {
		var err error
		if mtu, err = a.mtu(); err != nil {
			return protocol.AddResult{}, err
		}
	}
	addrs := a.held[o]
	if len(addrs) == 0 {
		return protocol.AddResult{}, errors.New("it has no address")
	}
	result := protocol.AddResult{
		InterfaceName: render.HostInterface(o.Endpoint, o.Interface),
		Addresses:     append([]netip.Addr(nil), addrs...),
		MTU:           mtu,
		Chained:       a.network.manner[o].chained,
	}
	if o.Interface == "" { // it asks for the hardware address of one interface
		result.HardwareAddress = a.hardwareAddress(o.Endpoint)
	}
	return result, nil
}

// hardwareAddress is the MAC address that a pod asks for; empty: it does not matter.
func (a *Agent) hardwareAddress(id string) string {
	if a.nodeState == nil {
		return ""
	}
	for i := range a.nodeState.Spec.Endpoints {
		if e := &a.nodeState.Spec.Endpoints[i]; e.ID == id {
			return e.HardwareAddress
		}
	}
	return ""
}

// mtu is that of pods' interfaces.
func (a *Agent) mtu() (int, error) {
	if a.nodeState != nil && a.nodeState.Spec.Settings.MTU > 0 {
		return int(a.nodeState.Spec.Settings.MTU), nil
	}
	pattern := ""
	if a.nodeState != nil {
		pattern = a.nodeState.Spec.Settings.MTUInterfaces
	}
	mtu, err := a.MTU(a.state.OwnAddresses(), pattern)
	if err != nil {
		return 0, fmt.Errorf("finding the MTU of the node's interface: %w", err)
	}
	return a.insideTunnels(mtu), nil
}
