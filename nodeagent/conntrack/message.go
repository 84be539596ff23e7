package conntrack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/connections"
)

// Attributes that the library does not name, of include/uapi/linux/netfilter/nfnetlink_conntrack.h.
const (
	ctaFilter           = 25 // since Linux 5.8; others pass over it and list everything
	ctaFilterOrigFlags  = 1
	ctaFilterReplyFlags = 2
	filterSource        = 1 << 0
	filterDestination   = 1 << 1

	ctaTupleZone   = 3
	ctaICMPID      = 4
	ctaICMPType    = 5
	ctaICMPCode    = 6
	ctaICMPv6ID    = 7
	ctaICMPv6Type  = 8
	ctaICMPv6Code  = 9
	statusExpected = 1 << 0 // IPS_EXPECTED

	// Of enum cntl_msg_types and ctattr_stats_global.
	getStats           = 5
	ctaStatsGlobalSize = 1

	// tcpLiberal is set for both directions of a connection that was picked up in its middle (tcp_new), of
	// include/uapi/linux/netfilter/nf_conntrack_tcp.h.
	tcpLiberal = 1 << 3 // IP_CT_TCP_FLAG_BE_LIBERAL
)

// filter is what the kernel is asked for.
type filter struct {
	family uint8
	// tuple is the kind of the tuple that has to have the address at its source, or at its destination. 0: all connections.
	tuple       int
	destination bool
	addr        netip.Addr
}

// filtersOf lists what to ask for to see all connections that involve one of the addresses, or all there are if none is given.
// For IPv6 the kernel, at least up to Linux 6.18, leaves out what has the address instead of what has not
// (ctnetlink_filter_match_tuple), so it is asked for everything.
func filtersOf(addrs []netip.Addr) []filter {
	if len(addrs) == 0 {
		return everything()
	}
	var filters []filter
	for _, a := range addrs {
		if a.Is4() {
			filters = append(filters, filter{family: unix.AF_INET, tuple: nl.CTA_TUPLE_ORIG, addr: a},
				filter{family: unix.AF_INET, tuple: nl.CTA_TUPLE_ORIG, destination: true, addr: a},
				filter{family: unix.AF_INET, tuple: nl.CTA_TUPLE_REPLY, addr: a})
		}
	}
	if slices.ContainsFunc(addrs, netip.Addr.Is6) {
		filters = append(filters, filter{family: unix.AF_INET6})
	}
	return filters
}

// everything asks for both families in one walk over the kernel's table.
func everything() []filter { return []filter{{family: unix.AF_UNSPEC}} }

func (f *filter) attributes() []*nl.RtAttr {
	if f.tuple == 0 {
		return nil
	}
	flagsOf, flag := ctaFilterOrigFlags, uint32(filterSource)
	if f.tuple == nl.CTA_TUPLE_REPLY {
		flagsOf = ctaFilterReplyFlags
	}
	if f.destination {
		flag = filterDestination
	}
	tuple := nl.NewRtAttr(f.tuple|unix.NLA_F_NESTED, nil)
	ip := tuple.AddRtAttr(nl.CTA_TUPLE_IP|unix.NLA_F_NESTED, nil)
	ip.AddRtAttr(addressAttribute(f.addr, f.destination), f.addr.AsSlice())
	what := nl.NewRtAttr(ctaFilter|unix.NLA_F_NESTED, nil)
	what.AddRtAttr(flagsOf, binary.NativeEndian.AppendUint32(nil, flag))
	return []*nl.RtAttr{tuple, what}
}

func addressAttribute(a netip.Addr, destination bool) int {
	switch {
	case a.Is6() && destination:
		return nl.CTA_IP_V6_DST
	case a.Is6():
		return nl.CTA_IP_V6_SRC
	case destination:
		return nl.CTA_IP_V4_DST
	}
	return nl.CTA_IP_V4_SRC
}

