package iptables

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// removeWait bounds how long Remove waits for the kernel to let go of sets.
const removeWait = 5 * time.Second

// Remove takes away all that a driver owns in the calling thread's network namespace, of all variants that are
// installed: for the change to another dataplane, which should be in force by then. Where there is nothing, it runs no
// program, and needs none.
func Remove(ctx context.Context) error {
	if nothing, err := nothingLeft(); nothing || err != nil {
		return err
	}
	found, err := installed(ctx)
	if err != nil {
		return fmt.Errorf("removing iptables rules: %w", err)
	}
	var errs []error
	for _, p := range found {
		errs = append(errs, p.removeRules(ctx))
	}
	sets, err := openIPSets()
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	defer sets.close()
	return errors.Join(append(errs, removeSets(ctx, sets))...)
}

// nothingLeft tells that the namespace has no rules of a driver: it makes its sets before any rule, which names some of
// them, and removes them last.
func nothingLeft() (bool, error) {
	sets, err := openIPSets()
	if err != nil {
		return false, err
	}
	defer sets.close()
	names, err := sets.names()
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		return true, nil // the kernel has no ipset
	}
	return len(names) == 0, err
}

// Remove takes away all that the driver owns. It may be used again afterwards.
func (d *Driver) Remove(ctx context.Context) error {
	d.state = nil
	return Remove(ctx)
}

// removeRules takes away the chains of one variant and all rules that lead to them.
func (p programs) removeRules(ctx context.Context) error {
	for fam := range families {
		out, err := p.saveAll(ctx, fam)
		if err != nil {
			if fam == ipv6 && !hasIPv6() {
				continue
			}
			return fmt.Errorf("reading rules of the variant %s: %w", p.variant, err)
		}
		parts := sections(string(out))
		for _, table := range leavingOrder() {
			s := parseSaved([]byte(parts[table]))
			if len(s.chains)+len(s.others) == 0 {
				continue
			}
			b := newBatch(table)
			for _, r := range s.others {
				b.hooks = append(b.hooks, "-D "+r.chain+" "+r.rule)
			}
			for _, name := range slices.Sorted(maps.Keys(s.chains)) {
				b.remove(name)
			}
			if err := p.apply(ctx, fam, b); err != nil {
				return fmt.Errorf("removing rules of the variant %s from table %s: %w", p.variant, table, err)
			}
		}
	}
	return nil
}

// sections divides the output of iptables-save by table.
func sections(out string) map[string]string {
	parts := map[string]string{}
	for part := range strings.SplitSeq("\n"+out, "\n*") {
		name, lines, _ := strings.Cut(part, "\n")
		if name != "" && !strings.HasPrefix(name, "#") {
			parts[name] = lines
		}
	}
	return parts
}

// removeSets destroys the driver's sets. Rules that are gone may hold them for a moment.
func removeSets(ctx context.Context, sets *ipsets) error {
	ctx, cancel := context.WithTimeout(ctx, removeWait)
	defer cancel()
	pause := time.Millisecond
	for {
		names, err := sets.names()
		if err != nil {
			return err
		}
		busy := false
		for _, name := range names {
			err := sets.destroy(name)
			if err != nil && !errors.Is(err, errBusy) {
				return err
			}
			busy = busy || err != nil
		}
		if !busy {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("removing sets: somebody else's rules still name them: %w", ctx.Err())
		case <-time.After(pause):
			pause = min(2*pause, 100*time.Millisecond)
		}
	}
}
