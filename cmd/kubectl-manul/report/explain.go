package report

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/routing"
)

// Advertisement is whether a node advertises a prefix, to whom, and why.
type Advertisement struct {
	Node string `json:"node"`
	// Address of a service; the block or address that the question is about.
	Address string `json:"address"`
	// Prefix that the node advertises for it; empty: none.
	Prefix string `json:"prefix,omitempty"`
	Why    string `json:"why"`
	// Peers of the node, when it advertises a prefix.
	Peers []ToPeer `json:"peers,omitempty"`
}

// ToPeer is whether a peer gets the prefix.
type ToPeer struct {
	Peer    string `json:"peer"`
	Address string `json:"address"`
	Sent    bool   `json:"sent"`
	Why     string `json:"why,omitempty"`
}

// Explanation is the report on what is advertised of a service or a CIDR.
type Explanation struct {
	Subject        string          `json:"subject"`
	Advertisements []Advertisement `json:"advertisements"`
}

// ExplainService says what each node does with the addresses of a service, as the plan has it and as the nodes have been told.
func ExplainService(plan *routing.Plan, name routing.ServiceName, states []v1alpha1.NodeState) (*Explanation, bool) {
	out := &Explanation{Subject: "service " + name.Namespace + "/" + name.Name, Advertisements: []Advertisement{}}
	found := false
	for i := range states {
		s := &states[i]
		verdicts, ok := plan.Explain(s.Name, name)
		found = found || ok
		for _, v := range verdicts {
			a := Advertisement{Node: s.Name, Address: v.Address.String(), Why: v.Why}
			if v.Advertised.IsValid() {
				a.Prefix = v.Advertised.String()
				if s.Spec.BGP == nil || !slices.Contains(s.Spec.BGP.Announce, a.Prefix) {
					a.Why += "; but the node has not been told of it yet: see whether the operator runs"
				} else {
					a.Peers = peersFor(s, v.Advertised)
				}
			}
			out.Advertisements = append(out.Advertisements, a)
		}
	}
	out.sort()
	return out, found
}

// ExplainCIDR says what each node does with the parts of a CIDR that it has: blocks, borrowed addresses, prefixes of services.
func ExplainCIDR(cidr netip.Prefix, states []v1alpha1.NodeState) *Explanation {
	out := &Explanation{Subject: cidr.String(), Advertisements: []Advertisement{}}
	for i := range states {
		s := &states[i]
		if s.Spec.BGP == nil {
			out.Advertisements = append(out.Advertisements, Advertisement{Node: s.Name, Address: cidr.String(), Why: "the node has no BGP"})
			continue
		}
		for _, has := range partsOf(s) {
			if !has.prefix.Overlaps(cidr) {
				continue
			}
			a := Advertisement{Node: s.Name, Address: has.prefix.String(), Why: has.what}
			if pool := withheld(s.Spec.Pools, has.prefix); pool != "" && !has.named {
				a.Why += fmt.Sprintf("; pool %s has disableBGPExport", pool)
			} else {
				a.Prefix = has.prefix.String()
				a.Peers = peersFor(s, has.prefix)
			}
			out.Advertisements = append(out.Advertisements, a)
		}
	}
	out.sort()
	return out
}

func (e *Explanation) sort() {
	slices.SortStableFunc(e.Advertisements, func(a, b Advertisement) int {
		return cmp.Or(strings.Compare(a.Address, b.Address), strings.Compare(a.Node, b.Node))
	})
}

// part is a prefix that a node may advertise.
type part struct {
	prefix netip.Prefix
	what   string
	// named: the configuration names the prefix, which counts before disableBGPExport.
	named bool
}

