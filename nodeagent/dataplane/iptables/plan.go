package iptables

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

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
	released     []ref // chains of lists that may have lost their last reference
	typesChanged bool  // a set has another type: look at all programs
	dispatch     bool  // endpoints lead elsewhere
	earlyFirst   bool  // host endpoints came or changed: see order
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

// problems joins what was remembered, in order of kind and name.
func (tx *transaction) problems() error {
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
	if err := tx.planSets(); err != nil {
		return err
	}
	if err := tx.planPools(); err != nil {
		return err
	}
	if err := tx.planPrograms(); err != nil {
		return err
	}
	if err := tx.planEndpoints(); err != nil {
		return err
	}
	if err := tx.planHosts(); err != nil {
		return err
	}
	tx.planLayout()
	tx.planRemoval()
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

// planPrograms makes the chains of programs.
func (tx *transaction) planPrograms() error {
	names := slices.Collect(tx.desired.Programs.Dirty())
	if tx.full() || tx.typesChanged {
		for name := range tx.desired.Programs.All() {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	changed := map[string]bool{}
	look := func(name string) error {
		before := tx.allShapes(name)
		err := tx.planProgram(name)
		changed[name] = changed[name] || tx.allShapes(name) != before
		return err
	}
	for _, name := range slices.Compact(names) {
		if err := look(name); err != nil {
			return err
		}
	}
	// A program that named a set that did not exist may be complete now; one that has gone is refused no more.
	for it := range tx.d.refused {
		if it.kind == tables.KindProgram && !tx.full() {
			if err := look(it.name); err != nil {
				return err
			}
		}
	}
	for at, tier := range tx.state.tiers {
		if slices.ContainsFunc(tier.programs, func(p string) bool { return changed[p] }) {
			tx.ensureTier(at, tier)
		}
	}
	return nil
}

// shapesIn are those of a program in one of the kernel's tables. A program that can't be put into force keeps its former
// form, which it may have in one table and not in another.
func (tx *transaction) shapesIn(table, name string) [directions]shape {
	shapes := tx.state.programs[name].shapes
	for d, s := range shapes {
		for fam := range tx.d.families {
			if _, exists := tx.state.chains[place{fam, table}][programChain(direction(d), name)]; s == present && !exists {
				shapes[d] = missing
			}
		}
	}
	return shapes
}

// tablesOf are the tables in which chains of policy need a program.
func (tx *transaction) tablesOf(name string) []string {
	return slices.DeleteFunc(policyTables(), func(table string) bool {
		return table != filterTable && tx.state.uses[ref{table, name}] == 0
	})
}

// allShapes are a program's in all tables.
func (tx *transaction) allShapes(name string) [3][directions]shape {
	var all [3][directions]shape
	for i, table := range policyTables() {
		all[i] = tx.shapesIn(table, name)
	}
	return all
}

// planProgram makes the chains of one program, all or none.
func (tx *transaction) planProgram(name string) error {
	it := item{tables.KindProgram, name}
	wish, ok := tx.desired.Programs.Get(name)
	if !ok {
		delete(tx.d.refused, it)
		tx.dropLists(tx.state.programs[name].lists)
		delete(tx.state.programs, name)
		for _, table := range tx.tablesOf(name) {
			tx.removeProgram(table, name)
		}
		return nil
	}
	rendered, err := tx.renderProgram(name, wish)
	if err != nil {
		tx.d.refused[it] = refusedItem{err: err}
		tx.keepProgram(name)
		return nil //nolint:nilerr // it concerns this program alone, and is remembered
	}
	tx.digests[it] = rendered.digest
	if r, refused := tx.d.refused[it]; refused && r.digest == rendered.digest {
		tx.keepProgram(name)
		return nil
	}
	delete(tx.d.refused, it)
	before := tx.state.programs[name].lists
	after := programState{shapes: rendered.shapes}
	for set, nets := range rendered.lists {
		after.lists = append(after.lists, set)
		if err := tx.ensureList(set, nets); err != nil {
			return err
		}
	}
	tx.dropLists(before)
	tx.state.programs[name] = after
	for _, table := range tx.tablesOf(name) {
		tx.placeProgram(table, name, rendered)
	}
	return nil
}

// placeProgram makes a program's chains in one of the kernel's tables.
func (tx *transaction) placeProgram(table, name string, r *rendered) {
	for fam, chains := range r.chains {
		for _, c := range chains {
			if tx.ensureChain(place{family(fam), table}, c) {
				tx.tried[fam][name] = append(tx.tried[fam][name], c)
			}
		}
	}
	for d, s := range r.shapes {
		for fam := range tx.d.families {
			if s == empty {
				tx.removeChain(place{fam, table}, programChain(direction(d), name))
			}
		}
	}
}

func (tx *transaction) removeProgram(table, name string) {
	for fam := range tx.d.families {
		for d := range directions {
			tx.removeChain(place{fam, table}, programChain(d, name))
		}
	}
}

// takeProgram takes a reference to a program by a tier in another table than filter, and makes its chains there if it is
// the first.
func (tx *transaction) takeProgram(table, name string) {
	at := ref{table, name}
	tx.state.uses[at]++
	if tx.state.uses[at] > 1 || tx.state.programs[name].shapes == [directions]shape{} {
		return // there already, or not in force in any form
	}
	wish, ok := tx.desired.Programs.Get(name)
	if !ok {
		return
	}
	rendered, err := tx.renderProgram(name, wish)
	it := item{tables.KindProgram, name}
	if _, refused := tx.d.refused[it]; err != nil || refused {
		tx.keepChains(table, name)
		return
	}
	tx.digests[it] = rendered.digest
	tx.placeProgram(table, name, rendered)
}

// keepChains leaves the chains of a program that can't be put into force in one of the kernel's tables as they are, unless
// somebody changed them.
func (tx *transaction) keepChains(table, name string) {
	for fam := range tx.d.families {
		for d := range directions {
			at, chain := place{fam, table}, programChain(d, name)
			if content := tx.state.chains[at][chain]; content != "" && tx.full() {
				tx.wanted[at][chain] = true
			}
		}
	}
}

// dropProgram gives a reference by a tier up.
func (tx *transaction) dropProgram(table, name string) {
	at := ref{table, name}
	tx.state.uses[at]--
	if tx.state.uses[at] <= 0 {
		delete(tx.state.uses, at)
		tx.removeProgram(table, name)
	}
}

// rendered is a program in all directions and families.
type rendered struct {
	chains [families][]*chain
	shapes [directions]shape
	lists  map[string][]netip.Prefix
	digest digest
}

func (tx *transaction) renderProgram(name string, wish tables.Program) (*rendered, error) {
	out := &rendered{lists: map[string][]netip.Prefix{}}
	whole := newDigester("program in all forms")
	for d, rules := range [directions][]tables.Rule{wish.Ingress, wish.Egress} {
		if len(rules) == 0 {
			out.shapes[d] = empty
			continue
		}
		out.shapes[d] = present
		for fam := range tx.d.families {
			c, lists, err := program(fam, tx.setType, programChain(direction(d), name), rules)
			if err != nil {
				return nil, fmt.Errorf("%s %w", [directions]string{"ingress", "egress"}[d], err)
			}
			out.chains[fam] = append(out.chains[fam], c)
			maps.Copy(out.lists, lists)
			whole.text(string(c.digest()))
		}
	}
	out.digest = whole.sum()
	return out, nil
}

// keepProgram leaves a program that can't be put into force in the form that is.
func (tx *transaction) keepProgram(name string) {
	if !tx.full() {
		return
	}
	var kept programState
	var chains []string
	for d := range directions {
		kept.shapes[d] = empty
		chain := programChain(d, name)
		have := 0
		for fam := range tx.d.families {
			content, ok := tx.state.chains[place{fam, filterTable}][chain]
			if ok && content == "" {
				return // somebody changed it
			}
			if ok {
				have++
			}
		}
		switch have {
		case 0:
		case int(tx.d.families):
			kept.shapes[d] = present
			chains = append(chains, chain)
		default:
			return
		}
	}
	for _, chain := range chains {
		for fam := range tx.d.families {
			tx.wanted[place{fam, filterTable}][chain] = true
		}
	}
	if len(chains) > 0 {
		tx.state.programs[name] = kept
	}
}

func (tx *transaction) setType(id string) (tables.SetType, bool) { return tx.desired.Sets.Get(id) }

// planLayout makes the chains that belong to no single item, and the hooks.
func (tx *transaction) planLayout() {
	inUse := tx.state.use()
	floating := floatingOf(tx.desired)
	inUse.floating = len(floating) > 0
	inUse.vxlan = slices.Contains(tx.desired.Settings.Tunnels, tables.VXLAN)
	if !tx.full() && !tx.desired.SettingsDirty && !tx.desired.Floating.HasDirty() && inUse == tx.state.inUse {
		return
	}
	tx.state.inUse = inUse
	for _, table := range kernelTables() {
		wanted := map[string]bool{}
		for fam := range tx.d.families {
			l := layout{fam: fam, prefix: tx.d.options.WorkloadPrefix, settings: tx.desired.Settings, use: inUse, floating: floating}
			for _, c := range l.chains(table) {
				wanted[c.name] = true
				tx.ensureChain(place{fam, table}, c)
			}
		}
		for name := range tx.state.layout[table] {
			if !wanted[name] {
				tx.removeEverywhere(table, name)
			}
		}
		tx.state.layout[table] = wanted
	}
	tx.planHooks(inUse)
}

// removeEverywhere takes away a chain in both families.
func (tx *transaction) removeEverywhere(table, name string) {
	for fam := range tx.d.families {
		tx.removeChain(place{fam, table}, name)
	}
}

// planHooks makes the hooks that are needed.
func (tx *transaction) planHooks(inUse use) {
	for _, h := range hooks() {
		needed := h.needed(inUse)
		for fam := range tx.d.families {
			at := place{fam, h.table}
			switch {
			case tx.full() && tx.kernel.tables != nil:
				tx.planHook(at, h, needed)
			case tx.full(): // as it was
			case needed && !tx.state.hooks[h]:
				tx.batch(at).hooks = append(tx.batch(at).hooks, "-I "+h.from+" 1 "+h.rule())
			case !needed && tx.state.hooks[h]:
				tx.batch(at).hooks = append(tx.batch(at).hooks, "-D "+h.from+" "+h.rule())
			}
		}
		tx.state.hooks[h] = needed
	}
}

// planHook makes a hook the first rule of its chain, if it is needed, and the only one that leads to the driver's chains.
func (tx *transaction) planHook(at place, h hook, needed bool) {
	kernel := tx.kernel.tables[at]
	var have []savedRule
	for _, r := range kernel.others {
		if r.chain == h.from {
			have = append(have, r)
		}
	}
	if needed && len(have) == 1 && kernel.first[h.from] == have[0].rule && h.is(have[0].rule) || !needed && len(have) == 0 {
		return
	}
	b := tx.batch(at)
	for _, r := range have {
		b.hooks = append(b.hooks, "-D "+r.chain+" "+r.rule)
	}
	if needed {
		b.hooks = append(b.hooks, "-I "+h.from+" 1 "+h.rule())
	}
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
