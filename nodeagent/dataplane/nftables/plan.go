package nftables

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/fold"
	"github.com/manul-net/manul/nodeagent/tables"
)

// chunk is the size at which a part of a great transaction that may be sent alone is.
const chunk = 1 << 20

// transaction works out what has to change in the kernel and sends it, in three parts:
//
//	early  new sets with their members, then new chains of programs, of tiers and of lists: nothing refers to them yet
//	main   members of sets, then changed chains of programs and tiers, then the verdict maps and addresses of
//	       endpoints, then base chains: all that packets can notice
//	late   elements of host endpoints that went, then chains that nothing refers to any more (lists, then tiers, then
//	       programs), then such sets
//
// What is small goes in one transaction of the kernel, unless an endpoint is led to a chain that is new, or a set of CIDRs
// is: then early goes alone. The kernel lets a packet see rules as they were when it entered the base chain, but sets and
// maps as they are. One that is on its way while such a transaction takes effect would be led to a new chain by the map
// and find it still empty. And the kernel shows what is new in a set of CIDRs only a moment after the new rules
// (nft_set_commit_update comes last in nf_tables_commit). What is great is divided in any case: early as it grows, and
// late alone; main never is.
type transaction struct {
	d       *Driver
	desired *tables.Policy
	kernel  *found // nil unless everything is compared
	state   *state

	early, main, late *batch
	// behind are new base chains that go by the marks of others, in the order in which they must come into force after main.
	behind  [stages]*batch
	stage   int // of the base chain that is being planned
	setID   uint32
	digests map[item]digest   // of programs in this transaction
	looked  map[string]looked // programs
	retried []string          // programs that were refused until now
	failed  map[item]error

	pending      map[string]*pendingElements // by set, to be added to main
	wantedChains map[string]bool             // when everything is compared
	wantedSets   map[string]bool
	rebuild      bool            // start over with an empty table
	newSets      map[string]bool // that are made in this transaction
	ahead        bool            // early must be in force before main: see above
	typesChanged bool            // a set has another type: look at all programs

	lateLists, lateTiers map[string]bool // candidates: nothing may refer to them any more
	lateBases            []string        // base chains, and what they go to
	lateChains, lateSets []string
	scan                 map[string]*scanned // sets whose members all have to be looked at
}

func newTransaction(d *Driver, desired *tables.Policy, kernel *found) *transaction {
	tx := &transaction{
		d: d, desired: desired, kernel: kernel, state: d.state,
		early: newBatch(), main: newBatch(), late: newBatch(), digests: map[item]digest{}, looked: map[string]looked{}, failed: map[item]error{},
		pending:   map[string]*pendingElements{},
		newSets:   map[string]bool{},
		lateLists: map[string]bool{}, lateTiers: map[string]bool{}, scan: map[string]*scanned{},
	}
	if kernel != nil {
		tx.state = newState()
		tx.wantedChains, tx.wantedSets = map[string]bool{}, map[string]bool{}
		tx.state.inUse.v6 = needsIPv6(desired)
		tx.state.folder = fold.New(desired, tx.state.inUse.v6, d.options.Fold, fold.ShapeByFields)
	}
	return tx
}

func (tx *transaction) full() bool { return tx.kernel != nil }

// problem remembers that an item is not in force.
func (tx *transaction) problem(it item, err error) { tx.failed[it] = err }

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
		if it.kind != "" {
			errs = append(errs, &tables.ItemError{Kind: it.kind, Name: it.name, Err: tx.failed[it]})
		}
	}
	return errors.Join(errs...)
}

// refused tells whether the kernel refused an item in this very form.
func (tx *transaction) refused(it item) bool {
	r, ok := tx.d.refused[it]
	if ok && r.digest == tx.digests[it] {
		return true
	}
	delete(tx.d.refused, it)
	return false
}

