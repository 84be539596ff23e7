package validate

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	v3 "github.com/manul-net/manul/api/v3"
)

// StagedKubernetesNetworkPolicy checks a StagedKubernetesNetworkPolicy: what the API server checks in a NetworkPolicy of networking.k8s.io
// it does not check in one that is staged.
func StagedKubernetesNetworkPolicy(p *v3.StagedKubernetesNetworkPolicy) field.ErrorList {
	s, spec := &p.Spec, field.NewPath("spec")
	errs := StagedKubernetesNetworkPolicyAction(p)
	errs = append(errs, checkLabelSelector(spec.Child("podSelector"), &s.PodSelector)...)
	types := make([]v3.PolicyType, 0, len(s.PolicyTypes))
	for _, t := range s.PolicyTypes {
		types = append(types, v3.PolicyType(t))
	}
	if s.PolicyTypes != nil {
		errs = append(errs, checkTypes(spec.Child("policyTypes"), types)...)
	}
	for i := range s.Ingress {
		path := spec.Child("ingress").Index(i)
		errs = append(errs, checkKubernetesPeers(path.Child("from"), s.Ingress[i].From)...)
		errs = append(errs, checkKubernetesPorts(path.Child("ports"), s.Ingress[i].Ports)...)
	}
	for i := range s.Egress {
		path := spec.Child("egress").Index(i)
		errs = append(errs, checkKubernetesPeers(path.Child("to"), s.Egress[i].To)...)
		errs = append(errs, checkKubernetesPorts(path.Child("ports"), s.Egress[i].Ports)...)
	}
	return errs
}

func checkLabelSelector(path *field.Path, s *metav1.LabelSelector) field.ErrorList {
	return metav1validation.ValidateLabelSelector(s, metav1validation.LabelSelectorValidationOptions{}, path)
}

func checkKubernetesPeers(path *field.Path, peers []networkingv1.NetworkPolicyPeer) field.ErrorList {
	var errs field.ErrorList
	for i := range peers {
		p, path := &peers[i], path.Index(i)
		if p.PodSelector != nil {
			errs = append(errs, checkLabelSelector(path.Child("podSelector"), p.PodSelector)...)
		}
		if p.NamespaceSelector != nil {
			errs = append(errs, checkLabelSelector(path.Child("namespaceSelector"), p.NamespaceSelector)...)
		}
		switch selects := p.PodSelector != nil || p.NamespaceSelector != nil; {
		case p.IPBlock == nil && !selects:
			errs = append(errs, field.Required(path, "give ipBlock, podSelector or namespaceSelector"))
		case p.IPBlock != nil && selects:
			errs = append(errs, field.Forbidden(path, "ipBlock stands alone: make an entry of its own for the selectors"))
		case p.IPBlock != nil:
			errs = append(errs, checkIPBlock(path.Child("ipBlock"), p.IPBlock)...)
		}
	}
	return errs
}

func checkIPBlock(path *field.Path, b *networkingv1.IPBlock) field.ErrorList {
	cidr, err := ParseCIDR(b.CIDR)
	if !cidr.IsValid() { // bits behind the prefix mean nothing here: this API has always let them pass
		return field.ErrorList{field.Invalid(path.Child("cidr"), b.CIDR, err.Error())}
	}
	var errs field.ErrorList
	for i, text := range b.Except {
		path := path.Child("except").Index(i)
		except, err := ParseCIDR(text)
		switch {
		case !except.IsValid():
			errs = append(errs, field.Invalid(path, text, err.Error()))
		case !cidr.Contains(except.Addr()) || except.Bits() <= cidr.Bits():
			errs = append(errs, field.Invalid(path, text, fmt.Sprintf("write a part of %s, for only that can be excepted from it", cidr)))
		}
	}
	return errs
}

func checkKubernetesPorts(path *field.Path, ports []networkingv1.NetworkPolicyPort) field.ErrorList {
	var errs field.ErrorList
	all := []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP}
	for i := range ports {
		p, path := &ports[i], path.Index(i)
		if p.Protocol != nil && !slices.Contains(all, *p.Protocol) {
			errs = append(errs, field.NotSupported(path.Child("protocol"), *p.Protocol, all))
		}
		switch {
		case p.Port == nil:
		case p.Port.Type == intstr.Int:
			errs = append(errs, checkRange(path.Child("port"), &p.Port.IntVal, 1, maxPort)...)
		default:
			for _, problem := range validation.IsValidPortName(p.Port.StrVal) {
				errs = append(errs, field.Invalid(path.Child("port"), p.Port.StrVal, "write a number without quotes, or the name of a port: "+problem))
			}
		}
		if p.EndPort == nil {
			continue
		}
		switch end := path.Child("endPort"); {
		case p.Port == nil || p.Port.Type == intstr.String:
			errs = append(errs, field.Forbidden(end, "endPort needs a port that is a number"))
		case *p.EndPort < p.Port.IntVal || *p.EndPort > maxPort:
			errs = append(errs, field.Invalid(end, *p.EndPort, fmt.Sprintf("write a port from %d to %d", p.Port.IntVal, maxPort)))
		}
	}
	return errs
}
