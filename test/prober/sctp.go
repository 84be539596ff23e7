package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Chunk types and lengths of RFC 9260.
const (
	chunkInit    = 1
	chunkInitAck = 2
	commonHeader = 12
	initLength   = 20
	cookieParam  = 7
)

// sctp answers INIT with INIT ACK on some ports, and asks others, by packets of its own: the kernel may know no SCTP. What is
// between the two, connection tracking above all, sees the beginning of an association.
type sctp struct {
	conn  net.PacketConn
	ports []uint16

	mu sync.Mutex
	// pending are questions by their initiate tag, which comes back as the verification tag of the answer.
	pending map[uint32]chan struct{}
}

func openSCTP(served []uint16) (*sctp, error) {
	conn, err := net.ListenPacket("ip4:132", "0.0.0.0") //nolint:noctx // Opening a raw socket does not wait.
	if err != nil {
		return nil, fmt.Errorf("opening a socket for SCTP: %w", err)
	}
	return &sctp{conn: conn, ports: served, pending: map[uint32]chan struct{}{}}, nil
}

func (s *sctp) serve(ctx context.Context) error {
	context.AfterFunc(ctx, func() { s.conn.Close() })
	buffer := make([]byte, 1500)
	for {
		n, from, err := s.conn.ReadFrom(buffer)
		switch {
		case errors.Is(err, net.ErrClosed): // told to end
			return nil
		case err != nil:
			continue // an ICMP error about a packet that did not arrive
		}
		s.receive(buffer[:n], from)
	}
}

func (s *sctp) receive(p []byte, from net.Addr) {
	if len(p) < commonHeader+initLength {
		return
	}
	source, destination, tag := binary.BigEndian.Uint16(p), binary.BigEndian.Uint16(p[2:]), binary.BigEndian.Uint32(p[4:])
	switch p[commonHeader] {
	case chunkInit:
		if slices.Contains(s.ports, destination) {
			theirs := binary.BigEndian.Uint32(p[commonHeader+4:])
			// An asker who does not get the answer asks again.
			_, _ = s.conn.WriteTo(packet(destination, source, theirs, chunkInitAck, theirs|1), from)
		}
	case chunkInitAck:
		s.mu.Lock()
		defer s.mu.Unlock()
		if answered, ok := s.pending[tag]; ok {
			delete(s.pending, tag)
			close(answered)
		}
	}
}

// try sends INIT from a port again and again until INIT ACK comes.
func (s *sctp) try(ctx context.Context, to netip.AddrPort, port uint16) bool {
	tag := rand.Uint32() | 1
	answered := make(chan struct{})
	s.mu.Lock()
	s.pending[tag] = answered
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.pending, tag)
	}()
	for {
		// A packet that can't be sent (no route, refused by a rule of this host) is one that gets no answer.
		_, _ = s.conn.WriteTo(packet(port, to.Port(), 0, chunkInit, tag), &net.IPAddr{IP: to.Addr().AsSlice()})
		select {
		case <-answered:
			return true
		case <-ctx.Done():
			return false
		case <-time.After(again):
		}
	}
}

// packet is one SCTP packet with an INIT or INIT ACK chunk.
func packet(source, destination uint16, verification uint32, chunk byte, tag uint32) []byte {
	b := binary.BigEndian.AppendUint16(nil, source)
	b = binary.BigEndian.AppendUint16(b, destination)
	b = binary.BigEndian.AppendUint32(b, verification)
	b = append(b, 0, 0, 0, 0) // checksum
	length := uint16(initLength)
	if chunk == chunkInitAck {
		length += 8
	}
	b = append(b, chunk, 0)
	b = binary.BigEndian.AppendUint16(b, length)
	b = binary.BigEndian.AppendUint32(b, tag)
	b = append(b, 0, 0, 0xff, 0xff, 0, 1, 0, 1, 0, 0, 0, 1) // window, streams, sequence number
	if chunk == chunkInitAck {
		b = append(b, 0, cookieParam, 0, 8, 'm', 'a', 'n', 'u')
	}
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return b
}
