package nftables

import (
	"context"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/manul-net/manul/nodeagent/fold"
	"github.com/manul-net/manul/nodeagent/tables"
)

// Programs that only allow are folded where there are many in a row (package fold): what they allow are elements of one set for
// each family, and a tier's chain has a few look-ups in it. Such a program has no chain, and a set that only such programs name
// is not in the kernel: the kernel looks through all sets of a table, one by one, whenever one is named.

// foldSet is the name of a fold's set of one family.
func foldSet(f *fold.Fold, fam family) string { return "f" + fam.digit() + "-" + f.Name }

// foldSpec is the type of such sets: address, length of the prefix, protocol, port.
func foldSpec(fam family) setSpec {
	kind := nftables.TypeIPAddr
	if fam == ipv6 {
		kind = nftables.TypeIP6Addr
	}
	spec := setSpec{keyType: kind.GetNFTMagic(), keyLen: fullRegisters(kind.Bytes)}
	for _, t := range []nftables.SetDatatype{nftables.TypeInetProto, nftables.TypeInetProto, nftables.TypeInetService} {
		spec.add(t)
	}
	return spec
}

// foldKey is an element as foldLookUp looks for it.
func foldKey(e fold.Element) string {
	key := append(e.Prefix.Addr().AsSlice(), byte(e.Prefix.Bits()), 0, 0, 0, e.Protocol, 0, 0, 0)
	return string(append(key, byte(e.Port>>8), byte(e.Port), 0, 0))
}

// foldElement is the element whose key is given; false: it is none.
func foldElement(fam family, key string) (fold.Element, bool) {
	n := int(fam.addressLen())
	if len(key) < n+10 {
		return fold.Element{}, false
	}
	m, _ := memberOf("", tables.Addresses, fam, key)
	prefix, err := m.Prefix.Addr().Prefix(int(key[n]))
	e := fold.Element{Prefix: prefix, Protocol: key[n+4], Port: uint16(key[n+8])<<8 | uint16(key[n+9])}
	return e, err == nil && prefix.Addr() == m.Prefix.Addr()
}

// foldLookUp accepts what an element of the shape matches.
func (r *ruleBuilder) foldLookUp(f *fold.Fold, shape fold.Shape) {
	fam, at := ipv4, source
	if shape.IPv6 {
		fam = ipv6
	}
	if f.Direction() == fold.Egress {
		at = destination
	}
	words := fam.addressLen() / 4
	r.family(fam)
	r.address(fam, at, registerConcat)
	if length := fam.addressLen(); uint32(shape.Bits) < 8*length {
		mask := make([]byte, length)
		for i := range shape.Bits {
			mask[i/8] |= 0x80 >> (i % 8)
		}
		r.add(&expr.Bitwise{SourceRegister: registerConcat, DestRegister: registerConcat, Len: length, Mask: mask, Xor: make([]byte, length)})
	}
	r.add(&expr.Immediate{Register: registerConcat + words, Data: []byte{shape.Bits, 0, 0, 0}})
	if shape.Protocol {
		r.add(&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: registerConcat + words + 1})
	} else {
		r.add(&expr.Immediate{Register: registerConcat + words + 1, Data: make([]byte, 4)})
	}
	if shape.Port {
		r.transport(registerConcat+words+2, destination.portOffset(), 2)
	} else {
		r.add(&expr.Immediate{Register: registerConcat + words + 2, Data: make([]byte, 4)})
	}
	r.lookUp(registerConcat, foldSet(f, fam), 0, false)
	r.accept()
}

// looked is what was found out about the rules of a program.
type looked struct {
	contents [directions]digest
	// held: the kernel refused the program in this form, or it is not fit for it.
	held bool
}

