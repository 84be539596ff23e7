package oracle_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/manul-net/manul/test/oracle"
)

// coverage counts what a run has tried.
type coverage struct {
	worlds, rules, flows int
	objects              map[string]int // by kind
	fields               map[string]int // of rules and policies, by name
	actions              map[string]int // of rules, by kind
	packets              map[string]int // by protocol, family and end
	steps                map[string]int // what decided on the way
}

func newCoverage() *coverage {
	return &coverage{objects: map[string]int{}, fields: map[string]int{}, actions: map[string]int{}, packets: map[string]int{}, steps: map[string]int{}}
}

func (c *coverage) world(w *oracle.World) {
	c.worlds++
	for _, name := range []string{"node", "service that is translated"} {
		c.objects[name] += map[string]int{"node": len(w.Nodes), "service that is translated": len(w.Translations)}[name]
	}
	w.Documents(func(_, kind string, _ map[string]any) { c.objects[kind]++ })
	w.Pieces(func(name string, value any) {
		kind, field, _ := strings.Cut(name, " ")
		switch {
		case !strings.HasPrefix(field, "spec.") || !strings.HasSuffix(kind, "Policy") && kind != "HostEndpoint" && kind != "Tier" && kind != "FelixConfiguration":
			return
		case field == "spec.ingress[]" || field == "spec.egress[]":
			c.rules++
		case strings.HasSuffix(field, "gress.action"):
			c.actions[fmt.Sprint(kind, " ", value)]++
		}
		if !strings.HasSuffix(field, "[]") {
			c.fields[name]++
		}
	})
}

func (c *coverage) flow(f oracle.Flow, v oracle.Verdict) {
	c.flows++
	family := 6
	if f.Source.Is4() {
		family = 4
	}
	end := "dropped"
	if v.Arrived {
		end = "arrived"
	}
	c.packets[fmt.Sprintf("protocol %d over IPv%d %s", f.Protocol, family, end)]++
	for _, step := range v.Steps {
		_, what, found := strings.Cut(step, ", ")
		if _, after, deeper := strings.Cut(what, ", "); deeper {
			what = after
		}
		if found && !strings.Contains(step, "masqueraded") && !strings.Contains(step, "translated") {
			c.steps[what]++
		}
	}
}

func (c *coverage) report(t *testing.T) {
	t.Helper()
	t.Logf("%d clusters, %d rules, %d packets", c.worlds, c.rules, c.flows)
	for title, counts := range map[string]map[string]int{"objects": c.objects, "rules by action": c.actions, "fields": c.fields, "packets": c.packets, "decisions": c.steps} {
		var lines []string
		for _, name := range slices.Sorted(maps.Keys(counts)) {
			lines = append(lines, fmt.Sprintf("%8d %s", counts[name], name))
		}
		t.Logf("%s:\n%s", title, strings.Join(lines, "\n"))
	}
}

// covers are fields of the API that a run must have tried: all that rules and policies have to say.
func covers() []string {
	var out []string
	for _, kind := range []string{"NetworkPolicy", "GlobalNetworkPolicy"} {
		for _, direction := range []string{"ingress", "egress"} {
			for _, field := range []string{"action", "ipVersion", "protocol", "notProtocol", "icmp.type", "icmp.code", "notICMP.type"} {
				out = append(out, kind+" spec."+direction+"."+field)
			}
			for _, end := range []string{"source", "destination"} {
				for _, field := range []string{"selector", "notSelector", "namespaceSelector", "nets", "notNets", "ports", "notPorts", "serviceAccounts.names", "serviceAccounts.selector"} {
					out = append(out, kind+" spec."+direction+"."+end+"."+field)
				}
			}
		}
		out = append(out, kind+" spec.ingress.source.services.name", kind+" spec.egress.destination.services.name", kind+" spec.ingress.http.methods")
		for _, field := range []string{"tier", "order", "selector", "serviceAccountSelector", "types"} {
			out = append(out, kind+" spec."+field)
		}
	}
	return append(out, "GlobalNetworkPolicy spec.namespaceSelector", "GlobalNetworkPolicy spec.applyOnForward", "GlobalNetworkPolicy spec.preDNAT", "GlobalNetworkPolicy spec.doNotTrack",
		"HostEndpoint spec.interfaceName", "HostEndpoint spec.expectedIPs", "HostEndpoint spec.ports.name", "HostEndpoint spec.profiles", "Tier spec.order", "Tier spec.defaultAction",
		"ClusterNetworkPolicy spec.egress.to.nodes", "ClusterNetworkPolicy spec.egress.to.networks", "AdminNetworkPolicy spec.egress.to.nodes", "BaselineAdminNetworkPolicy spec.egress.to.networks",
		"StagedNetworkPolicy spec.stagedAction", "StagedGlobalNetworkPolicy spec.stagedAction", "StagedKubernetesNetworkPolicy spec.stagedAction")
}

// Random clusters have everything that rules and policies have to say, and packets meet every kind of decision.
func TestRandomClustersCoverEverything(t *testing.T) {
	c, all := newCoverage(), &trials{}
	for i := range worldsEnough {
		x := all.at(i)
		c.world(x.world)
		for j, f := range x.flows {
			c.flow(f, x.want[j])
		}
	}
	c.report(t)
	for _, field := range covers() {
		if c.fields[field] == 0 {
			t.Errorf("no cluster of this run has %s", field)
		}
	}
	for _, step := range []string{
		"ingress: Allow", "ingress: Deny", "egress: Allow", "egress: Deny", "a pod may not send this: Deny", "to the pod's own node: Deny", "failsafe: Allow", "local ingress: Allow", "local ingress: Deny",
		"local egress: Allow", "local egress: Deny", "forward ingress: Deny", "forward egress: Deny", "preDNAT: Deny", "untracked ingress: Deny", "untracked egress: Deny", "untracked ingress: Allow", "preDNAT: Allow",
	} {
		if c.steps[step] == 0 {
			t.Errorf("no packet of this run was decided by %s", step)
		}
	}
}
