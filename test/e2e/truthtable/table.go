package truthtable

import (
	"fmt"
	"strings"
)

// Probe is one question: does From reach a port of To.
type Probe struct {
	From, To Pod
	Protocol string
	Port     int
}

// Table says of each probe whether an answer comes.
type Table map[Probe]bool

// Probes are all questions, in the order of the pods.
func Probes() []Probe {
	var all []Probe
	for _, from := range Pods() {
		all = append(all, probesFrom(from)...)
	}
	return all
}

func probesFrom(from Pod) []Probe {
	var all []Probe
	for _, to := range Pods() {
		for _, protocol := range protocols() {
			for _, port := range []int{First, Second} {
				all = append(all, Probe{from, to, protocol, port})
			}
		}
	}
	return all
}

// Differences between what should be and what is: probes that were let through though they should not be, and the others.
func Differences(want, got Table) (leaks, losses []Probe) {
	for _, p := range Probes() {
		switch {
		case got[p] && !want[p]:
			leaks = append(leaks, p)
		case want[p] && !got[p]:
			losses = append(losses, p)
		}
	}
	return leaks, losses
}

// Compare prints both tables in one, for each protocol and port one: a row for each source, a column for each
// destination. "." answers and should, "-" does not and should not, "X" answers and should not, "o" does not and should.
// Tables without a mistake are left out.
func Compare(want, got Table) string {
	var b strings.Builder
	for _, protocol := range protocols() {
		for _, port := range []int{First, Second} {
			if text, wrong := compare(want, got, protocol, port); wrong {
				b.WriteString(text)
			}
		}
	}
	return b.String()
}

func compare(want, got Table, protocol string, port int) (text string, wrong bool) {
	var b strings.Builder
	fmt.Fprintf(&b, "%-8s", fmt.Sprintf("%s/%d", protocol, port))
	for _, to := range Pods() {
		fmt.Fprintf(&b, " %-5s", to)
	}
	b.WriteString("\n")
	for _, from := range Pods() {
		fmt.Fprintf(&b, "%-8s", from)
		for _, to := range Pods() {
			p := Probe{from, to, protocol, port}
			mark := map[[2]bool]string{{true, true}: ".", {false, false}: "-", {false, true}: "X", {true, false}: "o"}[[2]bool{want[p], got[p]}]
			wrong = wrong || want[p] != got[p]
			fmt.Fprintf(&b, " %-5s", mark)
		}
		b.WriteString("\n")
	}
	return b.String(), wrong
}
