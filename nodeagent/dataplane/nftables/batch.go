package nftables

import (
	"encoding/binary"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// tableName is the one table, of family inet, that holds all that the driver owns.
const tableName = "manul"

// udataComment marks what nft shows as a rule's comment (NFTNL_UDATA_RULE_COMMENT).
const udataComment = 0

// udataKeyByteOrder tells nft the byte order of a set's keys (NFTNL_UDATA_SET_KEYBYTEORDER).
const udataKeyByteOrder = 0

func messageType(message uint16) uint16 { return unix.NFNL_SUBSYS_NFTABLES<<8 | message }

// item is what a message belongs to: the kernel's refusal is reported under its name.
type item struct {
	kind string
	name string
}

// kindSettings is the kind of what is no item of the tables: base chains, and chains between them and programs.
const kindSettings = "Settings"

// batch is a transaction in the making.
type batch struct {
	w      wire
	items  []item // of each message
	starts []int  // of each message in w.b
	begin  int    // length of the opening message
	item   item   // of the messages to come
}

func newBatch() *batch {
	b := &batch{}
	b.reset()
	return b
}

// keepBatch is the size up to which a batch keeps its buffer for the next transaction.
const keepBatch = 64 << 10

// reset empties the batch.
func (b *batch) reset() {
	buffer := b.w.b[:0]
	if cap(buffer) > keepBatch {
		buffer = nil
	}
	*b = batch{w: wire{b: buffer}, items: b.items[:0], starts: b.starts[:0]}
	at := b.w.message(unix.NFNL_MSG_BATCH_BEGIN, unix.NLM_F_REQUEST, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	b.w.endMessage(at)
	b.begin = len(b.w.b)
}

func (b *batch) len() int   { return len(b.starts) }
func (b *batch) bytes() int { return len(b.w.b) }

// append adds the messages of another batch.
func (b *batch) append(other *batch) {
	shift := len(b.w.b) - other.begin
	b.w.b = append(b.w.b, other.w.b[other.begin:]...)
	b.items = append(b.items, other.items...)
	for _, at := range other.starts {
		b.starts = append(b.starts, at+shift)
	}
}

// finish closes the batch, numbers its messages from seq on and returns how many numbers it took. Only the last message
// asks for an acknowledgement: refusals come in any case, and thousands of acknowledgements would fill the socket.
func (b *batch) finish(seq uint32) int {
	if n := len(b.starts); n > 0 {
		flags := b.w.b[b.starts[n-1]+6:]
		binary.NativeEndian.PutUint16(flags, binary.NativeEndian.Uint16(flags)|unix.NLM_F_ACK)
	}
	binary.NativeEndian.PutUint32(b.w.b[8:], seq)
	for i, at := range b.starts {
		binary.NativeEndian.PutUint32(b.w.b[at+8:], seq+1+uint32(i))
	}
	at := b.w.message(unix.NFNL_MSG_BATCH_END, unix.NLM_F_REQUEST, seq+1+uint32(len(b.starts)), unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	b.w.endMessage(at)
	return len(b.starts) + 2
}

func (b *batch) message(message, flags uint16) int {
	at := b.w.message(messageType(message), unix.NLM_F_REQUEST|flags, 0, unix.NFPROTO_INET, 0)
	b.items = append(b.items, b.item)
	b.starts = append(b.starts, at)
	return at
}

// addTable adds the table if it is not there, and wakes it if someone made it dormant.
func (b *batch) addTable() {
	at := b.message(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE)
	b.w.text(unix.NFTA_TABLE_NAME, tableName)
	b.w.uint32(unix.NFTA_TABLE_FLAGS, 0)
	b.w.endMessage(at)
}

func (b *batch) deleteTable() {
	at := b.message(unix.NFT_MSG_DELTABLE, 0)
	b.w.text(unix.NFTA_TABLE_NAME, tableName)
	b.w.endMessage(at)
}

// hook is where a base chain sees packets.
type hook struct {
	number   uint32
	priority int32
	kind     string // "filter" or "nat"
}

// addChain adds a chain; hook is nil unless it is a base chain. Base chains accept by policy: they drop by rules.
func (b *batch) addChain(name string, hook *hook) {
	at := b.message(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE)
	b.w.text(unix.NFTA_CHAIN_TABLE, tableName)
	b.w.text(unix.NFTA_CHAIN_NAME, name)
	if hook != nil {
		nest := b.w.nest(unix.NFTA_CHAIN_HOOK)
		b.w.uint32(unix.NFTA_HOOK_HOOKNUM, hook.number)
		b.w.uint32(unix.NFTA_HOOK_PRIORITY, uint32(hook.priority))
		b.w.endNest(nest)
		b.w.uint32(unix.NFTA_CHAIN_POLICY, codeAccept)
		b.w.text(unix.NFTA_CHAIN_TYPE, hook.kind)
	}
	b.w.endMessage(at)
}

// deleteChain deletes a chain and its rules.
func (b *batch) deleteChain(name string) {
	at := b.message(unix.NFT_MSG_DELCHAIN, 0)
	b.w.text(unix.NFTA_CHAIN_TABLE, tableName)
	b.w.text(unix.NFTA_CHAIN_NAME, name)
	b.w.endMessage(at)
}

// flushChain deletes the rules of a chain.
func (b *batch) flushChain(name string) {
	at := b.message(unix.NFT_MSG_DELRULE, 0)
	b.w.text(unix.NFTA_RULE_TABLE, tableName)
	b.w.text(unix.NFTA_RULE_CHAIN, name)
	b.w.endMessage(at)
}

// addRule appends a rule to a chain.
func (b *batch) addRule(chain, comment string, exprs []expr.Any) error {
	at := b.message(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND)
	b.w.text(unix.NFTA_RULE_TABLE, tableName)
	b.w.text(unix.NFTA_RULE_CHAIN, chain)
	nest := b.w.nest(unix.NFTA_RULE_EXPRESSIONS)
	for _, e := range exprs {
		encoded, err := expr.Marshal(unix.NFPROTO_INET, e)
		if err != nil {
			return err
		}
		b.w.bytes(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, encoded)
	}
	b.w.endNest(nest)
	b.w.header(unix.NFTA_RULE_USERDATA, 2+len(comment)+1)
	b.w.b = append(b.w.b, udataComment, byte(len(comment)+1))
	b.w.b = append(b.w.b, comment...)
	b.w.b = append(b.w.b, 0)
	b.w.pad()
	b.w.endMessage(at)
	return nil
}

// addSet adds a set without elements. An anonymous set has the name anonymousSet and a number that rules of the same
// batch name it by.
func (b *batch) addSet(name string, id uint32, spec setSpec) {
	at := b.message(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE)
	b.w.text(unix.NFTA_SET_TABLE, tableName)
	b.w.text(unix.NFTA_SET_NAME, name)
	b.w.uint32(unix.NFTA_SET_FLAGS, spec.flags)
	b.w.uint32(unix.NFTA_SET_KEY_TYPE, spec.keyType)
	b.w.uint32(unix.NFTA_SET_KEY_LEN, spec.keyLen)
	if spec.flags&unix.NFT_SET_MAP != 0 {
		b.w.uint32(unix.NFTA_SET_DATA_TYPE, unix.NFT_DATA_VERDICT)
		b.w.uint32(unix.NFTA_SET_DATA_LEN, 0)
	}
	b.w.uint32(unix.NFTA_SET_ID, id)
	b.w.header(unix.NFTA_SET_USERDATA, 6)
	b.w.b = append(b.w.b, udataKeyByteOrder, 4)
	b.w.b = binary.NativeEndian.AppendUint32(b.w.b, spec.byteOrder())
	b.w.pad()
	b.w.endMessage(at)
}

func (b *batch) deleteSet(name string) {
	at := b.message(unix.NFT_MSG_DELSET, 0)
	b.w.text(unix.NFTA_SET_TABLE, tableName)
	b.w.text(unix.NFTA_SET_NAME, name)
	b.w.endMessage(at)
}

// element of a set. In interval sets an interval is two elements: its first key, and the key after its last, with end
// set; the latter is absent when the interval reaches to the end of the key space.
type element struct {
	key string
	end bool
	to  string // in maps only: accept, drop, or the name of the chain to jump to
}

// Where a map leads when it is not to a chain.
const (
	toAccept = "accept"
	toDrop   = "drop"
)

// Verdict codes of the kernel: NF_DROP, NF_ACCEPT, NFT_JUMP.
const (
	codeDrop   = 0
	codeAccept = 1
	codeJump   = 0xfffffffd // -3
)

// flushSet deletes all elements of a set.
func (b *batch) flushSet(name string) {
	at := b.message(unix.NFT_MSG_DELSETELEM, 0)
	b.w.text(unix.NFTA_SET_ELEM_LIST_TABLE, tableName)
	b.w.text(unix.NFTA_SET_ELEM_LIST_SET, name)
	b.w.endMessage(at)
}

// elements adds or deletes elements of a set, in as many messages as their size demands.
func (b *batch) elements(message uint16, set string, id uint32, elements []element) {
	for len(elements) > 0 {
		flags := uint16(0)
		if message == unix.NFT_MSG_NEWSETELEM {
			flags = unix.NLM_F_CREATE
		}
		at := b.message(message, flags)
		b.w.text(unix.NFTA_SET_ELEM_LIST_TABLE, tableName)
		b.w.text(unix.NFTA_SET_ELEM_LIST_SET, set)
		b.w.uint32(unix.NFTA_SET_ELEM_LIST_SET_ID, id)
		list := b.w.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
		n := 0
		for n < len(elements) && len(b.w.b)-list < maxAttrBytes {
			b.element(elements[n], message == unix.NFT_MSG_NEWSETELEM)
			n++
		}
		b.w.endNest(list)
		b.w.endMessage(at)
		elements = elements[n:]
	}
}

func (b *batch) element(e element, withData bool) {
	nest := b.w.nest(unix.NFTA_LIST_ELEM)
	if e.end {
		b.w.uint32(unix.NFTA_SET_ELEM_FLAGS, unix.NFT_SET_ELEM_INTERVAL_END)
	}
	key := b.w.nest(unix.NFTA_SET_ELEM_KEY)
	b.w.header(unix.NFTA_DATA_VALUE, len(e.key))
	b.w.b = append(b.w.b, e.key...)
	b.w.pad()
	b.w.endNest(key)
	if withData && e.to != "" {
		data := b.w.nest(unix.NFTA_SET_ELEM_DATA)
		inner := b.w.nest(unix.NFTA_DATA_VERDICT)
		switch e.to {
		case toAccept:
			b.w.uint32(unix.NFTA_VERDICT_CODE, codeAccept)
		case toDrop:
			b.w.uint32(unix.NFTA_VERDICT_CODE, codeDrop)
		default:
			b.w.uint32(unix.NFTA_VERDICT_CODE, codeJump)
			b.w.text(unix.NFTA_VERDICT_CHAIN, e.to)
		}
		b.w.endNest(inner)
		b.w.endNest(data)
	}
	b.w.endNest(nest)
}

// without is a copy of the batch that lacks some of its messages.
func (b *batch) without(messages map[int]bool) *batch {
	kept := newBatch()
	for i, at := range b.starts {
		if messages[i] {
			continue
		}
		length := int(binary.NativeEndian.Uint32(b.w.b[at:]))
		kept.items = append(kept.items, b.items[i])
		kept.starts = append(kept.starts, len(kept.w.b))
		kept.w.b = append(kept.w.b, b.w.b[at:at+length]...)
	}
	return kept
}
