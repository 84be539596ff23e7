// Package iptables makes the kernel's policy dataplane equal to tables.Policy by iptables-restore and ipset.
//
// It owns the chains whose names begin with "manul-", one rule at the head of each of FORWARD, INPUT, raw PREROUTING and
// nat POSTROUTING that leads to them, and the sets whose names begin with "manul4-" and "manul6-". It touches nothing
// else and lives beside the rules of kube-proxy and of an administrator. Of the packet mark it uses two bits (see
// allowBit), which it leaves cleared.
//
// Rules change in one transaction for each family. Sets are not part of the kernel's transactions: what a change adds
// to sets is there before its rules, and what it removes goes after them.
package iptables

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/manul-net/manul/nodeagent/fold"
	"github.com/manul-net/manul/nodeagent/tables"
)

// Options of a driver.
type Options struct {
	// WorkloadPrefix is what the names of workload interfaces begin with, and those of no others.
	WorkloadPrefix string
	// Variant of the iptables programs. Auto: that of the node's other programs.
	Variant Variant
	// Fold are the limits of what is folded. Zero: fold.DefaultLimits.
	Fold fold.Limits
	// LookEvery is how often, at most, it is looked for changes of which the kernel tells nothing. Default: 5 s.
	LookEvery time.Duration
	// Log takes what an operator of the node may want to know. Nil: nothing is logged.
	Log *slog.Logger
}

// Driver keeps one network namespace's rules and sets equal to desired tables. Its methods may be called from one
// goroutine at a time, Resync and Changed from any. Apply and Remove run programs, and so must be called in the network
// namespace that New was called in; in a process that never changes namespaces that is so.
type Driver struct {
	options  Options
	programs programs
	families family // the number of families that the kernel has: both, or IPv4 alone
	sets     *ipsets
	resync   atomic.Bool
	changed  chan struct{}
	watch    *watch
	// disturbances counts how often others' changes were undone.
	disturbances atomic.Int64
	// state is what the kernel has; nil when that is not known.
	state *state
	// alone: the rules of other variants, of which an earlier process may have left some, are taken away.
	alone bool
	// refused programs are not tried again before they change or everything is compared.
	refused map[item]refusedItem
	// unsettled: there are problems with items beside those that are remembered as refused. Only who looks at all of them knows when they
	// are over.
	unsettled bool
}

// refusedItem is an item that the kernel refused, in the form that has the digest.
type refusedItem struct {
	digest digest
	err    error
}

// chooseWait bounds how long New looks at what the node's other programs use.
const chooseWait = 30 * time.Second

// New chooses the programs and connects to the ipset of the calling thread's network namespace. It changes nothing.
func New(ctx context.Context, options Options) (*Driver, error) {
	if err := checkPrefix(options.WorkloadPrefix); err != nil {
		return nil, fmt.Errorf("opening iptables: %w", err)
	}
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	if options.Fold == (fold.Limits{}) {
		options.Fold = fold.DefaultLimits()
	}
	if options.LookEvery <= 0 {
		options.LookEvery = lookEvery
	}
	ctx, cancel := context.WithTimeout(ctx, chooseWait)
	defer cancel()
	chosen, err := choose(ctx, options.Variant)
	if err != nil {
		return nil, fmt.Errorf("opening iptables: %w", err)
	}
	d := &Driver{options: options, programs: chosen, families: families, refused: map[item]refusedItem{}, changed: make(chan struct{}, 1)}
	d.watch = newWatch(options.LookEvery, d.tell)
	if !hasIPv6() {
		options.Log.Warn("the kernel has no IPv6; the dataplane has IPv4 alone")
		d.families = ipv6
	}
	if d.sets, err = openIPSets(); err != nil {
		return nil, fmt.Errorf("opening iptables: %w", err)
	}
	d.options.Fold = d.foldable(options.Fold)
	if chosen.variant == NFT {
		if d.programs.monitor, err = startMonitor(func() {
			d.resync.Store(true)
			d.tell()
		}); err != nil {
			d.sets.close()
			return nil, fmt.Errorf("opening iptables: %w", err)
		}
	}
	options.Log.Info("using iptables", "variant", chosen.variant, "program", chosen.restore[ipv4])
	return d, nil
}

