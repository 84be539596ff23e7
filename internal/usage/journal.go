package usage

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/blocks"
	"github.com/manul-net/manul/internal/ipam"
)

// loans compares the single addresses that are lent with what their owner and their borrower have been told, and leases with what nodes
// say that they go by.
func (k *check) loans() {
	states := map[string]*v1alpha1.NodeState{}
	for i := range k.NodeStates {
		states[k.NodeStates[i].Name] = &k.NodeStates[i]
	}
	borrowed, lent := map[string]map[netip.Addr]bool{}, map[string]map[netip.Addr]bool{}
	note := func(of map[string]map[netip.Addr]bool, node string, addr netip.Addr) {
		if of[node] == nil {
			of[node] = map[netip.Addr]bool{}
		}
		of[node][addr] = true
	}
	for i := range k.Blocks {
		h, err := blocks.Read(&k.Blocks[i])
		if err != nil {
			continue // told already
		}
		if s := states[h.Node]; s != nil {
			for _, l := range s.Status.Leases {
				if l.CIDR == h.Block.String() && l.Revision > h.Revision {
					k.find(LeaseAhead, "IPAMBlock "+k.Blocks[i].Name, nil, "node %s goes by revision %d of the lease, and the object is of revision %d: was it restored from a backup? the operator renews it while it runs",
						h.Node, l.Revision, h.Revision)
				}
			}
		}
		for _, loan := range h.Loans {
			note(lent, h.Node, loan.Address)
			if loan.State != ipam.LoanAsked {
				note(borrowed, loan.Node, loan.Address)
			}
			if !k.nodes[loan.Node] {
				k.find(LoanOfNoNode, loan.Address.String(), nil, "block %s lends it to node %s, which does not exist: the operator takes it back once no pod is bound to that node; see whether it runs", h.Block, loan.Node)
			}
		}
	}
	for i := range k.NodeStates {
		s := &k.NodeStates[i]
		var toldBorrowed, toldLent []string
		for _, b := range s.Spec.Borrowed {
			toldBorrowed = append(toldBorrowed, b.Address)
		}
		for _, b := range s.Spec.Blocks {
			toldLent = append(toldLent, b.Lent...)
		}
		k.told(s.Name, "borrows", borrowed[s.Name], toldBorrowed)
		k.told(s.Name, "lends", lent[s.Name], toldLent)
	}
}

// told compares addresses with those of which a node has been told.
func (k *check) told(node, does string, want map[netip.Addr]bool, told []string) {
	heard := map[netip.Addr]bool{}
	for _, text := range told {
		addr, err := netip.ParseAddr(text)
		if heard[addr] = true; err != nil || !want[addr] {
			k.find(LoanNotRendered, "NodeState "+node, nil, "the node believes that it %s %s, and no block says so: see whether the operator runs", does, text)
		}
	}
	for addr := range want {
		if !heard[addr] {
			k.find(LoanNotRendered, "NodeState "+node, nil, "the node has not been told that it %s %s: see whether the operator runs", does, addr)
		}
	}
}

// attachments tells what nodes found when they compared their journals with their kernels.
func (k *check) attachments() {
	for i := range k.NodeStates {
		s := &k.NodeStates[i]
		for j := range s.Status.Attachments {
			a := &s.Status.Attachments[j]
			since, holds := a.Since.UTC().Format(time.RFC3339), strings.Join(a.Addresses, ", ")
			switch a.Reason {
			case "Forgotten":
				back := "it is given up when the node knows which pods it has"
				if !a.ReleaseAt.IsZero() {
					back = "they go back at " + a.ReleaseAt.UTC().Format(time.RFC3339) + ", unless the agent runs with --keep-forgotten"
				}
				k.find(AttachmentForgotten, s.Name+" "+a.Name, nil, "node %s keeps %s for a container of pod %s that nobody ended: since %s neither the pod nor an interface speaks for it; %s",
					s.Name, holds, a.Endpoint, since, back)
			case InterfaceMissing:
				k.find(InterfaceMissing, s.Name+" "+a.Name, nil, "pod %s on node %s has %s, and since %s its interface is not there: the pod has no network; delete it, so that it is made again",
					a.Endpoint, s.Name, holds, since)
			case InterfaceUnknown:
				k.find(InterfaceUnknown, s.Name+" "+a.Name, nil, "node %s has interface %s of a container that its journal of addresses does not have, since %s: nothing passes it; end the container with the runtime (crictl rmp)",
					s.Name, a.Interface, since)
			}
		}
		for _, f := range s.Status.Failures {
			if f.Kind == "Route" {
				k.find(RouteNotInEffect, s.Name+" "+f.Name, nil, "the kernel of node %s did not take the route: %s", s.Name, f.Message)
			}
		}
		if more := int(s.Status.AttachmentsTotal) - len(s.Status.Attachments); more > 0 {
			k.find(AttachmentForgotten, s.Name, nil, "%s", fmt.Sprintf("node %s found %d more attachments like those that are listed", s.Name, more))
		}
	}
}
