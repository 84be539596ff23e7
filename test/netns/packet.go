package netns

import (
	"cmp"
	"encoding/binary"
	"hash/crc32"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// Packet is one packet, the first of its flow unless it says otherwise. It is sent as it is: addresses may be anything.
type Packet struct {
	From, To netip.Addr
	// Protocol is an IANA number. TCP is a SYN unless Flags say otherwise, SCTP an INIT, ICMP and ICMPv6 what Type and Code say, GRE of
	// version 0 (RFC 2784); others, IPIP among them, carry nothing but a mark.
	Protocol uint8
	// SourcePort and Port of TCP, UDP and SCTP.
	SourcePort, Port uint16
	// Flags of TCP. 0: SYN.
	Flags uint8
	// Type and Code of ICMP.
	Type, Code uint8
	// Inner is the packet that an ICMP error is about, or that IPIP carries.
	Inner *Packet
	// Hops is the hop limit. 0: 64.
	Hops uint8
}

// marker is what a packet carries so that it is known again on arrival.
func marker(id uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte("manul:"), id)
}

// payload is the packet behind its IP header.
func (p Packet) payload(id uint32) []byte {
	mark := marker(id)
	ports := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, p.SourcePort), p.Port)
	switch p.Protocol {
	case unix.IPPROTO_TCP:
		const words, syn = 5, 2
		b := binary.BigEndian.AppendUint32(ports, id) // sequence number
		b = append(b, 0, 0, 0, 0, words<<4, cmp.Or(p.Flags, syn), 0xff, 0xff, 0, 0, 0, 0)
		return p.checksummed(append(b, mark...), 16)
	case unix.IPPROTO_UDP:
		b := binary.BigEndian.AppendUint16(ports, uint16(8+len(mark)))
		return p.checksummed(append(append(b, 0, 0), mark...), 6)
	case unix.IPPROTO_SCTP:
		const initChunk, fixed = 1, 20
		b := append(slices.Clone(ports), 0, 0, 0, 0, 0, 0, 0, 0, initChunk, 0) // no verification tag; checksum; chunk
		b = binary.BigEndian.AppendUint16(b, uint16(fixed+len(mark)))
		b = binary.BigEndian.AppendUint32(b, id|1)              // initiate tag, not 0
		b = append(b, 0, 0, 0xff, 0xff, 0, 1, 0, 1, 0, 0, 0, 1) // window, streams, sequence number
		b = append(b, mark...)
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
		binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
		return b
	case unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6:
		if p.Inner != nil {
			return p.checksummed(append([]byte{p.Type, p.Code, 0, 0, 0, 0, 0, 0}, p.Inner.carried(id)...), 2)
		}
		// The identifier is what connection tracking tells flows by: its bits are those of the ID that differ. Then the sequence number.
		b := append([]byte{p.Type, p.Code, 0, 0}, mark[len(mark)-2], mark[len(mark)-1], mark[len(mark)-4], mark[len(mark)-3])
		return p.checksummed(append(b, mark...), 2)
	}
	if p.Inner != nil {
		return p.Inner.carried(id)
	}
	if p.Protocol == unix.IPPROTO_GRE {
		return append([]byte{0, 0, 8, 0}, mark...) // no options, IPv4 inside; another version would need a known call
	}
	return mark
}

// carried is the packet inside another one, where the kernel fills in nothing.
func (p Packet) carried(id uint32) []byte {
	b := p.encoded(id)
	if p.From.Is4() {
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		binary.BigEndian.PutUint16(b[10:], checksum(b[:20]))
	}
	return b
}

// checksum is the Internet checksum (RFC 1071).
func checksum(parts ...[]byte) uint16 {
	sum := uint32(0)
	for _, b := range parts {
		for i := 0; i < len(b); i += 2 {
			sum += uint32(b[i]) << 8
			if i+1 < len(b) {
				sum += uint32(b[i+1])
			}
		}
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// checksummed fills in the checksum at the offset: over a pseudo header too, except for ICMP (RFC 1071, 8200).
func (p Packet) checksummed(b []byte, at int) []byte {
	parts := [][]byte{b}
	if p.Protocol != unix.IPPROTO_ICMP {
		length := binary.BigEndian.AppendUint16([]byte{0, p.Protocol}, uint16(len(b)))
		parts = append(parts, p.From.AsSlice(), p.To.AsSlice(), length)
	}
	binary.BigEndian.PutUint16(b[at:], checksum(parts...))
	return b
}

// encoded is the whole packet.
func (p Packet) encoded(id uint32) []byte {
	hops := cmp.Or(p.Hops, 64)
	body := p.payload(id)
	if p.From.Is4() {
		b := []byte{0x45, 0, 0, 0, 0, 0, 0, 0, hops, p.Protocol, 0, 0} // the kernel fills in length, ID and checksum
		b = append(append(b, p.From.AsSlice()...), p.To.AsSlice()...)
		return append(b, body...)
	}
	b := binary.BigEndian.AppendUint16([]byte{0x60, 0, 0, 0}, uint16(len(body)))
	b = append(b, p.Protocol, hops)
	b = append(append(b, p.From.AsSlice()...), p.To.AsSlice()...)
	return append(b, body...)
}
