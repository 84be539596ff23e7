package main

import (
	"fmt"
	"strconv"

	"github.com/manul-net/manul/hack/plots/measured"
)

// pictures of the docs, each of the output of one benchmark.
func pictures() []picture {
	return []picture{
		{
			file: "connections.svg", title: "New TCP connections through a node", x: "policies", y: "connections per second",
			lines: func(f measured.Figures) []line { return traffic(f, "Connections", "connections/s", 1) },
		},
		{
			file: "throughput.svg", title: "Throughput of one TCP connection through a node", x: "policies", y: "GB per second",
			lines: func(f measured.Figures) []line { return traffic(f, "Throughput", "B/s", 1e-9) },
		},
		{
			file: "members.svg", title: "New TCP connections through a policy with a large set", x: "members of the set", y: "connections per second",
			lines: func(f measured.Figures) []line {
				xs := []float64{100, 10_000, 1_000_000}
				lines := []line{level(f, "Connections", "connections/s", 1, xs)}
				for _, plane := range dataplanes() {
					lines = append(lines, line{name: plane, points: series(xs, func(x float64) []float64 {
						return f.Of("traffic", fmt.Sprintf("Connections/%s/set-members=%.0f", plane, x), "connections/s")
					})})
				}
				return lines
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

// traffic is a benchmark of test/bench/traffic over the number of policies.
func traffic(f measured.Figures, benchmark, unit string, scale float64) []line {
	xs := []float64{1, 100, 1_000, 10_000}
	lines := []line{level(f, benchmark, unit, scale, xs)}
	for _, plane := range dataplanes() {
		for _, which := range []struct{ part, name string }{
			{"selecting-the-pod", "all select the pod"}, {"selecting-others", "one selects the pod"},
		} {
			lines = append(lines, line{name: plane + ", " + which.name, points: series(xs, func(x float64) []float64 {
				return scaled(f.Of("traffic", fmt.Sprintf("%s/%s/%s=%.0f", benchmark, plane, which.part, x), unit), scale)
			})})
		}
	}
	return lines
}

// level is what there is without policy: a line across the picture, at the median.
func level(f measured.Figures, benchmark, unit string, scale float64, xs []float64) line {
	l := line{name: "no policy", dashed: true}
	if v := scaled(f.Of("traffic", benchmark+"/no-policy", unit), scale); len(v) > 0 {
		median := []float64{v[len(v)/2]}
		l.points = []point{{xs[0], median}, {xs[len(xs)-1], median}}
	}
	return l
}

func scaled(values []float64, by float64) []float64 {
	for i := range values {
		values[i] *= by
	}
	return values
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
