package selector

import "fmt"

// Error says why a selector could not be parsed and what would mend it.
type Error struct {
	// Position is the offset in bytes, from 0, of what is wrong.
	Position int
	// Reason is what is wrong: "expected a string in quotes, found end of selector".
	Reason string
	// Hint is what to write instead; empty when there is nothing to add.
	Hint string
}

// Error gives position, reason and hint in one line.
func (e *Error) Error() string {
	message := fmt.Sprintf("parsing selector: at position %d: %s", e.Position, e.Reason)
	if e.Hint != "" {
		message += " (" + e.Hint + ")"
	}
	return message
}