// foldable are the limits of what is folded on this kernel: nothing, where it has no sets for folds, which nothing else needs.
func (d *Driver) foldable(limits fold.Limits) fold.Limits {
	for fam := range d.families {
		if known, err := d.sets.knows(setSpec{hashNetPort, fam}); !known {
			d.options.Log.Warn("policies are not folded, which makes many of them cost packets more", "missing in ipset", hashNetPort, "error", err)
			limits.MinPrograms = math.MaxInt
			break
		}
	}
	return limits
}

func hasIPv6() bool {
	_, err := os.Stat("/proc/sys/net/ipv6")
	return err == nil
}

func checkPrefix(prefix string) error {
	if prefix == "" || len(prefix) >= interfaceNameLen-1 {
		return fmt.Errorf("the workload prefix %q must have 1 to %d characters", prefix, interfaceNameLen-2)
	}
	return checkInterface(prefix, prefix)
}

func (d *Driver) tell() {
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

// Close ends the connection. What is in the kernel stays in force.
func (d *Driver) Close() error {
	d.watch.stop()
	d.sets.close()
	if d.programs.monitor != nil {
		return d.programs.monitor.close()
	}
	return nil
}

// Variant is the one in use.
func (d *Driver) Variant() Variant { return d.programs.variant }

// Resync makes the next Apply compare everything with the kernel.
func (d *Driver) Resync() { d.resync.Store(true) }

// Changed yields a value when another Apply is necessary: somebody else changed the driver's rules or removed a hook, or
// it is time to look whether somebody did so, where the kernel does not tell: in sets, and in all of the legacy variant.
func (d *Driver) Changed() <-chan struct{} { return d.changed }

// Disturbances counts how often others' changes of the driver's rules and sets were noticed, and undone.
func (d *Driver) Disturbances() int64 { return d.disturbances.Load() }

// maxAttempts bounds how often a transaction is tried again without what the kernel refused of it.
const maxAttempts = 6

// Apply makes the kernel equal to desired. The first call, and the next one after an error, a foreign change or
// Resync, or while the kernel has not taken a set as it is to be, compares everything with the kernel; others cost in proportion to what changed in desired. What can't be put into force alone
// is reported as tables.ItemErrors, joined, while all else is in force: a refused program's previous form stays in
// force, and where there is none, endpoints drop what reaches the program. Such a program is tried again when it
// changes or everything is compared. Unless another error is returned, desired is clean afterwards.
func (d *Driver) Apply(ctx context.Context, desired *tables.Policy) error {
	compare := d.mustCompare()
	look := d.watch.due.Swap(false)
	known := d.state != nil
	// What changed in desired is in force before everything is compared, and so what a comparison finds is others' doing.
	if known && (!compare && !look || desired.HasDirty()) {
		problems, _, err := d.attempt(ctx, desired, nil)
		if err == nil {
			desired.Clean()
		}
		if err == nil && !compare && !look {
			return problems
		}
		if err != nil {
			// Perhaps the kernel was not what it was thought to be: compare, then decide what is at fault.
			d.options.Log.Info("comparing everything with iptables", "reason", err)
			known, compare = false, true
		}
	}
	began := time.Now()
	if compare {
		known = known && d.isSettled() // or what is tried again would be taken for others' doing
		d.refused = map[item]refusedItem{}
	}
	var err error
	for range maxAttempts {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("applying policy to iptables: %w", err)
		}
		d.resync.Store(false)
		var kernel *found
		if kernel, err = d.read(ctx, compare || d.programs.variant == Legacy); err != nil {
			break
		}
		var problems error
		var changed bool
		if problems, changed, err = d.attempt(ctx, desired, kernel); err == nil {
			desired.Clean()
			d.removeOtherVariants(ctx)
			if known && changed {
				d.disturbances.Add(1)
				d.options.Log.Warn("somebody else changed rules or sets; they are what they should be again")
			}
			if !known {
				began = time.Now() // much was written, which is not what a look takes
			}
			d.watch.again(time.Since(began))
			return problems
		}
		known, compare = false, true
		if r := (*refusedError)(nil); !errors.As(err, &r) {
			break
		}
	}
	d.resync.Store(true)
	return fmt.Errorf("applying policy to iptables: %w", err)
}

// mustCompare tells whether the next Apply has to look at everything.
func (d *Driver) mustCompare() bool { return d.resync.Load() || d.state == nil || d.unsettled }

