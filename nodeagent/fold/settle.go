package fold

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
)

// Settle works out what follows from what it was told.
func (f *Folder) Settle() {
	if len(f.changed) > 0 {
		for _, t := range f.tiers {
			if slices.ContainsFunc(t.Programs, func(name string) bool { return f.changed[f.programs[t.Direction][name]] }) {
				f.unsettled[t] = true
			}
		}
		clear(f.changed)
	}
	for t := range f.unsettled {
		f.settleTier(t)
	}
	clear(f.unsettled)
	// Folds that came to be worth their look-ups, or ceased to be.
	restep := map[*Fold]bool{}
	for fold := range f.looked {
		f.news.folds[fold] = true
		if fold.tiers > 0 && fold.settle(f.limits) {
			restep[fold] = true
		}
	}
	clear(f.looked)
	if len(restep) > 0 {
		for name, t := range f.tiers {
			if slices.ContainsFunc(t.folds, func(fold *Fold) bool { return restep[fold] }) {
				f.news.tiers[name] = true
				f.restep(t)
			}
		}
	}
	for fold := range f.emptyFolds {
		if fold.tiers == 0 {
			f.dropFold(fold)
		}
	}
	clear(f.emptyFolds)
	f.settlePrograms()
}

// settlePrograms works out which programs, and so which sets, are nowhere but in folds.
func (f *Folder) settlePrograms() {
	for p := range f.touched {
		away := p.folded > 0 && p.asItIs == 0
		if away != p.away {
			p.away = away
			f.news.programs[p.key] = true
			for _, id := range p.sets {
				if s := f.sets[id]; away {
					s.away++
				} else {
					s.away--
				}
				f.news.sets[id] = true
			}
		}
		f.forget(p)
	}
	clear(f.touched)
	for id := range f.news.sets {
		s := f.sets[id]
		if s == nil {
			continue
		}
		if away := s.isAway(); away != s.gone {
			s.gone = away
		} else {
			delete(f.news.sets, id)
		}
		if len(s.programs) == 0 {
			delete(f.sets, id)
		}
	}
}

func (s *set) isAway() bool { return len(s.programs) > 0 && s.away == len(s.programs) }

// settleTier works out the folds of a tier, or gives it up.
func (f *Folder) settleTier(t *tier) {
	old := t.folds
	t.folds = nil
	if t.users > 0 {
		for _, run := range f.runs(t) {
			for _, chunk := range f.chunks(run) {
				fold := f.foldOf(t.Direction, chunk)
				fold.tiers++
				t.folds = append(t.folds, fold)
			}
		}
	}
	f.restep(t)
	for _, fold := range old {
		if fold.tiers--; fold.tiers == 0 {
			f.emptyFolds[fold] = true
		}
	}
	if t.users > 0 {
		f.news.tiers[t.Name] = true
	} else {
		delete(f.tiers, t.Name)
	}
}

// runs are the foldable programs of a tier between which there is none of which the order counts, where there are enough.
func (f *Folder) runs(t *tier) [][]*program {
	if len(t.Programs) < f.limits.MinPrograms {
		return nil
	}
	var runs [][]*program
	var run []*program
	end := func() {
		if len(run) >= f.limits.MinPrograms {
			runs = append(runs, run)
		}
		run = nil
	}
	for _, name := range t.Programs {
		switch p := f.program(Key{t.Direction, name}); p.class {
		case barrier:
			end()
		case foldable:
			run = append(run, p)
		case empty, allowing:
		}
	}
	end()
	return runs
}

// chunks divides a run. Where it does so depends on names only, so that one more or less changes one chunk.
func (f *Folder) chunks(run []*program) [][]*program {
	run = slices.Clone(run)
	slices.SortFunc(run, func(a, b *program) int { return strings.Compare(a.key.Program, b.key.Program) })
	run = slices.Compact(run)
	var out [][]*program
	from := 0
	for i, p := range run {
		if hash(p.key.Program)%uint64(f.limits.MeanChunk) == 0 || i+1-from == 4*f.limits.MeanChunk || i+1 == len(run) {
			out = append(out, run[from:i+1])
			from = i + 1
		}
	}
	return out
}

// hash is FNV-1a.
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

// foldOf is the fold of programs, which is made if there is none.
func (f *Folder) foldOf(d Direction, programs []*program) *Fold {
	h := sha256.New()
	for _, p := range programs {
		_, _ = h.Write([]byte(p.key.Program))
		_, _ = h.Write([]byte{0})
	}
	name := [directions]string{"i", "e"}[d] + "-" + hex.EncodeToString(h.Sum(nil)[:8])
	if fold := f.folds[name]; fold != nil {
		return fold
	}
	fold := &Fold{
		Name: name, direction: d, shapeOf: f.shapeOf, programs: programs,
		terms: map[term]int32{}, bySet: map[string][]term{}, elements: map[Element]int32{}, shapes: map[Shape]int32{}, changes: map[Element]int8{},
	}
	f.folds[name] = fold
	for _, p := range programs {
		p.folds = append(p.folds, fold)
		for _, t := range p.terms {
			fold.addTerm(t, f.desired.Members, f.v6)
		}
	}
	fold.settle(f.limits)
	f.news.folds[fold] = true
	return fold
}

func (f *Folder) dropFold(fold *Fold) {
	for _, p := range fold.programs {
		p.folds = slices.DeleteFunc(p.folds, func(other *Fold) bool { return other == fold })
	}
	delete(f.folds, fold.Name)
	delete(f.news.folds, fold)
	if fold.exists {
		f.news.gone = append(f.news.gone, fold)
	}
}

// restep works out the steps of a tier, and counts which programs are among them.
func (f *Folder) restep(t *tier) {
	if t.counted {
		f.countUse(t, -1)
	}
	t.steps = nil
	if t.counted = t.users > 0; !t.counted {
		return
	}
	t.steps = f.steps(t)
	f.countUse(t, 1)
}

// steps of a tier; nil when it has no folds.
func (f *Folder) steps(t *tier) []Step {
	in := map[string]*Fold{}
	for _, fold := range t.folds {
		if !fold.active {
			continue
		}
		for _, p := range fold.programs {
			if in[p.key.Program] != nil {
				return nil // the program is there twice: leave such a tier alone
			}
			in[p.key.Program] = fold
		}
	}
	if len(in) == 0 {
		return nil
	}
	// Folds go before all else of their run: behind the last program of which the order counts.
	var steps, run []Step
	done := map[*Fold]bool{}
	for _, name := range t.Programs {
		fold := in[name]
		switch {
		case fold != nil && !done[fold]:
			done[fold] = true
			steps = append(steps, Step{Fold: fold})
		case fold != nil:
		case f.program(Key{t.Direction, name}).class == barrier:
			steps = append(append(steps, run...), Step{Program: name})
			run = nil
		default:
			run = append(run, Step{Program: name})
		}
	}
	return append(steps, run...)
}

// countUse counts the programs of a tier as its steps have them.
func (f *Folder) countUse(t *tier, step int) {
	asItIs := func(name string) {
		p := f.program(Key{t.Direction, name})
		p.asItIs += step
		f.touched[p] = true
	}
	if t.steps == nil {
		for _, name := range t.Programs {
			asItIs(name)
		}
	}
	for _, s := range t.steps {
		if s.Fold == nil {
			asItIs(s.Program)
			continue
		}
		for _, p := range s.Fold.programs {
			p.folded += step
			f.touched[p] = true
		}
	}
}
