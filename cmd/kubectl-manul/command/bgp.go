package command

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/cmd/kubectl-manul/report"
	"github.com/manul-net/manul/internal/routing"
)

func (o *options) bgp() *cobra.Command {
	return group("bgp", "Sessions and routes of BGP", o.bgpPeers(), o.bgpRoutes(), o.scoped(o.bgpExplain()))
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

func (o *options) bgpExplain() *cobra.Command {
	return &cobra.Command{
		Use:   "explain NAMESPACE/SERVICE | CIDR | ADDRESS",
		Short: "From which nodes to which peers a service or a CIDR is advertised, or is not, and why",
		Long: "Says for each node whether it advertises the addresses of a service, or the blocks and prefixes in a CIDR; to which of its peers; and why, or why " +
			"not. The reasons are those of the operator's own compiler and of what the nodes have been told.",
		Example: "  kubectl manul bgp explain yaobank/customer\n  kubectl manul bgp explain 10.48.2.0/24",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.checkOutput(); err != nil {
				return err
			}
			named, err := o.qualified(args[0])
			if err != nil {
				return err
			}
			cidr, service, err := parseSubject(named)
			if err != nil {
				return err
			}
			c, err := o.connect()
			if err != nil {
				return err
			}
			states, err := c.NodeStates(cmd.Context())
			if err != nil {
				return err
			}
			if cidr.IsValid() {
				return o.print(cmd, report.ExplainCIDR(cidr, states))
			}
			plan, err := c.Plan(cmd.Context())
			if err != nil {
				return err
			}
			e, found := report.ExplainService(plan, service, states)
			if !found {
				return fmt.Errorf("there is no service %s: see kubectl get services -n %s", named, service.Namespace)
			}
			return o.print(cmd, e)
		},
	}
}

// parseSubject reads what is to be explained: a CIDR, an address, or a service with its namespace.
func parseSubject(text string) (netip.Prefix, routing.ServiceName, error) {
	before, after, ok := strings.Cut(text, "/")
	addr, err := netip.ParseAddr(before)
	if err != nil || addr.Zone() != "" {
		if !ok || len(validation.IsDNS1123Label(before)) > 0 || len(validation.IsDNS1123Label(after)) > 0 {
			return netip.Prefix{}, routing.ServiceName{}, fmt.Errorf("%q: want NAMESPACE/SERVICE, or a CIDR such as 10.48.2.0/24", text)
		}
		return netip.Prefix{}, routing.ServiceName{Namespace: before, Name: after}, nil
	}
	if addr.Is4In6() {
		return netip.Prefix{}, routing.ServiceName{}, fmt.Errorf("%q: this is an IPv4 address in the form of IPv6: write it as IPv4, %s", text, addr.Unmap())
	}
	if !ok {
		return netip.PrefixFrom(addr, addr.BitLen()), routing.ServiceName{}, nil
	}
	cidr, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, routing.ServiceName{}, fmt.Errorf("%q: want a prefix length of 0 to %d after the slash", text, addr.BitLen())
	}
	return cidr.Masked(), routing.ServiceName{}, nil
}
