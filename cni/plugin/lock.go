package plugin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/manul-net/manul/cni/protocol"
)

// lock lets one call at a time work on the attachment. The caller calls unlock when done; a call that dies unlocks too.
func (c *call) lock() (unlock func(), err error) {
	dir := filepath.Join(c.StateDir, "locks")
	path := filepath.Join(dir, c.attachment.ContainerID+"@"+c.attachment.IfName)
	ctx, cancel := context.WithTimeoutCause(context.Background(), lockTimeout, fmt.Errorf("for more than %v", lockTimeout))
	defer cancel()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making folder of locks: %w", err)
	}
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("opening lock: %w", err)
		}
		if err := protocol.Flock(ctx, f); err != nil {
			return nil, protocol.Errorf(protocol.CodeTryAgainLater, "another call for the same container is underway: %v", errors.Join(err, f.Close()))
		}
		// Who held the lock before removed the file at the end: then this lock is on a file that no one else will find.
		if sameFile(f, path) {
			return func() {
				_ = os.Remove(path) // first: whoever waits for f must see that it is gone
				_ = f.Close()
			}, nil
		}
		if err := f.Close(); err != nil {
			return nil, fmt.Errorf("closing lock: %w", err)
		}
	}
}

func sameFile(f *os.File, path string) bool {
	held, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(held, there)
}
