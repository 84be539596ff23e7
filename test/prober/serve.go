package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// server answers on TCP, UDP and SCTP, and takes questions.
type server struct {
	tcp       []string // addresses
	udp, sctp []uint16
	control   string // address; "": no questions
	knocks    string // address for those who knock; "": none
}

// ports is a list of ports as a flag.
type ports []uint16

func (p *ports) String() string { return fmt.Sprint(*p) }

func (p *ports) Set(text string) error {
	for word := range strings.SplitSeq(text, ",") {
		n, err := strconv.ParseUint(word, 10, 16)
		if err != nil {
			return fmt.Errorf("port %q: want a number below 65536", word)
		}
		*p = append(*p, uint16(n))
	}
	return nil
}

func (s server) run(ctx context.Context) error {
	if len(s.tcp)+len(s.udp)+len(s.sctp) == 0 && s.control+s.knocks == "" {
		return errUsage
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, address := range s.tcp {
		group.Go(func() error { return echoTCP(ctx, net.ListenConfig{}, address) })
	}
	if s.knocks != "" {
		group.Go(func() error { return echoTCP(ctx, net.ListenConfig{Control: deferred}, s.knocks) })
	}
	for _, port := range s.udp {
		group.Go(func() error { return echoUDP(ctx, port) })
	}
	var associations *sctp
	if len(s.sctp) > 0 {
		var err error
		if associations, err = openSCTP(s.sctp); err != nil {
			return err
		}
		group.Go(func() error { return associations.serve(ctx) })
	}
	if s.control != "" {
		group.Go(func() error { return answerQuestions(ctx, s.control, associations) })
	}
	return group.Wait()
}

// deferred leaves handshakes to the kernel: a connection is this program's only when data comes, or after a second. Whoever shakes hands and hangs
// up thousands of times a second does not wake it.
func deferred(_, _ string, socket syscall.RawConn) error {
	const seconds = 1
	var err error
	control := socket.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, seconds) })
	return errors.Join(control, err)
}

func echoTCP(ctx context.Context, config net.ListenConfig, address string) error {
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

func echoUDP(ctx context.Context, port uint16) error {
	var config net.ListenConfig
	conn, err := config.ListenPacket(ctx, "udp", fmt.Sprintf(":%d", port))
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	context.AfterFunc(ctx, func() { conn.Close() })
	buffer := make([]byte, 1500)
	for {
		n, from, err := conn.ReadFrom(buffer)
		switch {
		case errors.Is(err, net.ErrClosed): // told to end
			return nil
		case err != nil:
			continue // an ICMP error about an answer that did not arrive
		}
		// An asker who does not get the answer asks again.
		_, _ = conn.WriteTo(buffer[:n], from)
	}
}
