// Package changeover is the policy dataplane that is one of two, and changes from one to the other while packets flow.
//
// The new one is put into force completely before anything of the old one goes: for that time a packet must pass both, and
// both say the same. What an earlier process left of the other one goes as soon as the chosen one is in force.
package changeover

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/manul-net/manul/nodeagent/tables"
)

// Plane is a driver of one dataplane.
type Plane interface {
	// Apply makes the kernel equal to desired, and desired clean. Items that were refused while all else is in force come
	// as tables.ItemErrors, joined.
	Apply(ctx context.Context, desired *tables.Policy) error
	// Resync makes the next Apply compare everything with the kernel.
	Resync()
	// Changed yields a value when another Apply is necessary because the kernel changed.
	Changed() <-chan struct{}
	// Disturbances counts the changes by others that were noticed.
	Disturbances() int64
	// Close ends the connection. What is in the kernel stays in force.
	Close() error
}

// Kind is one of the dataplanes.
type Kind struct {
	// Open makes a driver. It changes nothing in the kernel.
	Open func(context.Context) (Plane, error)
	// Remove takes away all that a driver of the kind made, in whatever process, and succeeds where there is nothing.
	Remove func(context.Context) error
}

// Options of a driver.
type Options struct {
	NFTables, IPTables Kind
	// Fixed dataplane. Empty: that of the settings.
	Fixed tables.Dataplane
	// Detect tells what the dataplane of kube-proxy is; empty: nothing tells. It decides when the settings do not.
	Detect func(context.Context) tables.Dataplane
	// DetectEvery is how often it is asked whether kube-proxy has changed, or seldomer, if asking takes long: see pace.Next. Default: 10 s.
	DetectEvery time.Duration
	// Log takes what an operator of the node may want to know. Nil: nothing is logged.
	Log *slog.Logger
}

// detectEvery is the default. Kube-proxy changes its mode when somebody reconfigures it and restarts it.
const detectEvery = 10 * time.Second

// detectAtLeastEvery bounds how long a new mode may stay unseen where asking waits for a lock of iptables that others hold.
const detectAtLeastEvery = 10 * time.Minute

// retryAfter is how often a dataplane that could not be used is tried again, and leftovers that could not be removed are.
const retryAfter = time.Minute

// Driver is one dataplane or the other. Apply and Close may be called from one goroutine at a time, everything else from any.
type Driver struct {
	options Options
	changed chan struct{}
	resync  atomic.Bool
	stop    context.CancelFunc
	done    sync.WaitGroup

	current *running // nil: none yet
	swept   bool     // nothing is left of the other dataplane
	trouble trouble  // of the dataplane that should be in use
	left    trouble  // of removing the other one

	auto     atomic.Bool  // the settings leave the choice to Detect
	detected atomic.Value // tables.Dataplane: the last that was told
	using    atomic.Value // tables.Dataplane
	earlier  atomic.Int64 // disturbances of drivers that were closed
	mu       sync.Mutex   // guards plane
	plane    Plane        // that of current
}

// running is a driver in use.
type running struct {
	kind  tables.Dataplane
	plane Plane
	stop  chan struct{}
}

// trouble is something that failed and is not tried again before its time.
type trouble struct {
	of    tables.Dataplane
	err   error
	until time.Time
}

func (t trouble) pending(of tables.Dataplane) bool {
	return t.err != nil && t.of == of && time.Now().Before(t.until)
}

func (t trouble) item() error {
	if t.err == nil {
		return nil
	}
	return &tables.ItemError{Kind: tables.KindDataplane, Name: string(t.of), Err: t.err}
}

// New makes a driver. It opens none before Apply.
func New(options Options) *Driver {
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	if options.DetectEvery <= 0 {
		options.DetectEvery = detectEvery
	}
	ctx, cancel := context.WithCancel(context.Background())
	d := &Driver{options: options, changed: make(chan struct{}, 1), stop: cancel}
	d.detected.Store(tables.Dataplane(""))
	d.using.Store(tables.Dataplane(""))
	d.done.Go(func() { d.follow(ctx) })
	return d
}

// Close ends all connections. What is in the kernel stays in force.
func (d *Driver) Close() error {
	d.stop()
	err := d.close()
	d.done.Wait()
	return err
}

// Using tells which dataplane is in force; empty: none yet.
func (d *Driver) Using() tables.Dataplane { return d.using.Load().(tables.Dataplane) } //nolint:forcetypeassert // stored above

// Resync makes the next Apply compare everything with the kernel.
func (d *Driver) Resync() { d.resync.Store(true) }

// Changed yields a value when another Apply is necessary because the kernel or the mode of kube-proxy changed.
func (d *Driver) Changed() <-chan struct{} { return d.changed }

// Disturbances counts the changes by others that were noticed.
func (d *Driver) Disturbances() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.earlier.Load()
	if d.plane != nil {
		n += d.plane.Disturbances()
	}
	return n
}

