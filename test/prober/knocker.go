package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// A knocker waits for nothing but the tick, makes no garbage and writes nothing, so that what it costs is the kernel's work on the packets. It never
// runs for more than half of the time, and makes up for no tick that it missed.
type knocker struct {
	to     unix.Sockaddr
	family int
	// processor is where it runs, next when it knocks next by the monotonic clock.
	processor            int
	next, every, timeout time.Duration
	// done are all that have begun, in the order of beginning; waiting are those of them, oldest first, that had no answer at once.
	done    []knocked
	waiting []waiting
}

// waiting is a connection that is looked at again when its time is up.
type waiting struct {
	socket, index int
}

func newKnocker(to netip.AddrPort, processor int, first, every, timeout time.Duration, most int) *knocker {
	k := &knocker{processor: processor, next: first, every: every, timeout: timeout, done: make([]knocked, 0, most)}
	if to.Addr().Is4() {
		k.family, k.to = unix.AF_INET, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	} else {
		k.family, k.to = unix.AF_INET6, &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
	}
	return k
}

// place takes the thread to its processor.
func (k *knocker) place() error {
	var only unix.CPUSet
	only.Set(k.processor)
	if err := unix.SchedSetaffinity(0, &only); err != nil {
		return fmt.Errorf("going to processor %d: %w", k.processor, err)
	}
	return nil
}

// run knocks until the context ends or there is no room for more.
func (k *knocker) run(ctx context.Context) error {
	for ctx.Err() == nil && len(k.done) < cap(k.done) {
		sleep(k.next)
		began := monotonic()
		k.settle(time.Now().Add(-k.timeout))
		if err := k.knock(); err != nil {
			return err
		}
		// As long a pause as it was busy, at least.
		for rested := 2*monotonic() - began; k.next < rested; k.next += k.every {
		}
	}
	if len(k.waiting) > 0 {
		sleep(monotonic() + k.timeout)
	}
	k.settle(time.Now())
	return nil
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
	switch err {
	case nil, unix.EISCONN:
		k.hangUp(socket, index)
	case unix.EALREADY:
		k.waiting = append(k.waiting, waiting{socket, index})
	case unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EACCES, unix.EPERM: // an answer too
		_ = unix.Close(socket)
	default:
		return errors.Join(fmt.Errorf("connecting: %w", err), unix.Close(socket))
	}
	return nil
}

// settle looks at what began before. Whoever has no answer by then counts as refused.
func (k *knocker) settle(before time.Time) {
	n := 0
	for _, w := range k.waiting {
		if k.done[w.index].start > before.UnixNano() {
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

// hangUp ends a connection that came about with a reset, which leaves no port in TIME-WAIT (RFC 9293).
func (k *knocker) hangUp(socket, index int) {
	k.done[index].ok = true
	_ = unix.SetsockoptLinger(socket, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	_ = unix.Close(socket)
}

// sleep returns at a time of the monotonic clock. What the runtime sends its threads does not shorten it.
func sleep(until time.Duration) {
	t := unix.NsecToTimespec(int64(until))
	for errors.Is(unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &t, nil), unix.EINTR) {
	}
}
