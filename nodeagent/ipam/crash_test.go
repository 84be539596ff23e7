package ipam

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// crashChild has TestCrashChild work on the journal in its directory; without it that test has nothing to do.
const (
	crashChild   = "MANUL_TEST_ADDRESS_JOURNAL"
	crashJournal = "addresses.db"
)

func crashBlock() Block { return Block{CIDR: prefix("10.48.0.0/26"), Pool: prefix("10.48.0.0/16")} }

// TestCrashChild is the process that TestKilledAtAnyPoint kills. It says each thing that it is about to do, and that it is done.
func TestCrashChild(t *testing.T) {
	if os.Getenv(crashChild) == "" {
		return // nobody asked for the child process
	}
	a, err := Open(crashJournal, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.SetBlocks([]Block{crashBlock()}); err != nil {
		t.Fatal(err)
	}
	for i := 0; ; i++ {
		name := fmt.Sprint("pod-", os.Getpid(), "-", i)
		addrs, err := a.Allocate(pod(name), Request{})
		if err != nil {
			t.Fatal(err)
		}
		save(t, a)
		say(t, "allocated", name, addrs[0])
		if err := a.Attach(pod(name), "sandbox-"+name); err != nil {
			t.Fatal(err)
		}
		save(t, a)
		say(t, "attached", name)
		if i%3 == 0 {
			continue
		}
		say(t, "releasing", name)
		for _, live := range [][]string{{pod(name).UID}, nil} {
			if err := a.SetLive(live); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := a.Detach("sandbox-" + name); err != nil {
			t.Fatal(err)
		}
		save(t, a)
		say(t, "released", name)
	}
}

func save(t *testing.T, a *Allocator) {
	t.Helper()
	if err := a.Save(context.Background(), a.Mark()); err != nil {
		t.Fatal(err)
	}
}

// say writes a line for the parent process.
func say(t *testing.T, words ...any) {
	t.Helper()
	if _, err := fmt.Fprintln(os.Stdout, words...); err != nil {
		t.Fatal(err)
	}
}

// TestKilledAtAnyPoint kills a process in the midst of its work, again and again on one journal, and each time looks
// whether the journal holds all that the process had said was done.
func TestKilledAtAnyPoint(t *testing.T) {
	path := filepath.Join(t.TempDir(), crashJournal)
	known := map[string]*crashPod{}
	for range 8 {
		killChild(t, path, 1+rand.IntN(30), known)
		a, err := Open(path, Options{})
		if err != nil {
			t.Fatalf("after a kill: %v", err)
		}
		checkAfterCrash(t, a, known)
		// What is left over would fill the block some day.
		if err := a.GC(nil); err != nil {
			t.Fatal(err)
		}
		if err := a.SetLive(nil); err != nil {
			t.Fatal(err)
		}
		if left := a.Allocations(); len(left) != 0 {
			t.Fatalf("%v are left without an owner", left)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		clear(known)
	}
}

// crashPod is what the child has said about a pod.
type crashPod struct {
	addr     netip.Addr
	attached bool
	// leaving: it may be gone. gone: it is.
	leaving, gone bool
}

// killChild runs TestCrashChild and kills it after so many lines.
func killChild(t *testing.T, path string, lines int, known map[string]*crashPod) {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCrashChild$")
	child.Dir, child.Env = filepath.Dir(path), append(os.Environ(), crashChild+"=1")
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	scanner := bufio.NewScanner(out)
	for n := 0; scanner.Scan(); n++ {
		words := strings.Fields(scanner.Text())
		switch words[0] {
		case "allocated":
			known[words[1]] = &crashPod{addr: netip.MustParseAddr(words[2])}
		case "attached":
			known[words[1]].attached = true
		case "releasing":
			known[words[1]].leaving = true
		case "released":
			known[words[1]].gone = true
		default:
			t.Errorf("the child failed: %s", scanner.Text())
		}
		if n == lines {
			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = child.Wait() // it was killed
}

func checkAfterCrash(t *testing.T, a *Allocator, known map[string]*crashPod) {
	t.Helper()
	if len(known) == 0 {
		t.Fatal("the child did nothing")
	}
	allocations := a.Allocations()
	for name, p := range known {
		i := slices.IndexFunc(allocations, func(x Allocation) bool { return x.Owner == pod(name) })
		switch {
		case i < 0:
			if !p.leaving {
				t.Errorf("%s had %s and has nothing after the kill", name, p.addr)
			}
		case p.gone:
			t.Errorf("%s was released and has %v after the kill", name, allocations[i].Addresses)
		case !slices.Equal(allocations[i].Addresses, []netip.Addr{p.addr}):
			t.Errorf("%s had %s and has %v after the kill", name, p.addr, allocations[i].Addresses)
		case p.attached && !slices.Equal(allocations[i].Attachments, []string{"sandbox-" + name}):
			t.Errorf("%s has attachments %v after the kill", name, allocations[i].Attachments)
		}
	}
}

// TestConcurrentUse: pods that come and go at once never share an address.
func TestConcurrentUse(t *testing.T) {
	h := newHarness(t, 0, crashBlock(), small6(), Block{CIDR: prefix("fd00::100/120"), Pool: prefix("fd00::/112")})
	h.journal.db.NoSync = true
	h.ok(h.SetLive(nil))
	var mu sync.Mutex
	held := map[netip.Addr]string{}
	var wait sync.WaitGroup
	for worker := range 8 {
		wait.Go(func() {
			for i := range 30 {
				name := fmt.Sprint(worker, "-", i)
				got, err := h.Allocate(pod(name), Request{})
				if err != nil || len(got) != 2 {
					t.Errorf("%s got %v, %v", name, got, err)
					return
				}
				mu.Lock()
				for _, addr := range got {
					if other, taken := held[addr]; taken {
						t.Errorf("%s and %s both have %s", name, other, addr)
					}
					held[addr] = name
				}
				mu.Unlock()
				if err := h.Attach(pod(name), name); err != nil {
					t.Error(err)
				}
				if err := h.SetLive([]string{pod(name).UID}); err != nil {
					t.Error(err)
				}
				if err := h.Save(context.Background(), h.Mark()); err != nil {
					t.Error(err)
				}
				h.Allocations()
				h.Attachments()
				h.Blocks()
				mu.Lock()
				for _, addr := range got {
					delete(held, addr)
				}
				mu.Unlock()
				if _, err := h.Detach(name); err != nil {
					t.Error(err)
				}
				if err := h.SetLive(nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	if left := h.Allocations(); len(left) != 0 {
		t.Errorf("%v are left", left)
	}
}

func BenchmarkAllocateAndRelease(b *testing.B) {
	a, err := Open(filepath.Join(b.TempDir(), "addresses.db"), Options{})
	if err != nil {
		b.Fatal(err)
	}
	if err := a.SetBlocks([]Block{crashBlock(), small6()}); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := a.Allocate(pod("a"), Request{}); err != nil {
			b.Fatal(err)
		}
		if err := a.SetLive([]string{"uid-a"}); err != nil {
			b.Fatal(err)
		}
		if err := a.SetLive(nil); err != nil {
			b.Fatal(err)
		}
	}
	if err := a.Close(); err != nil {
		b.Fatal(err)
	}
}
