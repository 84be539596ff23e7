package procfs

import (
	"errors"
	"os"
	"os/exec"
	"testing"
)

func TestParseStat(t *testing.T) {
	const rest = " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20"
	for _, name := range []string{"(sh)", "(a b)", "(a) S (b)", "()"} {
		start, state, err := parseStat("17 " + name + rest)
		if err != nil || start != 4242 || state != "S" {
			t.Errorf("%s: start %d, state %s, %v; want 4242, S", name, start, state, err)
		}
	}
	for _, bad := range []string{"", "17 (sh", "17 (sh) S 1", "17 (sh) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 x 20"} {
		if _, _, err := parseStat(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add("17 (sh) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20")
	f.Fuzz(func(_ *testing.T, s string) { _, _, _ = parseStat(s) })
}

func TestParseMount(t *testing.T) {
	for line, want := range map[string]Mount{
		"36 35 98:0 / /mnt rw master:1 - ext4 /dev/root rw":         {"/mnt", "ext4"},
		`36 35 98:0 / /with\040space rw - tmpfs tmpfs rw`:           {"/with space", "tmpfs"},
		"31 24 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu": {"/sys/fs/cgroup/cpu", "cgroup"},
	} {
		if got, ok := parseMount(line); !ok || got != want {
			t.Errorf("%q: got %v, %t, want %v", line, got, ok, want)
		}
	}
	for _, bad := range []string{"", "1 2 3", "1 2 3 4 5 6 -"} {
		if _, ok := parseMount(bad); ok {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestAlive(t *testing.T) {
	self, err := Identify(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if !self.Alive() {
		t.Error("this process is not alive")
	}
	for name, other := range map[string]Process{
		"another start": {PID: self.PID, Start: self.Start + 1, Boot: self.Boot},
		"another boot":  {PID: self.PID, Start: self.Start, Boot: "x"},
		"no process":    {},
	} {
		if other.Alive() {
			t.Errorf("%s: a process that does not exist is alive", name)
		}
	}
}

// A process that ended and waits for its parent counts as ended: to kill it once more would wait for ever.
func TestZombieIsNotAlive(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := Identify(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if !p.Alive() {
		t.Error("a process that runs is not alive")
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	for p.Alive() { // until cat has seen the end of its input
	}
	if _, err := Identify(p.PID); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("identifying a process that ended: %v", err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
