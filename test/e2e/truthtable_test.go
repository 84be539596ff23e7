package e2e

import (
	"context"
	"testing"

	"github.com/manul-net/manul/test/e2e/lab"
	"github.com/manul-net/manul/test/e2e/truthtable"
)

// truthTable tries every policy of a list.
func truthTable(t *testing.T, c *lab.Cluster) {
	ctx := t.Context()
	r, err := truthtable.Start(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Stop(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	})
	for _, tc := range truthtable.Cases() {
		t.Run(tc.Name, func(t *testing.T) {
			if err := r.Run(ctx, tc); err != nil {
				t.Error(err)
			}
		})
	}
	t.Logf("%d cases, %d rounds of %d probes", len(truthtable.Cases()), r.Rounds, len(truthtable.Probes()))
}
