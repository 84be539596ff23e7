package report

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/advertise"
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

// ExplainCIDR says what each node does with the parts of a CIDR that it has: blocks, addresses of pods outside them, prefixes of services.
func ExplainCIDR(cidr netip.Prefix, states []v1alpha1.NodeState) *Explanation {
	out := &Explanation{Subject: cidr.String(), Advertisements: []Advertisement{}}
	for i := range states {
		s := &states[i]
		if s.Spec.BGP == nil {
			out.Advertisements = append(out.Advertisements, Advertisement{Node: s.Name, Address: cidr.String(), Why: "the node has no BGP"})
			continue
		}
		rules := rulesOf(s)
		for _, p := range partsOf(s, cidr, rules) {
			verdict := rules.Judge(p.prefix, p.held)
			a := Advertisement{Node: s.Name, Address: p.prefix.String(), Why: verdict.Why()}
			if verdict.Advertised() {
				a.Prefix = a.Address
				a.Peers = peersFor(s, p.prefix)
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

// rulesOf are what the node's agent goes by. What it can't read it passes over, and so does this.
func rulesOf(s *v1alpha1.NodeState) *advertise.Rules {
	out := &advertise.Rules{}
	read := func(into *[]netip.Prefix, text string) {
		if p, err := netip.ParsePrefix(text); err == nil {
			*into = append(*into, p.Masked())
		}
	}
	for i := range s.Spec.Blocks {
		read(&out.Blocks, s.Spec.Blocks[i].CIDR)
	}
	for i := range s.Spec.Pools {
		if s.Spec.Pools[i].DisableBGPExport {
			read(&out.Private, s.Spec.Pools[i].CIDR)
		}
	}
	for _, text := range s.Spec.BGP.Announce {
		read(&out.Named, text)
	}
	for _, c := range s.Spec.BGP.Communities {
		if cidr, err := netip.ParsePrefix(c.CIDR); err == nil {
			out.Communities = append(out.Communities, advertise.Communities{CIDR: cidr.Masked(), Values: c.Values})
		}
	}
	return out
}

// part is a prefix that a node has.
type part struct {
	prefix netip.Prefix
	// held: a pod has the address.
	held bool
}

// partsOf are the parts of a CIDR that a node has: blocks, prefixes of services, addresses that it borrowed and those of pods that lie in no
// block of the node; and the address itself that is asked for, when a pod has it.
func partsOf(s *v1alpha1.NodeState, cidr netip.Prefix, rules *advertise.Rules) []part {
	found := map[netip.Prefix]bool{}
	for _, p := range slices.Concat(rules.Blocks, rules.Named) {
		found[p] = false
	}
	single := func(text string, held bool) {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return
		}
		p := netip.PrefixFrom(addr, addr.BitLen())
		inside := slices.ContainsFunc(rules.Blocks, func(b netip.Prefix) bool { return b.Contains(addr) })
		if !inside || p == cidr {
			found[p] = found[p] || held
		}
	}
	for i := range s.Spec.Borrowed {
		single(s.Spec.Borrowed[i].Address, false)
	}
	for i := range s.Status.Endpoints {
		for _, text := range s.Status.Endpoints[i].Addresses {
			single(text, true)
		}
	}
	for i := range s.Spec.Endpoints {
		for j := range s.Spec.Endpoints[i].Floating {
			single(s.Spec.Endpoints[i].Floating[j].Address, true)
		}
	}
	var out []part
	for _, p := range slices.SortedFunc(maps.Keys(found), netip.Prefix.Compare) {
		if p.Overlaps(cidr) {
			out = append(out, part{p, found[p]})
		}
	}
	return out
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
	communities := rulesOf(s).CommunitiesOf(p)
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
			passes, why := routing.Judge(s.Spec.BGP.Filters, want.Filters, p, communities, internal)
			to.Sent = to.Sent && passes
			if why != "" {
				to.Why = strings.TrimPrefix(to.Why+"; "+why, "; ")
			}
		}
		out = append(out, to)
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
