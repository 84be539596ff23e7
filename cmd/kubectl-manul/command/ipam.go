package command

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"github.com/manul-net/manul/cmd/kubectl-manul/cluster"
	"github.com/manul-net/manul/cmd/kubectl-manul/report"
	"github.com/manul-net/manul/internal/usage"
)

func (o *options) ipam() *cobra.Command {
	return group("ipam", "Pools, blocks and addresses", o.ipamShow(), o.ipamCheck())
}

func (o *options) ipamShow() *cobra.Command {
	var ip string
	cmd := &cobra.Command{
		Use:   "show",
		Short: "How full pools and blocks are, or who has an address",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.checkOutput(); err != nil {
				return err
			}
			var addr netip.Addr
			if ip != "" {
				var err error
				if addr, err = netip.ParseAddr(ip); err != nil || addr.Zone() != "" {
					return fmt.Errorf("--ip %q: want an IP address such as 10.48.0.7", ip)
				}
			}
			c, err := o.connect()
			if err != nil {
				return err
			}
			all, err := c.Addresses(cmd.Context())
			if err != nil {
				return err
			}
			if ip != "" {
				return o.print(cmd, report.AddressOf(all, addr.Unmap(), o.now()))
			}
			return o.print(cmd, report.AddressesOf(all, o.now()))
		},
	}
	cmd.Flags().StringVar(&ip, "ip", "", "the address to look for")
	return cmd
}

func (o *options) ipamCheck() *cobra.Command {
	var fix bool
	var settle time.Duration
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Find what does not fit together: pools, blocks, and what nodes report; exits with 1 when there is anything",
		Long: "Compares pools, blocks, block affinities, pods and services with what nodes report of the addresses that they gave, and with what they have been " +
			"told. What is found is looked for again after a moment, so that changes on their way are not told. With --fix, what can be mended " +
			"without taking an address from anyone is mended: affinities that are missing or left over, and empty blocks of nodes that are gone.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.checkOutput(); err != nil {
				return err
			}
			c, err := o.connect()
			if err != nil {
				return err
			}
			all, findings, err := lasting(cmd.Context(), c, settle)
			if err != nil {
				return err
			}
			r := report.CheckOf(all, findings)
			if fix {
				mend(cmd.Context(), c, r)
			}
			if err := o.print(cmd, r); err != nil {
				return err
			}
			if len(r.Findings) > 0 {
				return ErrFound
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&fix, "fix", false, "mend what can be mended without taking an address from anyone")
	cmd.Flags().DurationVar(&settle, "settle", 3*time.Second, "how long something has to last to be told; 0: look once")
	return cmd
}

// lasting looks for findings, and when there are any, again after a moment.
func lasting(ctx context.Context, c *cluster.Cluster, settle time.Duration) (*usage.Cluster, []usage.Finding, error) {
	all, err := c.Addresses(ctx)
	if err != nil {
		return nil, nil, err
	}
	findings := usage.Check(all)
	if len(findings) == 0 || settle <= 0 {
		return all, findings, nil
	}
	select {
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	case <-time.After(settle):
	}
	if all, err = c.Addresses(ctx); err != nil {
		return nil, nil, err
	}
	return all, usage.Lasting(findings, usage.Check(all)), nil
}

// mend repairs what can be, and notes what came of it.
func mend(ctx context.Context, c *cluster.Cluster, r *report.Check) {
	r.Mended = map[string]string{}
	for i := range r.Findings {
		f := &r.Findings[i]
		if f.Repair == nil {
			continue
		}
		if err := c.Mend(ctx, f.Repair); err != nil {
			r.Mended[report.Key(f)] = "not mended: " + err.Error()
		} else {
			r.Mended[report.Key(f)] = "mended"
		}
	}
}