func partsOf(s *v1alpha1.NodeState) []part {
	var out []part
	add := func(text, what string, named bool) {
		if p, err := netip.ParsePrefix(text); err == nil {
			out = append(out, part{p.Masked(), what, named})
		} else if addr, err := netip.ParseAddr(text); err == nil {
			out = append(out, part{netip.PrefixFrom(addr, addr.BitLen()), what, named})
		}
	}
	for i := range s.Spec.Blocks {
		add(s.Spec.Blocks[i].CIDR, "it is a block of the node", false)
	}
	for i := range s.Spec.Borrowed {
		add(s.Spec.Borrowed[i].Address, "the node has borrowed it", false)
	}
	for _, text := range s.Spec.BGP.Announce {
		add(text, "the BGPConfiguration has it advertised for services", true)
	}
	return out
}

// withheld is the pool that keeps a prefix from being advertised; empty: none.
func withheld(pools []v1alpha1.Pool, p netip.Prefix) string {
	for i := range pools {
		if cidr, err := netip.ParsePrefix(pools[i].CIDR); err == nil && pools[i].DisableBGPExport && cidr.Bits() <= p.Bits() && cidr.Contains(p.Addr()) {
			return pools[i].CIDR
		}
	}
	return ""
}

// peersFor says which peers of a node get a prefix that it advertises.
func peersFor(s *v1alpha1.NodeState, p netip.Prefix) []ToPeer {
	sessions := map[string]*v1alpha1.BGPSession{}
	for i := range s.Spec.BGP.Sessions {
		sessions[s.Spec.BGP.Sessions[i].Name] = &s.Spec.BGP.Sessions[i]
	}
	for i := range s.Spec.BGP.Groups {
		sessions[s.Spec.BGP.Groups[i].Session.Name] = &s.Spec.BGP.Groups[i].Session
	}
	var out []ToPeer
	for _, session := range SessionsOf(s) {
		to := ToPeer{Peer: session.Peer, Address: session.Address, Sent: true}
		all, established := session.count()
		switch {
		case established == 0:
			to.Sent, to.Why = false, strings.TrimSuffix("the session is "+session.State+": "+session.Reason, ": ")
		case established < all:
			to.Why = session.State
		}
		want := sessions[session.Peer+"/"+session.Address]
		if want == nil {
			want = sessions[session.Peer] // of a group
		}
		if want != nil {
			internal := want.ASNumber == cmp.Or(want.LocalASNumber, s.Spec.BGP.ASNumber)
			passes, why := routing.Judge(s.Spec.BGP.Filters, want.Filters, p, communitiesOf(s.Spec.BGP, p), internal)
			to.Sent = to.Sent && passes
			if why != "" {
				to.Why = strings.TrimPrefix(to.Why+"; "+why, "; ")
			}
		}
		out = append(out, to)
	}
	return out
}

// communitiesOf are those that a route bears.
func communitiesOf(b *v1alpha1.BGP, p netip.Prefix) []string {
	var out []string
	for _, c := range b.Communities {
		if cidr, err := netip.ParsePrefix(c.CIDR); err == nil && cidr.Bits() <= p.Bits() && cidr.Contains(p.Addr()) {
			out = append(out, c.Values...)
		}
	}
	return out
}

// Text is a paragraph for each node and address.
func (e *Explanation) Text(w io.Writer) error {
	if len(e.Advertisements) == 0 {
		_, err := fmt.Fprintf(w, "No node has anything of %s to advertise.\n", e.Subject)
		return err
	}
	for i := range e.Advertisements {
		a := &e.Advertisements[i]
		what := "not advertised"
		if a.Prefix != "" {
			what = "advertised as " + a.Prefix
		}
		lines := []string{fmt.Sprintf("%s from %s: %s: %s", a.Address, a.Node, what, a.Why)}
		for _, p := range a.Peers {
			sent := "sent"
			if !p.Sent {
				sent = "not sent"
			}
			lines = append(lines, strings.TrimSuffix(fmt.Sprintf("  to %s (%s): %s: %s", p.Peer, p.Address, sent, p.Why), ": "))
		}
		if a.Prefix != "" && len(a.Peers) == 0 {
			lines = append(lines, "  to nobody: the node has no session")
		}
		if _, err := fmt.Fprintln(w, strings.Join(lines, "\n")); err != nil {
			return err
		}
	}
	return nil
}
