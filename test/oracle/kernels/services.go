package kernels

import (
	"bytes"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"

	"github.com/manul-net/manul/test/oracle"
)

// translate makes a node translate services as kube-proxy does: for packets of the node itself and of others, before their way is
// known. It writes with the same program as the dataplane, or with nft.
func (n *node) translate(program string, services []oracle.Translation) error {
	if n.translated && slices.Equal(n.services, services) {
		return nil
	}
	n.services, n.translated = slices.Clone(services), true
	var commands []command
	if program == "nft" {
		commands = []command{{[]string{"nft", "-f", "-"}, nftServices(services)}}
	} else {
		for _, v4 := range []bool{true, false} {
			name := program
			if !v4 {
				name = strings.Replace(program, "iptables", "ip6tables", 1)
			}
			// The driver has chains of its own in the table: only what is declared here is flushed.
			commands = append(commands, command{[]string{name + "-restore", "--noflush", "-w", "30"}, iptablesServices(services, v4)})
			for _, hook := range []string{"PREROUTING", "OUTPUT", "POSTROUTING"} {
				jump := "-t nat -w 30 %s " + hook + " -j TEST-" + hook
				check, add := fmt.Sprintf(jump, "-C"), fmt.Sprintf(jump, "-A")
				commands = append(commands, command{[]string{"sh", "-ec", name + " " + check + " 2>/dev/null || " + name + " " + add}, ""})
			}
		}
	}
	var err error
	n.Do(func() {
		for _, c := range commands {
			if err = c.run(); err != nil {
				return
			}
		}
	})
	return err
}

type command struct {
	args  []string
	input string
}

func (c command) run() error {
	cmd := exec.Command(c.args[0], c.args[1:]...)
	cmd.Stdin = strings.NewReader(c.input)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("translating services: %s: %w: %s", strings.Join(c.args, " "), err, out.String())
	}
	return nil
}

func nftServices(services []oracle.Translation) string {
	var b strings.Builder
	for _, ip := range []string{"ip", "ip6"} {
		fmt.Fprintf(&b, "table %[1]s test\ndelete table %[1]s test\ntable %[1]s test {\n", ip)
		for _, chain := range []string{"prerouting", "output"} {
			fmt.Fprintf(&b, "chain %[1]s { type nat hook %[1]s priority -100;\n", chain)
			for _, s := range services {
				if s.Address.Is4() == (ip == "ip") {
					fmt.Fprintf(&b, "%s daddr %s %s dport %d dnat to %s\n", ip, s.Address, protocolName(s.Protocol), s.Port, netip.AddrPortFrom(s.Endpoint, uint16(s.EndpointPort)))
				}
			}
			b.WriteString("}\n")
		}
		b.WriteString("chain postrouting { type nat hook postrouting priority 90;\n")
		for _, s := range services {
			if s.Masquerade && s.Address.Is4() == (ip == "ip") {
				fmt.Fprintf(&b, "ct status dnat ct original %s daddr %s meta l4proto %s ct original proto-dst %d masquerade\n", ip, s.Address, protocolName(s.Protocol), s.Port)
			}
		}
		b.WriteString("}\n}\n")
	}
	return b.String()
}

func iptablesServices(services []oracle.Translation, v4 bool) string {
	var b strings.Builder
	b.WriteString("*nat\n:TEST-PREROUTING - [0:0]\n:TEST-OUTPUT - [0:0]\n:TEST-POSTROUTING - [0:0]\n")
	for _, s := range services {
		if s.Address.Is4() != v4 {
			continue
		}
		for _, chain := range []string{"PREROUTING", "OUTPUT"} {
			fmt.Fprintf(&b, "-A TEST-%s -d %s -p %s --dport %d -j DNAT --to-destination %s\n", chain, s.Address, protocolName(s.Protocol), s.Port, netip.AddrPortFrom(s.Endpoint, uint16(s.EndpointPort)))
		}
		if s.Masquerade {
			fmt.Fprintf(&b, "-A TEST-POSTROUTING -p %s -m conntrack --ctstate DNAT --ctorigdst %s --ctorigdstport %d -j MASQUERADE\n", protocolName(s.Protocol), s.Address, s.Port)
		}
	}
	b.WriteString("COMMIT\n")
	return b.String()
}