func bigEndian32(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

func bigEndian16(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }

// original is the tuple of a connection's first packet.
func original(f *connections.Flow) *nl.RtAttr {
	source, destination := f.Original.Source, f.Original.Destination
	tuple := nl.NewRtAttr(nl.CTA_TUPLE_ORIG|unix.NLA_F_NESTED, nil)
	ip := tuple.AddRtAttr(nl.CTA_TUPLE_IP|unix.NLA_F_NESTED, nil)
	ip.AddRtAttr(addressAttribute(source.Addr(), false), source.Addr().AsSlice())
	ip.AddRtAttr(addressAttribute(destination.Addr(), true), destination.Addr().AsSlice())
	protocol := tuple.AddRtAttr(nl.CTA_TUPLE_PROTO|unix.NLA_F_NESTED, nil)
	protocol.AddRtAttr(nl.CTA_PROTO_NUM, []byte{f.Protocol})
	switch f.Protocol {
	case unix.IPPROTO_ICMP:
		protocol.AddRtAttr(ctaICMPID, bigEndian16(f.ICMPID))
		protocol.AddRtAttr(ctaICMPType, []byte{f.ICMPType})
		protocol.AddRtAttr(ctaICMPCode, []byte{f.ICMPCode})
	case unix.IPPROTO_ICMPV6:
		protocol.AddRtAttr(ctaICMPv6ID, bigEndian16(f.ICMPID))
		protocol.AddRtAttr(ctaICMPv6Type, []byte{f.ICMPType})
		protocol.AddRtAttr(ctaICMPv6Code, []byte{f.ICMPCode})
	default:
		protocol.AddRtAttr(nl.CTA_PROTO_SRC_PORT, bigEndian16(source.Port()))
		protocol.AddRtAttr(nl.CTA_PROTO_DST_PORT, bigEndian16(destination.Port()))
	}
	return tuple
}

var errShort = errors.New("an attribute is shorter than it should be")

// attributes calls f for each attribute, and ends with the first error.
func attributes(b []byte, f func(kind uint16, value []byte) error) error {
	for len(b) >= nl.SizeofNfattr {
		length, kind := int(binary.NativeEndian.Uint16(b)), binary.NativeEndian.Uint16(b[2:])
		if length < nl.SizeofNfattr || length > len(b) {
			return errShort
		}
		if err := f(kind&nl.NLA_TYPE_MASK, b[nl.SizeofNfattr:length]); err != nil {
			return err
		}
		b = b[min(len(b), (length+3)&^3):]
	}
	return nil
}

// parse reads what the kernel tells of a connection.
func parse(message []byte) (*connections.Flow, error) {
	if len(message) < nl.SizeofNfgenmsg {
		return nil, errShort
	}
	f := &connections.Flow{}
	err := attributes(message[nl.SizeofNfgenmsg:], func(kind uint16, value []byte) (err error) {
		switch kind {
		case nl.CTA_TUPLE_ORIG:
			f.Original, err = parseTuple(f, value, true)
		case nl.CTA_TUPLE_REPLY:
			f.Reply, err = parseTuple(f, value, false)
		case nl.CTA_STATUS:
			var status uint64
			status, err = number(value, 4)
			f.Related = status&statusExpected != 0
		case nl.CTA_ID:
			var id uint64
			id, err = number(value, 4)
			f.ID = uint32(id)
		case nl.CTA_ZONE:
			f.Zoned = true
		case nl.CTA_PROTOINFO:
			err = parseTCP(f, value)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading a connection: %w", err)
	}
	return f, nil
}

// number reads a number of so many bytes.
func number(b []byte, size int) (uint64, error) {
	if len(b) < size {
		return 0, errShort
	}
	n := uint64(0)
	for _, x := range b[:size] {
		n = n<<8 | uint64(x)
	}
	return n, nil
}

// parseTuple reads one direction of a connection, and what only the first has.
func parseTuple(f *connections.Flow, b []byte, first bool) (connections.Tuple, error) {
	var source, destination netip.Addr
	var sourcePort, destinationPort uint16
	err := attributes(b, func(kind uint16, value []byte) error {
		switch kind {
		case nl.CTA_TUPLE_IP:
			return attributes(value, func(kind uint16, value []byte) error {
				addr, ok := netip.AddrFromSlice(value)
				if !ok {
					return errShort
				}
				switch kind {
				case nl.CTA_IP_V4_SRC, nl.CTA_IP_V6_SRC:
					source = addr
				case nl.CTA_IP_V4_DST, nl.CTA_IP_V6_DST:
					destination = addr
				}
				return nil
			})
		case nl.CTA_TUPLE_PROTO:
			return attributes(value, func(kind uint16, value []byte) error {
				return parseProtocol(f, kind, value, first, &sourcePort, &destinationPort)
			})
		case ctaTupleZone:
			f.Zoned = true
		}
		return nil
	})
	return connections.Tuple{
		Source: netip.AddrPortFrom(source, sourcePort), Destination: netip.AddrPortFrom(destination, destinationPort),
	}, err
}

func parseProtocol(f *connections.Flow, kind uint16, value []byte, first bool, source, destination *uint16) error {
	size := 1
	switch kind {
	case nl.CTA_PROTO_SRC_PORT, nl.CTA_PROTO_DST_PORT, ctaICMPID, ctaICMPv6ID:
		size = 2
	}
	n, err := number(value, size)
	if err != nil {
		return err
	}
	switch kind {
	case nl.CTA_PROTO_SRC_PORT:
		*source = uint16(n)
	case nl.CTA_PROTO_DST_PORT:
		*destination = uint16(n)
	}
	if !first {
		return nil
	}
	switch kind {
	case nl.CTA_PROTO_NUM:
		f.Protocol = uint8(n)
	case ctaICMPID, ctaICMPv6ID:
		f.ICMPID = uint16(n)
	case ctaICMPType, ctaICMPv6Type:
		f.ICMPType = uint8(n)
	case ctaICMPCode, ctaICMPv6Code:
		f.ICMPCode = uint8(n)
	}
	return nil
}

// parseTCP reads how far TCP has come with a connection.
func parseTCP(f *connections.Flow, b []byte) error {
	return attributes(b, func(kind uint16, value []byte) error {
		if kind != nl.CTA_PROTOINFO_TCP {
			return nil
		}
		return attributes(value, func(kind uint16, value []byte) error {
			switch kind {
			case nl.CTA_PROTOINFO_TCP_STATE, nl.CTA_PROTOINFO_TCP_FLAGS_ORIGINAL:
			default:
				return nil
			}
			n, err := number(value, 1) // of flags the first byte; the second is a mask
			if kind == nl.CTA_PROTOINFO_TCP_STATE {
				f.Closed = n == nl.TCP_CONNTRACK_TIME_WAIT || n == nl.TCP_CONNTRACK_CLOSE
			} else {
				f.PickedUp = n&tcpLiberal != 0
			}
			return err
		})
	})
}
