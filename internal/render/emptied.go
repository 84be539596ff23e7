package render

// keepEmptied is the number of entries up to which a map that is emptied keeps its memory for the next ones.
const keepEmptied = 1024

// emptied returns m without entries. A map keeps the room of its greatest size, and going through it costs time in proportion to
// that: after a cold start each change would pay for all endpoints of the cluster.
func emptied[K comparable, V any](m map[K]V) map[K]V {
	if len(m) > keepEmptied {
		return map[K]V{}
	}
	clear(m)
	return m
}
