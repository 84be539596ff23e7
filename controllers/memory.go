package controllers

import (
	"os"
	"runtime/debug"
)

// gcPercent trades work for memory: most of what the operator holds stays, and in a cluster of thousands of nodes half of it beside that
// is enough for what comes and goes.
const gcPercent = 50

// SaveMemory has the process collect garbage early. GOGC in its environment counts before that.
func SaveMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}
