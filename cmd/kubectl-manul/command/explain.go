package command

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/manul-net/manul/cmd/kubectl-manul/cluster"
	"github.com/manul-net/manul/cmd/kubectl-manul/policing"
	"github.com/manul-net/manul/cmd/kubectl-manul/report"
	"github.com/manul-net/manul/internal/validate"
)

// Protocol numbers of IANA.
const (
	protocolICMP, protocolTCP, protocolUDP, protocolICMPv6, protocolSCTP = 1, 6, 17, 58, 132
)

func (o *options) explain() *cobra.Command {
	var protocol string
	var port, sourcePort, icmpType, icmpCode int
	var p policing.Packet
	cmd := &cobra.Command{
		Use:   "explain FROM TO",
		Short: "Why a connection is allowed or denied: the policies that decide, on either node",
		Long: "What policies do with the first packet of a connection, and which rule decides, on the node of either end. FROM and TO are pods " +
			"(NAMESPACE/POD, or POD with -n) or addresses of pods, nodes, or others. It goes by what the operator has rendered for the nodes and sends no packet.",
		Example: "  kubectl manul explain yaobank/customer-68d67b588d-xk2c4 yaobank/database-6c5db58d95-dwm7n --port 2379\n" +
			"  kubectl manul explain 198.51.100.7 yaobank/customer-68d67b588d-xk2c4 --port 80\n  kubectl manul explain shop/web-0 10.0.0.11 --protocol ICMP",
		Args: cobra.ExactArgs(2), //nolint:mnd // the two ends
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.checkOutput(); err != nil {
				return err
			}
			asked, err := readPacket(&p, protocol, port, sourcePort, icmpType, icmpCode)
			if err != nil {
				return err
			}
			for i := range args {
				if args[i], err = o.qualified(args[i]); err != nil {
					return err
				}
			}
			c, err := o.connect()
			if err != nil {
				return err
			}
			rendered, err := c.Rendered(cmd.Context())
			if err != nil {
				return err
			}
			for i, to := range []*string{&p.From, &p.To} {
				if *to, err = subject(cmd.Context(), c, rendered, args[i]); err != nil {
					return err
				}
			}
			answer, err := policing.Ask(rendered, &p)
			if err != nil {
				return err
			}
			return o.print(cmd, &report.Policing{Answer: *answer, Asked: asked})
		},
	}
	f := cmd.Flags()
	f.StringVar(&protocol, "protocol", "TCP", "TCP, UDP, SCTP, ICMP, ICMPv6, UDPLite, or a number")
	f.IntVar(&port, "port", 0, "destination port; necessary for TCP, UDP and SCTP")
	f.IntVar(&sourcePort, "source-port", 0, "source port, for policies that go by it")
	f.IntVar(&icmpType, "icmp-type", -1, "type of ICMP or ICMPv6; an echo request when left out")
	f.IntVar(&icmpCode, "icmp-code", 0, "code of ICMP or ICMPv6")
	f.BoolVarP(&p.IPv6, "ipv6", "6", false, "between pods of both families, ask about IPv6")
	return cmd
}

// readPacket reads the flags, and tells them in words.
func readPacket(p *policing.Packet, protocol string, port, sourcePort, icmpType, icmpCode int) (string, error) {
	number, err := validate.ParseProtocol(intstr.Parse(protocol))
	if err != nil {
		return "", fmt.Errorf("--protocol %q: %w", protocol, err)
	}
	p.Protocol = uint8(number)
	const maxPort, maxByte = 1<<16 - 1, 1<<8 - 1
	switch number {
	case protocolTCP, protocolUDP, protocolSCTP:
		if port < 1 || port > maxPort {
			return "", fmt.Errorf("--port %d: %s needs one of 1 to 65535", port, protocol)
		}
		if sourcePort < 0 || sourcePort > maxPort {
			return "", fmt.Errorf("--source-port %d: want 0 to 65535", sourcePort)
		}
		p.Port, p.SourcePort = uint16(port), uint16(sourcePort)
		if sourcePort > 0 {
			return fmt.Sprintf("%s port %d to %d", protocol, sourcePort, port), nil
		}
		return fmt.Sprintf("%s port %d", protocol, port), nil
	case protocolICMP, protocolICMPv6:
		if icmpType < 0 {
			icmpType = 8 // echo request, RFC 792
			if number == protocolICMPv6 {
				icmpType = 128 // the same, RFC 4443
			}
		}
		if icmpType > maxByte || icmpCode < 0 || icmpCode > maxByte {
			return "", fmt.Errorf("--icmp-type %d, --icmp-code %d: want 0 to 255", icmpType, icmpCode)
		}
		p.ICMPType, p.ICMPCode, p.IPv6 = uint8(icmpType), uint8(icmpCode), number == protocolICMPv6
		return fmt.Sprintf("%s type %d code %d", protocol, icmpType, icmpCode), nil
	}
	if port != 0 || sourcePort != 0 {
		return "", fmt.Errorf("--port: protocol %s has no ports", protocol)
	}
	return "protocol " + protocol, nil
}

// subject finds out what an argument means: a pod that uses its node's network stands for the node, and a service for none of its pods.
func subject(ctx context.Context, c *cluster.Cluster, rendered *policing.Rendered, arg string) (string, error) {
	if addr, err := netip.ParseAddr(arg); err == nil {
		return arg, refuseService(ctx, c, addr)
	}
	namespace, name, ok := strings.Cut(arg, "/")
	if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
		return "", fmt.Errorf("%q is neither a pod (NAMESPACE/POD, or POD with -n) nor an address", arg)
	}
	if rendered.Has(arg) {
		return arg, nil
	}
	pod, err := c.Pod(ctx, namespace, name)
	switch {
	case err != nil:
		return "", err
	case pod.Spec.HostNetwork && pod.Status.HostIP != "":
		return pod.Status.HostIP, nil
	case pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed:
		return "", fmt.Errorf("pod %s has ended, and holds no address any more", arg)
	}
	return "", &policing.UnknownPodError{Pod: arg}
}

// refuseService says which pods to ask about when an address is that of a service: policy sees the pod's.
func refuseService(ctx context.Context, c *cluster.Cluster, addr netip.Addr) error {
	service, pods, err := c.ServiceWith(ctx, addr)
	if err != nil || service == "" {
		return err
	}
	if len(pods) == 0 {
		return fmt.Errorf("%s is an address of service %s, which has no ready endpoint: nobody answers there", addr, service)
	}
	return errors.New(addr.String() + " is an address of service " + service + ", and policies see the pod that a connection is sent on to: ask about " + strings.Join(pods, " or "))
}
