// Package agent is the loop of the node agent: news comes from a source, is rendered into tables, the drivers make the
// kernel equal to them, and what is in effect is reported. It gives pods their addresses ahead of the runtime's request
// and answers the CNI plugin.
package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/cni/protocol"
	"github.com/manul-net/manul/nodeagent/attachments"
	"github.com/manul-net/manul/nodeagent/render"
	"github.com/manul-net/manul/nodeagent/source"
	"github.com/manul-net/manul/nodeagent/tables"
)

// Dataplane makes a part of the kernel equal to desired tables.
type Dataplane[T any] interface {
	// Apply makes the kernel equal to desired, and desired clean. Items that were refused while all else is in effect
	// come as tables.ItemErrors, joined.
	Apply(ctx context.Context, desired T) error
	// Resync makes the next Apply compare everything with the kernel.
	Resync()
	// Changed yields a value when another Apply is necessary because the kernel changed, or is to be looked at.
	Changed() <-chan struct{}
	// Disturbances counts the changes by others that were noticed, and undone.
	Disturbances() int64
}

// Tunnels makes the node's ends of tunnels.
type Tunnels interface {
	// Apply leaves devices alone that are not wanted any more.
	Dataplane[*tables.Tunnels]
	// Sweep removes them.
	Sweep() error
}

// Interfaces tells what interfaces the node has.
type Interfaces interface {
	// Addresses gives the addresses of the interfaces by name.
	Addresses() map[string][]netip.Addr
	// Changed yields a value when Addresses gives something new.
	Changed() <-chan struct{}
}

// Checkpoint keeps rendered objects on disk. It is safe for concurrent use, and nothing but Flush and Load waits for the disk.
type Checkpoint interface {
	Set(kind source.Kind, o source.Object)
	Delete(kind source.Kind, name string)
	HasPending() bool
	Flush() error
	Load(each func(source.Kind, source.Object)) error
}

// Options of an agent. All fields without a stated default are necessary.
type Options struct {
	// Node is the name of the agent's node.
	Node string
	// Version of the agent.
	Version string
	// Standalone: the host is no node of the cluster. It has no pods, routes to no pods, and no NodeState while it has no host
	// endpoints.
	Standalone bool
	// Dataplane tells the name of the policy dataplane in use; empty: none yet.
	Dataplane func() string

	Source source.Source
	Policy Dataplane[*tables.Policy]
	Routes Dataplane[*tables.Routes]
	// Tunnels between nodes. Default: none are made.
	Tunnels Tunnels
	// BGP and Learned, which puts into the kernel what BGP learned, go together. Default: neither.
	BGP     BGP
	Learned LearnedRoutes
	// Bandwidth limits pods' traffic. Default: nothing does.
	Bandwidth Dataplane[*tables.Bandwidth]
	// PacketLimits limits pods' packets and connections. Default: nothing does.
	PacketLimits Dataplane[*tables.PacketLimitsTable]
	// Peering gives the node addresses at which pods peer with it. Default: nothing does.
	Peering Dataplane[*tables.PeeringAddresses]
	// Loops keeps packets to unused addresses of services from bouncing. Default: nothing does.
	Loops Dataplane[*tables.ServiceLoops]
	// KernelRoutes lists the kernel's routes, when somebody asks for them; from a goroutine of its own. Default: none are listed.
	KernelRoutes func() ([]tables.KernelRoute, error)
	Addresses    Addresses
	// Pools that the node's network configuration has pods take addresses from; an ADD may bring others. Default: it says nothing of that.
	Pools *protocol.Pools
	// ExternalIPAM: an IPAM plugin gives pods their addresses, so that the agent gives none before their ADD.
	ExternalIPAM bool
	Checkpoint   Checkpoint
	Interfaces   Interfaces
	// Attachments lists the interfaces of pods, to find out which attachments nobody has ended. Default: nobody looks.
	Attachments Attachments
	// KeepForgotten: addresses of attachments that nobody has ended are reported, and stay.
	KeepForgotten bool
	// MTU gives the MTU of the interface that bears one of the node's addresses, or the least of those whose names match pattern, if
	// that is not empty.
	MTU func(own []netip.Addr, pattern string) (int, error)
	// Subnet gives an address of the node with the prefix length of its subnet; false when no interface has it. Default: never known.
	Subnet func(netip.Addr) (netip.Prefix, bool)
	Log    *slog.Logger
	// Connections of the node, of which those are ended that policy comes to deny. Default: all go on.
	Connections Connections
	// Metrics of the loop. Default: none are kept.
	Metrics *Metrics

	// AddWait bounds how long an ADD waits for the pod's policy. Default: 10 s.
	AddWait time.Duration
	// Grace is how long a start waits for the source before it goes by the checkpoint. Default: 2 s.
	Grace time.Duration
	// ResyncEvery is about how often everything is compared with the kernel, or seldomer, if that takes long: see pace.Next. Default: 5 min.
	ResyncEvery time.Duration
	// CheckpointEvery bounds how old the checkpoint may become. Default: 3 s.
	CheckpointEvery time.Duration
	// ForgottenAfter is how long an attachment must have had neither pod nor interface before its addresses go back. Default: 5 min.
	ForgottenAfter time.Duration
}

