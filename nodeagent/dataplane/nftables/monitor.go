package nftables

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"os"

	"golang.org/x/sys/unix"
)

// nfnlgrpNftables is the multicast group that tells of every change of nftables (NFNLGRP_NFTABLES).
const nfnlgrpNftables = 7

// monitor listens for changes of the table that are not the driver's.
type monitor struct {
	file    *os.File
	changed chan struct{}
	done    chan struct{}
}

// startMonitor listens in the calling thread's namespace and calls onChange, then makes changed readable, when another
// than owner changes the table, or (lost) when it may have, since news were lost.
func startMonitor(owner uint32, onChange func(lost bool)) (*monitor, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("opening a netlink socket for changes: %w", err)
	}
	if err := listen(fd, owner); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	// As a file the socket waits with the runtime's poller, without a thread of its own.
	m := &monitor{file: os.NewFile(uintptr(fd), "nftables changes"), changed: make(chan struct{}, 1), done: make(chan struct{})}
	go m.run(owner, onChange)
	return m, nil
}

func listen(fd int, owner uint32) error {
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("binding the netlink socket for changes: %w", err)
	}
	// The driver's own changes are dropped in the kernel: they would wake this process for each element it adds. The
	// filter loads the sender's port from the message header in network byte order.
	own := owner
	if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		own = bits.ReverseBytes32(owner)
	}
	const senderAt, keep = 12, 0xffffffff
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: senderAt},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 1, K: own},
		{Code: unix.BPF_RET | unix.BPF_K, K: keep},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}); err != nil {
		return fmt.Errorf("filtering changes of nftables: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer); err != nil {
		return fmt.Errorf("setting the receive buffer for changes: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, nfnlgrpNftables); err != nil {
		return fmt.Errorf("subscribing to changes of nftables: %w", err)
	}
	return nil
}

func (m *monitor) close() error {
	err := m.file.Close()
	<-m.done
	if err != nil {
		return fmt.Errorf("ending the watch for changes of nftables: %w", err)
	}
	return nil
}

func (m *monitor) run(owner uint32, onChange func(lost bool)) {
	defer close(m.done)
	buffer := make([]byte, readSize)
	for {
		n, err := m.file.Read(buffer)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err == nil && !foreign(buffer[:n], owner) {
			continue
		}
		// A foreign change, or news that were lost because there were too many (ENOBUFS).
		onChange(err != nil)
		select {
		case m.changed <- struct{}{}:
		default:
		}
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			return
		}
	}
}

// foreign tells whether one of the messages is about the table and not the owner's doing. Only changes of the table
// itself, its chains, rules, sets and elements are looked at; in each, the first attribute but for a new table's is the
// table's name, and it has the number 1 in all of them.
func foreign(b []byte, owner uint32) bool {
	for len(b) >= nlHeaderLen+nfHeaderLen {
		length := int(binary.NativeEndian.Uint32(b))
		if length < nlHeaderLen+nfHeaderLen || length > len(b) {
			return false
		}
		message := binary.NativeEndian.Uint16(b[4:])
		if message>>8 == unix.NFNL_SUBSYS_NFTABLES && message&0xff != unix.NFT_MSG_NEWGEN && binary.NativeEndian.Uint32(b[12:]) != owner {
			ours := false
			attributes(b[nlHeaderLen+nfHeaderLen:length], func(typ uint16, value []byte) {
				ours = ours || typ == unix.NFTA_TABLE_NAME && cString(value) == tableName
			})
			if ours && b[nlHeaderLen] == unix.NFPROTO_INET {
				return true
			}
		}
		next := (length + 3) &^ 3
		if next >= len(b) {
			return false
		}
		b = b[next:]
	}
	return false
}
