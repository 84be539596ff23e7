package iptables

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/tables"
)

// end of a packet.
type end struct {
	option string // of an address
	port   string // option of a port
	ports  string // option of multiport
	set    string // flag of a set of addresses
	pair   string // flags of a set of addresses and ports
}

func source() end      { return end{"-s", "--sport", "--sports", "src", "src,src"} }
func destination() end { return end{"-d", "--dport", "--dports", "dst", "dst,dst"} }

// negated begins a match that is inverted.
func negated(invert bool) string {
	if invert {
		return "! "
	}
	return ""
}

// portSlots is the number of ports that one multiport match can name; a range takes two of them (XT_MULTI_PORTS).
const portSlots = 15

// portMatch matches one range of ports, by the protocol's own match where the kernel has a cheap one.
func portMatch(at end, protocol string, r tables.PortRange) string {
	ports := fmt.Sprint(r.First)
	if r.First != r.Last {
		ports = fmt.Sprintf("%d:%d", r.First, r.Last)
	}
	switch protocol {
	case fmt.Sprintf("-p %d", unix.IPPROTO_TCP):
		return "-m tcp " + at.port + " " + ports
	case fmt.Sprintf("-p %d", unix.IPPROTO_UDP):
		return "-m udp " + at.port + " " + ports
	default:
		return "-m multiport " + at.ports + " " + ports
	}
}

// portMatches are multiport matches that together name all ports, in as few as possible.
func portMatches(at end, ranges []tables.PortRange, invert bool) []string {
	var out, words []string
	slots := 0
	flush := func() {
		if len(words) > 0 {
			out = append(out, "-m multiport "+negated(invert)+at.ports+" "+strings.Join(words, ","))
		}
		words, slots = nil, 0
	}
	for _, r := range tables.MergedPorts(ranges) {
		word, need := fmt.Sprint(r.First), 1
		if r.First != r.Last {
			word, need = fmt.Sprintf("%d:%d", r.First, r.Last), 2
		}
		if slots+need > portSlots {
			flush()
		}
		words, slots = append(words, word), slots+need
	}
	flush()
	return out
}

// icmpMatch matches the type, and the code unless it is negative, of a packet of the family's ICMP.
func icmpMatch(fam family, m tables.ICMP, invert bool) string {
	module, option := "icmp", "--icmp-type"
	if fam == ipv6 {
		module, option = "icmp6", "--icmpv6-type"
	}
	what := fmt.Sprint(m.Type)
	if m.Code >= 0 {
		what = fmt.Sprintf("%d/%d", m.Type, m.Code)
	}
	return "-m " + module + " " + negated(invert) + option + " " + what
}

// checkICMP tells why a type and code can't be matched: to iptables, type 255 of ICMP means any.
func checkICMP(m *tables.ICMP) error {
	if m == nil {
		return nil
	}
	if m.Type < 0 || m.Type > 254 {
		return fmt.Errorf("ICMP type %d is not in 0 to 254", m.Type)
	}
	if m.Code > 255 {
		return fmt.Errorf("ICMP code %d is not in 0 to 255", m.Code)
	}
	return nil
}
