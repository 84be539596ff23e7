package oracle

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Minimal takes away from a world, piece by piece, all without which something still holds: objects, services, and fields and
// items within objects. It asks at most as many times as given, and never about what can't be read as manifests. Nodes, their
// addresses and those of pods stay: they are the network. That manifests are valid is for the question to see to.
func (w *World) Minimal(most int, holds func(*World) bool) *World {
	m := &minimizer{holds: holds, left: most, interfaces: w.Interfaces, translations: slices.Clone(w.Translations), best: w}
	for _, d := range w.documents() {
		m.documents = append(m.documents, d)
	}
	if !m.try(m.documents, m.translations) {
		return w
	}
	for m.pass() {
	}
	return m.best
}

// minimizer is a world as manifests, and the smallest one so far.
type minimizer struct {
	holds        func(*World) bool
	left         int
	documents    []any
	interfaces   []Interface
	translations []Translation
	best         *World
}

// pass tries to take each piece away once, great ones first, and tells whether any went.
func (m *minimizer) pass() bool {
	smaller := false
	for i := 0; i < len(m.translations); {
		if less := slices.Delete(slices.Clone(m.translations), i, i+1); m.try(m.documents, less) {
			smaller = true
			continue
		}
		i++
	}
	paths := m.paths()
	for i := 0; i < len(paths); {
		less, ok := without(m.documents, paths[i]).([]any)
		if ok && m.try(less, m.translations) {
			smaller = true
			paths = m.paths() // the piece after this one is in its place now
			continue
		}
		i++
	}
	return smaller && m.left > 0
}

func (m *minimizer) try(documents []any, translations []Translation) bool {
	if m.left <= 0 {
		return false
	}
	w, err := ofDocuments(documents)
	if err != nil {
		return false
	}
	w.Interfaces, w.Translations = m.interfaces, translations
	m.left--
	if !m.holds(w) {
		return false
	}
	m.documents, m.translations, m.best = documents, translations, w
	return true
}

func ofDocuments(documents []any) (*World, error) {
	w := &World{}
	for _, d := range documents {
		text, err := json.Marshal(d)
		if err != nil {
			return nil, err
		}
		if err := w.Add(string(text)); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// path leads to a piece: indices and keys.
type path []any

// name is the kind of object and the keys, without indices, such as "NetworkPolicy spec.ingress.source.nets". What stands below
// "[]" is an item of a list, and keys of labels are none.
func (p path) name(kind any) string {
	var keys []string
	for _, step := range p[1:] {
		if key, is := step.(string); is {
			keys = append(keys, key)
		} else if len(keys) > 0 && p[len(p)-1] == step {
			keys[len(keys)-1] += "[]"
		}
	}
	return fmt.Sprint(kind) + " " + strings.Join(keys, ".")
}

// Documents visits all objects as users would write them.
func (w *World) Documents(visit func(apiVersion, kind string, document map[string]any)) {
	for _, d := range w.documents() {
		visit(fmt.Sprint(d["apiVersion"]), fmt.Sprint(d["kind"]), d)
	}
}

// Pieces visits all fields of all objects by their names, such as "NetworkPolicy spec.ingress.source.nets"; an item of a list is
// "NetworkPolicy spec.ingress[]". Values are as in JSON.
func (w *World) Pieces(visit func(name string, value any)) {
	for _, d := range w.documents() {
		walkPaths(path{0}, d, func(p path, value any) { visit(p.name(d["kind"]), value) })
	}
}

// Without is the world without the nth of those pieces of a name that it has; false when it has not so many.
func (w *World) Without(name string, n int) (*World, bool) {
	var documents []any
	for _, d := range w.documents() {
		documents = append(documents, d)
	}
	for i, d := range w.documents() {
		var found path
		walkPaths(path{i}, d, func(p path, _ any) {
			if p.name(d["kind"]) != name {
				return
			}
			if n == 0 {
				found = p
			}
			n--
		})
		if found == nil {
			continue
		}
		less, _ := without(documents, found).([]any)
		out, err := ofDocuments(less)
		if err != nil {
			return nil, false
		}
		out.Interfaces, out.Translations = w.Interfaces, w.Translations
		return out, true
	}
	return nil, false
}

// paths lead to all that may be taken away, in an order that stays the same: what is less deep first.
func (m *minimizer) paths() []path {
	var out []path
	for i, d := range m.documents {
		document, _ := d.(map[string]any)
		if document["kind"] != "Node" {
			out = append(out, path{i})
		}
		walkPaths(path{i}, d, func(p path, _ any) {
			if !kept(p) {
				out = append(out, p)
			}
		})
	}
	slices.SortStableFunc(out, func(a, b path) int { return len(a) - len(b) })
	return out
}

// kept tells what stays as long as the object does: what it is, where it is, and its addresses.
func kept(p path) bool {
	switch top := fmt.Sprint(p[1]); top {
	case "apiVersion", "kind", "status":
		return true
	case "metadata":
		return len(p) == 2 || p[2] == "name" || p[2] == "namespace" || p[2] == "uid"
	case "spec":
		return len(p) > 2 && p[2] == "nodeName"
	}
	return false
}

func walkPaths(at path, node any, visit func(path, any)) {
	step := func(key, child any) {
		p := append(slices.Clone(at), key)
		visit(p, child)
		walkPaths(p, child, visit)
	}
	switch n := node.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(n)) {
			step(key, n[key])
		}
	case []any:
		for i, child := range n {
			step(i, child)
		}
	}
}

// without is a copy of a tree without one piece.
func without(node any, p path) any {
	switch n := node.(type) {
	case map[string]any:
		out := maps.Clone(n)
		key := fmt.Sprint(p[0])
		if len(p) == 1 {
			delete(out, key)
		} else {
			out[key] = without(n[key], p[1:])
		}
		return out
	case []any:
		i, _ := p[0].(int)
		if len(p) == 1 {
			return slices.Delete(slices.Clone(n), i, i+1)
		}
		out := slices.Clone(n)
		out[i] = without(n[i], p[1:])
		return out
	}
	return node
}

// Setting describes what manifests do not tell: the network, in comments.
func (w *World) Setting() string {
	var b strings.Builder
	for _, l := range w.Interfaces {
		fmt.Fprintf(&b, "# node %s: interface %s with %v, leads to %v\n", l.Node, l.Name, l.Addresses, l.Reaches)
	}
	for _, t := range w.Translations {
		fmt.Fprintf(&b, "# service: %s protocol %d port %d -> %s port %d, masquerade %v\n", t.Address, t.Protocol, t.Port, t.Endpoint, t.EndpointPort, t.Masquerade)
	}
	return b.String()
}
