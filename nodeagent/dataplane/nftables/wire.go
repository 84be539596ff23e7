package nftables

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Sizes of netlink headers, bytes.
const (
	nlHeaderLen  = 16 // struct nlmsghdr
	nfHeaderLen  = 4  // struct nfgenmsg
	attrHeader   = 4  // struct nlattr
	maxAttrBytes = 48 << 10
)

// wire appends netlink messages and attributes to a buffer. Lengths of messages and nested attributes are filled in
// when they end.
type wire struct {
	b []byte
}

// message starts a message of nfnetlink and returns its position, for endMessage.
func (w *wire) message(typ, flags uint16, seq uint32, family uint8, resource uint16) int {
	at := len(w.b)
	w.b = binary.NativeEndian.AppendUint32(w.b, 0)
	w.b = binary.NativeEndian.AppendUint16(w.b, typ)
	w.b = binary.NativeEndian.AppendUint16(w.b, flags)
	w.b = binary.NativeEndian.AppendUint32(w.b, seq)
	w.b = binary.NativeEndian.AppendUint32(w.b, 0)
	w.b = append(w.b, family, unix.NFNETLINK_V0)
	w.b = binary.BigEndian.AppendUint16(w.b, resource)
	return at
}

func (w *wire) endMessage(at int) {
	binary.NativeEndian.PutUint32(w.b[at:], uint32(len(w.b)-at))
}

func (w *wire) pad() {
	for len(w.b)%4 != 0 {
		w.b = append(w.b, 0)
	}
}

func (w *wire) header(typ uint16, payload int) {
	w.b = binary.NativeEndian.AppendUint16(w.b, uint16(attrHeader+payload))
	w.b = binary.NativeEndian.AppendUint16(w.b, typ)
}

func (w *wire) bytes(typ uint16, value []byte) {
	w.header(typ, len(value))
	w.b = append(w.b, value...)
	w.pad()
}

// text appends a NUL-terminated string.
func (w *wire) text(typ uint16, value string) {
	w.header(typ, len(value)+1)
	w.b = append(w.b, value...)
	w.b = append(w.b, 0)
	w.pad()
}

// uint32 appends a number in network byte order, as all of nftables' are.
func (w *wire) uint32(typ uint16, value uint32) {
	w.header(typ, 4)
	w.b = binary.BigEndian.AppendUint32(w.b, value)
}

// nest starts a nested attribute and returns its position, for endNest.
func (w *wire) nest(typ uint16) int {
	at := len(w.b)
	w.header(typ|unix.NLA_F_NESTED, 0)
	return at
}

func (w *wire) endNest(at int) {
	binary.NativeEndian.PutUint16(w.b[at:], uint16(len(w.b)-at))
}

// attributes calls visit for each attribute in b, nested ones included as their raw payload, and stops at the first
// that is not well formed.
func attributes(b []byte, visit func(typ uint16, value []byte)) {
	for len(b) >= attrHeader {
		length := int(binary.NativeEndian.Uint16(b))
		if length < attrHeader || length > len(b) {
			return
		}
		visit(binary.NativeEndian.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[attrHeader:length])
		next := (length + 3) &^ 3
		if next >= len(b) {
			return
		}
		b = b[next:]
	}
}

// cString is the string up to the first NUL.
func cString(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}
