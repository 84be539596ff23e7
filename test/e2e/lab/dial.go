package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// Dialer makes connections from a host of the cluster: what the host itself would reach. Addresses must be numeric.
func (c *Cluster) Dialer(host string) func(ctx context.Context, network, address string) (net.Conn, error) {
	namespace := filepath.Join("/run/netns", "manul-"+c.Name+"-"+host)
	return func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread()
			var fd, own int
			if own, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
				err = fmt.Errorf("opening the thread's own namespace: %w", err)
				return
			}
			defer unix.Close(own)
			if fd, err = unix.Open(namespace, unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
				err = fmt.Errorf("opening the namespace of %s: %w", host, err)
				return
			}
			defer unix.Close(fd)
			if err = unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
				err = fmt.Errorf("entering the namespace of %s: %w", host, err)
				return
			}
			// The thread goes back, and is not left to end with the goroutine: the process's first thread never ends, and would hold on
			// to the namespace. If it can't go back it stays locked, so that nothing else runs in the host's namespace.
			defer func() {
				if back := unix.Setns(own, unix.CLONE_NEWNET); back != nil {
					err = errors.Join(err, fmt.Errorf("leaving the namespace of %s: %w", host, back))
					return
				}
				runtime.UnlockOSThread()
			}()
			conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
		}()
		<-done
		return conn, err
	}
}
