package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Datagrams is what became of a stream of datagrams, as printed by "prober stream -udp". Nothing is sent again, so every packet that was
// lost on the way or on the way back counts.
type Datagrams struct {
	// Sent is how many left, from the first one on that was echoed.
	Sent int64 `json:"sent"`
	// Lost is how many of them did not come back.
	Lost int64 `json:"lost"`
	// LongestGap between two echoes, nanoseconds.
	LongestGap int64 `json:"longestGap"`
}

// straggler is how long an echo of the last datagrams is waited for.
const straggler = 2 * time.Second

// datagrams sends one at every tick, whether or not others were echoed.
func datagrams(ctx context.Context, address string, every, timeout time.Duration) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "udp", address)
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	defer conn.Close()
	var first atomic.Int64 // number of the first datagram that was echoed; 0: none yet
	var echoes, longestGap int64
	var received sync.WaitGroup
	received.Go(func() { echoes, longestGap = echoed(conn, &first) })
	tick := time.NewTicker(every)
	defer tick.Stop()
	started, last := time.Now(), int64(0)
	for ctx.Err() == nil && (first.Load() > 0 || time.Since(started) < timeout) {
		last++
		// An error is the answer of ICMP to an earlier one: this one is as lost as that.
		_, _ = conn.Write(binary.BigEndian.AppendUint64(nil, uint64(last)))
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	if err := conn.SetReadDeadline(time.Now().Add(straggler)); err != nil {
		return fmt.Errorf("waiting for the last echoes: %w", err)
	}
	received.Wait()
	if first.Load() == 0 {
		return fmt.Errorf("no echo from %s within %s", address, timeout)
	}
	sent := last - first.Load() + 1
	return json.NewEncoder(os.Stdout).Encode(Datagrams{Sent: sent, Lost: sent - echoes, LongestGap: longestGap})
}

// echoed counts the echoes until the connection's deadline, and notes the first of them.
func echoed(conn net.Conn, first *atomic.Int64) (echoes, longestGap int64) {
	var last time.Time
	buffer := make([]byte, 64)
	for {
		n, err := conn.Read(buffer)
		if netErr, ok := err.(net.Error); ok && netErr.Timeout() { //nolint:errorlint // a read's error is of that type
			return echoes, longestGap
		}
		if err != nil || n != 8 {
			continue // an error of ICMP
		}
		now, number := time.Now(), int64(binary.BigEndian.Uint64(buffer))
		if first.CompareAndSwap(0, number) {
			fmt.Fprintln(os.Stderr, firstEcho)
			last = now
		}
		if number < first.Load() {
			continue
		}
		echoes++
		longestGap = max(longestGap, now.Sub(last).Nanoseconds())
		last = now
	}
}
