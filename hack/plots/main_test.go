package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestPicturesShowWhatWasMeasured: "make bench-plots" was run after the figures came.
func TestPicturesShowWhatWasMeasured(t *testing.T) {
	drawn, kept := t.TempDir(), "../../docs/pictures"
	if err := drawAll("../../docs/measured", drawn); err != nil {
		t.Fatal(err)
	}
	for _, p := range pictures() {
		want, err := os.ReadFile(filepath.Join(drawn, p.file))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(kept, p.file))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s: run make bench-plots\n%s", p.file, diff)
		}
	}
}

func TestAPictureWithoutFiguresIsRefused(t *testing.T) {
	for _, p := range pictures() {
		if _, err := p.draw(nil); err == nil {
			t.Errorf("%s was drawn of nothing", p.file)
		}
	}
}
