package nftables

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// replyWait bounds the wait for an answer. The kernel answers before sendmsg returns, so it is never spent unless
	// an answer was lost.
	replyWait = 5 * time.Second
	// receiveBuffer has room for the refusal of some thousand messages of one batch.
	receiveBuffer = 4 << 20
	// readSize is the greatest piece of a dump that the kernel sends at a time.
	readSize = 32 << 10
	// dumpAttempts bounds the repetition of a dump that a change has interrupted.
	dumpAttempts = 10
)

// socket is a lasting netlink connection to the nftables of the namespace in which it was opened.
type socket struct {
	fd         int
	portID     uint32
	seq        uint32
	sendBuffer int
	read       []byte
}

func openSocket() (*socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("opening a netlink socket: %w", err)
	}
	s := &socket{fd: fd}
	if err := s.setUp(); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return s, nil
}

func (s *socket) setUp() error {
	if err := unix.Bind(s.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("binding a netlink socket: %w", err)
	}
	name, err := unix.Getsockname(s.fd)
	if err != nil {
		return fmt.Errorf("asking for the netlink socket's address: %w", err)
	}
	if address, ok := name.(*unix.SockaddrNetlink); ok {
		s.portID = address.Pid
	}
	wait := unix.NsecToTimeval(replyWait.Nanoseconds())
	if err := unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		return fmt.Errorf("setting the netlink socket's receive timeout: %w", err)
	}
	if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer); err != nil {
		return fmt.Errorf("setting the netlink socket's receive buffer: %w", err)
	}
	// Answers without the message that they answer. Only saves memory: older kernels may refuse.
	_ = unix.SetsockoptInt(s.fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	return nil
}

func (s *socket) close() error {
	if err := unix.Close(s.fd); err != nil {
		return fmt.Errorf("closing the netlink socket: %w", err)
	}
	return nil
}

// refusal is one message of a batch that the kernel refused.
type refusal struct {
	message int // its place in the batch
	err     error
}

// transact sends a batch: the kernel makes all of it true at once, or nothing. It returns the messages that the kernel
// refused, in which case nothing has changed, or an error that is no single message's fault.
func (s *socket) transact(b *batch) ([]refusal, error) {
	first := s.seq + 1
	s.seq += uint32(b.finish(first))
	if err := s.send(b.w.b); err != nil {
		return nil, fmt.Errorf("sending %d messages to nftables: %w", b.len(), err)
	}
	var refused []refusal
	last := b.len() - 1
	for {
		var fatal error
		done := false
		err := s.receive(func(typ, _ uint16, seq uint32, payload []byte) {
			if typ != unix.NLMSG_ERROR || len(payload) < 4 || done || fatal != nil {
				return
			}
			code := -int32(binary.NativeEndian.Uint32(payload))
			place := int(int32(seq-first)) - 1 // the batch's own first message comes before message 0
			switch {
			case place < -1 || place > last+1:
				return // an answer to an earlier batch
			case code == 0:
			case place < 0 || place > last:
				fatal = unix.Errno(code)
			default:
				refused = append(refused, refusal{message: place, err: unix.Errno(code)})
			}
			done = done || place == last
		})
		switch {
		case err != nil:
			return nil, fmt.Errorf("waiting for the answer of nftables: %w", err)
		case fatal != nil:
			return nil, fmt.Errorf("nftables refused the transaction: %w", fatal)
		case done:
			return refused, nil
		}
	}
}

// dump asks for a list and calls visit with the payload of each item.
func (s *socket) dump(message uint16, attrs func(*wire), start func(), visit func([]byte)) error {
	for range dumpAttempts {
		if start != nil {
			start()
		}
		interrupted, err := s.dumpOnce(message, attrs, visit)
		if err != nil || !interrupted {
			return err
		}
	}
	return errors.New("nftables kept changing while it was read")
}

func (s *socket) dumpOnce(message uint16, attrs func(*wire), visit func([]byte)) (interrupted bool, err error) {
	s.seq++
	seq := s.seq
	var w wire
	at := w.message(messageType(message), unix.NLM_F_REQUEST|unix.NLM_F_DUMP, seq, unix.NFPROTO_INET, 0)
	if attrs != nil {
		attrs(&w)
	}
	w.endMessage(at)
	if err := s.send(w.b); err != nil {
		return false, fmt.Errorf("asking nftables for a list: %w", err)
	}
	var failure error
	for done := false; !done; {
		err := s.receive(func(typ, flags uint16, answered uint32, payload []byte) {
			if answered != seq || done {
				return
			}
			if flags&unix.NLM_F_DUMP_INTR != 0 {
				interrupted = true
			}
			switch typ {
			case unix.NLMSG_DONE:
				done = true
			case unix.NLMSG_ERROR:
				done = true
				if len(payload) >= 4 {
					if code := -int32(binary.NativeEndian.Uint32(payload)); code != 0 {
						failure = unix.Errno(code)
					}
				}
			default:
				if len(payload) >= nfHeaderLen && !interrupted {
					visit(payload[nfHeaderLen:])
				}
			}
		})
		if err != nil {
			return false, fmt.Errorf("reading a list of nftables: %w", err)
		}
	}
	if errors.Is(failure, unix.EINTR) {
		return true, nil
	}
	return interrupted, failure
}

// send makes room for messages first: the kernel refuses what exceeds the send buffer.
func (s *socket) send(b []byte) error {
	if len(b) > s.sendBuffer {
		if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, len(b)+readSize); err != nil {
			return fmt.Errorf("setting the send buffer to %d bytes: %w", len(b)+readSize, err)
		}
		s.sendBuffer = len(b)
	}
	for {
		err := unix.Sendto(s.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// receive reads one datagram and calls visit for each message in it.
func (s *socket) receive(visit func(typ, flags uint16, seq uint32, payload []byte)) error {
	if s.read == nil {
		s.read = make([]byte, readSize)
	}
	n, err := receiveInto(s.fd, s.read)
	if err != nil {
		return err
	}
	for b := s.read[:n]; len(b) >= nlHeaderLen; {
		length := int(binary.NativeEndian.Uint32(b))
		if length < nlHeaderLen || length > len(b) {
			break
		}
		visit(binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint16(b[6:]), binary.NativeEndian.Uint32(b[8:]), b[nlHeaderLen:length])
		next := (length + 3) &^ 3
		if next >= len(b) {
			break
		}
		b = b[next:]
	}
	return nil
}

// receiveInto reads one datagram. EAGAIN means that the receive timeout passed.
func receiveInto(fd int, buffer []byte) (int, error) {
	for {
		n, _, flags, _, err := unix.Recvmsg(fd, buffer, nil, 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return 0, err
		case flags&unix.MSG_TRUNC != 0:
			return 0, unix.EMSGSIZE
		}
		return n, nil
	}
}
