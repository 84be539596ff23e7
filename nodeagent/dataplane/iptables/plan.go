package iptables

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/manul-net/manul/nodeagent/fold"
	"github.com/manul-net/manul/nodeagent/tables"
)

// item is a part of the tables that may be refused while all else is in force. Without a kind: the driver's own.
type item struct{ kind, name string }

// transaction works out what has to change in the kernel and does it, in an order in which packets see the old rules
// or the new ones and never a mixture:
//
//	sets     new sets with their members, and what is added to sets
//	chains   one transaction of the kernel for each table and family: chains, hooks, and chains that go
//	removal  what is removed from sets, then sets that nothing refers to any more
//
// Thus what both old and new rules let through passes all the time.
type transaction struct {
	d       *Driver
	desired *tables.Policy
	kernel  *found // nil unless everything is compared
	state   *state
	// leftovers are sets of which it was known that the kernel still holds them.
	leftovers map[string]bool

	newSets       map[string]setSpec
	adds, deletes map[string][]entry
	lateSets      []string
	owners        map[string]item // of sets
	batches       map[place]*batch
	tried         [families]map[string][]*chain // chains of programs that are written, by program
	digests       map[item]digest
	failed        map[item]error

	wanted       map[place]map[string]bool // chains, when everything is compared
	wantedSets   map[string]bool
	retried      []string // programs that were refused until now
	released     []ref    // chains of lists that may have lost their last reference
	typesChanged bool     // a set has another type: look at all programs
	dispatch     bool     // endpoints lead elsewhere
	earlyFirst   bool     // host endpoints came or changed: see order
}

func newTransaction(d *Driver, desired *tables.Policy, kernel *found) *transaction {
	tx := &transaction{
		d: d, desired: desired, kernel: kernel, state: d.state,
		newSets: map[string]setSpec{}, adds: map[string][]entry{}, deletes: map[string][]entry{}, owners: map[string]item{},
		batches: map[place]*batch{}, digests: map[item]digest{}, failed: map[item]error{},
	}
	for fam := range families {
		tx.tried[fam] = map[string][]*chain{}
	}
	if kernel == nil {
		return tx
	}
	tx.state = newState()
	tx.state.folder = fold.New(desired, d.families == families, d.options.Fold, fold.ShapeByProtocol)
	tx.wanted, tx.wantedSets = map[place]map[string]bool{}, map[string]bool{}
	for fam := range d.families {
		for _, table := range kernelTables() {
			at := place{fam, table}
			tx.wanted[at] = map[string]bool{}
			if kernel.tables != nil {
				tx.state.chains[at] = maps.Clone(kernel.tables[at].chains)
			} else {
				tx.state.chains[at] = maps.Clone(d.state.chains[at])
			}
		}
	}
	if d.state != nil {
		tx.leftovers = d.state.leftovers
	}
	return tx
}

func (tx *transaction) full() bool { return tx.kernel != nil }

// changes tells whether there is anything to change but what was put off before. Everything is planned.
func (tx *transaction) changes() bool {
	for _, b := range tx.batches {
		if !b.empty() {
			return true
		}
	}
	for _, entries := range []map[string][]entry{tx.adds, tx.deletes} {
		for _, list := range entries {
			if len(list) > 0 {
				return true
			}
		}
	}
	if tx.full() {
		for name := range tx.kernel.sets {
			if !tx.leftovers[name] {
				return true
			}
		}
	}
	return len(tx.newSets) > 0
}

// problem remembers that an item is not in force.
func (tx *transaction) problem(it item, err error) { tx.failed[it] = err }

// isUnsettled tells whether there are problems that are not remembered as refused.
func (tx *transaction) isUnsettled() bool {
	for it := range tx.failed {
		if _, remembered := tx.d.refused[it]; !remembered {
			return true
		}
	}
	return false
}

// problems joins what was remembered, and what is unfit, in order of kind and name.
func (tx *transaction) problems() error {
	for _, e := range tx.state.unfit.Items() {
		if it := (item{e.Kind, e.Name}); tx.failed[it] == nil {
			tx.problem(it, e.Err)
		}
	}
	items := slices.SortedFunc(maps.Keys(tx.failed), func(a, b item) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.name, b.name))
	})
	errs := make([]error, 0, len(items))
	for _, it := range items {
		errs = append(errs, &tables.ItemError{Kind: it.kind, Name: it.name, Err: tx.failed[it]})
	}
	return errors.Join(errs...)
}

// plan finds out what has to change. Each step relies on those before it.
func (tx *transaction) plan() error {
	tx.planFolder()
	for _, step := range []func() error{tx.planSets, tx.planFolds, tx.planPools, tx.planPrograms, tx.planEndpoints, tx.planHosts} {
		if err := step(); err != nil {
			return err
		}
	}
	tx.planLayout()
	tx.planRemoval()
	tx.state.folder.Clean()
	return nil
}

// batch is the transaction for one of the kernel's tables.
func (tx *transaction) batch(at place) *batch {
	b := tx.batches[at]
	if b == nil {
		b = newBatch(at.table)
		tx.batches[at] = b
	}
	return b
}

// ensureChain makes a chain of one of the kernel's tables hold its rules.
func (tx *transaction) ensureChain(at place, c *chain) bool {
	content := c.digest()
	if tx.full() {
		tx.wanted[at][c.name] = true
	}
	if have, exists := tx.state.chains[at][c.name]; exists && have == content {
		return false
	}
	tx.state.chains[at][c.name] = content
	tx.batch(at).write(c, content)
	return true
}

// removeChain takes away a chain that nothing refers to after this transaction.
func (tx *transaction) removeChain(at place, name string) {
	if _, exists := tx.state.chains[at][name]; !exists {
		return
	}
	if tx.full() && tx.kernel.tables != nil && tx.kernel.tables[at].holds(at.table, name) {
		// Somebody else's rule leads here, and the kernel would refuse to remove the chain.
		tx.d.options.Log.Warn("leaving an empty chain to which somebody else's rule leads", "table", at.table, "chain", name)
		tx.ensureChain(at, newChain(name))
		return
	}
	delete(tx.state.chains[at], name)
	tx.batch(at).remove(name)
}

// order is that in which the kernel's tables are made true. What decides early tells by a mark what later tables need not
// look at. While host endpoints come, it goes first, and last while they only go: what both old and new rules let through
// would be dropped by later tables that don't find the mark.
func (tx *transaction) order() []string {
	if tx.earlyFirst {
		return kernelTables()
	}
	return leavingOrder()
}

// leavingOrder is the order of tables when host endpoints go.
func leavingOrder() []string { return []string{filterTable, rawTable, mangleTable, natTable} }

// finish does what was planned.
func (tx *transaction) finish(ctx context.Context) error {
	if err := tx.fillSets(ctx); err != nil {
		return err
	}
	for _, table := range tx.order() {
		for fam := range tx.d.families {
			b := tx.batches[place{fam, table}]
			if b == nil || b.empty() {
				continue
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := tx.d.programs.apply(ctx, fam, b); err != nil {
				return tx.blame(ctx, fam, err)
			}
		}
	}
	return tx.emptySets(ctx)
}
