package iptables

import (
	"slices"

	"github.com/manul-net/manul/nodeagent/fold"
	"github.com/manul-net/manul/nodeagent/tables"
)

// planFolder works out what is folded.
func (tx *transaction) planFolder() {
	dataplane := fold.Dataplane{
		Fit:      tx.fit,
		TierName: func(d fold.Direction, t tables.Tier) string { return tierName(direction(d), t) },
	}
	if tx.full() {
		tx.state.folder.TellAll(dataplane)
		return
	}
	// A program that named a set that did not exist may be complete now; one that has gone is refused no more.
	for it := range tx.d.refused {
		if it.kind == tables.KindProgram {
			tx.retried = append(tx.retried, it.name)
		}
	}
	tx.state.folder.Tell(dataplane, tx.retried)
}

// fit tells whether a program can be put into force, as far as that is known.
func (tx *transaction) fit(name string, wish *tables.Program) bool {
	if tx.checkProgram(wish) != nil {
		return false
	}
	before, refused := tx.d.refused[item{tables.KindProgram, name}]
	if !refused {
		return true
	}
	rendered, err := tx.renderProgram(name, *wish)
	return err == nil && rendered.digest != before.digest
}

// away tells whether a program's chain for a direction is not needed.
func (tx *transaction) away(d direction, program string) bool {
	return tx.state.folder.Away(fold.Key{Direction: fold.Direction(d), Program: program})
}

// planFolds makes the sets of folds hold what they are to.
func (tx *transaction) planFolds() error {
	for _, f := range tx.state.folder.Changed() {
		if err := tx.planFold(f); err != nil {
			return err
		}
	}
	for _, f := range tx.state.folder.Gone() {
		tx.keepFoldSets(f.Name, nil)
	}
	return nil
}

// planFold makes the sets of a fold that came, went or changed.
func (tx *transaction) planFold(f *fold.Fold) error {
	var sets []foldSet
	if f.Active() {
		for fam := range tx.d.families {
			sets = append(sets, foldSetsOf(f, fam)...)
		}
	}
	fresh := map[foldSet][]entry{}
	for _, set := range sets {
		if !tx.state.foldSets[set.name()] {
			fresh[set] = nil
		}
	}
	if len(fresh) > 0 {
		for e := range f.Elements() {
			set := foldSetOf(f.Name, fold.ShapeByProtocol(e))
			if _, is := fresh[set]; is {
				fresh[set] = append(fresh[set], foldEntries(e)...)
			}
		}
	}
	for _, set := range sets {
		if entries, is := fresh[set]; is {
			if err := tx.ensureExact(set.name(), set.spec(), item{}, entries); err != nil {
				return err
			}
		}
	}
	tx.keepFoldSets(f.Name, sets)
	if f.Active() && f.Exists() {
		tx.changeFold(f, fresh)
	}
	return nil
}

// changeFold adds and deletes the elements of a fold that changed, but for those of sets that are fresh or not there any more.
func (tx *transaction) changeFold(f *fold.Fold, fresh map[foldSet][]entry) {
	for e, came := range f.Changes() {
		set := foldSetOf(f.Name, fold.ShapeByProtocol(e))
		name := set.name()
		if _, is := fresh[set]; is || !tx.state.foldSets[name] {
			continue
		}
		for _, entry := range foldEntries(e) {
			if came {
				tx.adds[name] = append(tx.adds[name], entry)
			} else if !stands(f, e, entry) {
				tx.deletes[name] = append(tx.deletes[name], entry)
			}
		}
	}
}

// keepFoldSets remembers which sets a fold has, and gives up those that it has no more.
func (tx *transaction) keepFoldSets(name string, sets []foldSet) {
	for _, set := range tx.state.folds[name] {
		if !slices.Contains(sets, set) {
			delete(tx.state.foldSets, set.name())
			tx.lateSets = append(tx.lateSets, set.name())
		}
	}
	if len(sets) == 0 {
		delete(tx.state.folds, name)
		return
	}
	for _, set := range sets {
		tx.state.foldSets[set.name()] = true
	}
	tx.state.folds[name] = sets
}
