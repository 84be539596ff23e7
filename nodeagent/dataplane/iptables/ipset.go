package iptables

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// setSpec is the type of a set in the kernel.
type setSpec struct {
	kind string
	fam  family
}

// The kinds of sets in use.
const (
	hashIP       = "hash:ip"
	hashNet      = "hash:net"
	hashIPPort   = "hash:ip,port"
	hashNetPort  = "hash:net,port"
	hashNetIface = "hash:net,iface"
)

// entry is an element of a set. Fields that its kind does not have are zero.
type entry struct {
	prefix   netip.Prefix
	protocol uint8
	port     uint16
	iface    string
}

// maxElements bounds a set. It takes memory only for what it holds.
const maxElements = 1 << 20

// Errors of the kernel's ipset.
const (
	errBusy       = nl.IPSetError(nl.IPSET_ERR_BUSY)
	errNoType     = nl.IPSetError(nl.IPSET_ERR_FIND_TYPE)
	errExistsName = nl.IPSetError(nl.IPSET_ERR_EXIST)
)

// ipsets speaks to the kernel's ipset over a lasting connection.
type ipsets struct {
	handle *nl.SocketHandle
}

// openIPSets connects to the ipset of the calling thread's network namespace.
func openIPSets() (*ipsets, error) {
	s, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("opening a netlink socket for ipset: %w", err)
	}
	// The kernel answers while it is asked; this bounds the wait if it should not.
	wait := unix.NsecToTimeval(ipsetWait)
	if err := errors.Join(s.SetSendTimeout(&wait), s.SetReceiveTimeout(&wait)); err != nil {
		s.Close()
		return nil, fmt.Errorf("setting up the netlink socket for ipset: %w", err)
	}
	return &ipsets{handle: &nl.SocketHandle{Socket: s}}, nil
}

// ipsetWait bounds the wait for an answer, nanoseconds.
const ipsetWait = 30e9

func (s *ipsets) close() { s.handle.Close() }

// request begins a request. Requests have no NLM_F_EXCL: adding what is there and deleting what is not are no errors.
func (s *ipsets) request(cmd int) *nl.NetlinkRequest {
	r := nl.NewNetlinkRequest(cmd|unix.NFNL_SUBSYS_IPSET<<8, nl.GetIpsetFlags(cmd))
	r.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_NETFILTER: s.handle}
	r.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_NETLINK, Version: nl.NFNETLINK_V0})
	r.AddData(nl.NewRtAttr(nl.IPSET_ATTR_PROTOCOL, nl.Uint8Attr(nl.IPSET_PROTOCOL)))
	return r
}

func named(r *nl.NetlinkRequest, set string) {
	r.AddData(nl.NewRtAttr(nl.IPSET_ATTR_SETNAME, nl.ZeroTerminated(set)))
}

func execute(r *nl.NetlinkRequest, each func(message []byte)) error {
	err := r.ExecuteIter(unix.NETLINK_NETFILTER, 0, func(message []byte) bool {
		if each != nil {
			each(message)
		}
		return true
	})
	if errno := syscall.Errno(0); errors.As(err, &errno) && errno >= nl.IPSET_ERR_PRIVATE {
		return nl.IPSetError(errno)
	}
	return err
}

func nested(attr int, data []byte) *nl.RtAttr { return nl.NewRtAttr(attr|int(nl.NLA_F_NESTED), data) }

// create makes a set if there is none of the name.
func (s *ipsets) create(name string, spec setSpec) error {
	r := s.request(nl.IPSET_CMD_CREATE)
	r.Flags |= unix.NLM_F_EXCL
	named(r, name)
	r.AddData(nl.NewRtAttr(nl.IPSET_ATTR_TYPENAME, nl.ZeroTerminated(spec.kind)))
	// The first revisions of all kinds have what is needed here, and every kernel still knows them.
	r.AddData(nl.NewRtAttr(nl.IPSET_ATTR_REVISION, nl.Uint8Attr(revisionOf(spec.kind))))
	r.AddData(nl.NewRtAttr(nl.IPSET_ATTR_FAMILY, nl.Uint8Attr(spec.fam.number())))
	data := nested(nl.IPSET_ATTR_DATA, nil)
	data.AddChild(&nl.Uint32Attribute{Type: nl.IPSET_ATTR_MAXELEM | nl.NLA_F_NET_BYTEORDER, Value: maxElements})
	r.AddData(data)
	if err := execute(r, nil); err != nil && !errors.Is(err, errExistsName) && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("making set %s of type %s: %w", name, spec.kind, err)
	}
	return nil
}

