package nftables

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/tables"
)

// Registers: one of 16 bytes for a single value, and the first of the 4-byte ones for concatenations.
const (
	register       = unix.NFT_REG_1
	registerConcat = unix.NFT_REG32_00
)

// passMark is the bit of the packet mark that tells a tier's chain that a program said Pass. It is set on return from
// a program and cleared by the rule behind the jump, so no packet leaves the table with it. kube-proxy uses 0x4000 and
// 0x8000.
const passMark = 0x00010000

// earlyMark is the bit of the packet mark that goes with a packet from one hook to a later one, on nodes with host
// endpoints: from the raw and the mangle hook to the input and output hooks it tells that policy has allowed the packet
// early, and from the output hook to postrouting that the packet is the node's own and still to be judged. It is cleared
// where packets enter, and where it is looked at.
const earlyMark = 0x00020000

// Bits of ct state.
const (
	ctInvalid     = 1
	ctEstablished = 2
	ctRelated     = 4
	ctNew         = 8
	ctUntracked   = 64
)

// setSpec is what the kernel must know of a set.
type setSpec struct {
	flags, keyType, keyLen uint32
}

// byteOrder is that of the key, for nft to show it (NFTNL_UDATA_SET_KEYBYTEORDER): names are in host order, which is 1.
func (s setSpec) byteOrder() uint32 {
	if kind := nftables.TypeIFName; s.keyType == kind.GetNFTMagic() {
		return 1
	}
	return 2
}

// anonymous sets belong to the one rule that names them.
type anonymous struct {
	id       uint32
	spec     setSpec
	elements []element
}

// anonymousSet is the name by which the kernel makes names of anonymous sets.
const anonymousSet = "__set%d"

// addressSpec is the key of sets of addresses; withPort adds protocol and port.
func addressSpec(fam family, withPort bool) setSpec {
	kind := nftables.TypeIPAddr
	if fam == ipv6 {
		kind = nftables.TypeIP6Addr
	}
	return concatenation(kind, withPort)
}

func concatenation(kind nftables.SetDatatype, withPort bool) setSpec {
	spec := setSpec{keyType: kind.GetNFTMagic(), keyLen: fullRegisters(kind.Bytes)}
	if !withPort {
		return spec
	}
	for _, t := range []nftables.SetDatatype{nftables.TypeInetProto, nftables.TypeInetService} {
		spec.add(t)
	}
	return spec
}

// add makes another type part of the concatenated key. Each part starts in a register of its own.
func (s *setSpec) add(t nftables.SetDatatype) {
	s.keyType = s.keyType<<nftables.SetConcatTypeBits | t.GetNFTMagic()
	s.keyLen += fullRegisters(t.Bytes)
}

func fullRegisters(bytes uint32) uint32 { return (bytes + 3) &^ 3 }

// ruleBuilder collects the expressions of one rule and the anonymous sets that it needs.
type ruleBuilder struct {
	exprs []expr.Any
	sets  []anonymous
	setID *uint32 // the last number given to an anonymous set in this batch
}

func (r *ruleBuilder) add(exprs ...expr.Any) { r.exprs = append(r.exprs, exprs...) }

func operator(invert bool) expr.CmpOp {
	if invert {
		return expr.CmpOpNeq
	}
	return expr.CmpOpEq
}

func (r *ruleBuilder) compare(invert bool, data ...byte) {
	r.add(&expr.Cmp{Op: operator(invert), Register: register, Data: data})
}

// lookUp matches the key that begins in reg against a set.
func (r *ruleBuilder) lookUp(reg uint32, set string, id uint32, invert bool) {
	r.add(&expr.Lookup{SourceRegister: reg, SetName: set, SetID: id, Invert: invert})
}

// anonymousSet makes an anonymous set for the rule and matches the register against it.
func (r *ruleBuilder) anonymousSet(spec setSpec, elements []element, invert bool) {
	r.anonymousSetAt(register, spec, elements, invert)
}

func (r *ruleBuilder) anonymousSetAt(reg uint32, spec setSpec, elements []element, invert bool) {
	*r.setID++
	spec.flags |= unix.NFT_SET_ANONYMOUS | unix.NFT_SET_CONSTANT
	r.sets = append(r.sets, anonymous{id: *r.setID, spec: spec, elements: elements})
	r.lookUp(reg, anonymousSet, *r.setID, invert)
}

