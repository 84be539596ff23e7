package iptables

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/test/packets"
)

// recorded replaces the programs that write rules by ones that also keep what they are told.
func (n *node) recorded(t *testing.T) (written func() []string) {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	d := n.driver()
	for fam, program := range d.programs.restore {
		script := filepath.Join(dir, fmt.Sprintf("restore%d", fam))
		// It becomes the program, since the driver knows its own changes by the process that made them.
		text := fmt.Sprintf("#!/bin/sh\ncat >%[1]s.input\nsed 's/^/%[2]s /' %[1]s.input >>%[3]s\nexec %[4]s \"$@\" <%[1]s.input\n", script, family(fam).digit(), log, program)
		if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
		d.programs.restore[fam] = script
	}
	// written tells which chains of IPv4 were written and which hooks changed since the last call, by table.
	return func() []string {
		t.Helper()
		out, err := os.ReadFile(log)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if err := os.RemoveAll(log); err != nil {
			t.Fatal(err)
		}
		var got []string
		table := ""
		for line := range strings.Lines(string(out)) {
			rest, ipv4 := strings.CutPrefix(strings.TrimSpace(line), "4 ")
			words := strings.Fields(rest)
			switch {
			case !ipv4:
			case strings.HasPrefix(rest, "*"):
				table = rest[1:]
			case strings.HasPrefix(rest, ":"):
				got = append(got, table+" "+words[0][1:])
			case strings.HasPrefix(rest, "-I"), strings.HasPrefix(rest, "-D"):
				got = append(got, table+" "+words[0]+" "+words[1])
			}
		}
		slices.Sort(got)
		return slices.Compact(got)
	}
}

// A change writes the chains that differ and no others.
func TestChangesAreMinimal(t *testing.T) { eachVariant(t, testChangesAreMinimal) }

func testChangesAreMinimal(t *testing.T, variant Variant) {
	n := newNode(t, variant)
	p := packets.ManyThings()
	p.Programs.Set("a", tables.Program{Ingress: []tables.Rule{{Action: tables.Allow}}})
	p.Programs.Set("b", tables.Program{Ingress: []tables.Rule{{Action: tables.Deny}}})
	n.Apply(p)
	written := n.recorded(t)
	in := func(programs ...string) []tables.Tier { return []tables.Tier{packets.Tier(tables.Pass, programs...)} }
	tier := func(programs ...string) string {
		name, _ := newTierChain(ingress, in(programs...)[0])
		return name
	}
	list := func(kind listKind, programs ...string) string {
		name, _ := newListChain(ingress, kind, []string{tier(programs...)})
		return name
	}
	a, b := programChain(ingress, "a"), programChain(ingress, "b")
	base := func(forward, input bool) []string {
		var names []string
		if forward {
			names = append(names, "filter "+forwardChain)
		}
		if input {
			names = append(names, "filter "+inputChain)
		}
		return names
	}
	host := func(h tables.HostEndpoint) func() {
		return func() { h.LocalDefault = tables.Allow; p.HostEndpoints.Set("eth0", h) }
	}
	for _, step := range []struct {
		name   string
		change func()
		want   []string
	}{
		{"nothing", func() {}, nil},
		{"a look", func() { n.driver().watch.due.Store(true) }, nil},
		{"a comparison", func() { n.driver().Resync() }, nil},
		{"a program", func() { p.Programs.Set("a", tables.Program{Ingress: []tables.Rule{{Action: tables.Pass}}}) }, []string{"filter " + a}},
		{"a setting", func() { p.Settings.EndpointToHost, p.SettingsDirty = tables.HostReturn, true }, base(false, true)},
		{"a pod", func() { p.Endpoints.Set("calinew", tables.Endpoint{}) }, []string{"filter " + dispatchRoot(egress), "filter " + dispatchRoot(ingress)}},
		{"a pod's policies", func() { p.Endpoints.Set("calinew", tables.Endpoint{Ingress: in("a", "b")}) }, []string{
			"filter " + list(podList, "a", "b"), "filter " + tier("a", "b"), "filter " + dispatchRoot(ingress),
		}},
		{"the first host endpoint", host(tables.HostEndpoint{}), slices.Concat(base(true, true), []string{
			"filter -I OUTPUT", "filter " + clearChain, "filter " + hostInputChain, "filter " + hostOutputChain, "filter " + localIn.root(),
			"mangle -I POSTROUTING", "mangle " + allowChain, "mangle " + passChain, "mangle " + hostPostChain, "mangle " + localOut.root(),
		})},
		{"local policy", host(tables.HostEndpoint{Local: tables.Directions{Ingress: in("a")}}), []string{"filter " + list(hostList, "a"), "filter " + tier("a"), "filter " + localIn.root()}},
		{"policy before translation", host(tables.HostEndpoint{PreDNAT: in("a")}), []string{
			"filter " + inputChain, "filter " + list(hostList, "a"), "filter " + tier("a"), "filter " + localIn.root(),
			"mangle -I PREROUTING", "mangle " + earlyChain, "mangle " + hostPreChain, "mangle " + preDNAT.root(), "mangle " + list(earlyList, "a"), "mangle " + tier("a"), "mangle " + a,
		}},
		{"its program", func() { p.Programs.Set("a", tables.Program{Ingress: []tables.Rule{{Action: tables.Allow}}}) }, []string{"filter " + a, "mangle " + a}},
		{"another program", func() { p.Programs.Set("b", tables.Program{Ingress: []tables.Rule{{Action: tables.Pass}}}) }, []string{"filter " + b}},
		{"no host endpoint", func() { p.HostEndpoints.Delete("eth0") }, slices.Concat(base(true, true), []string{
			"filter -D OUTPUT", "filter " + clearChain, "filter " + hostInputChain, "filter " + hostOutputChain, "filter " + localIn.root(),
			"mangle -D POSTROUTING", "mangle -D PREROUTING", "mangle " + allowChain, "mangle " + passChain, "mangle " + hostPostChain, "mangle " + localOut.root(),
			"mangle " + earlyChain, "mangle " + hostPreChain, "mangle " + preDNAT.root(), "mangle " + list(earlyList, "a"), "mangle " + tier("a"), "mangle " + a,
		})},
	} {
		step.change()
		n.Apply(p)
		slices.Sort(step.want)
		if diff := cmp.Diff(step.want, written()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
	}
	n.SameAsFresh(p)
	if got := n.driver().Disturbances(); got != 0 {
		t.Errorf("%d disturbances were counted where nobody disturbed", got)
	}
	for _, line := range dump(t, n.NS, variant) {
		if strings.Contains(line, "manul") && (strings.Contains(line, " mangle ") || strings.Contains(line, "OUTPUT")) {
			t.Errorf("left without a host endpoint: %s", line)
		}
	}
}
