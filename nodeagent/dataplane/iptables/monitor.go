package iptables

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// The kernel tells of changes of rules in the nft variant only, and never of changes of sets.
const (
	// nfnlgrpNftables is the multicast group that tells of every change of nftables (NFNLGRP_NFTABLES).
	nfnlgrpNftables = 7
	receiveBuffer   = 4 << 20
	readSize        = 64 << 10
	// remembered is the number of the driver's own programs whose news may still be on their way.
	remembered = 64
)

// monitor listens for changes by others of the driver's chains and of the chains that its hooks are in.
type monitor struct {
	file *os.File
	done chan struct{}

	mu  sync.Mutex
	own []uint32 // senders of the driver's own changes: the process IDs of programs it ran
}

// startMonitor listens in the calling thread's namespace and calls onChange.
func startMonitor(onChange func()) (*monitor, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("opening a netlink socket for changes: %w", err)
	}
	err = errors.Join(
		unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer),
		unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, nfnlgrpNftables),
	)
	if err != nil {
		return nil, fmt.Errorf("subscribing to changes of nftables: %w", errors.Join(err, unix.Close(fd)))
	}
	// As a file the socket waits with the runtime's poller, without a thread of its own.
	m := &monitor{file: os.NewFile(uintptr(fd), "nftables changes"), done: make(chan struct{})}
	go m.run(onChange)
	return m, nil
}

func (m *monitor) close() error {
	err := m.file.Close()
	<-m.done
	if err != nil {
		return fmt.Errorf("ending the watch for changes of rules: %w", err)
	}
	return nil
}

// starting runs start, which starts one of the driver's programs, and remembers its process ID before any news of what
// the program does are looked at.
func (m *monitor) starting(start func() (pid int, err error)) error {
	if m == nil {
		_, err := start()
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	pid, err := start()
	if err == nil {
		m.own = append(m.own[max(0, len(m.own)+1-remembered):], uint32(pid))
	}
	return err
}

func (m *monitor) run(onChange func()) {
	defer close(m.done)
	buffer := make([]byte, readSize)
	for {
		n, err := m.file.Read(buffer)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err == nil && !m.foreign(buffer[:n]) {
			continue
		}
		// A foreign change, or news that were lost because there were too many (ENOBUFS).
		onChange()
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			return
		}
	}
}

// foreign tells whether one of the messages is about what concerns the driver, and none of its own doing.
func (m *monitor) foreign(b []byte) bool {
	for len(b) >= unix.SizeofNlMsghdr+nfHeaderLen {
		length := int(binary.NativeEndian.Uint32(b))
		if length < unix.SizeofNlMsghdr+nfHeaderLen || length > len(b) {
			return false
		}
		kind, sender := binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint32(b[12:])
		if kind>>8 == unix.NFNL_SUBSYS_NFTABLES && concerns(int(kind&0xff), b[unix.SizeofNlMsghdr:length]) && !m.isOwn(sender) {
			return true
		}
		b = b[min((length+3)&^3, len(b)):]
	}
	return false
}

// nfHeaderLen is the length of the header of netfilter's messages behind that of netlink's.
const nfHeaderLen = 4

func (m *monitor) isOwn(sender uint32) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Contains(m.own, sender)
}

// concerns tells whether a message is about a chain of the driver's, or about one that a hook is in.
func concerns(kind int, message []byte) bool {
	if family := message[0]; family != unix.AF_INET && family != unix.AF_INET6 {
		return false
	}
	nameAttribute := uint16(0)
	switch kind {
	case unix.NFT_MSG_NEWRULE, unix.NFT_MSG_DELRULE:
		nameAttribute = unix.NFTA_RULE_CHAIN
	case unix.NFT_MSG_NEWCHAIN, unix.NFT_MSG_DELCHAIN:
		nameAttribute = unix.NFTA_CHAIN_NAME
	case unix.NFT_MSG_DELTABLE:
	default:
		return false
	}
	table, chain := "", ""
	attributes(message[nfHeaderLen:], func(typ uint16, value []byte) {
		switch typ {
		case unix.NFTA_TABLE_NAME: // the number is the same in all messages
			table = unix.ByteSliceToString(value)
		case nameAttribute:
			chain = unix.ByteSliceToString(value)
		}
	})
	if !slices.Contains(kernelTables(), table) {
		return false
	}
	return chain == "" || strings.HasPrefix(chain, chainPrefix) || inHookChain(table, chain)
}
