package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"
)

// mostKnocks bounds what a knocker remembers until its end, at 16 bytes each.
const mostKnocks = 10_000_000

// A knocker begins a TCP connection at every tick and breaks it off with a reset as soon as it has come about: a handshake and no more. It is one
// thread that waits for nothing but the tick, and between its first and last knock makes no garbage and writes nothing, so that what it costs is the
// kernel's work on the packets. It never runs for more than half of the time, and makes up for no tick that it missed.
type knocker struct {
	to             unix.Sockaddr
	family         int
	address        string
	every, timeout time.Duration
	// done are all that have begun, in the order of beginning; waiting are those of them, oldest first, that had no answer at once.
	done    []knocked
	waiting []waiting
}

// knocked is what came of a connection.
type knocked struct {
	start int64 // nanoseconds since 1970
	ok    bool
}

// waiting is a connection that is looked at again when its time is up.
type waiting struct {
	socket, index int
}

// knock knocks and then prints.
func knock(ctx context.Context, address string, every, length, timeout time.Duration, realtime bool) error {
	k, err := newKnocker(address, every, length, timeout)
	if err != nil {
		return err
	}
	denied, err := k.run(ctx, realtime)
	if denied != nil {
		fmt.Fprintln(os.Stderr, "prober: knocking without", denied)
	}
	return errors.Join(err, k.print(os.Stdout))
}

// newKnocker gets ready to knock for so long.
func newKnocker(address string, every, length, timeout time.Duration) (*knocker, error) {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, fmt.Errorf("knock: %w: want an IP address and a port, as in 192.0.2.1:80 or [2001:db8::1]:80", err)
	}
	if every <= 0 || timeout <= 0 || length <= 0 || length/every >= mostKnocks {
		return nil, fmt.Errorf("knock: every %s for %s, with %s for an answer: want lengths above 0, and at most %d ticks", every, length, timeout, mostKnocks)
	}
	k := &knocker{address: address, every: every, timeout: timeout, done: make([]knocked, 0, length/every+1)}
	if k.family = unix.AF_INET6; to.Addr().Is4() {
		k.family, k.to = unix.AF_INET, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	} else {
		k.to = &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
	}
	return k, nil
}

// run knocks until the context ends or there is no room for more. With realtime the thread comes before all others that have no real-time priority (sched(7)); when
// the kernel refuses that, or it is not asked for, it waits for a processor as others do.
func (k *knocker) run(ctx context.Context, realtime bool) (denied, err error) {
	runtime.LockOSThread() // and the thread ends with its goroutine
	if realtime {
		if err := unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1, Flags: unix.SCHED_FLAG_RESET_ON_FORK}, 0); err != nil {
			denied = fmt.Errorf("real-time priority: %w", err)
		}
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	next := monotonic()
	for ctx.Err() == nil && len(k.done) < cap(k.done) {
		began := monotonic()
		k.settle(time.Now().UnixNano() - int64(k.timeout))
		if err := k.knock(); err != nil {
			return denied, err
		}
		ended := monotonic()
		// As long a pause as it was busy, at least.
		for next += k.every; next < 2*ended-began; next += k.every {
		}
		until := unix.NsecToTimespec(int64(next))
		for errors.Is(unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &until, nil), unix.EINTR) {
		}
	}
	// The last ones get their time too.
	until := unix.NsecToTimespec(int64(monotonic() + k.timeout))
	for len(k.waiting) > 0 && errors.Is(unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &until, nil), unix.EINTR) {
	}
	k.settle(time.Now().UnixNano())
	return denied, nil
}

// knock begins a connection. On one machine the answer is most often there when the call that began it returns, for the kernel handles packets
// between its own network namespaces where they are sent; the second call takes note of it.
func (k *knocker) knock() error {
	socket, err := unix.Socket(k.family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening a socket: %w", err)
	}
	k.done = append(k.done, knocked{start: time.Now().UnixNano()})
	index := len(k.done) - 1
	err = unix.Connect(socket, k.to)
	if errors.Is(err, unix.EINPROGRESS) {
		err = unix.Connect(socket, k.to)
	}
	switch err { //nolint:errorlint // A system call's.
	case nil, unix.EISCONN:
		k.hangUp(socket, index)
	case unix.EALREADY:
		k.waiting = append(k.waiting, waiting{socket, index})
	case unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EACCES, unix.EPERM: // an answer too
		_ = unix.Close(socket)
	default:
		return errors.Join(fmt.Errorf("connecting to %s: %w", k.address, err), unix.Close(socket))
	}
	return nil
}

// hangUp ends a connection that came about with a reset, which leaves no port in TIME-WAIT (RFC 9293).
func (k *knocker) hangUp(socket, index int) {
	k.done[index].ok = true
	_ = unix.SetsockoptLinger(socket, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	_ = unix.Close(socket)
}

// settle looks at what began at a time or before. Whoever has no answer by then counts as refused.
func (k *knocker) settle(before int64) {
	n := 0
	for _, w := range k.waiting {
		if k.done[w.index].start > before {
			break
		}
		if err := unix.Connect(w.socket, k.to); err == nil || errors.Is(err, unix.EISCONN) {
			k.hangUp(w.socket, w.index)
		} else {
			_ = unix.Close(w.socket)
		}
		n++
	}
	k.waiting = k.waiting[:copy(k.waiting, k.waiting[n:])]
}

// print writes an Attempt for each knock, a line each.
func (k *knocker) print(to io.Writer) error {
	out := json.NewEncoder(to)
	for _, a := range k.done {
		if err := out.Encode(Attempt{Start: a.start, To: k.address, OK: a.ok}); err != nil {
			return fmt.Errorf("writing: %w", err)
		}
	}
	return nil
}

// monotonic is the time by the clock that sleeps are told in.
func monotonic() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return 0 // there is no system without that clock
	}
	return time.Duration(now.Nano())
}
