package webhooks

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/manul-net/manul/internal/policy"
)

// writeKubernetesNetworkPolicy refuses only what the compiler could not make sense of: nothing would tell the author later, as the kind
// has no status.
func writeKubernetesNetworkPolicy(ctx context.Context, in Cluster, obj client.Object) (verdict, error) {
	p, ok := obj.(*networkingv1.NetworkPolicy)
	if !ok {
		return verdict{}, unexpected(obj)
	}
	compiled := policy.KubernetesNetworkPolicy(p)
	if len(compiled.Errs) > 0 {
		return verdict{errs: compiled.Errs}, nil
	}
	v := verdict{warnings: kubernetesWarnings(&p.Spec)}
	v.warnNone(ctx, in, compiled, p.Namespace)
	return v, nil
}

// writeClusterPolicy warns of what is not in force as it is written. Nothing is refused: the API's own schema says what is right, and
// the policy's status the rest.
func writeClusterPolicy(ctx context.Context, in Cluster, obj client.Object) (verdict, error) {
	if !isClusterPolicy(obj) {
		return verdict{}, unexpected(obj)
	}
	compiled := policy.Compile(obj)
	if compiled == nil {
		return verdict{warnings: []string{"policies of this kind and version are not put into force: write a ClusterNetworkPolicy of policy.networking.k8s.io/v1alpha2"}}, nil
	}
	var v verdict
	if !compiled.Finding.Accepted {
		v.warnings = append(v.warnings, compiled.Finding.Message)
	}
	if compiled.Selector != nil {
		v.warnNone(ctx, in, compiled, "")
	}
	return v, nil
}

// kubernetesWarnings looks at the spec of a NetworkPolicy of networking.k8s.io, staged or not.
func kubernetesWarnings(s *networkingv1.NetworkPolicySpec) []string {
	var warnings []string
	types := make([]string, 0, len(s.PolicyTypes))
	for _, t := range s.PolicyTypes {
		types = append(types, string(t))
	}
	warnings = append(warnings, idleRules("spec.policyTypes", types, len(s.Ingress), len(s.Egress))...)
	for i := range s.Ingress {
		warnings = append(warnings, portWarnings(fmt.Sprintf("spec.ingress[%d].ports", i), s.Ingress[i].Ports)...)
		if i < len(s.Ingress)-1 && len(s.Ingress[i].From)+len(s.Ingress[i].Ports) == 0 {
			warnings = append(warnings, fmt.Sprintf("spec.ingress[%d] allows everything, so that the other rules add nothing: leave it out, or limit it", i))
		}
	}
	for i := range s.Egress {
		warnings = append(warnings, portWarnings(fmt.Sprintf("spec.egress[%d].ports", i), s.Egress[i].Ports)...)
		if i < len(s.Egress)-1 && len(s.Egress[i].To)+len(s.Egress[i].Ports) == 0 {
			warnings = append(warnings, fmt.Sprintf("spec.egress[%d] allows everything, so that the other rules add nothing: leave it out, or limit it", i))
		}
	}
	return warnings
}

// portWarnings: a port without a protocol is one of TCP, which the API server writes before anybody can look. DNS, which is hardly
// ever meant to be of TCP alone, shows who left it out.
func portWarnings(path string, ports []networkingv1.NetworkPolicyPort) []string {
	const dns = 53
	var warnings []string
	tcp, udp := -1, false
	for i := range ports {
		p := &ports[i]
		if p.Protocol == nil {
			warnings = append(warnings, fmt.Sprintf("%s[%d]: without a protocol the port is one of TCP: write protocol: TCP, or UDP or SCTP if that is meant", path, i))
			continue
		}
		if p.Port == nil || p.Port.Type != intstr.Int || p.Port.IntVal != dns {
			udp = udp || *p.Protocol == corev1.ProtocolUDP && p.Port == nil
			continue
		}
		if *p.Protocol == corev1.ProtocolTCP {
			tcp = i
		}
		udp = udp || *p.Protocol == corev1.ProtocolUDP
	}
	if tcp >= 0 && !udp {
		warnings = append(warnings, fmt.Sprintf("%s[%d]: port 53 of TCP alone, which is also what a port without a protocol means: DNS asks by UDP first: add protocol: UDP", path, tcp))
	}
	return warnings
}
