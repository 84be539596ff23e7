package cniplugins

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Manul builds the project's own plugin into a folder, as it is released: the tests run what users run. It gives the program's path.
func Manul(ctx context.Context, dir string) (string, error) {
	program := filepath.Join(dir, "manul")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, "github.com/manul-net/manul/cni")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the plugin: %w: %s", err, out)
	}
	return program, nil
}