// Apply makes the kernel equal to desired by the dataplane that is to be used. If that one can't be, the other one is, and
// the failure comes as a tables.ItemError: policy is in force all the same.
func (d *Driver) Apply(ctx context.Context, desired *tables.Policy) error {
	want := d.choose(ctx, desired.Settings.Dataplane)
	if d.resync.Swap(false) && d.current != nil {
		d.current.plane.Resync()
	}
	if d.current != nil && (d.current.kind == want || d.trouble.pending(want)) {
		return d.keep(ctx, want, desired)
	}
	items, err := d.changeTo(ctx, want, desired)
	if err == nil {
		d.trouble = trouble{}
		return errors.Join(items, d.sweep(ctx))
	}
	if ctx.Err() != nil {
		d.resync.Store(true)
		return err
	}
	d.trouble = trouble{want, err, time.Now().Add(retryAfter)}
	d.swept = false // it may have got half-way
	d.options.Log.Error("the dataplane can't be used; staying with the other one", "wanted", want, "error", err)
	if d.current == nil {
		items, otherErr := d.changeTo(ctx, other(want), desired)
		if otherErr != nil {
			d.trouble = trouble{}
			return errors.Join(err, otherErr)
		}
		return errors.Join(items, d.trouble.item(), d.sweep(ctx))
	}
	return d.keep(ctx, want, desired)
}

// keep goes on with the dataplane that is in use.
func (d *Driver) keep(ctx context.Context, want tables.Dataplane, desired *tables.Policy) error {
	if d.current.kind == want {
		d.trouble = trouble{}
	}
	err := d.current.plane.Apply(ctx, desired)
	if !onlyItems(err) {
		return err
	}
	return errors.Join(err, d.trouble.item(), d.sweep(ctx))
}

// changeTo puts a dataplane into force and gives up the one that was in use. It returns problems with items beside the error
// that kept it from doing so, after which the one that was in use still is.
func (d *Driver) changeTo(ctx context.Context, kind tables.Dataplane, desired *tables.Policy) (items, err error) {
	plane, err := d.kind(kind).Open(ctx)
	if err != nil {
		return nil, err
	}
	if items = plane.Apply(ctx, desired); !onlyItems(items) {
		return nil, errors.Join(items, plane.Close())
	}
	// The tables are clean from here on, so there is no way back but a full comparison, which every new driver begins with.
	if before := d.current; before != nil {
		d.options.Log.Info("changing the dataplane", "from", before.kind, "to", kind)
		if err := d.close(); err != nil {
			d.options.Log.Warn("closing the dataplane that was in use", "dataplane", before.kind, "error", err)
		}
	} else {
		d.options.Log.Info("using the dataplane", "dataplane", kind)
	}
	d.current = &running{kind: kind, plane: plane, stop: make(chan struct{})}
	d.mu.Lock()
	d.plane = plane
	d.mu.Unlock()
	d.using.Store(kind)
	d.swept = false
	stop := d.current.stop
	d.done.Go(func() { d.forward(plane, stop) })
	return items, nil
}

func (d *Driver) close() error {
	if d.current == nil {
		return nil
	}
	close(d.current.stop)
	d.mu.Lock()
	d.earlier.Add(d.plane.Disturbances())
	d.plane = nil
	d.mu.Unlock()
	err := d.current.plane.Close()
	d.current = nil
	return err
}

// sweep takes away what is there of the other dataplane. Its rules would be in force, too, and never change again.
func (d *Driver) sweep(ctx context.Context) error {
	rest := other(d.current.kind)
	if d.swept {
		return nil
	}
	if !d.left.pending(rest) {
		if err := d.kind(rest).Remove(ctx); err != nil {
			d.options.Log.Error("rules of the other dataplane may still be in force", "error", err)
			d.left = trouble{rest, fmt.Errorf("removing what there is of it: %w", err), time.Now().Add(retryAfter)}
		} else {
			d.swept, d.left = true, trouble{}
		}
	}
	return d.left.item()
}

// forward passes on what a plane has to tell until it is stopped.
func (d *Driver) forward(plane Plane, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-plane.Changed():
			d.tell()
		}
	}
}

func (d *Driver) tell() {
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

func (d *Driver) kind(name tables.Dataplane) Kind {
	if name == tables.IPTables {
		return d.options.IPTables
	}
	return d.options.NFTables
}

func other(name tables.Dataplane) tables.Dataplane {
	if name == tables.IPTables {
		return tables.NFTables
	}
	return tables.IPTables
}

// onlyItems tells whether nothing but single items failed.
func onlyItems(err error) bool {
	if err == nil {
		return true
	}
	if _, ok := err.(*tables.ItemError); ok { //nolint:errorlint // the tree is walked by hand
		return true
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return false
	}
	for _, e := range joined.Unwrap() {
		if !onlyItems(e) {
			return false
		}
	}
	return true
}
