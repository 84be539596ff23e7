package validate

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	v3 "github.com/manul-net/manul/api/v3"
)

// checkEnum accepts one of some words, or none.
func checkEnum[T ~string](path *field.Path, value T, all []T) field.ErrorList {
	if value == "" || slices.Contains(all, value) {
		return nil
	}
	return field.ErrorList{field.NotSupported(path, value, all)}
}

// checkWord accepts one of some words in whatever case, or none.
func checkWord(path *field.Path, value string, all ...string) field.ErrorList {
	if value == "" || slices.ContainsFunc(all, func(word string) bool { return strings.EqualFold(word, value) }) {
		return nil
	}
	return field.ErrorList{field.NotSupported(path, value, all)}
}

// checkRange bounds a number that may be absent.
func checkRange[T int | int32 | int64](path *field.Path, value *T, low, high T) field.ErrorList {
	if value == nil || *value >= low && *value <= high {
		return nil
	}
	return field.ErrorList{field.Invalid(path, *value, fmt.Sprintf("write a number from %d to %d", low, high))}
}

// checkAddress accepts an address, or none.
func checkAddress(path *field.Path, text string) field.ErrorList {
	if text == "" {
		return nil
	}
	if err := isAddress(text); err != nil {
		return field.ErrorList{field.Invalid(path, text, err.Error())}
	}
	return nil
}

func isAddress(text string) error {
	addr, err := netip.ParseAddr(text)
	if err == nil && addr.Zone() == "" && !addr.Is4In6() {
		return nil
	}
	if prefix, err := netip.ParsePrefix(text); err == nil && !prefix.Addr().Is4In6() {
		return fmt.Errorf("write the address without a prefix length: %s", prefix.Addr())
	}
	return errors.New(`write an IP address such as "192.0.2.1" or "2001:db8::1"`)
}

// checkPattern accepts a regular expression, or none.
func checkPattern(path *field.Path, text string) field.ErrorList {
	if _, err := regexp.Compile(text); err != nil {
		return field.ErrorList{field.Invalid(path, text, fmt.Sprintf("write a regular expression: %v", err))}
	}
	return nil
}

// checkDurations looks at every duration in a value, by the names that its fields have in JSON.
func checkDurations(path *field.Path, value any) field.ErrorList {
	return eachDuration(path, reflect.ValueOf(value))
}

func eachDuration(path *field.Path, v reflect.Value) field.ErrorList {
	if v.Type() == reflect.TypeFor[v3.Duration]() {
		if _, err := v3.Duration(v.String()).Parse(); err != nil || !plainDuration(v.String()) {
			return field.ErrorList{field.Invalid(path, v.String(), `write a duration such as "90s" or "1m30s"`)}
		}
		return nil
	}
	var errs field.ErrorList
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			return eachDuration(path, v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			errs = append(errs, eachDuration(path.Index(i), v.Index(i))...)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			below := path
			if name != "" {
				below = path.Child(name)
			}
			errs = append(errs, eachDuration(below, v.Field(i))...)
		}
	default: // holds no duration
	}
	return errs
}

// plainDuration tells whether a text is of the form of the schemas that have one, ([0-9]+(\.[0-9]+)?(ms|s|m|h))*: Go reads more than that.
func plainDuration(text string) bool {
	for text != "" {
		rest := strings.TrimLeft(text, "0123456789")
		if rest == text {
			return false
		}
		if after, ok := strings.CutPrefix(rest, "."); ok {
			if rest = strings.TrimLeft(after, "0123456789"); rest == after {
				return false
			}
		}
		unit := slices.IndexFunc(units(), func(unit string) bool { return strings.HasPrefix(rest, unit) })
		if unit < 0 {
			return false
		}
		text = rest[len(units()[unit]):]
	}
	return true
}

func units() []string { return []string{"ms", "s", "m", "h"} }

// maxInterface is the greatest length of an interface's name in the kernel, in bytes.
const maxInterface = 15

// checkInterface accepts what the kernel takes as the name of an interface, or as a beginning of one.
func checkInterface(name string) error {
	if name == "" || len(name) > maxInterface {
		return fmt.Errorf("the name of an interface has 1 to %d bytes", maxInterface)
	}
	if name == "." || name == ".." {
		return errors.New("no interface can have this name")
	}
	for _, c := range name {
		if c <= ' ' || c == 0x7f || c == '/' || c == ':' || c == '*' || c == 0xa0 {
			return errors.New(`the name of an interface has no blanks and none of "/", ":" and "*"`)
		}
	}
	return nil
}
