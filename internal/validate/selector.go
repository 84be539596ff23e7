package validate

import (
	"errors"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/manul-net/manul/internal/selector"
)

// checkSelector accepts what parses. global() passes only where a rule looks for namespaces.
func checkSelector(path *field.Path, text string, mayBeGlobal bool) field.ErrorList {
	parsed, err := selector.Parse(text)
	if err != nil {
		return field.ErrorList{field.Invalid(path, text, selectorProblem(err))}
	}
	if parsed.IsGlobal() && !mayBeGlobal {
		return field.ErrorList{field.Invalid(path, text, "global() may stand only in the namespaceSelector of a rule")}
	}
	for _, key := range parsed.Keys() {
		if strings.Contains(key, "//") {
			return field.ErrorList{field.Invalid(path, text, "no label has the key "+key+": at most one slash is allowed")}
		}
	}
	return nil
}

// selectorProblem leaves out what the path says already: that it is about a selector.
func selectorProblem(err error) string {
	var parseError *selector.Error
	if !errors.As(err, &parseError) {
		return err.Error()
	}
	problem := fmt.Sprintf("at position %d: %s", parseError.Position, parseError.Reason)
	if parseError.Hint != "" {
		problem += " (" + parseError.Hint + ")"
	}
	return problem
}
