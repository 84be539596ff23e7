// Package report puts what the commands found into tables and sentences. It is pure: objects of the API in, text out.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"k8s.io/apimachinery/pkg/util/duration"
	"sigs.k8s.io/yaml"
)

// Report is what a command found.
type Report interface {
	// Text writes it for people to read.
	Text(w io.Writer) error
}

// Formats of a report.
const (
	FormatText = ""
	FormatJSON = "json"
	FormatYAML = "yaml"
)

// Write writes a report in a format.
func Write(w io.Writer, r Report, format string) error {
	switch format {
	case FormatText:
		return r.Text(w)
	case FormatJSON:
		raw, err := json.MarshalIndent(r, "", "    ")
		if err != nil {
			return fmt.Errorf("encoding: %w", err)
		}
		_, err = fmt.Fprintln(w, string(raw))
		return err
	case FormatYAML:
		raw, err := yaml.Marshal(r)
		if err != nil {
			return fmt.Errorf("encoding: %w", err)
		}
		_, err = w.Write(raw)
		return err
	}
	return fmt.Errorf("--output %q: want json or yaml, or leave it out", format)
}

// table writes rows under their header, each column as wide as it needs.
func table(w io.Writer, header []string, rows [][]string) error {
	out := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	for _, row := range append([][]string{header}, rows...) {
		for i, cell := range row {
			if cell == "" {
				row[i] = "-"
			}
		}
		if _, err := fmt.Fprintln(out, strings.Join(row, "\t")); err != nil {
			return err
		}
	}
	return out.Flush()
}

// age is how long ago something was, as kubectl writes it.
func age(now, then time.Time) string {
	if then.IsZero() {
		return ""
	}
	return duration.HumanDuration(now.Sub(then))
}

// percent is a share, rounded down: 100 % means all.
func percent(part, whole int64) string {
	if whole <= 0 {
		return ""
	}
	return fmt.Sprintf("%d%%", int64(float64(part)/float64(whole)*100))
}