// lookAtProgram works out what a program's chains are to hold, or why it can't be put into force.
func (tx *transaction) lookAtProgram(name string, program *tables.Program) looked {
	if l, ok := tx.looked[name]; ok {
		return l
	}
	it := item{tables.KindProgram, name}
	var l looked
	for d, rules := range [directions][]tables.Rule{program.Ingress, program.Egress} {
		content, err := rulesDigest(rules, tx.setType, tx.state.inUse)
		if err != nil {
			tx.d.refused[it] = refusedItem{err: fmt.Errorf("%s %w", [directions]string{"ingress", "egress"}[d], err)}
			l.held = true
			break
		}
		if shapeOf(rules) == passing {
			content += passingSuffix
		}
		l.contents[d] = content
	}
	if !l.held {
		tx.digests[it] = l.contents[ingress] + l.contents[egress]
		l.held = tx.refused(it)
	}
	tx.looked[name] = l
	return l
}

// planFolder works out what is folded.
func (tx *transaction) planFolder(context.Context) error {
	dataplane := fold.Dataplane{
		Fit:      func(name string, program *tables.Program) bool { return !tx.lookAtProgram(name, program).held },
		TierName: func(d fold.Direction, t tables.Tier) string { return tierName(direction(d), t) },
	}
	if tx.full() {
		tx.state.folder.TellAll(dataplane)
		return nil
	}
	// A program that named a set that did not exist may be complete now; one that has gone is refused no more. Looking at it
	// takes it off the list of those that are refused.
	for it := range tx.d.refused {
		if it.kind == tables.KindProgram {
			tx.retried = append(tx.retried, it.name)
		}
	}
	tx.state.folder.Tell(dataplane, tx.retried)
	return nil
}

// away tells whether a program's chain for a direction is not needed.
func (tx *transaction) away(d direction, program string) bool {
	return tx.state.folder.Away(fold.Key{Direction: fold.Direction(d), Program: program})
}

// planFolds makes the sets of folds hold what they are to.
func (tx *transaction) planFolds(ctx context.Context) error {
	it := item{kind: kindSettings}
	for _, f := range tx.state.folder.Changed() {
		for _, fam := range tx.state.inUse.families() {
			name := foldSet(f, fam)
			switch {
			case f.Active() && !f.Exists():
				if err := tx.makeFold(ctx, f, fam); err != nil {
					return err
				}
			case f.Active():
				p := tx.pendingOf(it, name)
				for e, came := range f.Changes() {
					if familyOf(e.Prefix.Addr()) != fam {
						continue
					}
					if came {
						p.adds = append(p.adds, element{key: foldKey(e)})
					} else {
						p.deletes = append(p.deletes, element{key: foldKey(e)})
					}
				}
			case f.Exists():
				tx.lateSets = append(tx.lateSets, name)
			}
		}
	}
	for _, f := range tx.state.folder.Gone() {
		for _, fam := range tx.state.inUse.families() {
			tx.lateSets = append(tx.lateSets, foldSet(f, fam))
		}
	}
	return nil
}

// makeFold makes the set of a fold that was not in force. When everything is compared it may be in the kernel.
func (tx *transaction) makeFold(ctx context.Context, f *fold.Fold, fam family) error {
	it, name := item{kind: kindSettings}, foldSet(f, fam)
	tx.early.item = it
	tx.ensureSet(name, foldSpec(fam))
	p := tx.pendingOf(it, name)
	present := map[fold.Element]bool{}
	if !tx.newSets[name] {
		have, err := tx.d.socket.readElements(name)
		if err != nil {
			return err
		}
		for _, e := range have {
			if parsed, ok := foldElement(fam, e.key); ok && f.Has(parsed) {
				present[parsed] = true
			} else {
				p.deletes = append(p.deletes, e)
			}
		}
	}
	for e := range f.Elements() {
		if familyOf(e.Prefix.Addr()) != fam || present[e] {
			continue
		}
		p.adds = append(p.adds, element{key: foldKey(e)})
		if len(p.adds) >= group {
			tx.flushAdds(name, p)
			if err := tx.sendEarly(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}
