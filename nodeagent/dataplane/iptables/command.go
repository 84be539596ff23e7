package iptables

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// lockWait is how long the legacy variant waits for its lock, seconds.
const lockWait = "10"

// killDelay is how long a program that was told to end may hold its output open.
const killDelay = time.Second

// runError tells that a program failed and what it said.
type runError struct {
	program, said string
	err           error
}

func (e *runError) Error() string { return fmt.Sprintf("%s: %v: %s", e.program, e.err, e.said) }
func (e *runError) Unwrap() error { return e.err }

// run runs a program in the calling thread's network namespace. The monitor, unless it is nil, takes the program's
// changes for the driver's own.
func run(ctx context.Context, m *monitor, input string, program string, args ...string) ([]byte, error) {
	var out, complaint bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.WaitDelay = killDelay
	if input != "" {
		cmd.Stdin = strings.NewReader(input)
	}
	cmd.Stdout, cmd.Stderr = &out, &complaint
	err := m.starting(func() (int, error) {
		if err := cmd.Start(); err != nil {
			return 0, err
		}
		return cmd.Process.Pid, nil
	})
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		if ctx.Err() != nil {
			err = errors.Join(ctx.Err(), err)
		}
		const most = 500
		said := strings.TrimSpace(complaint.String())
		return nil, &runError{program, said[:min(len(said), most)], err}
	}
	return out.Bytes(), nil
}

// saveAll gives the rules of all of the kernel's tables that exist; it makes none.
func (p programs) saveAll(ctx context.Context, fam family) ([]byte, error) {
	return run(ctx, p.monitor, "", p.save[fam])
}

// apply makes what is in a batch true in one transaction. What the batch does not name stays.
func (p programs) apply(ctx context.Context, fam family, b *batch) error {
	_, err := run(ctx, p.monitor, b.text(), p.restore[fam], "--noflush", "--wait", lockWait)
	return err
}
