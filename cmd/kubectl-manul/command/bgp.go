package command

import (
	"github.com/spf13/cobra"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/cmd/kubectl-manul/report"
)

func (o *options) bgp() *cobra.Command {
	return group("bgp", "Sessions and routes of BGP", o.bgpPeers())
}

func (o *options) bgpPeers() *cobra.Command {
	var node string
	cmd := &cobra.Command{
		Use:   "peers",
		Short: "How each session stands, and why it does not",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.checkOutput(); err != nil {
				return err
			}
			c, err := o.connect()
			if err != nil {
				return err
			}
			var states []v1alpha1.NodeState
			if node == "" {
				states, err = c.NodeStates(cmd.Context())
			} else if one, oneErr := c.NodeState(cmd.Context(), node); oneErr != nil {
				err = oneErr
			} else {
				states = append(states, *one)
			}
			if err != nil {
				return err
			}
			return o.print(cmd, report.AllSessions(states, o.now()))
		},
	}
	cmd.Flags().StringVar(&node, "node", "", "only the sessions of this node")
	return cmd
}
