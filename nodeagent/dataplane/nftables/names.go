package nftables

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"net/netip"
	"strings"

	"github.com/manul-net/manul/nodeagent/tables"
)

// renderVersion is part of every digest. Raise it whenever the same tables become other rules, so that an agent that
// starts over the chains of an earlier version rewrites them. TestRenderVersion fails until it is raised.
const renderVersion = 6

// maxName bounds the readable part of names of chains and sets; the kernel takes 255 bytes.
const maxName = 120

// direction of policy, as seen from the endpoint.
type direction uint8

const (
	ingress direction = iota
	egress
	directions
)

// letter tells the direction in names of chains.
func (d direction) letter() string {
	if d == ingress {
		return "i"
	}
	return "e"
}

// readable makes name fit for the kernel and for nft's own syntax. Names that had to be changed end in an underscore and
// a digest, which keeps them apart.
func readable(name string) string {
	clean := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '.':
			return r
		}
		return '_'
	}, name)
	if clean == name && len(name) <= maxName {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return clean[:min(len(clean), maxName)] + "_" + hex.EncodeToString(sum[:8])
}

// programChain is the name of the chain that holds a program's rules for one direction.
func programChain(d direction, program string) string {
	return "p" + d.letter() + "-" + readable(program)
}

// setName is the name of the set of one family that holds members of a set. It tells the type: a set that changes its
// type becomes another set.
func setName(id string, typ tables.SetType, fam family) string {
	kind := map[tables.SetType]string{tables.Addresses: "a", tables.Nets: "n", tables.NamedPorts: "p"}[typ]
	return kind + fam.digit() + "-" + readable(id)
}

// digest identifies the content of a chain. It is kept in the comment of each of its rules.
type digest string

// digester hashes a canonical form of what a chain is made from.
type digester struct {
	h hash.Hash
	b []byte
}

func newDigester(kind string) *digester {
	d := &digester{h: sha256.New()}
	d.number(renderVersion)
	d.text(kind)
	return d
}

func (d *digester) text(s string) {
	d.number(uint64(len(s)))
	d.b = append(d.b, s...)
	if len(d.b) > 1024 {
		d.h.Write(d.b)
		d.b = d.b[:0]
	}
}

func (d *digester) number(n uint64) { d.b = binary.AppendUvarint(d.b, n) }

func (d *digester) flag(on bool) {
	if on {
		d.number(1)
	} else {
		d.number(0)
	}
}

func (d *digester) texts(list []string) {
	d.number(uint64(len(list)))
	for _, s := range list {
		d.text(s)
	}
}

func (d *digester) prefixes(list []netip.Prefix) {
	d.number(uint64(len(list)))
	for _, p := range list {
		d.b = append(d.b, p.Addr().AsSlice()...)
		d.number(uint64(p.Addr().BitLen()))
		d.number(uint64(p.Bits() + 1))
	}
}

func (d *digester) ports(list []tables.PortRange) {
	d.number(uint64(len(list)))
	for _, p := range list {
		d.number(uint64(p.First))
		d.number(uint64(p.Last))
	}
}

func (d *digester) sum() digest {
	d.h.Write(d.b)
	return digest(hex.EncodeToString(d.h.Sum(nil)[:8]))
}

// comment is what a rule carries: the digest of its chain's content, its own place and how many rules there are, so
// that a chain can be checked without looking at any expression.
func (d digest) comment(place, of int) string { return fmt.Sprintf("%s %d/%d", string(d), place, of) }
