// Package procfs reads what the local cluster needs to know from /proc.
package procfs

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Process identifies one process for good: a number alone may belong to another process later.
type Process struct {
	PID int `json:"pid"`
	// Start is when the process started, in clock ticks since the machine's start.
	Start uint64 `json:"start"`
	// Boot identifies the machine's start.
	Boot string `json:"boot"`
}

// Identify reads the identity of a process.
func Identify(pid int) (Process, error) {
	start, state, err := stat(pid)
	if err != nil {
		return Process{}, err
	}
	if state == "Z" || state == "X" {
		return Process{}, fmt.Errorf("process %d: %w", pid, os.ErrProcessDone)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return Process{}, fmt.Errorf("reading the machine's boot: %w", err)
	}
	return Process{PID: pid, Start: start, Boot: strings.TrimSpace(string(boot))}, nil
}

// Alive reports whether the process still runs. A process that ended and waits for its parent does not.
func (p Process) Alive() bool {
	if p.PID <= 0 {
		return false
	}
	now, err := Identify(p.PID)
	return err == nil && now == p
}

func stat(pid int) (start uint64, state string, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, "", fmt.Errorf("reading process %d: %w", pid, err)
	}
	return parseStat(string(data))
}

// parseStat reads the state (field 3) and the start (field 22). Field 2 is the program's name in brackets and may hold
// anything, brackets too.
func parseStat(s string) (start uint64, state string, err error) {
	i := strings.LastIndexByte(s, ')')
	if i < 0 {
		return 0, "", errors.New("reading a process: no name in its stat file")
	}
	fields := strings.Fields(s[i+1:])
	if len(fields) < 20 {
		return 0, "", fmt.Errorf("reading a process: %d fields after the name, want 20 or more", len(fields))
	}
	start, err = strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return 0, "", fmt.Errorf("reading a process: start time: %w", err)
	}
	return start, fields[0], nil
}

// Mount is one line of mountinfo.
type Mount struct {
	Point, Type string
}

// Mounts lists the mounts that the calling process sees.
func Mounts() ([]Mount, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("listing mounts: %w", err)
	}
	defer func() { _ = f.Close() }()
	var mounts []Mount
	for s := bufio.NewScanner(f); ; {
		if !s.Scan() {
			if err := s.Err(); err != nil {
				return nil, fmt.Errorf("listing mounts: %w", err)
			}
			return mounts, nil
		}
		if m, ok := parseMount(s.Text()); ok {
			mounts = append(mounts, m)
		}
	}
}

// parseMount reads one line: `36 35 98:0 /root /point options [optional fields] - type source options`.
func parseMount(line string) (Mount, bool) {
	before, after, ok := strings.Cut(line, " - ")
	fields, rest := strings.Fields(before), strings.Fields(after)
	if !ok || len(fields) < 5 || len(rest) < 1 {
		return Mount{}, false
	}
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	return Mount{Point: unescape.Replace(fields[4]), Type: rest[0]}, true
}

// CgroupMounts lists where the machine's cgroup hierarchies are: one place for version 2, several for version 1.
func CgroupMounts() ([]string, error) {
	mounts, err := Mounts()
	if err != nil {
		return nil, err
	}
	var points []string
	for _, m := range mounts {
		if m.Type == "cgroup" || m.Type == "cgroup2" {
			points = append(points, m.Point)
		}
	}
	if len(points) == 0 {
		return nil, errors.New("listing cgroup hierarchies: none is mounted")
	}
	return points, nil
}
