package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/manul-net/manul/internal/render"
)

// Of each node of the curve there are so many pods, of a policy and of a namespace so many nodes.
const podsOfNode, policiesOfNode, nodesOfNamespace = 30, 2, 10

// curve runs sizes one after the other, and prints a table over them: over those before one that failed, if one does.
func curve(ctx context.Context, o options, sizes []int, out io.Writer) error {
	points := make([]point, 0, len(sizes))
	defer func() { over(points, out) }()
	for _, n := range sizes {
		o.Nodes, o.Pods, o.Policies, o.Namespaces = n, n*podsOfNode, n*policiesOfNode, max(1, n/nodesOfNamespace)
		p, err := run(ctx, &o, out)
		if err != nil {
			return fmt.Errorf("%d nodes: %w", n, err)
		}
		points = append(points, *p)
		fmt.Fprintln(out)
	}
	return nil
}

// over prints a table of several sizes.
func over(points []point, out io.Writer) {
	fmt.Fprintln(out, "# Over the number of nodes")
	t := &table{out: out}
	t.heading("size", "change to push p50", "push p99", "change to agent p50", "agent p99", "n", "nodes of a change", "bytes for each", "messages a second",
		"operator's cores", "agents' cores", "cores of what feeds them")
	for _, p := range points {
		t.row(p.name(), milliseconds(p.push.P50), milliseconds(p.push.P99), milliseconds(p.agent.P50), milliseconds(p.agent.P99), fmt.Sprint(p.agent.N),
			fmt.Sprintf("%.1f", p.concerned), fmt.Sprintf("%.0f", p.bytes), fmt.Sprintf("%.0f", p.messages),
			fmt.Sprintf("%.2f", p.operator), fmt.Sprintf("%.2f", p.agents), fmt.Sprintf("%.2f", p.api))
	}
	t.heading("cost", "cold start", "all join", "another takes over", "live heap in the first third", "in the last third", "most resident", "largest object", "all agents")
	for _, p := range points {
		takeover := ""
		if p.takeover > 0 {
			takeover = seconds(p.takeover)
		}
		t.row(p.name(), seconds(p.cold), seconds(p.join), takeover, mebibytes(p.liveFirst), mebibytes(p.liveLast), mebibytes(p.peak),
			fmt.Sprintf("%.1f KiB", float64(p.largest)/1024), mebibytes(p.agentsPeak))
	}
}

// point is what was found at one size.
type point struct {
	nodes                int
	cold, join, takeover time.Duration
	// push: from the compiler to the connection; agent: from the change to each agent that it concerns.
	push, agent Figure
	// concerned is how many nodes a change concerns, bytes what each of these is told of it, on average.
	concerned, bytes, messages float64
	// operator, agents and api: processors that these used while pods changed; api is what stands for the API server and for users.
	operator, agents, api float64
	// liveFirst and liveLast are what the operator held on average in the first and in the last third of that time, bytes.
	liveFirst, liveLast, peak, agentsPeak uint64
	largest                               int // bytes
}

func (p *point) name() string { return fmt.Sprintf("%d nodes", p.nodes) }

// Pushed is a histogram: how many of all lasted no longer than each bound, seconds.
type Pushed struct {
	Bounds []float64
	Counts []uint64
	All    uint64
}

// since is what came after an earlier look.
func (p Pushed) since(before Pushed) Pushed {
	out := Pushed{Bounds: p.Bounds, All: p.All - before.All}
	for i, n := range p.Counts {
		out.Counts = append(out.Counts, n-before.Counts[i])
	}
	return out
}

// figure reads quantiles off the histogram: within a bucket they lie evenly.
func (p Pushed) figure(name string) Figure {
	const half, most = 0.5, 0.99
	return Figure{Name: name, N: int(p.All), P50: p.quantile(half), P99: p.quantile(most), Max: p.quantile(1)}
}

func (p Pushed) quantile(q float64) time.Duration {
	rank, below, from := q*float64(p.All), 0.0, 0.0
	for i, bound := range p.Bounds {
		upTo := float64(p.Counts[i])
		if upTo >= rank && upTo > below {
			return time.Duration((from + (bound-from)*(rank-below)/(upTo-below)) * float64(time.Second))
		}
		below, from = upTo, bound
	}
	return time.Duration(from * float64(time.Second)) // beyond the last bound
}

// watchLive notes what the operator holds now and then, until ctx ends.
func (r *sim) watchLive(ctx context.Context, o *replica) {
	const looks = 24
	var live []uint64
	for {
		u := Usage{}
		if err := o.call(ctx, "Usage", None{}, &u); err != nil {
			break
		}
		live = append(live, u.Live)
		select {
		case <-ctx.Done():
		case <-time.After(r.duration / looks):
			continue
		}
		break
	}
	const thirds = 3
	third := max(1, len(live)/thirds)
	r.point.liveFirst, r.point.liveLast = mean(live[:min(third, len(live))]), mean(live[max(0, len(live)-third):])
}

func mean(all []uint64) uint64 {
	sum := uint64(0)
	for _, v := range all {
		sum += v
	}
	return sum / uint64(max(1, len(all)))
}

// used is the processor time that was used until now, and what was pushed.
type used struct {
	operator, agents, api time.Duration
	pushed                Pushed
}

func (r *sim) usage(ctx context.Context, o *replica) (u used, err error) {
	var operator, agents Usage
	for _, x := range []struct {
		of     *process
		method string
		into   any
	}{{o.process, "Usage", &operator}, {r.agents, "Usage", &agents}, {o.process, "Pushed", &u.pushed}} {
		if err := x.of.call(ctx, x.method, None{}, x.into); err != nil {
			return u, err
		}
	}
	u.operator, u.agents = operator.CPU, agents.CPU
	u.api, err = processorTime()
	return u, err
}

// largestObject that was written, bytes.
func (r *sim) largestObject() int {
	_, largest := r.api.Written()
	most := 0
	for _, kind := range []render.Kind{render.KindNodeState, render.KindNodeEndpoints, render.KindNodeNetwork, render.KindPolicyProgram, render.KindSetCatalog} {
		most = max(most, largest[kind])
	}
	return most
}

// spread takes the mean over all changes.
func (p *point) spread(all []Spread) {
	changes, nodes, bytes := 0, 0, 0
	for _, s := range all {
		changes, nodes, bytes = changes+s.N, nodes+s.Nodes, bytes+s.Bytes
	}
	p.concerned, p.bytes = float64(nodes)/float64(max(1, changes)), float64(bytes)/float64(max(1, nodes))
}
