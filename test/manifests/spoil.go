package manifests

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// place is a value in a manifest, with what it hangs on.
type place struct {
	path  string
	name  string // of the field; empty for an entry of a list
	value any
	in    map[string]any // the map that has the field
	set   func(any)
}

// places are all values of the spec, in an order that depends on the manifest alone.
func places(object map[string]any) []place {
	var all []place
	var walk func(p place)
	walk = func(p place) {
		all = append(all, p)
		switch value := p.value.(type) {
		case map[string]any:
			for _, name := range slices.Sorted(maps.Keys(value)) {
				walk(place{path: p.path + "." + name, name: name, value: value[name], in: value, set: func(v any) { value[name] = v }})
			}
		case []any:
			for i := range value {
				walk(place{path: fmt.Sprintf("%s[%d]", p.path, i), value: value[i], set: func(v any) { value[i] = v }})
			}
		}
	}
	walk(place{path: "spec", name: "spec", value: object["spec"], in: object, set: func(v any) { object["spec"] = v }})
	return all
}

// spoil makes one mistake somewhere, and says which.
func (s *Source) spoil(object map[string]any) string {
	all := places(object)
	p := all[s.random.IntN(len(all))]
	switch s.random.IntN(8) {
	case 0:
		if p.in != nil && p.name != "spec" {
			delete(p.in, p.name)
			return "left out " + p.path
		}
	case 1, 2:
		return s.slip(p)
	case 3:
		if list, ok := p.value.([]any); ok && len(list) > 0 {
			return s.repeat(p, list)
		}
	case 4:
		if text, ok := p.value.(string); ok {
			changed := s.misspell(text)
			p.set(changed)
			return fmt.Sprintf("%s is %.60q", p.path, changed)
		}
	}
	odd := pick[any](s, "", "x", 0, -1, 5_000_000_000, 1.5, true, nil, []any{}, map[string]any{}, "0.0.0.0/0", "all()", "65536", "2:1",
		strings.Repeat("x", 2000), []any{nil}, map[string]any{"x": "y"}, int64(9_223_372_036_854_775_807), "\x00", "\u202e")
	p.set(odd)
	return fmt.Sprintf("%s is %.60q", p.path, fmt.Sprint(odd))
}

// repeat writes entries of a list twice, or very often.
func (s *Source) repeat(p place, list []any) string {
	list = slices.Clone(list)
	many := pick(s, 1, 1, 1, 50, 256, 1024)
	if strings.Contains(p.path, "[") {
		many = min(many, 256) // lists in lists
	}
	for range many {
		list = append(list, deepCopy(list[s.random.IntN(len(list))]))
	}
	p.set(list)
	return fmt.Sprintf("entries of %s twice, %d more", p.path, many)
}

// slip is what slides and hurried people write.
func (s *Source) slip(p place) string {
	in, ok := p.value.(map[string]any)
	if !ok {
		in = p.in
	}
	if in == nil {
		p.set(nil)
		return p.path + " is null"
	}
	renames := map[string]string{
		"ports": "port", "selector": "selectors", "nets": "net", "source": "src", "destination": "dest", "protocol": "protocols", "ingress": "Ingress",
		"namespaceSelector": "namespaceSelectors", "types": "policyTypes", "action": "Action", "interfaceName": "interface", "expectedIPs": "expectedIP",
	}
	for _, name := range slices.Sorted(maps.Keys(renames)) {
		if value, ok := in[name]; ok && s.chance(50) {
			delete(in, name)
			in[renames[name]] = value
			return "in " + p.path + " " + renames[name] + " for " + name
		}
	}
	name := pick(s, "order", "http", "namespaceSelector", "priority", "selectors", "description")
	in[name] = pick[any](s, 10, "all()", map[string]any{"methods": []any{"GET"}}, nil)
	return "in " + p.path + " " + name
}

func (s *Source) misspell(text string) string {
	switch s.random.IntN(5) {
	case 0:
		return strings.ToUpper(text)
	case 1:
		return strings.ToLower(text)
	case 2:
		return text + " "
	case 3:
		if len(text) > 1 {
			at := s.random.IntN(len(text))
			return text[:at] + text[at+1:]
		}
	}
	return text + text
}

func deepCopy(value any) any {
	switch value := value.(type) {
	case map[string]any:
		out := make(map[string]any, len(value))
		for name := range value {
			out[name] = deepCopy(value[name])
		}
		return out
	case []any:
		out := make([]any, len(value))
		for i := range value {
			out[i] = deepCopy(value[i])
		}
		return out
	}
	return value
}
