// Package bgp keeps an embedded BGP speaker (gobgp) equal to tables.BGP, and tells what it learns.
//
// The speaker exists only while tables.BGP has one. What it learned is kept by the kernel, not by this package: whoever
// takes it from Learned puts it there.
package bgp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/server"

	"github.com/manul-net/manul/nodeagent/tables"
)

// Secrets gives passwords.
type Secrets interface {
	// Password gives the value of a key of a Secret; an error says why there is none and what to do about it.
	Password(name, key string) (string, error)
	// Keep tells which Secrets are needed still, by name: others need not be followed any more.
	Keep(names map[string]bool)
	// Changed yields a value when Password may give something else.
	Changed() <-chan struct{}
}

// Options of a driver. Secrets is necessary.
type Options struct {
	Secrets Secrets
	// Log takes what an operator of the node may want to know. Nil: nothing is logged.
	Log *slog.Logger
}

// Driver keeps one BGP speaker equal to desired tables. Apply, Learned and Sessions may be called from one goroutine at a
// time, the others from any.
type Driver struct {
	options Options
	server  *server.BgpServer // nil until there was a speaker
	stop    context.CancelFunc
	// running is the server while it has a speaker, for those who ask from other goroutines.
	running atomic.Pointer[server.BgpServer]
	// speaker in force; nil: none.
	speaker  *tables.Speaker
	sessions map[string]*session
	exports  map[netip.Prefix]tables.BGPExport
	policy   policy
	resync   atomic.Bool
	// todo are the sessions that have to be looked at, refused those that could not be made, and why.
	todo    map[string]struct{}
	refused map[string]error
	// pace says how long one Apply may add peers, when it has added as many as may come at once; added counts them.
	pace  time.Duration
	added int
	// begun is when the driver first had a speaker: the time from which a restart is counted.
	begun time.Time
	// restartsUntil is when the last session's restart time is over.
	restartsUntil time.Time

	changed chan struct{}
	done    chan struct{}
	closing sync.Once
	events  events
}

// atOnce is how many peers one Apply adds at the least. The speaker takes the longer for each the more it has, and whoever calls Apply has
// other things to do: what is left comes with the next one.
const (
	atOnce = 32
	pace   = 20 * time.Millisecond
)

// New makes a driver without a speaker.
func New(options Options) *Driver {
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	d := &Driver{
		options: options, sessions: map[string]*session{}, exports: map[netip.Prefix]tables.BGPExport{},
		todo: map[string]struct{}{}, refused: map[string]error{}, pace: pace,
		changed: make(chan struct{}, 1), done: make(chan struct{}), stop: func() {},
	}
	d.events.init(d.wake)
	go d.followSecrets()
	return d
}

// followSecrets has passwords looked at again when Secrets change.
func (d *Driver) followSecrets() {
	for {
		select {
		case <-d.done:
			return
		case <-d.options.Secrets.Changed():
			d.Resync()
			d.wake()
		}
	}
}

