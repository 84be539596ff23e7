package iptables

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/manul-net/manul/nodeagent/tables"
)

// planPrograms makes the chains of programs.
func (tx *transaction) planPrograms() error {
	names := slices.Concat(slices.Collect(tx.desired.Programs.Dirty()), tx.retried)
	for key := range tx.state.folder.ChangedPrograms() {
		names = append(names, key.Program)
	}
	if tx.full() || tx.typesChanged {
		for name := range tx.desired.Programs.All() {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	changed := map[string]bool{}
	for _, name := range slices.Compact(names) {
		before := tx.allShapes(name)
		if err := tx.planProgram(name); err != nil {
			return err
		}
		if tx.allShapes(name) != before {
			changed[name] = true
		}
	}
	tx.planTiers(changed)
	return nil
}

// planTiers makes the chains of tiers in which something changed. changed are programs that have another shape.
func (tx *transaction) planTiers(changed map[string]bool) {
	steps := map[string]bool{}
	for _, name := range tx.state.folder.ChangedTiers() {
		steps[name] = true
	}
	if len(changed)+len(steps) == 0 {
		return
	}
	for at, tier := range tx.state.tiers {
		if !tx.state.folder.HasTier(at.name) {
			continue // it goes with the last list that has it, and its chain as it is
		}
		if steps[at.name] || len(changed) > 0 && slices.ContainsFunc(tier.programs, func(p string) bool { return changed[p] }) {
			tx.ensureTier(at, tier)
		}
	}
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
	if shapes, whole := tx.foldedWhole(name, wish); whole {
		delete(tx.d.refused, it)
		tx.dropLists(tx.state.programs[name].lists)
		tx.state.programs[name] = programState{shapes: shapes}
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

// foldedWhole tells whether a program has no chain, since all its rules are nowhere but in folds, and its shapes then.
func (tx *transaction) foldedWhole(name string, wish tables.Program) (shapes [directions]shape, whole bool) {
	for d, rules := range [directions][]tables.Rule{wish.Ingress, wish.Egress} {
		switch {
		case tx.away(direction(d), name):
			whole = true
		case len(rules) == 0:
			shapes[d] = empty
		default:
			return shapes, false
		}
	}
	return shapes, whole
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
			if s != present {
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

// rendered is a program in all directions and families. The chain of a direction in which the program is nowhere but in folds is
// left out.
type rendered struct {
	chains [families][]*chain
	shapes [directions]shape
	lists  map[string][]netip.Prefix
	digest digest
}

// checkProgram tells why a program can't be rendered.
func (tx *transaction) checkProgram(wish *tables.Program) error {
	for d, rules := range [directions][]tables.Rule{wish.Ingress, wish.Egress} {
		if err := checkRules(tx.setType, rules); err != nil {
			return fmt.Errorf("%s %w", [directions]string{"ingress", "egress"}[d], err)
		}
	}
	return nil
}

func (tx *transaction) renderProgram(name string, wish tables.Program) (*rendered, error) {
	out := &rendered{lists: map[string][]netip.Prefix{}}
	whole := newDigester("program in all forms")
	for d, rules := range [directions][]tables.Rule{wish.Ingress, wish.Egress} {
		if len(rules) == 0 {
			out.shapes[d] = empty
			continue
		}
		away := tx.away(direction(d), name)
		if !away {
			out.shapes[d] = present
		}
		for fam := range tx.d.families {
			c, lists, err := program(fam, tx.setType, programChain(direction(d), name), rules)
			if err != nil {
				return nil, fmt.Errorf("%s %w", [directions]string{"ingress", "egress"}[d], err)
			}
			whole.text(string(c.digest()))
			if !away {
				out.chains[fam] = append(out.chains[fam], c)
				maps.Copy(out.lists, lists)
			}
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
