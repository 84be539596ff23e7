// Command prober makes connections as fast as it is told and says which of them came about, and when they began: what a
// test needs to tell to the microsecond when a policy took effect, or whether traffic went on.
//
//	prober serve [flags] ADDRESS...        accept TCP connections, echo what comes; answer UDP and SCTP, and questions
//	prober probe [flags] ADDRESS...        a new TCP connection to each address at every tick; one JSON line for each; with
//	                                       -until accepted or -until refused the first of that kind is the last
//	prober knock [flags] ADDRESS           a TCP handshake at every tick, up to thousands a second, by threads that can have real-time
//	                                       priority; one JSON line for each, at the end
//	prober stream [flags] ADDRESS          one lasting TCP connection with an echo at every tick; one JSON line at the end
//	prober stream -udp [flags] ADDRESS     a datagram at every tick; one JSON line at the end says how many were not echoed
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "prober:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New(`usage: prober serve [-knocks PORT] [-udp PORTS] [-sctp PORTS] [-control ADDRESS] ADDRESS..., or
       prober probe|knock|stream [-realtime] [-udp] [-every D] [-for D] [-timeout D] [-until accepted|refused] ADDRESS`)

func run(ctx context.Context, args []string) error {
	if len(args) < 2 {
		return errUsage
	}
	flags := flag.NewFlagSet("prober", flag.ContinueOnError)
	if args[0] == "serve" {
		var s server
		flags.Var((*ports)(&s.udp), "udp", "UDP ports to answer on, separated by commas")
		flags.Var((*ports)(&s.sctp), "sctp", "SCTP ports to answer on, separated by commas; needs CAP_NET_RAW")
		flags.StringVar(&s.knocks, "knocks", "", "address at which TCP handshakes are answered by the kernel alone, as long as no data comes")
		flags.StringVar(&s.control, "control", "", "address at which POST /probe asks for many probes at once")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		s.tcp = flags.Args()
		return s.run(ctx)
	}
	every := flags.Duration("every", time.Millisecond, "time between two probes")
	length := flags.Duration("for", 2*time.Second, "how long to go on")
	timeout := flags.Duration("timeout", 500*time.Millisecond, "how long to wait for an answer")
	udp := flags.Bool("udp", false, "stream: send datagrams")
	until := flags.String("until", "", "probe: end with the first connection that is accepted, or refused")
	realtime := flags.Bool("realtime", false, "knock: come before all threads without real-time priority, for at most half of the time of a processor")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if flags.NArg() == 0 || *until != "" && *until != accepted && *until != refused {
		return errUsage
	}
	limited, cancel := context.WithTimeout(ctx, *length)
	defer cancel()
	switch {
	case args[0] == "probe" && !*udp:
		return probe(limited, flags.Args(), *every, *timeout, *until)
	case args[0] == "knock" && !*udp && flags.NArg() == 1:
		return knocks{flags.Arg(0), *every, *length, *timeout, *realtime}.run(limited)
	case args[0] == "stream" && *udp:
		return datagrams(limited, flags.Arg(0), *every, *timeout)
	case args[0] == "stream":
		return stream(limited, flags.Arg(0), *every, *timeout)
	default:
		return errUsage
	}
}
