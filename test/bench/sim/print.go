package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/manul-net/manul/internal/render"
)

// table prints a table in Markdown, row by row.
type table struct{ out io.Writer }

func (t *table) heading(columns ...string) {
	fmt.Fprintf(t.out, "\n| %s |\n|%s\n", strings.Join(columns, " | "), strings.Repeat("---|", len(columns)))
}

func (t *table) row(cells ...string) { fmt.Fprintf(t.out, "| %s |\n", strings.Join(cells, " | ")) }

func (t *table) once(name string, took time.Duration) {
	t.row(name, "1", seconds(took), "", "")
}

func (t *table) amount(name string, n int, value float64) {
	t.row(name, fmt.Sprint(n), fmt.Sprintf("%.1f", value), "", "")
}

func (t *table) text(name string, n int) { t.row(name, fmt.Sprint(n), "", "", "") }

func (t *table) figure(f Figure) {
	t.row(f.Name, fmt.Sprint(f.N), milliseconds(f.P50), milliseconds(f.P99), milliseconds(f.Max))
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond))
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

func mebibytes(n uint64) string { return fmt.Sprintf("%d MiB", n>>20) }

func (t *table) memory(name string, m Memory) {
	t.row(name, mebibytes(m.Heap), mebibytes(m.Stacks), mebibytes(m.Free), mebibytes(m.Resident), mebibytes(m.Peak), fmt.Sprint(m.Goroutines), fmt.Sprintf("%.1f s", m.CPU.Seconds()))
}

// spread prints what changes cost against how many nodes they concern.
func (r *sim) spread(all []Spread) {
	t := &table{out: r.out}
	t.heading("nodes that a pod's change concerns", "n", "nodes, on average", "bytes of a change", "bytes for each node")
	from := 0
	for _, s := range all {
		name := fmt.Sprintf("%d to %d", from+1, s.Upto)
		switch s.Upto {
		case 0:
			name = fmt.Sprintf("more than %d", from)
		case from + 1:
			name = fmt.Sprint(s.Upto)
		}
		from = s.Upto
		if s.N > 0 {
			t.row(name, fmt.Sprint(s.N), fmt.Sprintf("%.1f", float64(s.Nodes)/float64(s.N)),
				fmt.Sprintf("%.0f", float64(s.Bytes)/float64(s.N)), fmt.Sprintf("%.0f", float64(s.Bytes)/float64(s.Nodes)))
		}
	}
}

// sizes prints the largest object of each kind, and how many writes there were.
func (r *sim) sizes() {
	t := &table{out: r.out}
	t.heading("kind", "writes in all", "largest object")
	writes, largest := r.api.Written()
	for _, kind := range []render.Kind{render.KindNodeState, render.KindNodeEndpoints, render.KindNodeNetwork, render.KindPolicyProgram, render.KindSetCatalog} {
		t.row(string(kind), fmt.Sprint(writes[kind]), fmt.Sprintf("%.1f KiB", float64(largest[kind])/1024))
	}
}