func (o Options) withDefaults() Options {
	def := func(d *time.Duration, to time.Duration) {
		if *d <= 0 {
			*d = to
		}
	}
	def(&o.AddWait, 10*time.Second)
	def(&o.Grace, 2*time.Second)
	def(&o.ResyncEvery, 5*time.Minute)
	def(&o.CheckpointEvery, 3*time.Second)
	def(&o.ForgottenAfter, 5*time.Minute)
	if o.Metrics == nil {
		o.Metrics = NewMetrics()
	}
	return o
}

// Agent is the node agent. Everything but what is named below belongs to the loop's goroutine.
type Agent struct {
	Options

	box   *mailbox    // safe for all
	calls chan func() // into the loop
	ready readiness   // safe for all
	state *render.State

	// nodeState is the newest that was received; nil: none yet.
	nodeState *v1alpha1.NodeState
	known     map[source.Kind]map[string]mark
	synced    map[source.Kind]bool
	// reached and applied are resource versions: received, and in effect.
	reached, applied map[source.Kind]uint64
	// observed is the generation of the NodeState that is in effect.
	observed int64

	held          map[owner][]netip.Addr // addresses that pods hold, as last seen
	addressErrors map[string]error       // endpoint -> why it got none
	network       network
	second        second
	tunnelEnds    tunnelEnds
	switching     switching
	waiters       map[*waiter]struct{}

	started     bool                // the kernel may be written
	restored    bool                // the checkpoint told what belongs into the kernel
	appliedOnce bool                // the kernel has been equal to the tables
	items       []*tables.ItemError // refused alone
	failures    []v1alpha1.Failure
	applyError  error
	attempts    int // in vain as a whole, since the last success
	refused     refused
	disturbance disturbance
	// policyInEffect: the last attempt at the policy dataplane succeeded.
	policyInEffect bool
	enforcement    enforcement
	heldSince      map[render.Item]time.Time
	pending        pending
	speaking       speaking
	// comparing: everything is to be compared with the kernel, because it is time for that.
	comparing bool
	// limitsDue: interfaces with limits came or went.
	limitsDue bool
	asking    asking
	forgotten forgotten
	saving    saving
	flushing  bool       // the checkpoint is being written
	flushed   chan error // of one element
	timers    timers
	reported  v1alpha1.NodeStateStatus
	// said is the highest sequence of what was ever reported, as far as it came back.
	said int64
	// earlier is what an earlier agent reported, which a new journal of addresses adopts.
	earlier v1alpha1.NodeStateStatus
}

// pending is what the current step has to do at its end.
type pending struct {
	acknowledge bool // news that the operator waits to hear about
	silent      bool // news that can wait to be acknowledged
	urgent      bool // a pod got an address
	addresses   bool // pods may lack addresses
	since       time.Time
}

// New makes an agent. Nothing happens before Run.
func New(o Options) *Agent {
	a := &Agent{
		Options:       o.withDefaults(),
		box:           newMailbox(),
		calls:         make(chan func()),
		state:         render.New(o.Node),
		known:         map[source.Kind]map[string]mark{},
		synced:        map[source.Kind]bool{},
		reached:       map[source.Kind]uint64{},
		applied:       map[source.Kind]uint64{},
		held:          map[owner][]netip.Addr{},
		addressErrors: map[string]error{},
		network:       network{pools: map[string]*protocol.Pools{}},
		waiters:       map[*waiter]struct{}{},
		ready:         newReadiness(),
	}
	a.enforcement = a.newEnforcement()
	a.saving = newSaving()
	a.flushed = make(chan error, 1)
	a.forgotten.watch = attachments.NewWatch(attachments.Options{Grace: a.ForgottenAfter, Settle: a.ForgottenAfter / settlePart})
	return a
}

// Run works until ctx ends. What is in the kernel stays there.
func (a *Agent) Run(ctx context.Context) error {
	a.timers = newTimers(a.Options)
	defer a.timers.stop()
	a.timers.attachments.within(jittered(a.ForgottenAfter / firstPart))
	a.state.SetInterfaces(a.Interfaces.Addresses())
	if err := a.Checkpoint.Load(a.restore); err != nil {
		a.Log.Warn("starting without a part of the checkpoint", "error", err)
	}
	a.restored = a.nodeState != nil
	a.saving.since = a.Addresses.Mark()
	if err := a.lookAtAddresses(); err != nil {
		return err
	}
	a.asking.started = time.Now()

	ctx, cancel := context.WithCancel(ctx)
	followed := make(chan error, 1)
	go func() {
		defer close(followed)
		followed <- a.Source.Run(ctx, a.box)
	}()
	enforced := make(chan struct{})
	go func() {
		defer close(enforced)
		a.enforce(ctx)
	}()
	saved := make(chan struct{})
	go func() {
		defer close(saved)
		a.save(context.WithoutCancel(ctx)) // as long as the disk takes: nobody waits there
	}()
	err := a.loop(ctx, followed)
	cancel()
	<-enforced
	close(a.saving.jobs)
	<-saved
	if err == nil {
		err = <-followed
	}
	if a.flushing {
		a.wasFlushed(<-a.flushed)
	}
	if flushed := a.Checkpoint.Flush(); flushed != nil {
		a.Log.Warn("the checkpoint is not the newest", "error", flushed)
	}
	return err
}

