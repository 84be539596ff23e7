package main

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/manul-net/manul/hack/plots/measured"
)

// pictures of the docs, each of the output of one benchmark.
func pictures() []picture {
	return []picture{
		{
			file: "connections.svg", title: "New TCP connections through a node", x: "policies", y: ofWithout,
			lines: func(f measured.Figures) []line { return byPolicies(f, "Connections") },
		},
		{
			file: "throughput.svg", title: "Throughput of one TCP connection through a node", x: "policies", y: ofWithout,
			lines: func(f measured.Figures) []line { return byPolicies(f, "Throughput") },
		},
		{
			file: "members.svg", title: "New TCP connections through a policy with a large set", x: "members of the set", y: ofWithout,
			lines: func(f measured.Figures) []line {
				return traffic(f, "Connections", []float64{100, 10_000, 1_000_000}, []which{{"set-members", ""}})
			},
		},
		{
			file: "changes.svg", title: "A change of policy, until packets see it (p50)", x: "policies in the cluster", y: "milliseconds",
			lines: changes,
		},
		{
			file: "stream.svg", title: "A pod changes, 100 times a second", x: "nodes, simulated on one machine", y: "milliseconds", lines: simulated,
		},
	}
}

func dataplanes() []string { return []string{"nftables", "iptables"} }

// ofWithout is what benchmarks of test/bench/traffic measure in turn.
const ofWithout = "of the same without policy"

// which policies are counted, by the part of the benchmark's name.
type which struct{ part, name string }

// byPolicies is a benchmark of test/bench/traffic over the number of policies.
func byPolicies(f measured.Figures, benchmark string) []line {
	return traffic(f, benchmark, []float64{1, 100, 1_000, 10_000}, []which{
		{"selecting-the-pod", ", all select the pod"}, {"selecting-others", ", none selects the pod"},
	})
}

// traffic is a benchmark of test/bench/traffic, and across it what there is without policy, and on a node without anything.
func traffic(f measured.Figures, benchmark string, xs []float64, counted []which) []line {
	of := func(plane, part string) []float64 {
		return f.Of("traffic", fmt.Sprintf("%s/%s/%s", benchmark, plane, part), "of-no-policy")
	}
	level := func(name, part string) line {
		return line{name: name, dashed: true, points: series([]float64{xs[0], xs[len(xs)-1]}, func(float64) []float64 {
			var all []float64
			for _, plane := range dataplanes() {
				all = append(all, of(plane, part)...)
			}
			slices.Sort(all)
			return all
		})}
	}
	lines := []line{level("a node without agent or connection tracking", "bare"), level("no policy", "no-policy")}
	for _, plane := range dataplanes() {
		for _, w := range counted {
			lines = append(lines, line{name: plane + w.name, points: series(xs, func(x float64) []float64 {
				return of(plane, fmt.Sprintf("%s=%.0f", w.part, x))
			})})
		}
	}
	return lines
}

// changes are the rows of the benchmark on a cluster, over the number of policies that it says before the figure's name.
func changes(f measured.Figures) []line {
	var lines []line
	for _, figure := range []struct{ row, name string }{
		{"policy over labels in use: created -> first connection refused", "policy created"},
		{"the same, deleted -> first connection accepted", "policy deleted"},
		{"peer loses a label -> first connection refused", "peer loses a label"},
		{"peer gains a label -> first connection accepted", "peer gains a label"},
	} {
		l := line{name: figure.name}
		for _, n := range []float64{1, 1_000, 5_000, 10_000} {
			row := figure.row
			if n > 1 {
				row = strconv.Itoa(int(n)) + " policies: " + row
			}
			if v := f.Of("changes", row, "p50"); len(v) > 0 {
				// Without others the row comes twice: once over a label that no policy used, which takes longer.
				l.points = append(l.points, point{n, v[:1]})
			}
		}
		lines = append(lines, l)
	}
	return lines
}

// simulated are the rows of the simulator's curve, over the number of nodes.
func simulated(f measured.Figures) []line {
	var lines []line
	for _, figure := range []struct{ column, name string }{
		{"change to push p50", "sent to a node (p50)"},
		{"push p99", "sent to a node (p99)"},
		{"change to agent p50", "received by a node's agent (p50)"},
		{"agent p99", "received by a node's agent (p99)"},
	} {
		lines = append(lines, line{name: figure.name, points: series([]float64{100, 200, 500, 1_000, 2_000, 5_000}, func(x float64) []float64 {
			return f.Of("sim", fmt.Sprintf("%.0f nodes", x), figure.column)
		})})
	}
	return lines
}
