// Command plots draws the figures that the benchmarks printed, as SVG for the docs:
//
//	go -C hack/plots run . --from docs/measured --to docs/pictures
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/manul-net/manul/hack/plots/measured"
)

func main() {
	if err := command().Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "plots:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	var from, to string
	cmd := &cobra.Command{
		Use:           "plots --from DIRECTORY --to DIRECTORY",
		Short:         "Draw what the benchmarks printed",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(*cobra.Command, []string) error { return drawAll(from, to) },
	}
	f := cmd.Flags()
	f.StringVar(&from, "from", "", "directory with the output of the benchmarks")
	f.StringVar(&to, "to", "", "directory for the pictures")
	for _, required := range []string{"from", "to"} {
		_ = cmd.MarkFlagRequired(required) // fails only where there is no such flag
	}
	return cmd
}

// drawAll draws every picture of which there are figures.
func drawAll(from, to string) error {
	figures, err := measured.Read(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o755); err != nil { // pictures are for all to see
		return fmt.Errorf("making the directory for the pictures: %w", err)
	}
	for _, p := range pictures() {
		svg, err := p.draw(figures)
		if err != nil {
			return fmt.Errorf("drawing %s: %w", p.file, err)
		}
		if err := os.WriteFile(filepath.Join(to, p.file), svg, 0o644); err != nil {
			return fmt.Errorf("writing a picture: %w", err)
		}
	}
	return nil
}
