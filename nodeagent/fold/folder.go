package fold

import (
	"maps"
	"slices"
	"strings"

	"github.com/manul-net/manul/nodeagent/tables"
)

// Tier is a tier as some endpoints see it. Name tells tiers apart: it says the direction and the programs in their order.
type Tier struct {
	Name      string
	Direction Direction
	Programs  []string
}

// Step is what a packet meets in a tier: a fold, or a program that is none's.
type Step struct {
	Fold    *Fold
	Program string
}

// Key names a program's rules for one direction.
type Key struct {
	Direction Direction
	Program   string
}

// Folder keeps the folds of a node. A new one knows nothing; then, each time the tables changed, it is told of that in the order
// of its methods: Members, Program, User, and Settle; Tell and TellAll do so. It is not safe for concurrent use.
type Folder struct {
	desired *tables.Policy
	limits  Limits
	shapeOf Shapes
	v6      bool

	programs [directions]map[string]*program
	sets     map[string]*set
	tiers    map[string]*tier
	users    map[string][]string // names of tiers
	folds    map[string]*Fold

	// What changed since the last Clean, beside elements.
	news       news
	unsettled  map[*tier]bool
	changed    map[*program]bool // their class
	touched    map[*program]bool // what they are used for
	emptyFolds map[*Fold]bool
	looked     map[*Fold]bool // to be settled
}

type news struct {
	tiers    map[string]bool
	programs map[Key]bool
	sets     map[string]bool
	folds    map[*Fold]bool
	gone     []*Fold
}

// program is a program for one direction.
type program struct {
	key   Key
	there bool // in the tables
	class class
	terms []term
	sets  []string
	folds []*Fold
	// asItIs counts the tiers in which it stays what it is, folded those in which it does not.
	asItIs, folded int
	away           bool
}

// set is a set that programs name.
type set struct {
	programs []*program
	// away counts those of them that are folded everywhere.
	away  int
	typ   tables.SetType
	small bool
	gone  bool // that is, was away when it was last asked
}

type tier struct {
	Tier
	users int
	steps []Step
	folds []*Fold
	// counted: its programs know of its use of them.
	counted bool
}

// New makes a folder of tables. v6 tells whether IPv6 is of any matter.
func New(desired *tables.Policy, v6 bool, limits Limits, shapeOf Shapes) *Folder {
	f := &Folder{
		desired: desired, limits: limits, shapeOf: shapeOf, v6: v6, sets: map[string]*set{}, tiers: map[string]*tier{}, users: map[string][]string{}, folds: map[string]*Fold{},
		unsettled: map[*tier]bool{}, changed: map[*program]bool{}, touched: map[*program]bool{}, emptyFolds: map[*Fold]bool{}, looked: map[*Fold]bool{},
	}
	for d := range f.programs {
		f.programs[d] = map[string]*program{}
	}
	f.news = news{tiers: map[string]bool{}, programs: map[Key]bool{}, sets: map[string]bool{}, folds: map[*Fold]bool{}}
	return f
}

// Members takes the changes of sets and of members that are marked in the tables. It returns the programs that now have to be
// told of, because a set that they name came, went, or became too great or small enough.
func (f *Folder) Members() []string {
	stale := map[string]bool{}
	look := func(id string) *set {
		s := f.sets[id]
		if s == nil {
			return nil
		}
		typ, small := f.kind(id)
		if typ != s.typ || small != s.small {
			s.typ, s.small = typ, small
			for _, p := range s.programs {
				stale[p.key.Program] = true
			}
		}
		return s
	}
	for id := range f.desired.Sets.Dirty() {
		look(id)
	}
	type change struct {
		member tables.Member
		step   int32
	}
	changes := map[*set][]change{}
	for m := range f.desired.Members.Dirty() {
		s := look(m.Set)
		_, is := f.desired.Members.Get(m)
		if s == nil || is == f.desired.Members.Had(m) {
			continue
		}
		step := int32(-1)
		if is {
			step = 1
		}
		changes[s] = append(changes[s], change{m, step})
	}
	for s, list := range changes {
		for _, fold := range s.folds() {
			for _, c := range list {
				fold.member(c.member, c.step, f.v6)
			}
			f.looked[fold] = true
		}
	}
	return slices.Sorted(maps.Keys(stale))
}

// folds are those that have a program which names the set.
func (s *set) folds() []*Fold {
	if len(s.programs) == 1 {
		return s.programs[0].folds
	}
	seen := map[*Fold]bool{}
	for _, p := range s.programs {
		for _, fold := range p.folds {
			seen[fold] = true
		}
	}
	return slices.Collect(maps.Keys(seen))
}

// kind of a set: its type, and whether it is small enough to fold.
func (f *Folder) kind(id string) (tables.SetType, bool) {
	typ, _ := f.desired.Sets.Get(id)
	return typ, f.desired.Members.Count(id) <= f.limits.MaxMembers
}

// Program takes news of a program: its rules now, and whether they are fit to be put into force. One that is not is not folded.
func (f *Folder) Program(name string, content tables.Program, fit bool) {
	f.setRules(Key{Ingress, name}, content.Ingress, fit)
	f.setRules(Key{Egress, name}, content.Egress, fit)
}