func (d *Driver) wake() {
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

// Resync makes the next Apply look at every session, its password among it.
func (d *Driver) Resync() { d.resync.Store(true) }

// Changed yields a value when Learned or Sessions have something new, or another Apply is necessary.
func (d *Driver) Changed() <-chan struct{} { return d.changed }

// Disturbances implements the interface of drivers: nobody else changes the speaker.
func (d *Driver) Disturbances() int64 { return 0 }

// Apply makes the speaker equal to desired. Sessions that can't be made are reported as tables.ItemErrors, joined, while
// all else is in force. Unless another error is returned, desired is clean afterwards.
//
// Sessions that go come first; then policies and prefixes, so that a session that comes finds all that it has to send.
func (d *Driver) Apply(ctx context.Context, desired *tables.BGP) error {
	all := d.resync.Swap(false) || d.events.takeRetry()
	if desired.Speaker == nil {
		d.end(ctx)
		desired.Clean()
		return nil
	}
	if d.speaker == nil || !sameServer(d.speaker, desired.Speaker) {
		d.end(ctx)
		if err := d.begin(ctx, desired.Speaker); err != nil {
			d.end(ctx)
			return err
		}
		all = true
	}
	d.speaker = desired.Speaker
	look := d.gather(desired, all)
	d.removeSessions(ctx, slices.DeleteFunc(slices.Clone(look), func(name string) bool {
		_, wanted := desired.Sessions.Get(name)
		return wanted
	}))
	if err := d.applyPolicy(ctx, desired); err != nil {
		d.Resync()
		return err
	}
	if err := d.applyExports(ctx, desired, all); err != nil {
		d.Resync()
		return err
	}
	d.applySessions(ctx, desired, look)
	if len(look) > 0 {
		d.keepSecrets(desired)
	}
	desired.Clean()
	problems := make([]error, 0, len(d.refused))
	for _, name := range slices.Sorted(maps.Keys(d.refused)) {
		problems = append(problems, &tables.ItemError{Kind: tables.KindBGPSession, Name: name, Err: d.refused[name]})
	}
	return errors.Join(problems...)
}

// keepSecrets lets go of the Secrets that no session names any more.
func (d *Driver) keepSecrets(desired *tables.BGP) {
	names := map[string]bool{}
	for _, session := range desired.Sessions.All() {
		if session.Password != nil {
			names[session.Password.Name] = true
		}
	}
	d.options.Secrets.Keep(names)
}

// gather lists the sessions that have to be looked at.
func (d *Driver) gather(desired *tables.BGP, all bool) []string {
	for name := range desired.Sessions.Dirty() {
		d.todo[name] = struct{}{}
	}
	if all {
		for name := range desired.Sessions.All() {
			d.todo[name] = struct{}{}
		}
		for name := range d.sessions {
			d.todo[name] = struct{}{}
		}
	}
	return slices.Sorted(maps.Keys(d.todo))
}

// note records what became of a session.
func (d *Driver) note(name string, err error) {
	delete(d.todo, name)
	if err != nil {
		d.refused[name] = err
		return
	}
	delete(d.refused, name)
}

// applySessions makes sessions what they should be: all of them, or as many as there is time for.
func (d *Driver) applySessions(ctx context.Context, desired *tables.BGP, look []string) {
	began, before := time.Now(), d.added
	for _, name := range look {
		want, ok := desired.Sessions.Get(name)
		if !ok {
			continue
		}
		if d.added-before >= atOnce && time.Since(began) >= d.pace {
			d.wake()
			return
		}
		d.note(name, d.applySession(ctx, name, &want))
	}
}

// sameServer tells whether a running speaker can become next without ending its sessions.
func sameServer(a, b *tables.Speaker) bool {
	return a.ASNumber == b.ASNumber && a.RouterID == b.RouterID && a.Port == b.Port && slices.Equal(a.ListenAddresses, b.ListenAddresses)
}

// begin starts the speaker.
func (d *Driver) begin(ctx context.Context, s *tables.Speaker) error {
	if d.server == nil {
		d.server = server.NewBgpServer(server.LoggerOption(&logger{events: &d.events, log: d.options.Log}))
		go d.server.Serve() // it has no end; there is one in the life of a process
	}
	if d.begun.IsZero() {
		d.begun = time.Now()
	}
	listen := make([]string, 0, len(s.ListenAddresses))
	for _, a := range s.ListenAddresses {
		listen = append(listen, a.String())
	}
	global := &api.Global{
		Asn: s.ASNumber, RouterId: s.RouterID.String(), ListenPort: int32(s.Port), ListenAddresses: listen,
		UseMultiplePaths: true, Families: families(),
	}
	err := d.server.StartBgp(ctx, &api.StartBgpRequest{Global: global})
	if err != nil && len(listen) == 0 { // the node may have no IPv6
		global.ListenAddresses = []string{netip.IPv4Unspecified().String()}
		_ = d.server.StopBgp(ctx, &api.StopBgpRequest{})
		err = d.server.StartBgp(ctx, &api.StartBgpRequest{Global: global})
	}
	if err != nil {
		return fmt.Errorf("starting the BGP speaker: %w", err)
	}
	watch, stop := context.WithCancel(context.WithoutCancel(ctx))
	d.stop = stop
	if err := d.server.WatchEvent(watch, watchRequest(), d.events.take); err != nil {
		stop()
		return fmt.Errorf("watching the BGP speaker: %w", err)
	}
	d.speaker, d.policy = s, policy{}
	d.running.Store(d.server)
	d.options.Log.Info("BGP begins", "as", s.ASNumber, "router_id", s.RouterID.String(), "port", s.Port)
	return nil
}

// end ends the speaker and forgets what it learned.
func (d *Driver) end(ctx context.Context) {
	if d.speaker == nil {
		return
	}
	d.stop()
	d.running.Store(nil)
	d.closeConnections(ctx, slices.Collect(maps.Values(d.sessions))...)
	if err := d.server.StopBgp(ctx, &api.StopBgpRequest{}); err != nil {
		d.options.Log.Warn("BGP did not end well", "error", err)
	}
	d.speaker, d.policy = nil, policy{}
	clear(d.sessions)
	clear(d.exports)
	clear(d.todo)
	clear(d.refused)
	d.options.Secrets.Keep(nil)
	d.events.forget()
	d.options.Log.Info("BGP has ended")
}

// Close ends the speaker. Peers with which graceful restart was agreed are not told, so that they keep the routes; their
// connections end with the process.
func (d *Driver) Close() error {
	d.closing.Do(func() { close(d.done) })
	if d.speaker == nil {
		return nil
	}
	ctx := context.Background()
	for _, s := range d.sessions {
		if s.peer != nil && !d.isGraceful(ctx, s) {
			_ = d.server.DeletePeer(ctx, &api.DeletePeerRequest{Address: s.key()})
		}
	}
	return nil
}

// Learned calls each for every destination whose best learned paths changed since the last call; without next hops they
// are gone.
func (d *Driver) Learned(each func(netip.Prefix, tables.BGPPaths)) {
	for p, paths := range d.events.takeLearned() {
		each(p, paths)
	}
}
