package iptables

import (
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/manul-net/manul/test/netns"
)

// dump is what iptables-save and ipset show: an eye of its own, independent of the driver. Rules stay in the order of
// their chains; chains, sets and elements are sorted.
func dump(t testing.TB, ns *netns.NS, variant Variant) []string {
	t.Helper()
	var lines []string
	for _, program := range []string{"iptables", "ip6tables"} {
		for _, table := range kernelTables() {
			rules := map[string]int{}
			for line := range strings.Lines(output(t, ns, fmt.Sprintf("%s-%s-save", program, variant), "-t", table)) {
				line = strings.TrimSpace(line)
				line = regexp.MustCompile(` \[\d+:\d+\]$`).ReplaceAllString(line, "")
				if strings.HasPrefix(line, "-A ") {
					chain := strings.Fields(line)[1]
					rules[chain]++
					line = fmt.Sprintf("-A %s %03d%s", chain, rules[chain], strings.TrimPrefix(line, "-A "+chain))
				}
				if strings.HasPrefix(line, ":") || strings.HasPrefix(line, "-") {
					lines = append(lines, program+" "+table+" "+line)
				}
			}
		}
	}
	for line := range strings.Lines(output(t, ns, "ipset", "save")) {
		line = regexp.MustCompile(` (hashsize|bucketsize|initval) \S+`).ReplaceAllString(strings.TrimSpace(line), "")
		lines = append(lines, "ipset "+line)
	}
	slices.Sort(lines)
	return lines
}

func output(t testing.TB, ns *netns.NS, program string, args ...string) string {
	t.Helper()
	var out []byte
	ns.Must(program+" "+strings.Join(args, " "), func() error {
		var err error
		out, err = exec.Command(program, args...).Output()
		return err
	})
	return string(out)
}