// DeleteProgram takes the news that a program is gone.
func (f *Folder) DeleteProgram(name string) {
	for d := range directions {
		if p := f.programs[d][name]; p != nil {
			p.there = false
			f.become(p, barrier, nil, nil)
			f.forget(p)
		}
	}
}

func (f *Folder) program(key Key) *program {
	p := f.programs[key.Direction][key.Program]
	if p == nil {
		p = &program{key: key}
		f.programs[key.Direction][key.Program] = p
	}
	return p
}

// forget gives up a program that neither the tables nor a tier have.
func (f *Folder) forget(p *program) {
	if !p.there && p.asItIs+p.folded == 0 {
		delete(f.programs[p.key.Direction], p.key.Program)
	}
}

func (f *Folder) setRules(key Key, rules []tables.Rule, fit bool) {
	p := f.program(key)
	p.there = true
	now, terms := barrier, []term(nil)
	if fit {
		now, terms = classify(key.Direction, rules, f.kind)
	}
	f.become(p, now, terms, setsOf(rules))
}

// become changes what a program is.
func (f *Folder) become(p *program, now class, terms []term, sets []string) {
	if !slices.Equal(p.sets, sets) {
		old := p.sets
		for _, id := range sets {
			f.useSet(id, p)
		}
		p.sets = sets
		for _, id := range old {
			if !slices.Contains(sets, id) {
				f.unuseSet(id, p)
			}
		}
	}
	if p.class != now {
		f.changed[p] = true
	} else if now == foldable && !slices.Equal(p.terms, terms) {
		for _, fold := range p.folds {
			for _, t := range terms {
				fold.addTerm(t, f.desired.Members, f.v6)
			}
			for _, t := range p.terms {
				fold.dropTerm(t, f.desired.Members, f.v6)
			}
			f.looked[fold] = true
		}
	}
	p.class, p.terms = now, terms
}

func (f *Folder) useSet(id string, p *program) {
	s := f.sets[id]
	if s == nil {
		s = &set{}
		s.typ, s.small = f.kind(id)
		f.sets[id] = s
	}
	if slices.Contains(s.programs, p) {
		return
	}
	s.programs = append(s.programs, p)
	if p.away {
		s.away++
	}
	f.news.sets[id] = true
}

func (f *Folder) unuseSet(id string, p *program) {
	s := f.sets[id]
	i := slices.Index(s.programs, p)
	s.programs = slices.Delete(s.programs, i, i+1)
	if p.away {
		s.away--
	}
	f.news.sets[id] = true
}

// User takes news of the tiers of somebody, which may be none.
func (f *Folder) User(user string, tiers []Tier) {
	names := make([]string, 0, len(tiers))
	for _, wish := range tiers {
		t := f.tiers[wish.Name]
		if t == nil {
			t = &tier{Tier: wish}
			f.tiers[wish.Name] = t
			f.unsettled[t] = true
		}
		t.users++
		names = append(names, wish.Name)
	}
	for _, name := range f.users[user] {
		t := f.tiers[name]
		if t.users--; t.users == 0 {
			f.unsettled[t] = true
		}
	}
	if len(names) == 0 {
		delete(f.users, user)
	} else {
		f.users[user] = names
	}
}

// Steps are those of a tier; none when it has no folds: then they are its programs.
func (f *Folder) Steps(tier string) []Step {
	if t := f.tiers[tier]; t != nil {
		return t.steps
	}
	return nil
}

// HasTier tells whether somebody has the tier.
func (f *Folder) HasTier(name string) bool { return f.tiers[name] != nil }

// Away tells whether a program is nowhere but in folds: nothing else needs its rules.
func (f *Folder) Away(key Key) bool {
	p := f.programs[key.Direction][key.Program]
	return p != nil && p.away
}

// SetAway tells whether only such programs name a set.
func (f *Folder) SetAway(id string) bool {
	s := f.sets[id]
	return s != nil && s.isAway()
}

// Changed are the folds that came, went or changed since the last Clean, in the order of their names.
func (f *Folder) Changed() []*Fold {
	return slices.SortedFunc(maps.Keys(f.news.folds), func(a, b *Fold) int { return strings.Compare(a.Name, b.Name) })
}

// Gone are folds that were in force and that nothing needs any more.
func (f *Folder) Gone() []*Fold { return f.news.gone }

// ChangedTiers are the names of tiers whose steps, or the shapes of whose folds, are others than at the last Clean.
func (f *Folder) ChangedTiers() []string { return slices.Sorted(maps.Keys(f.news.tiers)) }

// ChangedPrograms are those of which Away says something else than at the last Clean.
func (f *Folder) ChangedPrograms() map[Key]bool { return f.news.programs }

// ChangedSets are those of which SetAway says something else than at the last Clean.
func (f *Folder) ChangedSets() map[string]bool { return f.news.sets }

// Clean forgets what changed.
func (f *Folder) Clean() {
	for fold := range f.news.folds {
		fold.exists = fold.active
		clear(fold.changes)
	}
	f.news.gone = nil
	clear(f.news.folds)
	clear(f.news.tiers)
	clear(f.news.programs)
	clear(f.news.sets)
}