// plan fills the batches. Each step relies on those before it.
func (tx *transaction) plan(ctx context.Context) error {
	if tx.full() {
		tx.prepare()
	} else if err := tx.checkFamilies(); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{
		tx.planFolder, tx.planSets, tx.planFolds, tx.planPools, tx.planNodes, tx.planPrograms, tx.planEndpoints, tx.planHosts, tx.planBaseChains,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	tx.planRemoval()
	tx.state.folder.Clean()
	return nil
}

// checkFamilies fails when the first IPv6 endpoint or host endpoint comes: then everything has to be rendered anew.
func (tx *transaction) checkFamilies() error {
	if tx.state.inUse.v6 {
		return nil
	}
	if tx.desired.HostEndpoints.Len() > 0 {
		return errors.New("the node has host endpoints now")
	}
	for name := range tx.desired.Endpoints.Dirty() {
		if e, ok := tx.desired.Endpoints.Get(name); ok && hasIPv6(e) {
			return errors.New("the node has IPv6 endpoints now")
		}
	}
	return nil
}

// prepare makes what is in the kernel the state, and the table and the driver's own sets if they are not there.
func (tx *transaction) prepare() {
	own := ownSets()
	for name, spec := range own {
		if have, ok := tx.kernel.sets[name]; ok && have != spec {
			tx.rebuild = true
		}
	}
	for id, typ := range tx.desired.Sets.All() {
		for _, fam := range tx.state.inUse.families() {
			have, ok := tx.kernel.sets[setName(id, typ, fam)]
			tx.rebuild = tx.rebuild || ok && have != memberSpec(typ, fam)
		}
	}
	for name, have := range tx.kernel.sets {
		for fam := range families {
			tx.rebuild = tx.rebuild || strings.HasPrefix(name, "f"+fam.digit()+"-") && have != foldSpec(fam)
		}
	}
	for _, base := range baseChains() {
		if have, ok := tx.kernel.chains[base.name]; ok && !sameHook(have.hook, base.hook) {
			tx.rebuild = true
		}
	}
	for name, chain := range tx.kernel.chains {
		base := slices.ContainsFunc(baseChains(), func(b baseChain) bool { return b.name == name }) || slices.Contains(formerBaseChains(), name)
		tx.rebuild = tx.rebuild || chain.hook != nil && !base // a foreign base chain in our table could do anything
	}
	tx.early.item = item{kind: kindSettings}
	if tx.rebuild {
		tx.d.options.Log.Warn("rebuilding the nftables table: someone else made a part of it", "table", tableName)
		*tx.kernel = found{}
		tx.early.addTable() // so that it can be deleted
		tx.early.deleteTable()
	}
	tx.early.addTable()
	for name, chain := range tx.kernel.chains {
		tx.state.chains[name] = chain.digest
	}
	for _, name := range slices.Sorted(maps.Keys(own)) {
		tx.ensureSet(name, own[name])
	}
}

func sameHook(a, b *hook) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

// ensureSet makes a set if it is not there.
func (tx *transaction) ensureSet(name string, spec setSpec) {
	if tx.full() {
		tx.wantedSets[name] = true
		if _, ok := tx.kernel.sets[name]; ok {
			return
		}
	}
	tx.newSets[name] = true
	tx.early.addSet(name, tx.newSetID(), spec)
}

func (tx *transaction) newSetID() uint32 {
	tx.setID++
	return tx.setID
}

// ensureChain makes a chain hold rules: at once if it is new, since nothing refers to it yet, in the main part if not.
func (tx *transaction) ensureChain(ctx context.Context, it item, name string, at *hook, content digest, rules func() []*ruleBuilder) error {
	if tx.full() {
		tx.wantedChains[name] = true
	}
	have, exists := tx.state.chains[name]
	if exists && have == content {
		return nil
	}
	tx.state.chains[name] = content
	b := tx.early
	switch {
	case exists || at != nil && (tx.stage == 0 || tx.rebuild):
		b = tx.main
	case at != nil:
		b = newBatch()
		tx.behind[tx.stage-1] = b
	}
	b.item = it
	if exists {
		b.flushChain(name)
	} else {
		b.addChain(name, at)
	}
	list := rules()
	for i, rule := range list {
		for _, set := range rule.sets {
			b.addSet(anonymousSet, set.id, set.spec)
			b.elements(unix.NFT_MSG_NEWSETELEM, anonymousSet, set.id, set.elements)
		}
		if err := b.addRule(name, content.comment(i+1, len(list)), rule.exprs); err != nil {
			return fmt.Errorf("encoding rule %d of chain %s: %w", i+1, name, err)
		}
	}
	return tx.sendEarly(ctx)
}

// sendEarly sends what may go alone when there is enough of it. A table that is being rebuilt must stay what it is
// until all of the new one is there.
func (tx *transaction) sendEarly(ctx context.Context) error {
	if tx.early.bytes() < chunk || tx.rebuild {
		return nil
	}
	err := tx.d.send(ctx, tx.early, tx.digests)
	tx.early.reset()
	return err
}

// planPrograms makes the chains of programs.
func (tx *transaction) planPrograms(ctx context.Context) error {
	changed := [directions]map[string]bool{{}, {}}
	look := func(name string) error {
		before := [directions]shape{tx.state.shapes[ingress][name], tx.state.shapes[egress][name]}
		if err := tx.planProgram(ctx, name); err != nil {
			return err
		}
		for d := range directions {
			if tx.state.shapes[d][name] != before[d] {
				changed[d][name] = true
			}
		}
		return nil
	}
	if !tx.full() {
		for name := range tx.desired.Programs.Dirty() {
			if err := look(name); err != nil {
				return err
			}
		}
	}
	if tx.full() || tx.typesChanged {
		for name := range tx.desired.Programs.All() {
			if err := look(name); err != nil {
				return err
			}
		}
	}
	for _, name := range tx.retried {
		if err := look(name); err != nil {
			return err
		}
	}
	for key := range tx.state.folder.ChangedPrograms() {
		if err := look(key.Program); err != nil {
			return err
		}
	}
	return tx.planTiers(ctx, changed)
}

// planTiers makes the chains of tiers in which something changed. changed are programs that have another shape, by direction.
func (tx *transaction) planTiers(ctx context.Context, changed [directions]map[string]bool) error {
	for _, name := range tx.state.folder.ChangedTiers() {
		if tier := tx.state.tiers[name]; tier != nil {
			if err := tx.ensureTier(ctx, name, tier); err != nil {
				return err
			}
		}
	}
	if len(changed[ingress])+len(changed[egress]) == 0 {
		return nil
	}
	for name, tier := range tx.state.tiers {
		if !tx.state.folder.HasTier(name) {
			continue // it goes with the last endpoint that has it, and its chain as it is
		}
		if slices.ContainsFunc(tier.programs, func(p string) bool { return changed[tier.direction][p] }) {
			if err := tx.ensureTier(ctx, name, tier); err != nil {
				return err
			}
		}
	}
	return nil
}

// planProgram makes the chains of one program, both or none.
func (tx *transaction) planProgram(ctx context.Context, name string) error {
	it := item{tables.KindProgram, name}
	program, ok := tx.desired.Programs.Get(name)
	if !ok {
		delete(tx.d.refused, it)
		for d := range directions {
			delete(tx.state.shapes[d], name)
			if chain := programChain(d, name); tx.hasChain(chain) {
				tx.lateChains = append(tx.lateChains, chain)
			}
		}
		return nil
	}
	l := tx.lookAtProgram(name, &program)
	if l.held {
		tx.keepProgram(name)
		return nil
	}
	for d, rules := range [directions][]tables.Rule{program.Ingress, program.Egress} {
		chain := programChain(direction(d), name)
		tx.state.shapes[d][name] = shapeOf(rules)
		if len(rules) == 0 || tx.away(direction(d), name) {
			if tx.hasChain(chain) {
				tx.lateChains = append(tx.lateChains, chain)
			}
			continue
		}
		render := func() []*ruleBuilder {
			return renderer{types: tx.setType, inUse: tx.state.inUse, setID: &tx.setID}.program(rules)
		}
		if err := tx.ensureChain(ctx, it, chain, nil, l.contents[d], render); err != nil {
			return err
		}
	}
	return nil
}

// passingSuffix ends the digest of a chain that may return with the pass mark, so that its shape can be told from the
// kernel alone.
const passingSuffix = "p"

// keepProgram leaves a program that can't be put into force in the form that is.
func (tx *transaction) keepProgram(name string) {
	if !tx.full() {
		return // shapes are what they were
	}
	chains := [directions]string{programChain(ingress, name), programChain(egress, name)}
	if !tx.hasChain(chains[ingress]) && !tx.hasChain(chains[egress]) {
		return
	}
	for d, chain := range chains {
		content, exists := tx.state.chains[chain]
		switch {
		case !exists:
			tx.state.shapes[d][name] = empty
			continue
		case content == "": // not ours any more
		case strings.HasSuffix(string(content), passingSuffix):
			tx.state.shapes[d][name] = passing
		default:
			tx.state.shapes[d][name] = plain
		}
		tx.wantedChains[chain] = true
	}
}

func (tx *transaction) hasChain(name string) bool {
	_, ok := tx.state.chains[name]
	return ok
}

func (tx *transaction) setType(id string) (tables.SetType, bool) { return tx.desired.Sets.Get(id) }

// planBaseChains makes the base chains, and gives up those that no host endpoint needs any more.
func (tx *transaction) planBaseChains(ctx context.Context) error {
	if !tx.full() && !tx.desired.SettingsDirty && !tx.desired.HostEndpoints.HasDirty() && !tx.desired.Floating.HasDirty() {
		return nil
	}
	l := &layout{
		prefix: tx.d.options.WorkloadPrefix, settings: tx.desired.Settings, inUse: tx.state.inUse, hosts: useOf(tx.state.hosts), floating: floatingOf(tx.desired), setID: &tx.setID,
	}
	for _, base := range baseChains() {
		if base.when != nil && !base.when(l) {
			if tx.hasChain(base.name) && !tx.full() {
				tx.lateBases = append(tx.lateBases, base.name)
			}
			continue
		}
		content, err := l.digest(&base)
		if err != nil {
			return err
		}
		render := func() []*ruleBuilder { return base.rules(l) }
		tx.stage = l.stage(base.name)
		if err := tx.ensureChain(ctx, item{kind: kindSettings}, base.name, base.hook, content, render); err != nil {
			return err
		}
	}
	tx.stage = 0
	return nil
}
