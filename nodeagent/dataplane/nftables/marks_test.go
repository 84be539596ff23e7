package nftables

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/test/packets"
)

// Other bits of the packet mark go through policy as they are. The driver's own bits leave no packet that did not come with
// them, and decide nothing, whatever they were when packets came.
func TestMarks(t *testing.T) {
	n := packets.NewNode(t, subject())
	n.Shell("nft 'add table inet marks'")
	for _, hook := range []string{"prerouting", "output"} {
		n.Shell("nft 'add chain inet marks " + hook + " { type filter hook " + hook + " priority -310; }'")
	}
	n.Shell("nft 'add chain inet marks after { type filter hook postrouting priority 150; }'")
	rule := func(action tables.Action, port ...uint16) tables.Rule {
		return packets.Rule(action, unix.IPPROTO_TCP, port...)
	}
	both := func(r ...tables.Rule) tables.Program { return tables.Program{Ingress: r, Egress: r} }
	untracked := tables.Directions{Ingress: []tables.Tier{packets.Tier(tables.Pass, "early")}, Egress: []tables.Tier{packets.Tier(tables.Pass, "early")}}
	local := tables.Directions{Ingress: []tables.Tier{packets.Tier(tables.Deny, "in"), packets.Tier(tables.Deny, "next")}, Egress: []tables.Tier{packets.Tier(tables.Deny, "in"), packets.Tier(tables.Deny, "next")}}
	for name, host := range map[string]*tables.HostEndpoint{
		"no host endpoint": nil, "local": {Local: local}, "forward": {Local: local, Forward: local}, "early": {Local: local, PreDNAT: untracked.Ingress},
		"untracked": {Local: local, Untracked: untracked}, "everything": {Local: local, Untracked: untracked, PreDNAT: untracked.Ingress, Forward: local},
	} {
		for _, mark := range []struct {
			before, after string
			ipvs          bool
		}{
			{"0x4000", "0x234000 != 0x4000", false},
			{"0x3c000", "0xc000 != 0xc000", false},
			{"0x24000", "0xc000 != 0x4000", false},
			{"0x4000", "0x234000 != 0x4000", true},
			{"0x23c000", "0xc000 != 0xc000", true},
			{"0x204000", "0xc000 != 0x4000", true},
		} {
			before, after := mark.before, mark.after
			t.Run(fmt.Sprintf("%s, mark %s, IPVS %v", name, before, mark.ipvs), func(t *testing.T) {
				n.Shell("nft 'flush chain inet marks after; add rule inet marks after meta l4proto tcp meta mark and " + after + " drop'")
				for _, hook := range []string{"prerouting", "output"} {
					n.Shell("nft 'flush chain inet marks " + hook + "; add rule inet marks " + hook + " meta mark set " + before + "'")
				}
				p := packets.NewTables()
				p.Settings.IPVS = mark.ipvs
				p.Programs.Set("in", both(rule(tables.Pass, 80, 82), rule(tables.Allow, 81)))
				p.Programs.Set("next", both(rule(tables.Allow, 80, 83)))
				p.Programs.Set("early", both(rule(tables.Allow, 90)))
				server := packets.Unrestricted(packets.ServerPod)
				server.Ingress = local.Ingress
				client := packets.Unrestricted(packets.ClientPod)
				client.Egress = local.Egress
				p.Endpoints.Set(packets.InterfaceOf(packets.ServerPod), server)
				p.Endpoints.Set(packets.InterfaceOf(packets.ClientPod), client)
				if host != nil {
					p.HostEndpoints.Set(tables.AllInterfaces, *host)
				}
				n.Driver.Resync()
				n.Apply(p)
				early := host != nil && len(host.PreDNAT)+len(host.Untracked.Ingress) > 0
				hosts, forwards := host == nil, host == nil || len(host.Forward.Ingress) == 0
				const c, s, o, x, h = packets.ClientPod, packets.ServerPod, packets.OtherPod, packets.Outside, packets.HostSide
				n.Verify(packets.Both(func(f packets.Family) []packets.Probe {
					tcp := func(from, to string, port uint16, arrives bool) packets.Probe {
						return packets.TCP(f, from, to, port, arrives)
					}
					return []packets.Probe{
						tcp(c, s, 80, true), tcp(c, s, 81, true), tcp(c, s, 82, false), tcp(c, s, 83, false), tcp(o, s, 80, true), tcp(o, s, 82, false),
						tcp(o, x, 80, true), tcp(o, x, 82, forwards), tcp(x, o, 82, forwards), tcp(x, o, 81, true), tcp(x, o, 90, forwards),
						tcp(x, h, 80, true), tcp(x, h, 82, hosts), tcp(x, h, 90, hosts || early), tcp(h, x, 80, true), tcp(h, x, 82, hosts),
						tcp(h, x, 90, hosts || len(untrackedOf(host).Egress) > 0), tcp(h, s, 90, true), tcp(h, h, 82, true), tcp(c, h, 81, true),
					}
				})...)
			})
		}
	}
}

func untrackedOf(h *tables.HostEndpoint) tables.Directions {
	if h == nil {
		return tables.Directions{}
	}
	return h.Untracked
}
