package validate

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"

	v3 "github.com/manul-net/manul/api/v3"
)

const (
	// maxFailsafe is how many failsafe ports a direction may have: every node gets them all.
	maxFailsafe = 256
	// maxNodePortRanges bounds kubeNodePortRanges.
	maxNodePortRanges = 7
	maxPort           = 65535
	maxVNI            = 1<<24 - 1
)

// FelixConfiguration checks a FelixConfiguration: the settings that have an effect here, and every duration. What else has a form the
// schema checks.
func FelixConfiguration(f *v3.FelixConfiguration) field.ErrorList {
	s, spec := &f.Spec, field.NewPath("spec")
	errs := checkDurations(spec, f.Spec)
	errs = append(errs, checkFailsafe(spec.Child("failsafeInboundHostPorts"), s.FailsafeInboundHostPorts)...)
	errs = append(errs, checkFailsafe(spec.Child("failsafeOutboundHostPorts"), s.FailsafeOutboundHostPorts)...)
	errs = append(errs, checkSelector(spec.Child("nodeSelector"), s.NodeSelector, false)...)
	errs = append(errs, checkPortRanges(spec.Child("kubeNodePortRanges"), s.KubeNodePortRanges)...)
	if s.NATPortRange != nil {
		errs = append(errs, checkPortRange(spec.Child("natPortRange"), *s.NATPortRange)...)
	}
	errs = append(errs, checkAddress(spec.Child("natOutgoingAddress"), s.NATOutgoingAddress)...)
	errs = append(errs, checkEnum(spec.Child("nftablesMode"), s.NftablesMode, []string{"Enabled", "Disabled", "Auto"})...)
	errs = append(errs, checkWord(spec.Child("defaultEndpointToHostAction"), s.DefaultEndpointToHostAction, "Drop", "Accept", "Return")...)
	errs = append(errs, checkWord(spec.Child("workloadSourceSpoofing"), s.WorkloadSourceSpoofing, "Disabled", "Any")...)
	errs = append(errs, checkRange(spec.Child("vxlanPort"), s.VXLANPort, 0, maxPort)...)
	errs = append(errs, checkRange(spec.Child("vxlanMTU"), s.VXLANMTU, 0, maxPort)...)
	errs = append(errs, checkRange(spec.Child("vxlanVNI"), s.VXLANVNI, 1, maxVNI)...)
	errs = append(errs, checkRange(spec.Child("nftablesMarkMask"), s.NftablesMarkMask, 0, 1<<32-1)...)
	errs = append(errs, checkPattern(spec.Child("mtuIfacePattern"), s.MTUIfacePattern)...)
	errs = append(errs, checkNames(spec.Child("interfacePrefix"), s.InterfacePrefix, false)...)
	errs = append(errs, checkNames(spec.Child("interfaceExclude"), s.InterfaceExclude, true)...)
	for i, text := range s.ExternalNodesList {
		if _, err := ParseNet(text); err != nil {
			errs = append(errs, field.Invalid(spec.Child("externalNodesList").Index(i), text, err.Error()))
		}
	}
	return append(errs, checkTables(spec, s)...)
}

// ParseFailsafe reads a failsafe port: the protocol's number, the port, and the network of the other end, which is not valid when any will do.
// An error is of the field that it names.
func ParseFailsafe(path *field.Path, p *v3.ProtoPort) (protocol, port int32, net netip.Prefix, errs field.ErrorList) {
	switch strings.ToUpper(p.Protocol) {
	case "TCP", "":
		protocol = ProtocolTCP
	case "UDP":
		protocol = ProtocolUDP
	case "SCTP":
		protocol = ProtocolSCTP
	default:
		errs = append(errs, field.NotSupported(path.Child("protocol"), p.Protocol, []string{"TCP", "UDP", "SCTP"}))
	}
	errs = append(errs, checkRange(path.Child("port"), &p.Port, 1, maxPort)...)
	if p.Net != "" {
		var err error
		if net, err = ParseNet(p.Net); err != nil {
			errs = append(errs, field.Invalid(path.Child("net"), p.Net, err.Error()))
		}
	}
	return protocol, int32(min(max(p.Port, 0), maxPort)), net, errs
}

func checkFailsafe(path *field.Path, ports []v3.ProtoPort) field.ErrorList {
	if len(ports) > maxFailsafe {
		return field.ErrorList{field.TooMany(path, len(ports), maxFailsafe)}
	}
	var errs field.ErrorList
	for i := range ports {
		_, _, _, found := ParseFailsafe(path.Index(i), &ports[i])
		errs = append(errs, found...)
	}
	return errs
}

func checkPortRanges(path *field.Path, ranges []intstr.IntOrString) field.ErrorList {
	if len(ranges) > maxNodePortRanges {
		return field.ErrorList{field.TooMany(path, len(ranges), maxNodePortRanges)}
	}
	var errs field.ErrorList
	for i, r := range ranges {
		errs = append(errs, checkPortRange(path.Index(i), r)...)
	}
	return errs
}

// checkPortRange accepts a port or a range of them; no name.
func checkPortRange(path *field.Path, r intstr.IntOrString) field.ErrorList {
	port, err := ParsePort(r)
	if err == nil && port.Name != "" {
		err = errors.New(`write a port or a range such as "30000:32767"`)
	}
	if err != nil {
		return field.ErrorList{field.Invalid(path, r.String(), err.Error())}
	}
	return nil
}

// checkNames reads names of interfaces with commas between them; patterns: one between slashes is a regular expression.
func checkNames(path *field.Path, text string, patterns bool) field.ErrorList {
	if text == "" {
		return nil
	}
	for name := range strings.SplitSeq(text, ",") {
		if pattern, ok := between(name, "/"); ok && patterns {
			if errs := checkPattern(path, pattern); len(errs) > 0 {
				return errs
			}
			continue
		}
		if err := checkInterface(name); err != nil {
			return field.ErrorList{field.Invalid(path, text, fmt.Sprintf("entry %q: %v", name, err))}
		}
	}
	return nil
}

func between(text, mark string) (string, bool) {
	if len(text) < 2*len(mark) || !strings.HasPrefix(text, mark) || !strings.HasSuffix(text, mark) {
		return "", false
	}
	return text[len(mark) : len(text)-len(mark)], true
}

func checkTables(spec *field.Path, s *v3.FelixConfigurationSpec) field.ErrorList {
	var errs field.ErrorList
	check := func(path *field.Path, r v3.RouteTableRange) {
		if r.Min < 1 || r.Min > r.Max {
			errs = append(errs, field.Invalid(path, fmt.Sprintf("%d to %d", r.Min, r.Max), "min is at least 1 and not above max"))
		}
	}
	if s.RouteTableRange != nil {
		check(spec.Child("routeTableRange"), *s.RouteTableRange)
		if s.RouteTableRanges != nil {
			errs = append(errs, field.Forbidden(spec.Child("routeTableRange"), "routeTableRange and routeTableRanges exclude each other: write routeTableRanges alone"))
		}
	}
	for i, r := range s.RouteTableRanges {
		check(spec.Child("routeTableRanges").Index(i), r)
	}
	return errs
}
