// Command testsum adds up the results of several "go test -json" runs and prints one closing line for all of them:
//
//	testsum FILE...
//
// Tests that failed are named, and those that skipped with their reason. With CI=true a skipped test counts as failed:
// what cannot run on a developer's machine must run there.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// event is what testsum reads of a line of "go test -json" (see "go doc test2json").
type event struct {
	Action, Package, Test, Output string
}

type result struct {
	failed, skipped []string
	passed          int
}

func main() {
	var sum result
	for _, name := range os.Args[1:] {
		if err := sum.add(name); err != nil {
			fmt.Fprintln(os.Stderr, "testsum:", err)
			os.Exit(1)
		}
	}
	strict := os.Getenv("CI") == "true"
	for _, s := range sum.skipped {
		fmt.Println("SKIPPED", s)
	}
	for _, f := range sum.failed {
		fmt.Println("FAILED", f)
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", sum.passed, len(sum.failed), len(sum.skipped))
	if len(sum.failed) > 0 || sum.passed == 0 || strict && len(sum.skipped) > 0 {
		os.Exit(1)
	}
}

func (r *result) add(name string) error {
	file, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("reading results: %w", err)
	}
	defer file.Close()
	output := map[string]string{}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			continue // a line of the compiler's or the linker's
		}
		id := e.Package + " " + e.Test
		switch {
		case e.Action == "fail" && e.Test == "":
			r.failed = append(r.failed, e.Package)
		case e.Test == "":
		case e.Action == "output":
			if text := strings.TrimSpace(e.Output); !strings.HasPrefix(text, "===") && !strings.HasPrefix(text, "---") {
				output[id] = text
			}
		case e.Action == "pass":
			r.passed++
		case e.Action == "fail":
			r.failed = append(r.failed, id)
		case e.Action == "skip":
			r.skipped = append(r.skipped, id+": "+output[id])
		}
	}
	return lines.Err()
}
