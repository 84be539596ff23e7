package ipam

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// pageSize is that of the journal's file. Its first two pages say, in turn, what counts of the others.
const pageSize = 4096

// journalWrite is one write of the journal: its file before and after it.
type journalWrite struct{ before, after []byte }

// TestPowerLossAtAnyByte: a write of the journal goes to disk as pages, and when these are there, as one page that says so. The power is
// lost at every byte of the latter, and after parts of the former, in either order. Whatever is on disk then, the journal opens, and holds what it
// held before the write or what it held after it; before it, as long as nothing says that it is there.
func TestPowerLossAtAnyByte(t *testing.T) {
	path := filepath.Join(t.TempDir(), "torn.db")
	const parts = 16
	states := 0
	for i, w := range recordWrites(t) {
		before, after := contents(t, path, w.before), contents(t, path, w.after)
		data, word := w.changes()
		look := func(file []byte, cut string, complete bool) {
			t.Helper()
			states++
			got := contents(t, path, file)
			if diff := cmp.Diff(before, got, cmpopts.EquateEmpty()); diff != "" && (!complete || !cmp.Equal(after, got, cmpopts.EquateEmpty())) {
				t.Fatalf("write %d, cut off %s: the journal holds neither what it held before (-) nor what it was to hold:\n%s", i, cut, diff)
			}
		}
		for _, backwards := range []bool{false, true} {
			for part := range parts + 1 {
				look(w.partly(data, len(data)*part/parts, backwards), fmt.Sprintf("after %d/%d of its data, backwards: %v", part, parts, backwards), false)
			}
		}
		for n := range len(word) + 1 {
			all := append(append([]int{}, data...), word[:n]...)
			look(w.partly(all, len(all), false), fmt.Sprintf("after %d bytes of the page that says that it is there", n), true)
		}
	}
	if states < 20*2*parts {
		t.Errorf("only %d states of the disk were looked at", states)
	}
}

// changes are the places of the bytes that a write changes: those of the data, and those of the page that says that the data are there.
func (w journalWrite) changes() (data, word []int) {
	for at, b := range w.after {
		switch {
		case at < len(w.before) && w.before[at] == b || at >= len(w.before) && b == 0:
		case at < 2*pageSize:
			word = append(word, at)
		default:
			data = append(data, at)
		}
	}
	return data, word
}

// partly is the file before the write, with the first so many of some bytes as they are after it; backwards: with the last ones.
func (w journalWrite) partly(places []int, count int, backwards bool) []byte {
	file := make([]byte, len(w.after))
	copy(file, w.before)
	if backwards {
		places = places[len(places)-count:]
	}
	for _, at := range places[:count] {
		file[at] = w.after[at]
	}
	return file
}

// recordWrites runs the script and keeps what each write does to the file.
func recordWrites(t *testing.T) []journalWrite {
	t.Helper()
	path := filepath.Join(t.TempDir(), "addresses.db")
	a, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	file := func() []byte {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var writes []journalWrite
	a.journal.around = func(write func() error) error {
		w := journalWrite{before: file()}
		err := write()
		w.after = file()
		writes = append(writes, w)
		return err
	}
	for i, s := range script() {
		if err := errors.Join(s.do(a), a.Save(context.Background(), a.Mark())); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	return writes
}

// contents opens a journal with some bytes and reads it.
func contents(t *testing.T, path string, file []byte) map[string]any {
	t.Helper()
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	j, err := openJournal(path)
	if err != nil {
		t.Fatalf("opening the journal after a loss of power: %v", err)
	}
	c, err := j.read()
	if err != nil {
		t.Fatalf("reading the journal after a loss of power: %v", err)
	}
	fresh, err := j.fresh()
	if err != nil {
		t.Fatal(err)
	}
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	all := map[string]any{"fresh": fresh}
	for key, r := range c.owners {
		all[string(key)] = fmt.Sprint(r.Owner, r.Addresses, r.Attachments)
	}
	for addr := range c.freed {
		all["freed "+addr.String()] = true
	}
	for cidr, s := range c.stances {
		all["stance "+cidr.String()] = fmt.Sprint(*s)
	}
	return all
}

// TestPowerLossWhileTheJournalIsMade: a journal has its name only once it is whole. Whatever part of one is left under another name, the next
// start makes a whole one and clears the parts away, and none of them ever takes the place of a journal that is there.
func TestPowerLossWhileTheJournalIsMade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "addresses.db")
	j, err := openJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for size := 0; size <= len(whole); size += pageSize / 2 {
		t.Run(fmt.Sprint(size, " bytes"), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "addresses.db")
			leftover := func() {
				if err := os.WriteFile(path+newSuffix+"1234", whole[:size], 0o600); err != nil {
					t.Fatal(err)
				}
			}
			leftover()
			h := &harness{t: t, path: path}
			h.open(crashBlock())
			t.Cleanup(func() { _ = h.Close() })
			h.expect(pod("a"), Request{}, "10.48.0.0")
			leftover()
			h.reopen(crashBlock())
			h.expect(pod("a"), Request{}, "10.48.0.0")
			h.ok(h.Close())
			names, err := os.ReadDir(filepath.Dir(path))
			if err != nil || len(names) != 1 {
				t.Errorf("the directory holds %v (%v), want the journal alone", names, err)
			}
		})
	}
}

// TestJournalIsMadeOnce: of several that make the journal at once one has it, and the others find it locked.
func TestJournalIsMadeOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "addresses.db")
	var wait sync.WaitGroup
	var opened atomic.Int32
	for range 4 {
		wait.Go(func() {
			a, err := Open(path, Options{})
			if err != nil {
				return
			}
			opened.Add(1)
			t.Cleanup(func() { _ = a.Close() }) // the test is over
		})
	}
	wait.Wait()
	if n := opened.Load(); n != 1 {
		t.Errorf("%d have the journal open", n)
	}
}
