package binaries

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
)

// sourceDir finds the folder of the build modules: where this file was compiled from, or else in the repository that the
// working directory is in (for a program built with -trimpath, or moved).
func sourceDir() (string, error) {
	if dir, err := ModuleDir(); err == nil {
		return filepath.Join(dir, "build"), nil
	}
	return "", errors.New("finding test/cluster/build: run this inside the repository")
}

// ModuleDir finds the folder test/cluster of the repository.
func ModuleDir() (string, error) {
	isModule := func(dir string) bool {
		_, err := os.Stat(filepath.Join(dir, "build", "kubernetes", "go.mod"))
		return err == nil
	}
	if _, file, _, ok := runtime.Caller(0); ok {
		if dir := filepath.Dir(filepath.Dir(file)); isModule(dir) {
			return dir, nil
		}
	}
	wd, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := wd; ; dir = filepath.Dir(dir) {
		for _, d := range []string{dir, filepath.Join(dir, "test", "cluster")} {
			if isModule(d) {
				return d, nil
			}
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("finding test/cluster: run this inside the repository")
		}
	}
}
