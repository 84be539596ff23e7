// Package attachments finds out where the journal of addresses and the kernel differ about containers' attachments, and which
// attachments nobody has ended, so that their addresses may go back. It calculates: looking at journal and kernel, and giving back, is
// its caller's.
package attachments

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Owner of addresses: a pod, or one of its further interfaces.
type Owner struct {
	// Endpoint is the pod, "namespace/name"; UID is its own.
	Endpoint, UID string
	// Interface is the name in the pod of an interface beside the pod's first; empty: the first.
	Interface string
}

// Held is what an owner holds.
type Held struct {
	Owner
	Addresses []netip.Addr
	// External: an IPAM plugin gave the addresses. Chained: another plugin made the interface and gave the addresses.
	External, Chained bool
}

// Holding is an attachment in the journal.
type Holding struct {
	// Name of the attachment: container and interface, "c1/eth0".
	Name string
	Owner
	Addresses []netip.Addr
	// Live: the pod is one of the node's, as the node's state says.
	Live bool
}

// Look is what journal and kernel were found to say.
type Look struct {
	At time.Time
	// Held are the journal's attachments.
	Held []Holding
	// Marked are the names of the interfaces that bear an attachment's mark, by attachment.
	Marked map[string]string
	// Certain: Live is the cluster's word, and not only what a checkpoint remembers of it.
	Certain bool
}

// Reason says how journal and kernel differ.
type Reason string

// The reasons of findings.
const (
	// Forgotten: the journal has the attachment, and no interface bears its mark. The pod is gone, or has another attachment. Its
	// addresses go back when this lasts.
	Forgotten Reason = "Forgotten"
	// InterfaceMissing: the pod is there, and the interface of its attachment is not.
	InterfaceMissing Reason = "InterfaceMissing"
	// InterfaceUnknown: an interface bears the mark of an attachment that the journal does not have.
	InterfaceUnknown Reason = "InterfaceUnknown"
)

// Reasons are all of them.
func Reasons() []Reason { return []Reason{Forgotten, InterfaceMissing, InterfaceUnknown} }

// Finding is an attachment about which journal and kernel differ.
type Finding struct {
	Reason Reason
	// Name of the attachment.
	Name string
	// Endpoint and Addresses are the journal's; Interface is the kernel's.
	Endpoint  string
	Addresses []netip.Addr
	Interface string
	// Since when they differ, as far as anybody looked.
	Since time.Time
	// ReleaseAt is when the attachment may be given up, if nothing changes; zero: not by itself.
	ReleaseAt time.Time
}

// Outcome is what follows from a look.
type Outcome struct {
	// Release are attachments that may be given up, in order.
	Release []string
	// Findings that have lasted for a while, in order of reason and name.
	Findings []Finding
	// Again is after how long another look is due; 0: when something happens.
	Again time.Duration
}

// Options of a Watch.
type Options struct {
	// Grace is how long an attachment must have been without a pod and without an interface before it is given up.
	Grace time.Duration
	// Settle is how long a difference must have lasted to be told: pods come and go in steps.
	Settle time.Duration
}

// Watch remembers what earlier looks found. An attachment is given up after two looks at least, Grace apart, none of which
// found it in use.
type Watch struct {
	options Options
	// missing attachments of the journal, and unknown ones of the kernel.
	missing map[string]absence
	unknown map[string]time.Time
}

// absence is since when an attachment has had no interface, and since when, beside that, nothing speaks for it; zero: something does.
type absence struct{ missing, idle time.Time }

// NewWatch makes a Watch that has seen nothing.
func NewWatch(o Options) *Watch {
	return &Watch{options: o, missing: map[string]absence{}, unknown: map[string]time.Time{}}
}

// Spare forgets what was seen of attachments: somebody has just spoken for them.
func (w *Watch) Spare(names ...string) {
	for _, name := range names {
		delete(w.missing, name)
	}
}

// Observe takes in a look.
func (w *Watch) Observe(l Look) Outcome {
	var out Outcome
	missing, unknown := map[string]absence{}, map[string]time.Time{}
	again := func(at time.Time) {
		if wait := max(at.Sub(l.At), time.Second); out.Again == 0 || wait < out.Again {
			out.Again = wait
		}
	}
	held := make(map[string]bool, len(l.Held))
	connected := map[string]bool{} // pods' interfaces that an attachment has
	for i := range l.Held {
		held[l.Held[i].Name] = true
		if l.Marked[l.Held[i].Name] != "" {
			connected[l.Held[i].pod()] = true
		}
	}
	for i := range l.Held {
		h := &l.Held[i]
		if l.Marked[h.Name] != "" {
			continue
		}
		seen, before := w.missing[h.Name]
		if !before {
			seen.missing = l.At
		}
		f := Finding{Reason: Forgotten, Name: h.Name, Endpoint: h.Endpoint, Addresses: h.Addresses, Since: seen.missing}
		switch {
		case h.Live && !connected[h.pod()]:
			seen.idle, f.Reason = time.Time{}, InterfaceMissing
		case !l.Certain:
			seen.idle = time.Time{}
		default:
			if seen.idle.IsZero() {
				seen.idle = l.At
			}
			f.ReleaseAt = seen.idle.Add(w.options.Grace)
			if seen.idle.Before(l.At) && !l.At.Before(f.ReleaseAt) {
				out.Release = append(out.Release, h.Name)
			} else {
				again(f.ReleaseAt)
			}
		}
		missing[h.Name] = seen
		out.tell(f, l.At, w.options.Settle, again)
	}
	for name, iface := range l.Marked {
		if held[name] {
			continue
		}
		since, before := w.unknown[name]
		if !before {
			since = l.At
		}
		unknown[name] = since
		out.tell(Finding{Reason: InterfaceUnknown, Name: name, Interface: iface, Since: since}, l.At, w.options.Settle, again)
	}
	w.missing, w.unknown = missing, unknown
	slices.Sort(out.Release)
	slices.SortFunc(out.Findings, func(a, b Finding) int {
		return cmp.Or(strings.Compare(string(a.Reason), string(b.Reason)), strings.Compare(a.Name, b.Name))
	})
	return out
}

// tell lists a finding once it has lasted.
func (o *Outcome) tell(f Finding, now time.Time, settle time.Duration, again func(time.Time)) {
	if at := f.Since.Add(settle); now.Before(at) {
		again(at)
		return
	}
	o.Findings = append(o.Findings, f)
}

// pod names the pod of an attachment and the interface in it, also apart from another pod of the same name.
func (h *Holding) pod() string {
	_, ifName, _ := strings.Cut(h.Name, "/")
	return h.Endpoint + " " + h.UID + " " + ifName
}
