package oracle_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The page that says which test holds which line names sections and parts that exist, and leaves none of them out.
func TestThePageOfProofsIsTrue(t *testing.T) {
	page := readText(t, "../../docs/design/policy-proof.md")
	_, table, _ := strings.Cut(page, "| semantics | sentences | beside them |\n")
	known, seen := map[string]bool{}, map[string]bool{}
	for _, s := range sections() {
		known[s.about] = true
	}
	parts := readText(t, "../packets/subject.go")
	for line := range strings.SplitSeq(table, "\n") {
		cells := strings.Split(line, "|")
		if len(cells) != 5 || strings.HasPrefix(cells[1], "---") {
			continue
		}
		for name := range strings.SplitSeq(strings.TrimSpace(cells[2]), ", ") {
			if name != "" && !known[name] {
				t.Errorf("there are no sentences called %q", name)
			}
			seen[name] = true
		}
		_, named, _ := strings.Cut(cells[3], "`test/packets` ")
		named, _, _ = strings.Cut(named, ";")
		for part := range strings.SplitSeq(strings.TrimSpace(named), ", ") {
			if part != "" && !strings.Contains(parts, `{"`+part+`", `) {
				t.Errorf("test/packets has no part %q", part)
			}
		}
		if strings.TrimSpace(cells[2])+strings.TrimSpace(cells[3]) == "" {
			t.Errorf("nothing holds %q", cells[1])
		}
	}
	for _, s := range sections() {
		if !seen[s.about] {
			t.Errorf("the page leaves out the sentences called %q", s.about)
		}
	}
}

func readText(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.FromSlash(path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
