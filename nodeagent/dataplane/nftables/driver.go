// Package nftables makes the kernel's policy dataplane equal to tables.Policy by nftables over netlink.
//
// All that it owns is in the table "manul" of family inet; it touches nothing else. Rules are made of the expressions of
// google/nftables. The connection is the package's own: it must know which message of a transaction the kernel refused,
// and ask for no acknowledgement of each of thousands.
package nftables

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"

	"github.com/manul-net/manul/nodeagent/fold"
	"github.com/manul-net/manul/nodeagent/tables"
)

// Options of a driver.
type Options struct {
	// WorkloadPrefix is what the names of workload interfaces begin with, and those of no others.
	WorkloadPrefix string
	// Log takes what an operator of the node may want to know. Nil: nothing is logged.
	Log *slog.Logger
	// Fold are the limits of what is folded. Zero: fold.DefaultLimits.
	Fold fold.Limits
}

// Driver keeps one network namespace's table equal to desired tables. Its methods may be called from one goroutine at a
// time, Resync and Changed from any.
type Driver struct {
	options Options
	socket  *socket
	monitor *monitor
	resync  atomic.Bool
	// foreign: somebody else changed the table. disturbances counts how often that was undone.
	foreign      atomic.Bool
	disturbances atomic.Int64
	// state is what the kernel has; nil when that is not known.
	state *state
	// refused programs are not tried again before they change or everything is compared.
	refused map[item]refusedItem
	// leftovers tells that something nobody wants is in use by the previous form of a refused program.
	leftovers bool
}

// refusedItem is an item that the kernel refused, in the form that has the digest.
type refusedItem struct {
	digest digest
	err    error
}

// New opens a lasting connection to the nftables of the calling thread's network namespace. It changes nothing.
func New(options Options) (*Driver, error) {
	if options.WorkloadPrefix == "" || len(options.WorkloadPrefix) >= interfaceNameLen {
		return nil, fmt.Errorf("opening nftables: the workload prefix %q must have 1 to %d characters", options.WorkloadPrefix, interfaceNameLen-1)
	}
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	if options.Fold == (fold.Limits{}) {
		options.Fold = fold.DefaultLimits()
	}
	s, err := openSocket()
	if err != nil {
		return nil, fmt.Errorf("opening nftables: %w", err)
	}
	d := &Driver{options: options, socket: s, refused: map[item]refusedItem{}}
	d.monitor, err = startMonitor(s.portID, func(lost bool) {
		if !lost {
			d.foreign.Store(true)
		}
		d.resync.Store(true)
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening nftables: %w", err), s.close())
	}
	return d, nil
}

// Close ends the connection. What is in the kernel stays in force.
func (d *Driver) Close() error { return errors.Join(d.monitor.close(), d.socket.close()) }

// Resync makes the next Apply compare everything with the kernel.
func (d *Driver) Resync() { d.resync.Store(true) }

// Changed yields a value when someone else changed the table, so that another Apply is necessary.
func (d *Driver) Changed() <-chan struct{} { return d.monitor.changed }

// Disturbances counts how often others' changes of the table were noticed, and undone. Changes that come close together
// count once.
func (d *Driver) Disturbances() int64 { return d.disturbances.Load() }

// maxAttempts bounds how often a transaction is tried again without what the kernel refused of it.
const maxAttempts = 6

// Apply makes the kernel equal to desired. The first call, and the next one after an error, a foreign change or Resync,
// compares everything with the kernel; others cost in proportion to what changed in desired. What can't be put into
// force alone is reported as tables.ItemErrors, joined, while all else is in force: a refused program's previous form
// stays in force, and where there is none, endpoints drop what reaches the program. Such a program is tried again when
// it changes or everything is compared. Unless another error is returned, desired is clean afterwards.
func (d *Driver) Apply(ctx context.Context, desired *tables.Policy) error {
	if d.state != nil && !d.resync.Load() {
		problems, err := d.attempt(ctx, desired, nil)
		if err == nil && (!d.leftovers || len(d.refused) > 0) {
			desired.Clean()
			return problems
		}
		// Perhaps the kernel was not what it was thought to be: compare, then decide what is at fault. Or a leftover
		// can go because the program that used it is not in its previous form any more.
		d.options.Log.Info("comparing everything with nftables", "reason", err)
	}
	d.refused = map[item]refusedItem{}
	var err error
	disturbed := false
	for range maxAttempts {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("applying policy to nftables: %w", err)
		}
		d.resync.Store(false)
		disturbed = d.foreign.Swap(false) || disturbed
		var kernel *found
		if kernel, err = d.socket.readTable(); err != nil {
			break
		}
		var problems error
		if problems, err = d.attempt(ctx, desired, kernel); err == nil {
			desired.Clean()
			if disturbed {
				d.disturbances.Add(1)
				d.options.Log.Warn("somebody else changed the table; it is what it should be again", "table", tableName)
			}
			return problems
		}
		if r := (*refusedError)(nil); !errors.As(err, &r) {
			break
		}
	}
	d.resync.Store(true)
	d.foreign.CompareAndSwap(false, disturbed)
	return fmt.Errorf("applying policy to nftables: %w", err)
}

