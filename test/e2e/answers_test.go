package e2e

import (
	"context"
	"net"
	"time"
)

// answers tells whether a prober answers before ctx ends, by TCP or UDP, to whom dial comes from.
func answers(ctx context.Context, dial func(ctx context.Context, network, address string) (net.Conn, error), network, to string) bool {
	conn, err := dial(ctx, network, to)
	if err != nil {
		return false
	}
	defer conn.Close()
	buffer := make([]byte, 16)
	for ctx.Err() == nil {
		if network == "tcp" {
			return true
		}
		if _, err := conn.Write([]byte("ping")); err != nil {
			return false
		}
		if err := conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			return false
		}
		if _, err := conn.Read(buffer); err == nil {
			return true
		}
	}
	return false
}
