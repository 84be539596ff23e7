package nftables

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// found is what a full reading of the kernel finds in the table, elements of sets apart.
type found struct {
	chains map[string]foundChain
	sets   map[string]setSpec
}

// foundChain is a chain in the kernel.
type foundChain struct {
	hook *hook // of a base chain
	// digest of its content; empty unless each rule carries the same one and none is missing or out of place.
	digest digest

	rules       int
	first, last string // comments
	broken      bool
}

// readTable reads chains and sets. A table that does not exist is empty.
func (s *socket) readTable() (*found, error) {
	f := &found{}
	steps := []struct {
		what    string
		message uint16
		attrs   func(*wire)
		start   func()
		visit   func([]byte)
	}{
		{"chains", unix.NFT_MSG_GETCHAIN, nil, func() { f.chains = map[string]foundChain{} }, f.chain},
		{"rules", unix.NFT_MSG_GETRULE, func(w *wire) { w.text(unix.NFTA_RULE_TABLE, tableName) }, f.forgetRules, f.rule},
		{"sets", unix.NFT_MSG_GETSET, func(w *wire) { w.text(unix.NFTA_SET_TABLE, tableName) }, func() { f.sets = map[string]setSpec{} }, f.set},
	}
	for _, step := range steps {
		if err := s.dump(step.message, step.attrs, step.start, step.visit); err != nil && !errors.Is(err, unix.ENOENT) {
			return nil, fmt.Errorf("reading the %s of table %s: %w", step.what, tableName, err)
		}
	}
	for name, chain := range f.chains {
		chain.digest = chain.content()
		f.chains[name] = chain
	}
	return f, nil
}

func (f *found) chain(payload []byte) {
	var table, name string
	var at *hook
	attributes(payload, func(typ uint16, value []byte) {
		switch typ {
		case unix.NFTA_CHAIN_TABLE:
			table = cString(value)
		case unix.NFTA_CHAIN_NAME:
			name = cString(value)
		case unix.NFTA_CHAIN_TYPE:
			if at == nil {
				at = &hook{}
			}
			at.kind = cString(value)
		case unix.NFTA_CHAIN_HOOK:
			if at == nil {
				at = &hook{}
			}
			attributes(value, func(typ uint16, value []byte) {
				switch {
				case typ == unix.NFTA_HOOK_HOOKNUM && len(value) == 4:
					at.number = binary.BigEndian.Uint32(value)
				case typ == unix.NFTA_HOOK_PRIORITY && len(value) == 4:
					at.priority = int32(binary.BigEndian.Uint32(value))
				}
			})
		}
	})
	if table == tableName {
		f.chains[name] = foundChain{hook: at}
	}
}

func (f *found) forgetRules() {
	for name, chain := range f.chains {
		f.chains[name] = foundChain{hook: chain.hook}
	}
}

func (f *found) rule(payload []byte) {
	var table, chain, comment string
	attributes(payload, func(typ uint16, value []byte) {
		switch typ {
		case unix.NFTA_RULE_TABLE:
			table = cString(value)
		case unix.NFTA_RULE_CHAIN:
			chain = cString(value)
		case unix.NFTA_RULE_USERDATA:
			if len(value) > 2 && value[0] == udataComment {
				comment = cString(value[2:])
			}
		}
	})
	c, ok := f.chains[chain]
	if table != tableName || !ok {
		return
	}
	c.rules++
	if c.rules == 1 {
		c.first = comment
	}
	c.broken = c.broken || !follows(c.first, comment, c.rules)
	c.last = comment
	f.chains[chain] = c
}

// follows tells whether comment is that of the rule at place of the chain whose first rule's comment is first.
func follows(first, comment string, place int) bool {
	content, rest, _ := strings.Cut(first, " ")
	_, of, _ := strings.Cut(rest, "/")
	return content != "" && comment == fmt.Sprintf("%s %d/%s", content, place, of)
}

// content is the digest that the rules carry, unless one of them is missing, foreign or out of place.
func (c *foundChain) content() digest {
	content, place, _ := strings.Cut(c.last, " ")
	if c.broken || place != fmt.Sprintf("%d/%d", c.rules, c.rules) {
		return ""
	}
	return digest(content)
}

func (f *found) set(payload []byte) {
	var table, name string
	var spec setSpec
	attributes(payload, func(typ uint16, value []byte) {
		switch typ {
		case unix.NFTA_SET_TABLE:
			table = cString(value)
		case unix.NFTA_SET_NAME:
			name = cString(value)
		case unix.NFTA_SET_FLAGS:
			spec.flags = number(value)
		case unix.NFTA_SET_KEY_TYPE:
			spec.keyType = number(value)
		case unix.NFTA_SET_KEY_LEN:
			spec.keyLen = number(value)
		}
	})
	if table == tableName && spec.flags&unix.NFT_SET_ANONYMOUS == 0 {
		f.sets[name] = spec
	}
}

func number(value []byte) uint32 {
	if len(value) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(value)
}

// readElements reads the elements of a set.
func (s *socket) readElements(set string) ([]element, error) {
	var list []element
	err := s.dump(unix.NFT_MSG_GETSETELEM, func(w *wire) {
		w.text(unix.NFTA_SET_ELEM_LIST_TABLE, tableName)
		w.text(unix.NFTA_SET_ELEM_LIST_SET, set)
	}, func() { list = nil }, func(payload []byte) {
		attributes(payload, func(typ uint16, value []byte) {
			if typ != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
				return
			}
			attributes(value, func(_ uint16, value []byte) { list = append(list, parseElement(value)) })
		})
	})
	if err != nil {
		return nil, fmt.Errorf("reading the elements of set %s: %w", set, err)
	}
	return list, nil
}

func parseElement(b []byte) element {
	var e element
	attributes(b, func(typ uint16, value []byte) {
		switch typ {
		case unix.NFTA_SET_ELEM_FLAGS:
			e.end = number(value)&unix.NFT_SET_ELEM_INTERVAL_END != 0
		case unix.NFTA_SET_ELEM_KEY:
			attributes(value, func(typ uint16, value []byte) {
				if typ == unix.NFTA_DATA_VALUE {
					e.key = string(value)
				}
			})
		case unix.NFTA_SET_ELEM_DATA:
			attributes(value, func(typ uint16, value []byte) {
				if typ == unix.NFTA_DATA_VERDICT {
					e.to = parseVerdict(value)
				}
			})
		}
	})
	return e
}

// parseVerdict returns what an element of a verdict map leads to; something that no desired element says when it is
// not of the driver's making.
func parseVerdict(b []byte) string {
	to := "?"
	attributes(b, func(typ uint16, value []byte) {
		switch {
		case typ == unix.NFTA_VERDICT_CHAIN:
			to = cString(value)
		case typ == unix.NFTA_VERDICT_CODE && number(value) == codeAccept:
			to = toAccept
		case typ == unix.NFTA_VERDICT_CODE && number(value) == codeDrop:
			to = toDrop
		}
	})
	return to
}
