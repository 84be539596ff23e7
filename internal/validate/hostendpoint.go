package validate

import (
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	v3 "github.com/manul-net/manul/api/v3"
)

// AllInterfaces is the interfaceName of a HostEndpoint that stands for every interface of its node.
const AllInterfaces = "*"

// maxExpectedIPs is how many addresses a HostEndpoint may have.
const maxExpectedIPs = 256

// HostEndpoint checks a HostEndpoint.
func HostEndpoint(h *v3.HostEndpoint) field.ErrorList {
	spec := field.NewPath("spec")
	var errs field.ErrorList
	if h.Spec.Node != "" {
		for _, problem := range validation.IsDNS1123Subdomain(h.Spec.Node) {
			errs = append(errs, field.Invalid(spec.Child("node"), h.Spec.Node, "write the name of a node: "+problem))
		}
	}
	if h.Spec.InterfaceName == "" && len(h.Spec.ExpectedIPs) == 0 {
		errs = append(errs, field.Required(spec.Child("interfaceName"), "give the interface's name, or * for all interfaces of the node, or its addresses in expectedIPs"))
	}
	if name := h.Spec.InterfaceName; name != "" && name != AllInterfaces {
		if err := checkInterface(name); err != nil {
			errs = append(errs, field.Invalid(spec.Child("interfaceName"), name, err.Error()+"; * alone stands for all"))
		}
	}
	errs = append(errs, checkExpected(spec.Child("expectedIPs"), h.Spec.ExpectedIPs)...)
	errs = append(errs, checkOnce(spec.Child("profiles"), h.Spec.Profiles)...)
	for i, profile := range h.Spec.Profiles {
		if profile == "" {
			errs = append(errs, field.Required(spec.Child("profiles").Index(i), "write the name of a profile, such as projectcalico-default-allow"))
		}
	}
	for i := range h.Spec.Ports {
		errs = append(errs, checkEndpointPort(spec.Child("ports").Index(i), &h.Spec.Ports[i])...)
	}
	return errs
}

func checkExpected(path *field.Path, addresses []string) field.ErrorList {
	if len(addresses) > maxExpectedIPs {
		return field.ErrorList{field.TooMany(path, len(addresses), maxExpectedIPs)}
	}
	errs := checkOnce(path, addresses)
	for i, text := range addresses {
		if err := isAddress(text); err != nil {
			errs = append(errs, field.Invalid(path.Index(i), text, err.Error()))
		}
	}
	return errs
}

func checkEndpointPort(path *field.Path, p *v3.EndpointPort) field.ErrorList {
	var errs field.ErrorList
	if err := checkPortName(p.Name); err != nil {
		errs = append(errs, field.Invalid(path.Child("name"), p.Name, err.Error()))
	}
	protocol, err := ParseProtocol(p.Protocol)
	switch {
	case err != nil:
		errs = append(errs, field.Invalid(path.Child("protocol"), p.Protocol.String(), err.Error()))
	case !HasPorts(protocol):
		errs = append(errs, field.Invalid(path.Child("protocol"), p.Protocol.String(), "ports are of protocol TCP, UDP or SCTP"))
	}
	return append(errs, checkRange(path.Child("port"), &p.Port, 1, maxPort)...)
}
