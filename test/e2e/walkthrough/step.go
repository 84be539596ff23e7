// Package walkthrough runs the workshop on a cluster, step by step: each step says what it shows, runs a command as a
// user would type it, and compares what comes out with what should.
package walkthrough

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Lab is a chapter of the workshop.
type Lab struct {
	Name  string
	Steps []Step
}

// Step is one command and what it should show.
type Step struct {
	// Say tells the reader what the step shows, in a sentence or two.
	Say string
	// Run is the command line, for bash, with kubectl and on (run a command on a host: on worker1 ip route) at hand.
	Run string
	// Expect is what must be seen. All of it.
	Expect []Expectation
	// Within is how long the command is tried again until what is expected comes out. 0: one try decides. Steps that
	// show that something is refused are tried until it is refused, those after them then once.
	Within time.Duration
}

// Expectation is something that the output of a command, or its exit status, must show.
type Expectation struct {
	// Text tells the reader what is expected.
	Text string
	// Check returns an error that says what was found instead.
	Check func(Result) error
}

// Result of a command.
type Result struct {
	// Output is standard output and standard error as they came.
	Output string
	// Code is the exit status.
	Code int
}

// Succeeds expects exit status 0.
func Succeeds() Expectation {
	return Expectation{Text: "the command succeeds", Check: func(r Result) error {
		if r.Code != 0 {
			return fmt.Errorf("exit status %d", r.Code)
		}
		return nil
	}}
}

// Fails expects an exit status other than 0.
func Fails(why string) Expectation {
	return Expectation{Text: why, Check: func(r Result) error {
		if r.Code == 0 {
			return fmt.Errorf("the command succeeded")
		}
		return nil
	}}
}

// Shows expects output that contains each of the texts.
func Shows(texts ...string) Expectation {
	return Expectation{Text: "output shows " + quoted(texts), Check: func(r Result) error {
		for _, text := range texts {
			if !strings.Contains(r.Output, text) {
				return fmt.Errorf("no %q in the output", text)
			}
		}
		return nil
	}}
}

// ShowsNot expects output that contains none of the texts.
func ShowsNot(texts ...string) Expectation {
	return Expectation{Text: "output does not show " + quoted(texts), Check: func(r Result) error {
		for _, text := range texts {
			if strings.Contains(r.Output, text) {
				return fmt.Errorf("%q in the output", text)
			}
		}
		return nil
	}}
}

// Matches expects output that matches a regular expression (multi-line mode).
func Matches(pattern, meaning string) Expectation {
	re := regexp.MustCompile("(?m)" + pattern)
	return Expectation{Text: meaning, Check: func(r Result) error {
		if !re.MatchString(r.Output) {
			return fmt.Errorf("nothing in the output matches %s", pattern)
		}
		return nil
	}}
}

// Count expects a number of matches of a regular expression (multi-line mode).
func Count(pattern string, n int, meaning string) Expectation {
	re := regexp.MustCompile("(?m)" + pattern)
	return Expectation{Text: meaning, Check: func(r Result) error {
		if found := len(re.FindAllString(r.Output, -1)); found != n {
			return fmt.Errorf("%d matches of %s, not %d", found, pattern, n)
		}
		return nil
	}}
}

func quoted(texts []string) string {
	q := make([]string, len(texts))
	for i, text := range texts {
		q[i] = fmt.Sprintf("%q", text)
	}
	return strings.Join(q, ", ")
}