// loop takes what there is to take, at once. While a step runs, news gathers in the mailbox.
func (a *Agent) loop(ctx context.Context, followed <-chan error) error { //nolint:gocyclo // one case for each that may have news
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-followed:
			if ctx.Err() != nil {
				return nil //nolint:nilerr // stopping, as asked
			}
			return fmt.Errorf("following rendered state: %w", err)
		case <-a.box.ready:
		case call := <-a.calls:
			call()
			a.moreCalls()
		case err := <-a.saving.done:
			a.saved(err)
		case <-a.saving.news:
		case ask := <-a.enforcement.asks:
			ask()
			continue
		case <-a.Policy.Changed():
			a.timers.apply.now()
		case <-a.Routes.Changed():
			a.timers.apply.now()
		case <-a.tunnelsChanged():
			a.Routes.Resync()
			a.timers.apply.now()
		case <-a.bgpChanged():
			a.speaking.news = true
			a.takeLearned(ctx)
			a.speaking.look = true
		case <-a.bandwidthChanged():
			a.limitsDue = true
		case <-a.learnedChanged():
			a.speaking.look = true
		case <-a.timers.bgp.C():
			a.timers.bgp.fired()
			a.timers.bgp.take()
			a.takeLearned(ctx)
		case <-a.timers.switching.C():
			a.timers.switching.fired()
			a.timers.switching.take()
			a.putNodeState()
		case <-a.timers.bridge.C():
			a.timers.bridge.fired()
			a.timers.bridge.take()
			a.speaking.look = true
		case <-a.timers.inquiry.C():
			a.timers.inquiry.fired()
		case <-a.interfaceGone():
			a.compareSoon()
		case <-a.timers.attachments.C():
			a.timers.attachments.fired()
		case <-a.Interfaces.Changed():
			a.state.SetInterfaces(a.Interfaces.Addresses())
		case <-a.timers.grace.C:
			a.beginRestored()
		case <-a.timers.resync.C:
			a.compareAll()
		case <-a.timers.apply.C():
			a.timers.apply.fired()
		case <-a.timers.addresses.C():
			a.timers.addresses.fired()
			a.pending.addresses = true
		case <-a.timers.acknowledge.C():
			a.timers.acknowledge.fired()
			a.pending.acknowledge = a.pending.acknowledge || a.pending.silent
		case <-a.timers.quiet.C():
			a.timers.quiet.fired()
			a.timers.quiet.take()
		case <-a.timers.checkpoint.C():
			a.timers.checkpoint.fired()
			a.flush()
		case err := <-a.flushed:
			a.wasFlushed(err)
		}
		a.step(ctx)
	}
}

// moreCalls takes the calls that wait already, so that one apply serves them all.
func (a *Agent) moreCalls() {
	for {
		select {
		case call := <-a.calls:
			call()
		default:
			return
		}
	}
}

// step takes all news, and makes the node equal to it.
func (a *Agent) step(ctx context.Context) {
	a.heedDisk()
	a.takeNews()
	a.giveAddresses()
	a.apply(ctx)
	a.settle()
	a.answer(ctx)
	a.lookForForgotten(ctx)
	a.report(ctx)
	a.startSaving()
	if a.Checkpoint.HasPending() {
		a.timers.checkpoint.within(a.CheckpointEvery)
	}
}

// begin lets the kernel be written, once it is known what belongs there. Before, the kernel may well know more.
func (a *Agent) begin(why string) {
	if a.started || a.nodeState == nil {
		return
	}
	a.started = true
	a.Log.Info("beginning to apply", "reason", why)
	a.timers.apply.now()
}

// beginRestored goes by the checkpoint, if there is one.
func (a *Agent) beginRestored() {
	if a.restored {
		a.begin("the source did not answer in time; going by the checkpoint")
	}
}

// flush writes the checkpoint beside the loop, which waits for no disk.
func (a *Agent) flush() {
	if a.flushing {
		return // what came meanwhile follows
	}
	a.flushing = true
	go func() { a.flushed <- a.Checkpoint.Flush() }()
}

func (a *Agent) wasFlushed(err error) {
	a.flushing = false
	if err != nil {
		a.Log.Warn("the checkpoint was not written", "error", err)
	}
}
