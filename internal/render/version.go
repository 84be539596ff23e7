package render

import "strings"

// versionLess compares resource versions, which are decimal integers of any length. No version at all is the least.
func versionLess(a, b string) bool {
	if len(a) != len(b) {
		return len(a) < len(b)
	}
	return strings.Compare(a, b) < 0
}

// laterVersion is the greater of two versions.
func laterVersion(a, b string) string {
	if versionLess(a, b) {
		return b
	}
	return a
}