// isSettled tells whether all items are in force, as far as the driver knows.
func (d *Driver) isSettled() bool { return len(d.refused) == 0 && !d.unsettled }

// removeOtherVariants takes away what an earlier process left of another variant, once the chosen one is in force: its
// rules would be in force too, and never change again.
func (d *Driver) removeOtherVariants(ctx context.Context) {
	if d.alone {
		return
	}
	found, err := installed(ctx)
	for _, p := range found {
		if p.variant != d.programs.variant {
			err = errors.Join(err, p.removeRules(ctx))
		}
	}
	if err != nil {
		d.options.Log.Warn("rules of another variant of iptables may be left", "error", err)
		return
	}
	d.alone = true
}

// attempt works out what has to change, and changes it. kernel is what was just read, or nil to go by the state and the
// dirty keys. It tells whether there was anything to change, and returns problems with items beside the error that stopped it.
func (d *Driver) attempt(ctx context.Context, desired *tables.Policy, kernel *found) (problems error, changed bool, err error) {
	tx := newTransaction(d, desired, kernel)
	d.state = nil // not known any more if anything goes wrong
	if err := tx.plan(); err != nil {
		return nil, false, err
	}
	changed = tx.changes()
	if err := tx.finish(ctx); err != nil {
		return nil, false, err
	}
	d.state = tx.state
	d.unsettled = tx.isUnsettled() || d.unsettled && !tx.full()
	for it, r := range d.refused {
		tx.problem(it, r.err)
	}
	return tx.problems(), changed, nil
}

// found is what the kernel holds of the driver's.
type found struct {
	// tables is nil when the rules were not read: they are what the state says.
	tables map[place]*saved
	sets   map[string]*content
}

// read reads the sets and, unless the kernel tells of their changes, the rules.
func (d *Driver) read(ctx context.Context, rules bool) (*found, error) {
	f := &found{}
	if rules {
		f.tables = map[place]*saved{}
		for fam := range d.families {
			out, err := d.programs.saveAll(ctx, fam)
			if err != nil {
				return nil, fmt.Errorf("reading rules: %w", err)
			}
			parts := sections(string(out))
			for _, table := range kernelTables() {
				f.tables[place{fam, table}] = parseSaved([]byte(parts[table]))
			}
		}
	}
	var err error
	f.sets, err = d.sets.list("")
	return f, err
}

// refusedError tells that the kernel refused programs; nothing of the transaction is in force.
type refusedError struct{ names []string }

func (e *refusedError) Error() string {
	const shown = 3
	list := slices.Clone(e.names)
	slices.Sort(list)
	if len(list) > shown {
		list = append(list[:shown], fmt.Sprintf("and %d more", len(e.names)-shown))
	}
	return "the kernel refused " + strings.Join(list, ", ")
}

// trialChain is where a program is tried.
const trialChain = chainPrefix + "trial"

// blame finds out which programs of a refused transaction the kernel does not take, by trying each alone in a chain that
// nothing refers to: what iptables says differs too much between variants and versions to be read. It remembers them, so
// that the next attempt leaves them out.
func (tx *transaction) blame(ctx context.Context, fam family, err error) error {
	if runErr := (*runError)(nil); !errors.As(err, &runErr) || ctx.Err() != nil {
		return err
	}
	remove := newBatch(filterTable)
	remove.remove(trialChain)
	refused := &refusedError{}
	// The chains that set marks may not be there yet.
	alone := strings.NewReplacer(goTo(allowChain), goReturn, goTo(passChain), goReturn)
	for name, chains := range tx.tried[fam] {
		for _, c := range chains {
			try := newChain(trialChain)
			for _, rule := range c.rules {
				try.add(alone.Replace(rule))
			}
			trial := newBatch(filterTable)
			trial.write(try, try.digest())
			if tryErr := tx.d.programs.apply(ctx, fam, trial); tryErr != nil {
				it := item{tables.KindProgram, name}
				tx.d.refused[it] = refusedItem{tx.digests[it], fmt.Errorf("refused by the kernel: %w", tryErr)}
				refused.names = append(refused.names, name)
				break
			}
			if removeErr := tx.d.programs.apply(ctx, fam, remove); removeErr != nil {
				return errors.Join(err, removeErr)
			}
		}
	}
	if len(refused.names) == 0 || ctx.Err() != nil {
		return err
	}
	return fmt.Errorf("%w: %w", refused, err)
}
