// Package render turns rendered objects into the desired tables of one node. It is pure: objects and local addresses
// go in through setters, in any order and as often as they come; after each call the tables are whole, so that they may
// be applied at any time.
//
// News that names something unknown is held back (docs/design/rendered-state.md, "What a node does with incomplete
// news"): a program waits for its sets, an endpoint's list of policies waits for its programs, and what is gone stays
// until nothing refers to it. So the tables depend on what is known, and in the end not on the order of arrival.
package render
