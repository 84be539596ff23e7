package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// Attempt is the outcome of one connection, as printed by "prober probe".
type Attempt struct {
	// Start is when the connection was begun, nanoseconds since 1970.
	Start int64 `json:"start"`
	// To is the address.
	To string `json:"to"`
	// OK tells whether it came about.
	OK bool `json:"ok"`
}

// The outcomes of a connection with which probe may end.
const (
	accepted = "accepted"
	refused  = "refused"
)

// probe starts a connection to every address at every tick, each in its own time, and prints them in order of ending. It begins no more when
// one has had the outcome until.
func probe(ctx context.Context, addresses []string, every, timeout time.Duration, until string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		wg  sync.WaitGroup
		mu  sync.Mutex
		out = json.NewEncoder(os.Stdout)
	)
	tick := time.NewTicker(every)
	defer tick.Stop()
	dialer := net.Dialer{Timeout: timeout}
	for ctx.Err() == nil {
		for _, to := range addresses {
			wg.Go(func() {
				start := time.Now()
				// Not the limited context: a probe that began in time gets its own time to end.
				conn, err := dialer.DialContext(context.WithoutCancel(ctx), "tcp", to)
				if err == nil {
					hangUp(conn)
				}
				mu.Lock()
				defer mu.Unlock()
				if err == nil && until == accepted || err != nil && until == refused {
					cancel()
				}
				if err := out.Encode(Attempt{Start: start.UnixNano(), To: to, OK: err == nil}); err != nil {
					fmt.Fprintln(os.Stderr, "prober:", err)
				}
			})
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	wg.Wait()
	return nil
}

// hangUp ends a connection with a reset: at some thousand connections a second those that wait for late packets (TIME-WAIT, RFC 9293) would
// soon have all ports.
func hangUp(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
