package rooms

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

// files lists the project's files whose names end in suffix. What is built, cached or hidden is left out.
func files(t *testing.T, suffix string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || slices.Contains([]string{"out", "bin"}, d.Name())) {
			return fs.SkipDir
		}
		if strings.HasSuffix(path, suffix) {
			list = append(list, path)
		}
		return nil
	})
	if err != nil {
		t.Fatalf("listing files: %v", err)
	}
	return list
}

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("reading a file of the project: %v", err)
	}
	return string(content)
}

func TestPagesLinkToWhatExists(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#\s]+)`)
	for _, page := range files(t, ".md") {
		for _, m := range link.FindAllStringSubmatch(read(t, page), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s links to %s: %v", page, m[1], err)
			}
		}
	}
}

// TestPagesNameTestsThatExist holds the pages that name tests as witnesses to the names. One that ends in "..." stands for
// all that begin so.
func TestPagesNameTestsThatExist(t *testing.T) {
	exists := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	for _, path := range files(t, "_test.go") {
		for _, m := range declared.FindAllStringSubmatch(read(t, path), -1) {
			exists[m[1]] = true
		}
	}
	named := regexp.MustCompile("`(Test[A-Z]\\w*)(\\.\\.\\.)?`")
	for _, page := range files(t, ".md") {
		for _, m := range named.FindAllStringSubmatch(read(t, page), -1) {
			found := exists[m[1]]
			for name := range exists {
				found = found || m[2] != "" && strings.HasPrefix(name, m[1])
			}
			if !found {
				t.Errorf("%s names %s, and there is no such test", page, m[1]+m[2])
			}
		}
	}
}
