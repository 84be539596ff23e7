package tables

import (
	"cmp"
	"fmt"
	"slices"
)

// Unfit remembers what is not fit to be put into force as it stands, by item and part of it, so that who looks at what changed knows of all of
// it. The zero value is empty.
type Unfit struct {
	parts map[unfitItem]map[string]error
}

type unfitItem struct{ kind, name string }

// Look is to be called before all of an item is looked at, and when it is gone: what was wrong with it is forgotten.
func (u *Unfit) Look(kind, name string) { delete(u.parts, unfitItem{kind, name}) }

// Note takes what is wrong with a part of an item, that is, one of its members or values, or the whole of it (""). Nil: nothing, or it is gone.
func (u *Unfit) Note(kind, name, part string, err error) {
	it := unfitItem{kind, name}
	if err == nil {
		delete(u.parts[it], part)
		if len(u.parts[it]) == 0 {
			delete(u.parts, it)
		}
		return
	}
	if u.parts == nil {
		u.parts = map[unfitItem]map[string]error{}
	}
	if u.parts[it] == nil {
		u.parts[it] = map[string]error{}
	}
	u.parts[it][part] = err
}

// NoteMember takes what is wrong with a member of a set.
func (u *Unfit) NoteMember(m Member, err error) {
	u.Note(KindSet, m.Set, fmt.Sprintf("%s %d %d", m.Prefix, m.Protocol, m.Port), err)
}

// Items gives one error for each item, in order of kind and name: that of the smallest of its parts.
func (u *Unfit) Items() []*ItemError {
	var out []*ItemError
	for it, parts := range u.parts {
		smallest, first := "", true
		for part := range parts {
			if first || part < smallest {
				smallest, first = part, false
			}
		}
		out = append(out, &ItemError{Kind: it.kind, Name: it.name, Err: parts[smallest]})
	}
	slices.SortFunc(out, func(a, b *ItemError) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name)) })
	return out
}
