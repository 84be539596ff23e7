package command

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/manul-net/manul/cmd/kubectl-manul/report"
)

func (o *options) nodes() *cobra.Command {
	return &cobra.Command{
		Use:   "nodes [NODE...]",
		Short: "What each node has in effect: policies, routes, blocks, sessions, failures",
		Long: "What each node has in effect, as its agent reports it. CURRENT says whether the newest state of the node is in effect, SESSIONS how many " +
			"of its BGP sessions are up. With names of nodes, every failure and block of these.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.checkOutput(); err != nil {
				return err
			}
			c, err := o.connect()
			if err != nil {
				return err
			}
			states, err := c.NodeStates(cmd.Context())
			nodes, nodesErr := c.Nodes(cmd.Context())
			if err = errors.Join(err, nodesErr); err != nil {
				return err
			}
			r := report.NodesOf(states, nodes)
			if len(args) > 0 {
				r.Details = true
				for _, name := range args {
					if !slices.ContainsFunc(r.Nodes, func(n report.Node) bool { return n.Name == name }) {
						return fmt.Errorf("there is no node %q: see kubectl manul nodes", name)
					}
				}
				r.Nodes = slices.DeleteFunc(r.Nodes, func(n report.Node) bool { return !slices.Contains(args, n.Name) })
			}
			return o.print(cmd, r)
		},
	}
}
