package source

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// A replica's machine that says nothing for probeAfter is asked by the kernel for a sign of life, once a second. One that has not
	// answered, or not acknowledged what it was told, within goneAfter is gone. The operator's process has no part in that.
	probeAfter, probeEvery = time.Second, time.Second
	goneAfter              = 2 * time.Second
)

// Dial connects to a replica, host:port, in such a way that it is noticed soon when the machine at the other end disappears.
func Dial(ctx context.Context, address string) (net.Conn, error) {
	d := net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: probeAfter, Interval: probeEvery, Count: 1},
		Control: func(_, _ string, c syscall.RawConn) error {
			var failed error
			err := c.Control(func(fd uintptr) {
				failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(goneAfter.Milliseconds()))
			})
			return errors.Join(err, failed)
		},
	}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", address, err)
	}
	return quick{conn}, nil
}

// quick hides that a connection is one of TCP: gRPC would set its own, longer time after which the other end counts as gone.
type quick struct{ net.Conn }
