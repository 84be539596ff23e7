// Package rtnetlink listens to what the kernel tells of links, addresses, routes and neighbours (rtnetlink(7)).
package rtnetlink

import (
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// buffer has room for the news of some thousand objects, bytes.
const buffer = 1 << 20

// Listener hears the news of some multicast groups in the network namespace in which it was made.
type Listener struct {
	socket  *nl.NetlinkSocket
	hear    func(messages []syscall.NetlinkMessage, lost bool) (news bool)
	changed chan struct{}
	done    chan struct{}
	closing atomic.Bool
}

// Subscribe opens a Listener for the groups (unix.RTNLGRP_...) in the calling thread's network namespace. What the kernel tells is kept for
// it until Listen is called.
func Subscribe(groups ...uint) (*Listener, error) {
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE, groups...)
	if err != nil {
		return nil, fmt.Errorf("subscribing to the kernel's news: %w", err)
	}
	if err := socket.SetReceiveBufferSize(buffer, true); err != nil {
		socket.Close()
		return nil, fmt.Errorf("setting the receive buffer for the kernel's news: %w", err)
	}
	return &Listener{socket: socket, changed: make(chan struct{}, 1)}, nil
}

// Listen has hear called, from one goroutine, with what the kernel tells. lost: there was more than could be kept, and anything may
// have changed. Changed yields a value after hear has told that it was news.
func (l *Listener) Listen(log *slog.Logger, hear func(messages []syscall.NetlinkMessage, lost bool) (news bool)) {
	l.hear, l.done = hear, make(chan struct{})
	go l.run(log)
}

// Changed yields a value when there has been news.
func (l *Listener) Changed() <-chan struct{} { return l.changed }

// Wake has Changed yield a value.
func (l *Listener) Wake() {
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// Close ends the listening. When it returns hear is not called any more.
func (l *Listener) Close() {
	l.closing.Store(true)
	l.socket.Close()
	if l.done != nil {
		<-l.done
	}
}

func (l *Listener) run(log *slog.Logger) {
	defer close(l.done)
	for {
		messages, _, err := l.socket.Receive()
		if err != nil && l.closing.Load() { // the library has several errors for that
			return
		}
		if l.hear(messages, err != nil) {
			l.Wake()
		}
		if err != nil && !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EINTR) {
			log.Error("the kernel's news are not heard any more", "error", err)
			return
		}
	}
}
