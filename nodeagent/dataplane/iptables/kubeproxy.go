package iptables

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// KubeProxy tells whether kube-proxy keeps its rules by iptables, of any variant, in the calling thread's network
// namespace. It does so in the modes iptables and ipvs. The programs read all rules of the chain or the table, which takes some 50 ms with 2,000.
func KubeProxy(ctx context.Context) (bool, error) {
	found, err := installed(ctx)
	if err != nil {
		return false, err
	}
	for _, p := range found {
		for fam := range families {
			if p.variant == Legacy && !slices.Contains(legacyTables(fam), natTable) {
				continue // asking would make the table
			}
			// The first rule of the chain: an error if there is no such chain.
			_, err := run(ctx, p.monitor, "", strings.TrimSuffix(p.save[fam], "-save"), "-w", lockWait, "-t", natTable, "-S", "KUBE-SERVICES", "1")
			if err == nil {
				return true, nil
			}
			if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || ctx.Err() != nil {
				return false, fmt.Errorf("looking for rules of kube-proxy: %w", err)
			}
		}
	}
	return false, nil
}

// legacyTables are the tables that exist in the old x_tables of the calling thread's network namespace.
func legacyTables(fam family) []string {
	name := [families]string{"ip_tables_names", "ip6_tables_names"}[fam]
	out, err := os.ReadFile("/proc/thread-self/net/" + name)
	if err != nil {
		return nil // the kernel has not loaded them
	}
	return strings.Fields(string(out))
}
