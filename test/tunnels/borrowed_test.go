package tunnels

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/cni/protocol"
	"github.com/manul-net/manul/internal/blocks"
	"github.com/manul-net/manul/internal/ipam"
)

// lends is the manifest of a node's block of a pool, of which other nodes have addresses or are to have them.
func (n *Node) lends(pool string, revision int64, loans ...ipam.Loan) string {
	n.world.t.Helper()
	o, err := parse(n.block(pool))
	block, ok := o.(*v3.IPAMBlock)
	if err != nil || !ok {
		n.world.t.Fatalf("%T: %v", o, err)
	}
	h, err := blocks.Read(block)
	if err != nil {
		n.world.t.Fatal(err)
	}
	h.Revision = revision
	for _, loan := range loans {
		loan.Revision = revision
		h.Loans = append(h.Loans, loan)
	}
	blocks.Write(h, &block.Spec)
	block.TypeMeta = metav1.TypeMeta{APIVersion: "projectcalico.org/v3", Kind: "IPAMBlock"}
	text, err := yaml.Marshal(block)
	if err != nil {
		n.world.t.Fatal(err)
	}
	return string(text)
}

// TestPacketsToBorrowedAddresses: pods of a node that has no block use addresses out of another node's. They are reached from that node, from a
// third one and from their own, with and without tunnels, and reach all of these. An address that goes back is the owner's again.
func TestPacketsToBorrowedAddresses(t *testing.T) {
	const direct, tunnel, tunnel6 = "eth0", "vxlan.manul", "vxlan-v6.manul"
	for _, test := range []struct {
		name, cidr, mode string
		// third is the subnet of the third node; near and far are the devices by which nodes send to the pods.
		third, near, far string
	}{
		{"none", pool4, "", "a", direct, direct},
		{"VXLAN Always", pool4, ", vxlanMode: Always", "b", tunnel, tunnel},
		{"VXLAN CrossSubnet", pool4, ", vxlanMode: CrossSubnet", "b", direct, tunnel},
		{"IPIP CrossSubnet", pool4, ", ipipMode: CrossSubnet", "b", direct, "ipip.manul"},
		{"IPv6 none", pool6, "", "a", direct, direct},
		{"IPv6 VXLAN CrossSubnet", pool6, ", vxlanMode: CrossSubnet", "b", direct, tunnel6},
	} {
		t.Run(test.name, func(t *testing.T) {
			if elsewhere(t, test.name[:4]) {
				return
			}
			w := NewWorld(t)
			w.Give(poolWith("pool", test.cidr, test.mode))
			is4 := test.cidr == pool4
			own := func(p *Pod) netip.Addr {
				if is4 {
					return p.V4
				}
				return p.V6
			}
			owner, borrower, third := w.Node("w1", "a", test.cidr), w.Node("w2", "a"), w.Node("w3", test.third, test.cidr)
			home, away := owner.Pod("home"), third.Pod("away")
			block, err := own(home).Prefix(26 + 96*boolean(!is4))
			if err != nil {
				t.Fatal(err)
			}
			last := ipam.Last(block)
			lent := []netip.Addr{last.Prev().Prev(), last.Prev(), last} // for two pods, and an end of a tunnel
			loan := func(addr netip.Addr, state ipam.LoanState) ipam.Loan {
				return ipam.Loan{Address: addr, Node: "w2", State: state}
			}
			loans := func(state ipam.LoanState) (out []ipam.Loan) {
				for _, addr := range lent {
					out = append(out, loan(addr, state))
				}
				return out
			}
			w.Give(owner.lends(test.cidr, 1, loans(ipam.LoanAsked)...))
			eventually(t, func() string {
				for _, l := range w.status("w1").Leases {
					if len(l.Withheld) == len(lent) {
						return ""
					}
				}
				return fmt.Sprintf("the owner has agreed to %+v", w.status("w1").Leases)
			})
			w.Give(owner.lends(test.cidr, 2, loans(ipam.LoanGiven)...))
			guests := []*Pod{borrower.Pod("guest1"), borrower.Pod("guest2")}
			for _, p := range guests {
				if !slices.Contains(lent, own(p)) {
					t.Fatalf("%s has %s, which is none of the borrowed %v", p.ID, own(p), lent)
				}
				owner.Sends(own(p), test.near)
				third.Sends(own(p), test.far)
			}
			borrower.Sends(own(home), test.near)
			borrower.Sends(own(away), test.far)
			all := []*Pod{home, away, guests[0], guests[1]}
			for _, from := range all {
				for _, to := range all {
					if from != to {
						talk(t, from, to, is4)
					}
				}
			}
			for _, n := range []*Node{owner, borrower, third} {
				at := netip.AddrPortFrom(own(guests[0]), 8081)
				echo := guests[0].Echo(at)
				c := n.Connect(at)
				c.Exchange("from node " + n.Name)
				c.Close()
				echo.Close()
			}

			// The first one goes; its address is asked for and comes back.
			gone := guests[0]
			w.take("apiVersion: v1\nkind: Pod\nmetadata: {name: guest1, namespace: default, uid: u-guest1}")
			if err := borrower.agent.Del(t.Context(), protocol.DelRequest{Attachment: protocol.Attachment{ContainerID: "guest1", IfName: "eth0"}}); err != nil {
				t.Fatal(err)
			}
			var stay []ipam.Loan
			for _, x := range loans(ipam.LoanGiven) {
				if x.Address != own(gone) {
					stay = append(stay, x)
				}
			}
			w.Give(owner.lends(test.cidr, 3, append(slices.Clone(stay), loan(own(gone), ipam.LoanRecalled))...))
			eventually(t, func() string {
				for _, l := range w.status("w2").Leases {
					if l.Released && l.CIDR == netip.PrefixFrom(own(gone), own(gone).BitLen()).String() {
						return ""
					}
				}
				return fmt.Sprintf("the borrower has agreed to %+v", w.status("w2").Leases)
			})
			w.Give(owner.lends(test.cidr, 4, stay...))
			owner.Sends(own(gone), "") // it is nobody's, and not sent to the borrower
			owner.Sends(own(guests[1]), test.near)
			talk(t, home, guests[1], is4)
		})
	}
}

func boolean(b bool) int {
	if b {
		return 1
	}
	return 0
}
