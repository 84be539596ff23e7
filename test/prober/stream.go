package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"time"
)

// Stream is what became of one lasting connection, as printed by "prober stream".
type Stream struct {
	// Echoes that came back.
	Echoes int `json:"echoes"`
	// LongestGap between two echoes, nanoseconds.
	LongestGap int64 `json:"longestGap"`
	// Last is when the last echo came, nanoseconds since 1970.
	Last int64 `json:"last"`
	// Problem that ended the connection, if any.
	Problem string `json:"problem,omitempty"`
}

// firstEcho is what "prober stream" says on standard error when the connection has come about.
const firstEcho = "prober: first echo"

func stream(ctx context.Context, address string, every, timeout time.Duration) error {
	var result Stream
	conn, err := (&net.Dialer{Timeout: timeout}).DialContext(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	defer conn.Close()
	tick := time.NewTicker(every)
	defer tick.Stop()
	reader := bufio.NewReader(conn)
	last := time.Now()
	for ctx.Err() == nil {
		if err := echo(conn, reader, timeout); err != nil {
			result.Problem = err.Error()
			break
		}
		if result.Echoes++; result.Echoes == 1 {
			fmt.Fprintln(os.Stderr, firstEcho)
		}
		now := time.Now()
		result.LongestGap = max(result.LongestGap, now.Sub(last).Nanoseconds())
		result.Last = now.UnixNano()
		last = now
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

func echo(conn net.Conn, reader *bufio.Reader, timeout time.Duration) error {
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("ping\n")); err != nil {
		return fmt.Errorf("sending: %w", err)
	}
	if _, err := reader.ReadString('\n'); err != nil {
		return fmt.Errorf("waiting for the echo: %w", err)
	}
	return nil
}