// knows tells whether the kernel has a type of sets, by itself or by a module that it can load.
func (s *ipsets) knows(spec setSpec) (bool, error) {
	r := s.request(nl.IPSET_CMD_TYPE)
	r.AddData(nl.NewRtAttr(nl.IPSET_ATTR_TYPENAME, nl.ZeroTerminated(spec.kind)))
	r.AddData(nl.NewRtAttr(nl.IPSET_ATTR_FAMILY, nl.Uint8Attr(spec.fam.number())))
	err := execute(r, nil)
	if errors.Is(err, errNoType) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("asking for sets of type %s: %w", spec.kind, err)
	}
	return true, nil
}

func revisionOf(kind string) uint8 {
	if kind == hashIPPort || kind == hashNetPort {
		return 1 // with SCTP
	}
	return 0
}

// destroy removes a set. A set that is not there is no error.
func (s *ipsets) destroy(name string) error {
	r := s.request(nl.IPSET_CMD_DESTROY)
	named(r, name)
	if err := execute(r, nil); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("removing set %s: %w", name, err)
	}
	return nil
}

// perMessage is the number of entries that one message adds or deletes.
const perMessage = 256

// add and del make entries part of a set, or no part. What the kernel refuses is left out and returned as an error
// when all others are done.
func (s *ipsets) add(set string, entries []entry) error {
	return s.change(nl.IPSET_CMD_ADD, set, entries)
}

func (s *ipsets) del(set string, entries []entry) error {
	return s.change(nl.IPSET_CMD_DEL, set, entries)
}

func (s *ipsets) change(cmd int, set string, entries []entry) error {
	var errs []error
	for len(entries) > 0 {
		n := min(len(entries), perMessage)
		group := entries[:n]
		entries = entries[n:]
		err := s.changeGroup(cmd, set, group)
		if err == nil {
			continue
		}
		if errors.Is(err, unix.ENOENT) || len(group) == 1 {
			errs = append(errs, fmt.Errorf("changing set %s: %w", set, err))
			continue
		}
		for _, e := range group { // the kernel stops at the first entry that it refuses
			if err := s.changeGroup(cmd, set, []entry{e}); err != nil {
				errs = append(errs, fmt.Errorf("changing set %s: %v: %w", set, e.prefix, err))
			}
		}
	}
	return errors.Join(errs...)
}

func (s *ipsets) changeGroup(cmd int, set string, group []entry) error {
	r := s.request(cmd)
	named(r, set)
	r.AddData(&nl.Uint32Attribute{Type: nl.IPSET_ATTR_LINENO, Value: 1})
	list := nested(nl.IPSET_ATTR_ADT, nil)
	for i, e := range group {
		data := e.attribute()
		data.AddChild(&nl.Uint32Attribute{Type: nl.IPSET_ATTR_LINENO | nl.NLA_F_NET_BYTEORDER, Value: uint32(i + 1)})
		list.AddChild(data)
	}
	r.AddData(list)
	return execute(r, nil)
}

// attribute encodes an entry.
func (e entry) attribute() *nl.RtAttr {
	data := nested(nl.IPSET_ATTR_DATA, nil)
	kind := nl.IPSET_ATTR_IPADDR_IPV6
	if e.prefix.Addr().Is4() {
		kind = nl.IPSET_ATTR_IPADDR_IPV4
	}
	address := nl.NewRtAttr(kind|int(nl.NLA_F_NET_BYTEORDER), e.prefix.Addr().AsSlice())
	data.AddChild(nested(nl.IPSET_ATTR_IP, address.Serialize()))
	if !e.prefix.IsSingleIP() {
		data.AddChild(nl.NewRtAttr(nl.IPSET_ATTR_CIDR, nl.Uint8Attr(uint8(e.prefix.Bits()))))
	}
	if e.protocol != 0 {
		data.AddChild(nl.NewRtAttr(nl.IPSET_ATTR_PORT|int(nl.NLA_F_NET_BYTEORDER), binary.BigEndian.AppendUint16(nil, e.port)))
		data.AddChild(nl.NewRtAttr(nl.IPSET_ATTR_PROTO, nl.Uint8Attr(e.protocol)))
	}
	if e.iface != "" {
		data.AddChild(nl.NewRtAttr(nl.IPSET_ATTR_IFACE, nl.ZeroTerminated(e.iface)))
	}
	return data
}

