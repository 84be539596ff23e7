package command

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/cmd/kubectl-manul/report"
)

func (o *options) bgp() *cobra.Command {
	return group("bgp", "Sessions and routes of BGP", o.bgpPeers(), o.bgpRoutes())
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

func (o *options) bgpRoutes() *cobra.Command {
	var node, peer string
	var within time.Duration
	cmd := &cobra.Command{
		Use:   "routes --node NODE",
		Short: "The routes of a node, in the kernel or known to BGP only, and who sent them",
		Long:  "The routes of a node, as it answers when it is asked: a CalicoNodeStatus is made for that and deleted again.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.checkOutput(); err != nil {
				return err
			}
			if node == "" {
				return errors.New("--node: say which node, see kubectl manul nodes")
			}
			var from netip.Addr
			if peer != "" {
				var err error
				if from, err = netip.ParseAddr(peer); err != nil {
					return fmt.Errorf("--peer %q: want the address of a peer, see kubectl manul bgp peers --node %s", peer, node)
				}
			}
			c, err := o.connect()
			if err != nil {
				return err
			}
			if _, err := c.NodeState(cmd.Context(), node); err != nil {
				return err
			}
			answer, err := c.Ask(cmd.Context(), node, within, v3.NodeStatusClassRoutes)
			if err != nil {
				return err
			}
			return o.print(cmd, report.RoutesOf(answer, from))
		},
	}
	cmd.Flags().StringVar(&node, "node", "", "the node to ask")
	cmd.Flags().StringVar(&peer, "peer", "", "only the routes that the peer with this address sent")
	cmd.Flags().DurationVar(&within, "within", 30*time.Second, "how long to wait for the node's answer")
	return cmd
}
