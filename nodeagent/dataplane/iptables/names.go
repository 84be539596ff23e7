package iptables

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

// interfaceNameLen is the size of an interface's name in the kernel, with its terminating zero (IFNAMSIZ).
const interfaceNameLen = 16

// chainPrefix begins the names of all chains that the driver owns, and of none that it does not. The kernel takes 28
// characters for a chain and 31 for a set.
const chainPrefix = "manul-"

// setPrefix begins the names of all sets of one family that the driver owns, and of none that it does not.
func setPrefix(fam family) string { return "manul" + fam.digit() + "-" }

// digest identifies a content. Sixteen characters fit into every name that has to hold one.
type digest string

// digester hashes a sequence of texts and numbers.
type digester struct{ h hash.Hash }

func newDigester(kind string) digester {
	d := digester{sha256.New()}
	d.text(kind)
	return d
}

func (d digester) number(n uint64) { d.h.Write(binary.BigEndian.AppendUint64(nil, n)) }

func (d digester) text(s string) {
	d.number(uint64(len(s)))
	d.h.Write([]byte(s))
}

func (d digester) texts(list []string) {
	d.number(uint64(len(list)))
	for _, s := range list {
		d.text(s)
	}
}

func (d digester) sum() digest { return digest(hex.EncodeToString(d.h.Sum(nil)[:8])) }

// digestOf identifies a list of texts.
func digestOf(kind string, list ...string) digest {
	d := newDigester(kind)
	d.texts(list)
	return d.sum()
}

// programChain is the name of the chain that holds a program's rules for one direction.
func programChain(d direction, program string) string {
	return chainPrefix + "p" + d.letter() + "-" + string(digestOf("program", program))
}

// setName is the name of the set of one family that holds members of a set. It tells the type: a set that changes its
// type becomes another set, to which rules change over in one transaction. (The kernel swaps only sets of one type.)
func setName(id string, typ tables.SetType, fam family) string {
	kind := map[tables.SetType]string{tables.Addresses: "a", tables.Nets: "n", tables.NamedPorts: "p"}[typ]
	return setPrefix(fam) + kind + "-" + string(digestOf("set", id))
}

// listName is the name of the set that holds the CIDRs of one list in a rule. It tells the content, which never changes.
func listName(nets []netip.Prefix, fam family) string {
	d := newDigester("list")
	for _, p := range nets {
		d.text(p.String())
	}
	return setPrefix(fam) + "l-" + string(d.sum())
}

// The driver's own sets.
func sourceSet(fam family) string { return setPrefix(fam) + "source" } // address and interface of endpoints
func poolSet(fam family) string   { return setPrefix(fam) + "pools" }  // all pools
func nodeSet(fam family) string   { return setPrefix(fam) + "nodes" }  // addresses of nodes
func natSet(fam family) string    { return setPrefix(fam) + "nat" }    // pools with masquerading

// checkInterface tells why a name can't be that of a workload's interface in rules. A plus sign at the end would match
// every interface whose name begins like it; blanks and quotes would end the word.
func checkInterface(name, prefix string) error {
	if !strings.HasPrefix(name, prefix) {
		return fmt.Errorf("the interface's name does not begin with %q, so no packet would be seen as the endpoint's", prefix)
	}
	return checkName(name)
}

// checkName tells why a name can't be that of an interface in rules.
func checkName(name string) error {
	if len(name) >= interfaceNameLen {
		return fmt.Errorf("the interface's name is longer than %d characters", interfaceNameLen-1)
	}
	for _, r := range name {
		if !plainInterfaceRune(r) {
			return fmt.Errorf("the interface's name has the character %q; rules can only name letters, digits, '.', '_' and '-'", r)
		}
	}
	return nil
}

func plainInterfaceRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-'
}
