// Package measured reads what benchmarks printed: Go's benchmark format (*.txt), and Markdown tables of figures (*.md).
package measured

import (
	"bufio"
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/perf/benchfmt"
)

// Figures are all values that were measured, by the name of the file without its extension, and in it by the name of the figure.
type Figures map[string]map[string][]Value

// Value is one figure: of a benchmark's run with the unit of its metric, or of a column of a table.
type Value struct {
	// Column of a table, such as "p50"; of a benchmark the unit.
	Column string
	Value  float64
}

// Of are the values of a figure in one column, in ascending order.
func (f Figures) Of(file, name, column string) []float64 {
	var out []float64
	for _, v := range f[file][name] {
		if v.Column == column {
			out = append(out, v.Value)
		}
	}
	slices.Sort(out)
	return out
}

// Files are the names of those that begin with a prefix, in order.
func (f Figures) Files(prefix string) []string {
	all := slices.Sorted(maps.Keys(f))
	return slices.DeleteFunc(all, func(name string) bool { return !strings.HasPrefix(name, prefix) })
}

// Read reads all files of a directory.
func Read(directory string) (Figures, error) {
	out := Figures{}
	entries, err := os.ReadDir(directory)
	if err != nil {
		return nil, fmt.Errorf("reading figures: %w", err)
	}
	for _, e := range entries {
		raw, err := os.ReadFile(filepath.Join(directory, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("reading figures: %w", err)
		}
		name, ext := strings.TrimSuffix(e.Name(), filepath.Ext(e.Name())), filepath.Ext(e.Name())
		switch ext {
		case ".txt":
			out[name], err = benchmarks(e.Name(), raw)
		case ".md":
			out[name], err = tables(raw)
		default:
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading figures of %s: %w", e.Name(), err)
		}
	}
	return out, nil
}

// benchmarks reads Go's benchmark format. What is no result in it is of no matter.
func benchmarks(name string, raw []byte) (map[string][]Value, error) {
	out := map[string][]Value{}
	r := benchfmt.NewReader(bytes.NewReader(raw), name)
	for r.Scan() {
		result, ok := r.Result().(*benchfmt.Result)
		if !ok {
			continue
		}
		// The last part is the number of processors.
		full := string(result.Name)
		if i := strings.LastIndexByte(full, '-'); i > 0 {
			if _, err := strconv.Atoi(full[i+1:]); err == nil {
				full = full[:i]
			}
		}
		for _, v := range result.Values {
			out[full] = append(out[full], Value{v.Unit, v.Value})
		}
	}
	return out, r.Err()
}

// tables reads the rows of Markdown tables: the first cell names the figure, the head the columns. A cell is a number with its unit.
func tables(raw []byte) (map[string][]Value, error) {
	out := map[string][]Value{}
	var head []string
	lines := bufio.NewScanner(bytes.NewReader(raw))
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if !strings.HasPrefix(line, "|") {
			head = nil
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		switch {
		case head == nil:
			head = cells
		case strings.HasPrefix(cells[0], "---"):
		case len(cells) > len(head):
			return nil, fmt.Errorf("row %q has more cells than there are columns", line)
		default:
			for i, cell := range cells[1:] {
				number, _, _ := strings.Cut(strings.ReplaceAll(cell, ",", ""), " ")
				if v, err := strconv.ParseFloat(number, 64); err == nil {
					out[cells[0]] = append(out[cells[0]], Value{head[i+1], v})
				}
			}
		}
	}
	return out, lines.Err()
}
