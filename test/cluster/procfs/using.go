package procfs

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// UsingPath lists the processes that run a program below dir or name a path below it among their arguments, as "number
// command". The calling process is left out.
func UsingPath(dir string) ([]string, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	var found []string
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil {
			continue // ended meanwhile
		}
		program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if err != nil {
			continue // ended, or a kernel thread
		}
		if strings.HasPrefix(program, dir+"/") || strings.Contains(string(args), dir+"/") {
			found = append(found, fmt.Sprintf("%d %s", pid, strings.ReplaceAll(strings.TrimRight(string(args), "\x00"), "\x00", " ")))
		}
	}
	return found, nil
}