func (r *ruleBuilder) meta(key expr.MetaKey) { r.add(&expr.Meta{Key: key, Register: register}) }

func (r *ruleBuilder) family(fam family) {
	r.meta(expr.MetaKeyNFPROTO)
	r.compare(false, fam.number())
}

func (r *ruleBuilder) protocol(number uint8, invert bool) {
	r.meta(expr.MetaKeyL4PROTO)
	r.compare(invert, number)
}

// iface matches one interface's name.
func (r *ruleBuilder) iface(key expr.MetaKey, name string) {
	r.meta(key)
	r.compare(false, []byte(interfaceKey(name))...)
}

// noSYN matches TCP packets that don't ask to open a connection.
func (r *ruleBuilder) noSYN() {
	const flagsAt, syn = 13, 2
	r.protocol(unix.IPPROTO_TCP, false)
	r.transport(register, flagsAt, 1)
	r.add(&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 1, Mask: []byte{syn}, Xor: []byte{0}})
	r.compare(false, 0)
}

// interfacePrefix matches the beginning of an interface's name.
func (r *ruleBuilder) interfacePrefix(key expr.MetaKey, prefix string, invert bool) {
	r.meta(key)
	r.compare(invert, []byte(prefix)...)
}

// ctState matches packets whose connection is in one of the states.
func (r *ruleBuilder) ctState(states uint32) {
	r.add(&expr.Ct{Key: expr.CtKeySTATE, Register: register})
	r.bits(states)
	r.compare(true, 0, 0, 0, 0)
}

// bits keeps only the bits of mask in the register, which holds a number in host byte order.
func (r *ruleBuilder) bits(mask uint32) {
	r.add(&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 4, Mask: hostOrder(mask), Xor: hostOrder(0)})
}

func hostOrder(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }

func (r *ruleBuilder) address(fam family, e end, reg uint32) {
	r.add(&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: fam.addressOffset(e), Len: fam.addressLen()})
}

func (r *ruleBuilder) transport(reg, offset, length uint32) {
	r.add(&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: length})
}

// netSet matches addresses in (invert: outside) CIDRs of the family that do not overlap, by an anonymous set.
func (r *ruleBuilder) netSet(fam family, e end, nets []netip.Prefix, invert bool) {
	r.address(fam, e, register)
	spec := addressSpec(fam, false)
	spec.flags = unix.NFT_SET_INTERVAL
	var elements []element
	for _, p := range nets {
		elements = append(elements, intervalOf(p)...)
	}
	r.anonymousSet(spec, elements, invert)
}

// net matches addresses in (invert: outside) one CIDR.
func (r *ruleBuilder) net(fam family, e end, p netip.Prefix, invert bool) {
	r.address(fam, e, register)
	if !p.IsSingleIP() {
		mask, length := make([]byte, fam.addressLen()), fam.addressLen()
		for i := range p.Bits() {
			mask[i/8] |= 0x80 >> (i % 8)
		}
		r.add(&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: length, Mask: mask, Xor: make([]byte, length)})
	}
	r.compare(invert, p.Masked().Addr().AsSlice()...)
}

// portRange matches ports in (invert: outside) one range. A packet without ports matches neither way.
func (r *ruleBuilder) portRange(e end, ports tables.PortRange, invert bool) {
	r.transport(register, e.portOffset(), 2)
	if ports.First == ports.Last {
		r.compare(invert, []byte(portKey(ports.First))...)
		return
	}
	r.add(&expr.Range{Op: operator(invert), Register: register, FromData: []byte(portKey(ports.First)), ToData: []byte(portKey(ports.Last))})
}

// portRangeSet matches ports in (invert: outside) ranges that do not overlap, by an anonymous set.
func (r *ruleBuilder) portRangeSet(e end, merged []tables.PortRange, invert bool) {
	r.transport(register, e.portOffset(), 2)
	kind := nftables.TypeInetService
	r.anonymousSet(setSpec{keyType: kind.GetNFTMagic(), keyLen: kind.Bytes, flags: unix.NFT_SET_INTERVAL}, portIntervals(merged), invert)
}

