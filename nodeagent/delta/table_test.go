package delta

import (
	"maps"
	"runtime"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func newTable() *Table[string, int] {
	return NewTable[string](func(a, b int) bool { return a == b })
}

func TestDirtyKeys(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Table[string, int])
		want   map[string]bool // dirty key -> had
	}{
		"nothing":                 {func(*Table[string, int]) {}, map[string]bool{}},
		"set the same":            {func(t *Table[string, int]) { t.Set("a", 1) }, map[string]bool{}},
		"replace":                 {func(t *Table[string, int]) { t.Set("a", 2) }, map[string]bool{"a": true}},
		"new":                     {func(t *Table[string, int]) { t.Set("b", 1) }, map[string]bool{"b": false}},
		"new and changed":         {func(t *Table[string, int]) { t.Set("b", 1); t.Set("b", 2) }, map[string]bool{"b": false}},
		"new and gone":            {func(t *Table[string, int]) { t.Set("b", 1); t.Delete("b") }, map[string]bool{}},
		"gone":                    {func(t *Table[string, int]) { t.Delete("a") }, map[string]bool{"a": true}},
		"gone and back":           {func(t *Table[string, int]) { t.Delete("a"); t.Set("a", 1) }, map[string]bool{"a": true}},
		"delete what is not":      {func(t *Table[string, int]) { t.Delete("b") }, map[string]bool{}},
		"marked":                  {func(t *Table[string, int]) { t.MarkDirty("b") }, map[string]bool{"b": true}},
		"cleaned":                 {func(t *Table[string, int]) { t.Set("b", 1); t.Clean() }, map[string]bool{}},
		"one key cleaned":         {func(t *Table[string, int]) { t.Set("b", 1); t.Delete("a"); t.CleanKey("a") }, map[string]bool{"b": false}},
		"marked, set and gone":    {func(t *Table[string, int]) { t.MarkDirty("b"); t.Set("b", 1); t.Delete("b") }, map[string]bool{"b": true}},
		"gone, back and replaced": {func(t *Table[string, int]) { t.Delete("a"); t.Set("a", 3) }, map[string]bool{"a": true}},
	} {
		t.Run(name, func(t *testing.T) {
			table := newTable()
			table.Set("a", 1)
			table.Clean()
			tc.change(table)
			got := map[string]bool{}
			for key := range table.Dirty() {
				got[key] = table.Had(key)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("dirty keys (-want +got):\n%s", diff)
			}
			if table.HasDirty() != (len(tc.want) > 0) {
				t.Errorf("HasDirty = %v", table.HasDirty())
			}
		})
	}
}

// A follower that looks at dirty keys only must end with the same content as the table, and must never be told that it
// has a key that it lacks, or the reverse.
func TestFollowerSeesEverything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table, follower := newTable(), map[string]int{}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			key := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "key")
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0, 1:
				table.Set(key, rapid.IntRange(0, 2).Draw(t, "value"))
			case 2:
				table.Delete(key)
			case 3:
				for dirty := range table.Dirty() {
					if _, has := follower[dirty]; has != table.Had(dirty) {
						t.Fatalf("Had(%q) = %v, follower has it: %v", dirty, table.Had(dirty), has)
					}
					if value, ok := table.Get(dirty); ok {
						follower[dirty] = value
					} else {
						delete(follower, dirty)
					}
				}
				table.Clean()
				if want := maps.Collect(table.All()); !cmp.Equal(want, follower) {
					t.Fatalf("follower has %v, table %v", follower, want)
				}
			}
		}
	})
}

func TestCleanAfterMany(t *testing.T) {
	table := NewTable[int](func(a, b int) bool { return a == b })
	for i := range 3 * keepDirty {
		table.Set(i, i)
	}
	table.Clean()
	table.Set(7, 8)
	if got := slices.Collect(table.Dirty()); !slices.Equal(got, []int{7}) {
		t.Errorf("dirty keys = %v, want [7]", got)
	}
}

// A table that was large and is small again takes the memory of a small one.
func TestMemoryOfWhatIsGoneIsGivenBack(t *testing.T) {
	table := NewTable[int](func(a, b [8]int) bool { return a == b })
	heap := func() int {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	const many, few = 100_000, 100
	before := heap()
	for i := range many {
		table.Set(i, [8]int{i})
	}
	table.Clean()
	large := heap() - before
	for i := few; i < many; i++ {
		table.Delete(i)
	}
	table.Clean()
	if small := heap() - before; small > large/20 {
		t.Errorf("%d items take %d bytes, and %d of them take %d", many, large, few, small)
	}
	for i := range few {
		if v, ok := table.Get(i); !ok || v[0] != i {
			t.Fatalf("item %d is %v, %t", i, v, ok)
		}
	}
	if table.Len() != few || table.HasDirty() {
		t.Errorf("%d items, changed: %t", table.Len(), table.HasDirty())
	}
}
