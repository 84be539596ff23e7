package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
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

// TestTextsHaveAFontThatEveryReaderHas: without a generic family browsers take one with serifs, of other widths.
func TestTextsHaveAFontThatEveryReaderHas(t *testing.T) {
	files, err := filepath.Glob("../../docs/pictures/*.svg")
	if err != nil || len(files) == 0 {
		t.Fatalf("found %v, %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, family := range regexp.MustCompile(`font-family[:=]"?([^;"]*)`).FindAllSubmatch(text, -1) {
			if !strings.HasSuffix(string(family[1]), "sans-serif") {
				t.Errorf("%s: %s: add a generic family at its end", file, family[0])
				break
			}
		}
	}
}

// TestNumbersAreReadable: thousands have separators, on both axes of all pictures, and no number ends in zeros that say nothing.
func TestNumbersAreReadable(t *testing.T) {
	drawn := t.TempDir()
	if err := drawAll("../../docs/measured", drawn); err != nil {
		t.Fatal(err)
	}
	number := regexp.MustCompile(`>([0-9][0-9.,]*)<`)
	wanted := regexp.MustCompile(`^[0-9]{1,3}(,[0-9]{3})*(\.[0-9]*[1-9])?$`)
	for _, p := range pictures() {
		text, err := os.ReadFile(filepath.Join(drawn, p.file))
		if err != nil {
			t.Fatal(err)
		}
		found := number.FindAllSubmatch(text, -1)
		if len(found) == 0 {
			t.Errorf("%s has no numbers", p.file)
		}
		for _, n := range found {
			if !wanted.Match(n[1]) {
				t.Errorf("%s: %s", p.file, n[1])
			}
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