// names lists the driver's sets.
func (s *ipsets) names() ([]string, error) {
	const onlyNames = 1 << 1 // IPSET_FLAG_LIST_SETNAME
	r := s.request(nl.IPSET_CMD_LIST)
	r.AddData(&nl.Uint32Attribute{Type: nl.IPSET_ATTR_FLAGS | nl.NLA_F_NET_BYTEORDER, Value: onlyNames})
	var out []string
	err := execute(r, func(message []byte) {
		attributes(afterHeader(message), func(typ uint16, value []byte) {
			if typ != nl.IPSET_ATTR_SETNAME {
				return
			}
			name := unix.ByteSliceToString(value)
			if ownSet(name) {
				out = append(out, name)
			}
		})
	})
	if err != nil {
		return nil, fmt.Errorf("listing sets: %w", err)
	}
	return out, nil
}

// content is what a set holds.
type content struct {
	spec    setSpec
	entries []entry
}

// list reads the driver's sets, or the one that is named. All at once is much less work for the kernel than one by one.
func (s *ipsets) list(name string) (map[string]*content, error) {
	r := s.request(nl.IPSET_CMD_LIST)
	if name != "" {
		named(r, name)
	}
	found := map[string]*content{}
	err := execute(r, func(message []byte) {
		var c *content // a great set comes in several messages, of which each has its name, as the first attribute
		attributes(afterHeader(message), func(typ uint16, value []byte) {
			switch {
			case typ == nl.IPSET_ATTR_SETNAME:
				set := unix.ByteSliceToString(value)
				if ownSet(set) && found[set] == nil {
					found[set] = &content{}
				}
				c = found[set]
			case c != nil:
				c.read(typ, value)
			}
		})
	})
	if err != nil {
		return nil, fmt.Errorf("reading sets %s: %w", name, err)
	}
	return found, nil
}

// read takes in an attribute of a set.
func (c *content) read(typ uint16, value []byte) {
	switch typ {
	case nl.IPSET_ATTR_TYPENAME:
		c.spec.kind = unix.ByteSliceToString(value)
	case nl.IPSET_ATTR_FAMILY:
		if value[0] == unix.AF_INET6 {
			c.spec.fam = ipv6
		}
	case nl.IPSET_ATTR_ADT:
		attributes(value, func(_ uint16, value []byte) {
			if e, ok := parseEntry(value); ok {
				c.entries = append(c.entries, e)
			}
		})
	}
}

// ownSet tells whether a set is the driver's by its name.
func ownSet(name string) bool {
	return strings.HasPrefix(name, setPrefix(ipv4)) || strings.HasPrefix(name, setPrefix(ipv6))
}

func parseEntry(b []byte) (entry, bool) {
	var e entry
	var address netip.Addr
	bits := -1
	attributes(b, func(typ uint16, value []byte) {
		switch typ {
		case nl.IPSET_ATTR_IP:
			attributes(value, func(_ uint16, value []byte) { address, _ = netip.AddrFromSlice(value) })
		case nl.IPSET_ATTR_CIDR:
			bits = int(value[0])
		case nl.IPSET_ATTR_PORT:
			e.port = binary.BigEndian.Uint16(value)
		case nl.IPSET_ATTR_PROTO:
			e.protocol = value[0]
		case nl.IPSET_ATTR_IFACE:
			e.iface = unix.ByteSliceToString(value)
		}
	})
	if !address.IsValid() {
		return e, false
	}
	if bits < 0 {
		bits = address.BitLen()
	}
	e.prefix = netip.PrefixFrom(address, bits)
	return e, e.prefix.IsValid()
}

// afterHeader is a message without the header of netfilter's messages.
func afterHeader(message []byte) []byte {
	return message[min(len(message), nl.SizeofNfgenmsg):]
}

// attributes calls each with the type, without its flags, and the value of every attribute that has one.
func attributes(b []byte, each func(typ uint16, value []byte)) {
	for len(b) >= unix.SizeofRtAttr {
		length := int(binary.NativeEndian.Uint16(b))
		if length < unix.SizeofRtAttr || length > len(b) {
			return
		}
		if length > unix.SizeofRtAttr {
			each(binary.NativeEndian.Uint16(b[2:])&nl.NLA_TYPE_MASK, b[unix.SizeofRtAttr:length])
		}
		b = b[min((length+3)&^3, len(b)):]
	}
}
