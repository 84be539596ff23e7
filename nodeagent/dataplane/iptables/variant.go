package iptables

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// Variant is one of the two kernel interfaces that the iptables programs exist for. Rules of both are in force side by
// side, so all programs of a node should use the same.
type Variant string

// The variants.
const (
	// Auto chooses the variant that the node's other programs use.
	Auto Variant = ""
	// NFT keeps rules in nftables.
	NFT Variant = "nft"
	// Legacy keeps rules in the old x_tables.
	Legacy Variant = "legacy"
)

// programs are the iptables programs of one variant.
type programs struct {
	variant Variant
	// save and restore by family: the names of programs.
	save, restore [families]string
	// monitor knows the programs that run, if it is not nil.
	monitor *monitor
}

// programsOf finds the programs of a variant: those whose names tell it, or the plain ones if they are of the variant.
func programsOf(ctx context.Context, variant Variant) (programs, error) {
	p := programs{variant: variant}
	for fam, base := range []string{"iptables", "ip6tables"} {
		name := base + "-" + string(variant)
		if !exists(name+"-restore") || !exists(name+"-save") {
			have, err := versionOf(ctx, base)
			if err != nil {
				return programs{}, err
			}
			if have != variant {
				return programs{}, fmt.Errorf("there is no %s-restore, and %s is of the variant %q: %w", name, base, have, errNoVariant)
			}
			name = base
		}
		p.save[fam], p.restore[fam] = name+"-save", name+"-restore"
	}
	return p, nil
}

var errNoVariant = errors.New("the variant is not installed")

func exists(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}

// versionOf tells the variant of the program that is called by its plain name.
func versionOf(ctx context.Context, program string) (Variant, error) {
	out, err := exec.CommandContext(ctx, program, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("asking %s for its version: %w", program, err)
	}
	return parseVersion(string(out)), nil
}

// parseVersion reads a line such as "iptables v1.8.9 (nf_tables)". Versions before 1.8 tell no variant: there was one.
func parseVersion(line string) Variant {
	if strings.Contains(line, "(nf_tables)") {
		return NFT
	}
	return Legacy
}

// hints are chains that the kubelet makes with the variant that the node's administrator chose.
func hints() []string { return []string{":KUBE-IPTABLES-HINT ", ":KUBE-KUBELET-CANARY "} }

// choose finds the programs to use. With Auto it is the variant in which the kubelet left its hint; else the one with
// more rules of others; else the one of the plain name.
func choose(ctx context.Context, want Variant) (programs, error) {
	switch want {
	case NFT, Legacy:
		return programsOf(ctx, want)
	case Auto:
	default:
		return programs{}, fmt.Errorf("the variant %q is none of %q and %q", want, NFT, Legacy)
	}
	found, err := installed(ctx)
	if err != nil {
		return programs{}, err
	}
	if len(found) == 1 {
		return found[0], nil
	}
	best, most := -1, 0
	for i, p := range found {
		rules := 0
		for fam := range families {
			out, err := p.saveAll(ctx, fam)
			if err != nil {
				continue // a family that the kernel lacks has no rules
			}
			for _, hint := range hints() {
				if bytes.Contains(out, []byte(hint)) {
					return p, nil
				}
			}
			rules += foreignRules(out)
		}
		if rules > most {
			best, most = i, rules
		}
	}
	if best >= 0 {
		return found[best], nil
	}
	plain, err := versionOf(ctx, "iptables")
	if err != nil {
		plain = NFT
	}
	for _, p := range found {
		if p.variant == plain {
			return p, nil
		}
	}
	return found[0], nil
}

// installed are the programs of all variants that the machine has.
func installed(ctx context.Context) ([]programs, error) {
	var found []programs
	var errs []error
	for _, variant := range []Variant{NFT, Legacy} {
		p, err := programsOf(ctx, variant)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		found = append(found, p)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("looking for iptables: %w", errors.Join(errs...))
	}
	return found, nil
}

// foreignRules counts the rules that are not the driver's.
func foreignRules(saved []byte) int {
	n := 0
	for line := range strings.Lines(string(saved)) {
		if strings.HasPrefix(line, "-A ") && !strings.Contains(line, mark) {
			n++
		}
	}
	return n
}