// refusedError tells that the kernel refused items of a transaction; nothing of it is in force.
type refusedError struct {
	items map[item]error
}

func (e *refusedError) Error() string {
	var list []string
	for it, err := range e.items {
		list = append(list, fmt.Sprintf("%s %q: %v", it.kind, it.name, err))
	}
	slices.Sort(list)
	const shown = 3
	if len(list) > shown {
		list = append(list[:shown], fmt.Sprintf("and %d more", len(list)-shown))
	}
	return fmt.Sprintf("the kernel refused %v", list)
}

// attempt works out what has to change, and changes it. kernel is what was just read, or nil to go by the state and the
// dirty keys. It returns problems with items beside the error that stopped it.
func (d *Driver) attempt(ctx context.Context, desired *tables.Policy, kernel *found) (problems, err error) {
	tx := newTransaction(d, desired, kernel)
	d.state = nil // not known any more if anything goes wrong
	if err := tx.plan(ctx); err != nil {
		return nil, err
	}
	if err := tx.finish(ctx); err != nil {
		return nil, err
	}
	d.state = tx.state
	for it, r := range d.refused {
		tx.problem(it, r.err)
	}
	return tx.problems(), nil
}

// send makes a batch true in the kernel. Refused items are remembered, so that the next attempt leaves them out.
func (d *Driver) send(ctx context.Context, b *batch, digests map[item]digest) error {
	if b.len() == 0 {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	refusals, err := d.socket.transact(b)
	if err != nil {
		return err
	}
	if len(refusals) == 0 {
		return nil
	}
	refused := &refusedError{items: map[item]error{}}
	for _, r := range refusals {
		it := b.items[r.message]
		if _, ok := refused.items[it]; !ok {
			refused.items[it] = r.err
			d.refused[it] = refusedItem{digest: digests[it], err: fmt.Errorf("refused by the kernel: %w", r.err)}
		}
	}
	return refused
}

// sendLeftovers removes what an earlier process left. What the kernel won't let go is in use by the previous form of a
// program that can't be put into force; it stays until that has changed.
func (d *Driver) sendLeftovers(ctx context.Context, b *batch) error {
	d.leftovers = false
	for b.len() > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		refusals, err := d.socket.transact(b)
		if err != nil || len(refusals) == 0 {
			return err
		}
		d.options.Log.Info("leaving what nftables still uses", "items", len(refusals), "reason", refusals[0].err)
		d.leftovers = true
		refused := make(map[int]bool, len(refusals))
		for _, r := range refusals {
			refused[r.message] = true
		}
		b = b.without(refused)
	}
	return nil
}
