package protocol

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
)

// Flock takes an exclusive lock on f, which lasts until f is closed. It waits until ctx ends; a caller that gave up must
// close f, or it may come to hold the lock later.
func Flock(ctx context.Context, f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		var lockErr error
		err := raw.Control(func(fd uintptr) {
			for {
				lockErr = syscall.Flock(int(fd), syscall.LOCK_EX)
				if !errors.Is(lockErr, syscall.EINTR) {
					return
				}
			}
		})
		done <- errors.Join(err, lockErr)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("held by another: %w", context.Cause(ctx))
	}
}
