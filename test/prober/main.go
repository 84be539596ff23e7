// Command prober makes connections as fast as it is told and says which of them came about, and when they began: what a
// test needs to tell to the microsecond when a policy took effect, or whether traffic went on.
//
//	prober serve ADDRESS                   accept connections, echo what comes
//	prober probe [flags] ADDRESS...        a new TCP connection to each address at every tick; one JSON line for each
//	prober stream [flags] ADDRESS          one lasting TCP connection with an echo at every tick; one JSON line at the end
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
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

// Stream is what became of one lasting connection, as printed by "prober stream".
type Stream struct {
	// Echoes that came back.
	Echoes int `json:"echoes"`
	// LongestGap between two echoes, nanoseconds.
	LongestGap int64 `json:"longestGap"`
	// Problem that ended the connection, if any.
	Problem string `json:"problem,omitempty"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "prober:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("usage: prober serve ADDRESS, or prober probe|stream [-every D] [-for D] [-timeout D] ADDRESS")

func run(ctx context.Context, args []string) error {
	if len(args) < 2 {
		return errUsage
	}
	flags := flag.NewFlagSet("prober", flag.ContinueOnError)
	every := flags.Duration("every", time.Millisecond, "time between two probes")
	length := flags.Duration("for", 2*time.Second, "how long to go on")
	timeout := flags.Duration("timeout", 500*time.Millisecond, "how long to wait for an answer")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if flags.NArg() == 0 {
		return errUsage
	}
	limited, cancel := context.WithTimeout(ctx, *length)
	defer cancel()
	switch args[0] {
	case "serve":
		return serve(ctx, flags.Arg(0))
	case "probe":
		return probe(limited, flags.Args(), *every, *timeout)
	case "stream":
		return stream(limited, flags.Arg(0), *every, *timeout)
	default:
		return errUsage
	}
}

func serve(ctx context.Context, address string) error {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	context.AfterFunc(ctx, func() { listener.Close() })
	for {
		conn, err := listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed): // told to end
			return nil
		case err != nil:
			return fmt.Errorf("accepting: %w", err)
		}
		go func() {
			defer conn.Close()
			// A peer that breaks off is its own affair.
			_, _ = io.Copy(conn, conn)
		}()
	}
}

// probe starts a connection to every address at every tick, each in its own time, and prints them in order of ending.
func probe(ctx context.Context, addresses []string, every, timeout time.Duration) error {
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
					conn.Close()
				}
				mu.Lock()
				defer mu.Unlock()
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
		result.Echoes++
		now := time.Now()
		result.LongestGap = max(result.LongestGap, now.Sub(last).Nanoseconds())
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
