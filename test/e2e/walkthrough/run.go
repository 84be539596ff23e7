package walkthrough

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// Runner runs labs and tells a reader about it.
type Runner struct {
	// Out is where the narration goes.
	Out io.Writer
	// Dir is where commands run: the project's folder, so that paths of manifests are those of the documentation.
	Dir string
	// Env is added to the environment; its PATH leads to kubectl and on.
	Env []string
	// Color marks commands and verdicts for a terminal.
	Color bool

	started time.Time
	steps   int
}

// retryEvery is the pause between two tries of a step whose effect takes a moment to show.
const retryEvery = 300 * time.Millisecond

// Lab runs the steps of a lab in order and stops at the first that does not show what it should.
func (r *Runner) Lab(ctx context.Context, lab Lab) error {
	if r.started.IsZero() {
		r.started = time.Now()
	}
	r.printf("\n%s\n", r.paint("1", "── "+lab.Name+" "+strings.Repeat("─", max(0, 90-len(lab.Name)))))
	for _, step := range lab.Steps {
		if err := r.Step(ctx, step); err != nil {
			return fmt.Errorf("lab %q: %w", lab.Name, err)
		}
	}
	return nil
}

// Steps is the number of steps that showed what they should.
func (r *Runner) Steps() int { return r.steps }

// Step runs one step.
func (r *Runner) Step(ctx context.Context, step Step) error {
	if r.started.IsZero() {
		r.started = time.Now()
	}
	r.printf("\n%s\n%s\n", wrap(step.Say), r.paint("36", "$ "+step.Run))
	result, problem := r.try(ctx, step)
	r.printf("%s", indent(result.Output))
	for _, e := range step.Expect {
		mark := r.paint("32", "ok")
		if err := e.Check(result); err != nil {
			mark = r.paint("31", "MISMATCH: "+err.Error())
		}
		r.printf("  expected: %s ... %s\n", e.Text, mark)
	}
	if problem != nil {
		return fmt.Errorf("step %q: %w", step.Run, problem)
	}
	r.steps++
	return nil
}

// try runs the command until it shows what it should, or its time is up.
func (r *Runner) try(ctx context.Context, step Step) (Result, error) {
	deadline := time.Now().Add(step.Within)
	for {
		result, err := r.run(ctx, step.Run)
		if err != nil {
			return result, err
		}
		problem := check(step, result)
		if problem == nil || time.Now().After(deadline) {
			return result, problem
		}
		select {
		case <-ctx.Done():
			return result, errors.Join(problem, ctx.Err())
		case <-time.After(retryEvery):
		}
	}
}

func check(step Step, result Result) error {
	var problems []error
	for _, e := range step.Expect {
		if err := e.Check(result); err != nil {
			problems = append(problems, fmt.Errorf("expected that %s: %w", e.Text, err))
		}
	}
	return errors.Join(problems...)
}

func (r *Runner) run(ctx context.Context, line string) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-o", "pipefail", "-c", line)
	cmd.Dir, cmd.Env = r.Dir, append(os.Environ(), r.Env...)
	out, err := cmd.CombinedOutput()
	result := Result{Output: string(out)}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		result.Code = exit.ExitCode()
		return result, nil
	}
	if err != nil {
		return result, fmt.Errorf("running %q: %w", line, err)
	}
	return result, nil
}

func (r *Runner) printf(format string, args ...any) {
	// A reader who went away does not keep the labs from being checked.
	_, _ = fmt.Fprintf(r.Out, format, args...)
}

func (r *Runner) paint(code, text string) string {
	if !r.Color {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// indent sets output off from narration, and cuts what nobody would read.
func indent(out string) string {
	const most = 40
	lines := strings.Split(strings.TrimRight(out, "\n"), "\n")
	if len(lines) == 1 && lines[0] == "" {
		return ""
	}
	if len(lines) > most {
		cut := len(lines) - most
		lines = append(lines[:most:most], fmt.Sprintf("... (%d more lines)", cut))
	}
	return "    " + strings.Join(lines, "\n    ") + "\n"
}

// wrap breaks narration at 100 columns.
func wrap(text string) string {
	var b strings.Builder
	column := 0
	for word := range strings.FieldsSeq(text) {
		if column > 0 && column+1+len(word) > 100 {
			b.WriteByte('\n')
			column = 0
		} else if column > 0 {
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	return b.String()
}
