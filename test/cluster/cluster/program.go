package cluster

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"

	"github.com/manul-net/manul/test/cluster/binaries"
)

// installProgram puts the program that serves `node-init` into the cluster's folder: a copy of the one given, or else the
// command of this module, built now. A copy, because a program run by `go run` or `go test` is deleted when it ends.
func installProgram(ctx context.Context, program, to string) error {
	if program != "" {
		if err := copyFile(program, to, 0o755); err != nil {
			return fmt.Errorf("installing the hosts' first program: %w", err)
		}
		return nil
	}
	dir, err := binaries.ModuleDir()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", to, ".")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building the hosts' first program: %w\n%s", err, out)
	}
	return nil
}

func copyFile(from, to string, mode os.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		_ = out.Close()
		return err
	}
	return out.Close()
}
