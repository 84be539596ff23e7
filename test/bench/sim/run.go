package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/render"
	"github.com/manul-net/manul/internal/wire"
	"github.com/manul-net/manul/test/bench/clusters"
	"github.com/manul-net/manul/test/hollow"
	"github.com/manul-net/manul/webhooks/certs"
)

// sim is a run.
type sim struct {
	*options

	out     io.Writer
	dir     string // of sockets
	cluster *clusters.Cluster
	hub     *hub
	api     *hollow.API
	agents  *process
	sample  []string
	pair    *certs.Pair
	point   point
	// profile of this process, which stands for the API server.
	profile profile
}

// replica is an operator that serves.
type replica struct {
	*process

	feed    *feed
	serving Serving
}

// run prints what is found to out.
func run(ctx context.Context, o *options, out io.Writer) (*point, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	if o.sample < 1 || o.sample > o.Nodes {
		return nil, fmt.Errorf("a sample of %d nodes of %d: want at least one, and no more than there are", o.sample, o.Nodes)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the children
	dir, err := os.MkdirTemp("", "manul-sim-")
	if err != nil {
		return nil, fmt.Errorf("making a folder for sockets: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	r := &sim{options: o, out: out, dir: dir, cluster: clusters.New(o.Shape), hub: newHub()}
	r.api = hollow.NewAPI(r.hub)
	r.api.Measure = true
	names := []string{wire.ServerName(namespace)}
	if r.pair, err = certs.Make(time.Now(), names, nil); err != nil {
		return nil, err
	}
	var bad error
	r.cluster.Objects(func(obj runtime.Object) { bad = errors.Join(bad, r.begin(obj)) })
	if bad != nil {
		return nil, bad
	}
	for i := range o.sample {
		r.sample = append(r.sample, clusters.NodeName(i*o.Nodes/o.sample))
	}
	r.point.nodes = o.Nodes
	if err := r.phases(ctx); err != nil {
		return nil, err
	}
	return &r.point, nil
}

// phases is the run, one phase after the other.
func (r *sim) phases(ctx context.Context) error {
	fmt.Fprintf(r.out, "# %d nodes, %d pods, %d policies in %d namespaces; %g pod changes a second for %s; seed %d\n\n",
		r.Nodes, r.Pods, r.Policies, r.Namespaces, r.churn, r.duration, r.Seed)
	fmt.Fprintln(r.out, "The operator is fed directly: no API server takes part.")
	first, err := r.operator(ctx)
	if err != nil {
		return err
	}
	defer first.kill()
	if err := first.call(ctx, "Lead", None{}, &None{}); err != nil {
		return err
	}
	if err := r.settled(ctx, first); err != nil {
		return err
	}
	t := &table{out: r.out}
	t.heading("figure", "n", "p50", "p99", "most")
	r.point.cold = first.serving.Took
	t.once("cold start: compiled, rendered and on the board", first.serving.Took)
	if r.agents, err = start(ctx, r.dir, roleAgents, &parent{r.api}); err != nil {
		return err
	}
	defer r.agents.kill()
	if err := r.profiled(ctx, first, "join", func() error { return r.join(ctx, t, first) }); err != nil {
		return err
	}
	x := newChurn(r.cluster, r.hub, r.agents)
	before, err := r.memory(ctx, first)
	if err != nil {
		return err
	}
	if err := r.churning(ctx, t, x, first); err != nil {
		return err
	}
	after, err := r.memory(ctx, first)
	if err != nil {
		return err
	}
	serving := first
	if r.leader {
		if serving, err = r.succeed(ctx, t, x, first); err != nil {
			return err
		}
		defer serving.kill()
	}
	last, err := r.memory(ctx, serving)
	if err != nil {
		return err
	}
	agents := Memory{}
	if err := r.agents.call(ctx, "Memory", None{}, &agents); err != nil {
		return err
	}
	r.point.peak, r.point.agentsPeak, r.point.largest = max(before.Peak, after.Peak, last.Peak), agents.Peak, r.largestObject()
	m := &table{out: r.out}
	m.heading("memory", "heap after a collection", "stacks", "kept free", "resident", "most resident", "goroutines", "processor's time")
	m.memory("the operator before pods change", before)
	m.memory("the operator after pods changed for "+r.duration.String(), after)
	if r.leader {
		m.memory("the operator that took over", last)
	}
	m.memory("all agents, of which "+fmt.Sprint(len(r.sample))+" keep what they are told", agents)
	r.sizes()
	return nil
}

// begin puts an object into the cluster as it is before anything runs. What nodes say is said to the API.
func (r *sim) begin(obj runtime.Object) error {
	if state, ok := obj.(*v1alpha1.NodeState); ok {
		key := render.Key{Kind: render.KindNodeState, Name: state.Name}
		return errors.Join(r.api.Write(key, state), r.api.Status(state.Name, &state.Status))
	}
	return r.hub.Set(obj)
}

// operator starts one, and returns when it serves.
func (r *sim) operator(ctx context.Context) (*replica, error) {
	p, err := start(ctx, r.dir, roleOperator, &parent{r.api})
	if err != nil {
		return nil, err
	}
	o := &replica{process: p, feed: newFeed(p)}
	r.hub.join(o.feed)
	begun := make(chan struct{})
	go o.feed.run(ctx, func() error {
		defer close(begun)
		return p.call(ctx, "Begin", [2][]byte{r.pair.Cert, r.pair.Key}, &o.serving)
	})
	err = eventually(ctx, r.patience, "an operator serves", func() (bool, error) {
		select {
		case <-begun:
			_, err := o.feed.fed()
			return true, err
		default:
			_, err := o.feed.fed()
			return false, err
		}
	})
	if err != nil {
		p.kill()
		return nil, err
	}
	return o, nil
}

// settled waits until the leader has written what it renders, and has seen all of that.
func (r *sim) settled(ctx context.Context, leader *replica) error {
	seen := ""
	err := eventually(ctx, r.patience, "everything is written", func() (bool, error) {
		before, idle := r.written(), false
		fed, err := leader.feed.fed()
		if err == nil {
			err = leader.call(ctx, "Idle", None{}, &idle)
		}
		// What is fed while it is asked may give it something to write.
		again, _ := leader.feed.fed()
		kinds, _ := r.api.Written()
		seen = fmt.Sprintf("told everything: %v, and after that: %v; nothing to write: %v; writes: %v", fed, again, idle, kinds)
		return fed && idle && again && before == r.written(), err
	})
	if err != nil {
		return fmt.Errorf("%w: the operator was %s", err, seen)
	}
	return nil
}

func (r *sim) written() int {
	writes, _ := r.api.Written()
	n := 0
	for _, k := range writes {
		n += k
	}
	return n
}

// join starts the agents, and returns when all know everything and the sample decides right.
func (r *sim) join(ctx context.Context, t *table, o *replica) error {
	nodes := make([]string, r.Nodes)
	for i := range nodes {
		nodes[i] = clusters.NodeName(i)
	}
	if err := r.agents.call(ctx, "Serve", []string{o.serving.Address}, &None{}); err != nil {
		return err
	}
	start := time.Now()
	if err := r.agents.call(ctx, "Begin", Nodes{Trusted: r.pair.Trusted, Nodes: nodes, Sample: r.sample}, &None{}); err != nil {
		return err
	}
	if err := r.everybody(ctx, o); err != nil {
		return err
	}
	r.point.join = time.Since(start)
	t.once(fmt.Sprintf("all %d agents join and are told everything", r.Nodes), r.point.join)
	c := Counted{}
	if err := r.agents.call(ctx, "Count", None{}, &c); err != nil {
		return err
	}
	t.amount("bytes that an agent is told at first", int(c.Snapshots), float64(c.Bytes)/float64(max(1, c.Snapshots)))
	if err := r.settled(ctx, o); err != nil {
		return err
	}
	return r.checked(ctx, t, "at first")
}

// everybody waits until all agents follow a replica and know everything.
func (r *sim) everybody(ctx context.Context, o *replica) error {
	return eventually(ctx, r.patience, "all agents follow", func() (bool, error) {
		c, n := Counted{}, 0
		err := errors.Join(r.agents.call(ctx, "Count", None{}, &c), o.call(ctx, "Nodes", None{}, &n))
		return c.Following == r.Nodes-len(r.sample) && c.Knowing == len(r.sample) && n == r.Nodes, err
	})
}

func (r *sim) checked(ctx context.Context, t *table, when string) error {
	flows, allowed, err := r.check(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", when, err)
	}
	t.text(fmt.Sprintf("connections on which %d nodes decide as the users' objects say, %s (%d let through)", len(r.sample), when, allowed), flows)
	return nil
}

// churning changes pods for the duration, with a rolling restart in the middle.
func (r *sim) churning(ctx context.Context, t *table, x *churn, o *replica) error {
	before, writes := Counted{}, r.written()
	if err := r.agents.call(ctx, "Count", None{}, &before); err != nil {
		return err
	}
	n := int(math.Round(r.restart * float64(r.Nodes-len(r.sample))))
	changing, cancel := context.WithTimeout(ctx, r.duration)
	defer cancel()
	var restarted error
	var wg sync.WaitGroup
	if n > 0 {
		wg.Go(func() { restarted = r.restartSome(ctx, n) })
	}
	if err := r.profiling(ctx, o, "churn"); err != nil {
		return err
	}
	begun, err := r.usage(ctx, o)
	if err != nil {
		return err
	}
	wg.Go(func() { r.watchLive(changing, o) })
	start, made, heldBefore := time.Now(), x.made, x.held
	err = x.run(changing, r.churn)
	took := time.Since(start)
	ended, asking := r.usage(ctx, o)
	err = errors.Join(err, asking)
	err = errors.Join(err, r.profiling(ctx, o, ""))
	wg.Wait()
	if err := errors.Join(err, restarted, r.everybody(ctx, o), r.settled(ctx, o)); err != nil {
		return err
	}
	after := Counted{}
	results := Results{}
	if err := errors.Join(r.agents.call(ctx, "Count", None{}, &after), r.agents.call(ctx, "Results", None{}, &results)); err != nil {
		return err
	}
	settled, err := r.usage(ctx, o)
	if err != nil {
		return err
	}
	p := &r.point
	p.push, p.agent = settled.pushed.since(begun.pushed).figure("a change: from the compiler to the connection of a node (off a histogram)"), results.Any
	p.operator, p.agents = (ended.operator-begun.operator).Seconds()/took.Seconds(), (ended.agents-begun.agents).Seconds()/took.Seconds()
	p.api = (ended.api - begun.api).Seconds() / took.Seconds()
	p.messages = float64(after.Messages-before.Messages) / took.Seconds()
	p.spread(results.Spread)
	changes, held := x.made-made, x.held-heldBefore
	t.figure(p.push)
	t.figure(p.agent)
	for _, f := range results.Figures {
		t.figure(f)
	}
	t.amount("pod changes a second", changes, float64(changes)/took.Seconds())
	t.text(fmt.Sprintf("time in which no pod was changed because the operator had more than %d objects to read, in hundredths", behind), int(100*held/took))
	t.amount("messages to all agents a second", int(after.Messages-before.Messages), float64(after.Messages-before.Messages)/took.Seconds())
	t.amount("bytes to all agents a second, what restarted agents are told among them", int(after.Bytes-before.Bytes), float64(after.Bytes-before.Bytes)/took.Seconds())
	t.amount("words of all agents on their nodes a second", int(after.Reports-before.Reports), float64(after.Reports-before.Reports)/took.Seconds())
	t.text("processors used meanwhile, in hundredths: the operator", int(100*p.operator))
	t.text("processors used meanwhile, in hundredths: the agents", int(100*p.agents))
	t.text("processors used meanwhile, in hundredths: what feeds them", int(100*p.api))
	t.amount("objects written a second", r.written()-writes, float64(r.written()-writes)/took.Seconds())
	if n > 0 {
		t.text("agents that began anew meanwhile", int(after.Snapshots-before.Snapshots))
	}
	t.text("streams lost otherwise", int(after.Lost-before.Lost)-n)
	if err := r.checked(ctx, t, "after that"); err != nil {
		return err
	}
	r.spread(results.Spread)
	return nil
}

// restartSome has n agents begin anew, over a third of the time.
func (r *sim) restartSome(ctx context.Context, n int) error {
	const third = 3
	select {
	case <-ctx.Done():
		return nil
	case <-time.After(r.duration / third):
	}
	some := Restart{Over: r.duration / third}
	for i := 0; len(some.Nodes) < n && i < r.Nodes; i++ {
		name := clusters.NodeName((i*r.Nodes/max(n, 1) + i) % r.Nodes)
		if !slices.Contains(r.sample, name) && !slices.Contains(some.Nodes, name) {
			some.Nodes = append(some.Nodes, name)
		}
	}
	return r.agents.call(ctx, "Restart", some, &None{})
}

// succeed has another operator take over under churn, and kills the first.
func (r *sim) succeed(ctx context.Context, t *table, x *churn, first *replica) (*replica, error) {
	changing, stop := context.WithCancel(ctx)
	defer stop()
	churned := make(chan error, 1)
	go func() { churned <- x.run(changing, r.churn) }()
	second, err := r.operator(ctx)
	if err != nil {
		return nil, err
	}
	t.once("cold start of another operator under churn", second.serving.Took)
	if err := r.agents.call(ctx, "Serve", []string{second.serving.Address}, &None{}); err != nil {
		return second, err
	}
	r.hub.leave(first.feed)
	start := time.Now()
	first.kill()
	if err := second.call(ctx, "Lead", None{}, &None{}); err != nil {
		return second, err
	}
	if err := r.everybody(ctx, second); err != nil {
		return second, err
	}
	r.point.takeover = time.Since(start)
	t.once("from the end of the first until all agents have been told everything by the other", r.point.takeover)
	stop()
	if err := errors.Join(<-churned, r.settled(ctx, second)); err != nil {
		return second, err
	}
	return second, r.checked(ctx, t, "after another operator took over")
}

func (r *sim) memory(ctx context.Context, o *replica) (m Memory, err error) {
	return m, o.call(ctx, "Memory", None{}, &m)
}

// profiled has operator and agents profiled while something is done: the processor's time, and what is held and was allocated at its end.
func (r *sim) profiled(ctx context.Context, o *replica, phase string, do func() error) error {
	err := r.profiling(ctx, o, phase)
	if err == nil {
		err = do()
	}
	return errors.Join(err, r.profiling(ctx, o, ""))
}

// profiling begins profiles of a phase; without one those that were begun end.
func (r *sim) profiling(ctx context.Context, o *replica, phase string) error {
	if r.profiles == "" {
		return nil
	}
	var errs []error
	for _, p := range []*process{o.process, r.agents} {
		name := ""
		if phase != "" {
			name = filepath.Join(r.profiles, fmt.Sprintf("%s-%d-%s", p.role, r.Nodes, phase))
		}
		errs = append(errs, p.call(ctx, "Profile", name, &None{}))
	}
	name := ""
	if phase != "" {
		name = filepath.Join(r.profiles, fmt.Sprintf("api-%d-%s", r.Nodes, phase))
	}
	return errors.Join(append(errs, r.profile.Profile(name, nil))...)
}
