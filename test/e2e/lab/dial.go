package lab

import (
	"context"
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
			// Never unlocked: the thread ends with the goroutine, and nothing else runs in the host's namespace.
			runtime.LockOSThread()
			var fd int
			if fd, err = unix.Open(namespace, unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
				err = fmt.Errorf("opening the namespace of %s: %w", host, err)
				return
			}
			defer unix.Close(fd)
			if err = unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
				err = fmt.Errorf("entering the namespace of %s: %w", host, err)
				return
			}
			conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
		}()
		<-done
		return conn, err
	}
}