// portSet matches the concatenation of address, protocol and port against a set.
func (r *ruleBuilder) portSet(fam family, e end, set string, invert bool) {
	words := fam.addressLen() / 4
	r.address(fam, e, registerConcat)
	r.add(&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: registerConcat + words})
	r.transport(registerConcat+words+1, e.portOffset(), 2)
	r.lookUp(registerConcat, set, 0, invert)
}

// protocolPorts matches the concatenation of protocol and port against an anonymous set.
func (r *ruleBuilder) protocolPorts(e end, elements []element) {
	r.add(&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: registerConcat})
	r.transport(registerConcat+1, e.portOffset(), 2)
	kind := nftables.TypeInetProto
	spec := setSpec{keyType: kind.GetNFTMagic(), keyLen: fullRegisters(kind.Bytes)}
	spec.add(nftables.TypeInetService)
	r.anonymousSetAt(registerConcat, spec, elements, false)
}

// protocolPortKey is the element that protocolPorts looks for.
func protocolPortKey(protocol uint8, port uint16) string {
	return string([]byte{protocol, 0, 0, 0, byte(port >> 8), byte(port), 0, 0})
}

// portKeyOf is the element that portSet looks for.
func portKeyOf(m tables.Member) string {
	key := append(m.Prefix.Addr().AsSlice(), m.Protocol, 0, 0, 0)
	return string(append(key, byte(m.Port>>8), byte(m.Port), 0, 0))
}

// withPorts matches packets that have ports.
func (r *ruleBuilder) withPorts() {
	r.meta(expr.MetaKeyL4PROTO)
	kind := nftables.TypeInetProto
	r.anonymousSet(setSpec{keyType: kind.GetNFTMagic(), keyLen: kind.Bytes},
		[]element{{key: string([]byte{unix.IPPROTO_TCP})}, {key: string([]byte{unix.IPPROTO_UDP})}, {key: string([]byte{unix.IPPROTO_SCTP})}}, false)
}

// icmp matches the type, and the code unless it is negative, of a packet of the family's ICMP.
func (r *ruleBuilder) icmp(m tables.ICMP, invert bool) {
	if m.Code < 0 {
		r.transport(register, 0, 1)
		r.compare(invert, byte(m.Type))
		return
	}
	r.transport(register, 0, 2)
	r.compare(invert, byte(m.Type), byte(m.Code))
}

// setMark sets or clears one bit of the packet mark.
func (r *ruleBuilder) setMark(bit uint32, on bool) {
	mask, xor := hostOrder(^bit), hostOrder(0)
	if on {
		xor = hostOrder(bit)
	}
	r.meta(expr.MetaKeyMARK)
	r.add(&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 4, Mask: mask, Xor: xor},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: register})
}

// hasMark matches packets whose mark has the bit (invert: has it not).
func (r *ruleBuilder) hasMark(bit uint32, invert bool) {
	r.meta(expr.MetaKeyMARK)
	r.bits(bit)
	r.compare(!invert, 0, 0, 0, 0)
}

func (r *ruleBuilder) accept()           { r.add(&expr.Verdict{Kind: expr.VerdictAccept}) }
func (r *ruleBuilder) drop()             { r.add(&expr.Verdict{Kind: expr.VerdictDrop}) }
func (r *ruleBuilder) goBack()           { r.add(&expr.Verdict{Kind: expr.VerdictReturn}) }
func (r *ruleBuilder) jump(chain string) { r.add(&expr.Verdict{Kind: expr.VerdictJump, Chain: chain}) }

func (r *ruleBuilder) goTo(chain string) { r.add(&expr.Verdict{Kind: expr.VerdictGoto, Chain: chain}) }

// dispatch goes where a verdict map leads for the name of the packet's interface.
func (r *ruleBuilder) dispatch(key expr.MetaKey, verdictMap string) {
	r.meta(key)
	r.add(&expr.Lookup{SourceRegister: register, SetName: verdictMap, IsDestRegSet: true, DestRegister: unix.NFT_REG_VERDICT})
}

// logLevel is that of the notices that users of the API look for.
const logLevel = expr.LogLevelNotice

// logPrefix is what lines of rules with the action Log begin with.
const logPrefix = "calico-packet: "

func (r *ruleBuilder) log() {
	r.add(&expr.Log{Key: 1<<unix.NFTA_LOG_PREFIX | 1<<unix.NFTA_LOG_LEVEL, Level: logLevel, Data: []byte(logPrefix)})
}
