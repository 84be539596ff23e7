package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/nodeagent/attachments"
	"github.com/manul-net/manul/nodeagent/pace"
	"github.com/manul-net/manul/nodeagent/render"
	"github.com/manul-net/manul/nodeagent/source"
)

// Attachments lists the interfaces of pods by whose they are.
type Attachments interface {
	// Marked gives the names of the interfaces that bear an attachment's mark, by attachment, as the kernel has them now. It is called
	// from a goroutine of its own.
	Marked() (map[string]string, error)
	// Gone yields a value when an interface of a pod was removed.
	Gone() <-chan struct{}
}

const (
	// settlePart of the grace period is how long pods take to come and go: 30 s.
	settlePart = 10
	// firstPart of it is after about how long a starting agent first compares journal and kernel: the runtime has its own to tell before.
	firstPart = 5
)

// forgotten is what the loop knows of attachments about which journal and kernel differ.
type forgotten struct {
	watch *attachments.Watch
	// looking: the kernel is being asked, by another goroutine.
	looking bool
	status  []v1alpha1.AttachmentStatus
	total   int32
}

// compareSoon has journal and kernel compared when things have settled.
func (a *Agent) compareSoon() { a.timers.attachments.within(a.ForgottenAfter / settlePart) }

func (a *Agent) interfaceGone() <-chan struct{} {
	if a.Attachments == nil {
		return nil
	}
	return a.Attachments.Gone()
}

// lookForForgotten has the kernel asked which attachments have interfaces, when that is due: after a pod left that has a container, after an
// interface went, and now and then. The asking is done outside the loop.
func (a *Agent) lookForForgotten(ctx context.Context) {
	if !a.timers.attachments.take() || a.Attachments == nil || a.Standalone || a.forgotten.looking {
		return
	}
	a.forgotten.looking = true
	go func() {
		began := time.Now()
		marked, err := a.Attachments.Marked()
		took := time.Since(began)
		done := func() {
			began := time.Now()
			a.forgotten.looking = false
			defer func() { a.timers.attachments.within(pace.Next(jittered(a.ResyncEvery), took+time.Since(began))) }()
			if err != nil {
				a.Log.Error("which attachments have interfaces is not known", "error", err)
				return
			}
			if err := a.compareAttachments(marked); err != nil {
				a.Log.Error("attachments that nobody ended were not looked for, or not released", "error", err)
			}
		}
		select {
		case a.calls <- done:
		case <-ctx.Done():
		}
	}()
}

// compareAttachments holds the journal against the kernel, and gives back what nothing speaks for.
func (a *Agent) compareAttachments(marked map[string]string) error {
	_, there := a.known[source.NodeState][a.Node]
	look := attachments.Look{At: time.Now(), Marked: marked, Certain: there && a.synced[source.NodeState]}
	err := a.Addresses.EachAttachment(func(name string, h attachments.Held) {
		look.Held = append(look.Held, attachments.Holding{Name: name, Owner: h.Owner, Addresses: h.Addresses, Live: a.isNamed(h.Owner)})
	})
	if err != nil {
		return fmt.Errorf("reading attachments: %w", err)
	}
	out := a.forgotten.watch.Observe(look)
	if out.Again > 0 {
		a.timers.attachments.within(out.Again)
	}
	settled := map[string]bool{}
	if !a.KeepForgotten {
		if err = a.releaseForgotten(&look, out.Release); err == nil {
			for _, name := range out.Release {
				settled[name] = true
			}
		}
	}
	unknown := map[string]string{}
	for i := range out.Findings {
		if f := &out.Findings[i]; f.Reason == attachments.InterfaceUnknown {
			unknown[f.Name] = f.Interface
		}
	}
	err = errors.Join(err, a.reattach(unknown, settled))
	a.tellAttachments(slices.DeleteFunc(out.Findings, func(f attachments.Finding) bool { return settled[f.Name] }))
	return err
}

// releaseForgotten gives up attachments, all in one write.
func (a *Agent) releaseForgotten(look *attachments.Look, release []string) error {
	if len(release) == 0 {
		return nil
	}
	var keep []string
	for i := range look.Held {
		h := &look.Held[i]
		if !slices.Contains(release, h.Name) {
			keep = append(keep, h.Name)
			continue
		}
		a.Log.Warn("giving up an attachment that nobody ended: its pod is gone or has another, and no interface bears its mark",
			"attachment", h.Name, "pod", h.Endpoint, "addresses", h.Addresses)
	}
	if err := a.Addresses.KeepAttachments(keep); err != nil {
		return fmt.Errorf("releasing attachments that nobody ended: %w", err)
	}
	a.Metrics.released.Add(float64(len(release)))
	a.pending.addresses = true
	return nil
}

// reattach takes into the journal what it has lost: attachments whose interface is there, of pods that have addresses. So a pod that
// goes while its container runs does not lose its address to another. What it took is noted in done.
func (a *Agent) reattach(marked map[string]string, done map[string]bool) error {
	held := map[string]owner{}
	for o := range a.held {
		name := render.HostInterface(o.Endpoint, o.Interface)
		if _, twice := held[name]; !twice || a.isNamed(o) {
			held[name] = o
		}
	}
	for name, iface := range marked {
		if _, known := a.Addresses.Attached(name); known {
			continue
		}
		o, ok := held[iface]
		if !ok {
			continue
		}
		if err := a.Addresses.Attach(o, name); err != nil {
			return fmt.Errorf("noting the attachment of interface %s: %w", iface, err)
		}
		done[name] = true
		a.Log.Warn("an attachment was missing in the journal of addresses", "attachment", name, "pod", o.Endpoint, "interface", iface)
	}
	return nil
}

// adoptAttachments is reattach for a new journal, before any address that it adopted can go back.
func (a *Agent) adoptAttachments() error {
	if a.Attachments == nil {
		return nil
	}
	if err := a.lookAtAddresses(); err != nil {
		return err
	}
	marked, err := a.Attachments.Marked()
	if err != nil {
		return fmt.Errorf("looking for attachments from before the journal: %w", err)
	}
	return a.reattach(marked, map[string]bool{})
}

// tellAttachments puts findings into status and metrics.
func (a *Agent) tellAttachments(findings []attachments.Finding) {
	a.forgotten.status, a.forgotten.total = nil, int32(len(findings))
	count := map[attachments.Reason]int{}
	for i := range findings {
		f := &findings[i]
		count[f.Reason]++
		if i >= v1alpha1.MaxReportedAttachments {
			continue
		}
		s := v1alpha1.AttachmentStatus{Reason: string(f.Reason), Name: f.Name, Endpoint: f.Endpoint, Interface: f.Interface, Since: transition(f.Since)}
		if !f.ReleaseAt.IsZero() {
			s.ReleaseAt = transition(f.ReleaseAt)
		}
		for _, addr := range f.Addresses {
			s.Addresses = append(s.Addresses, addr.String())
		}
		a.forgotten.status = append(a.forgotten.status, s)
	}
	for _, reason := range attachments.Reasons() {
		a.Metrics.attachments.WithLabelValues(string(reason)).Set(float64(count[reason]))
	}
}
