package validate

import (
	"fmt"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	v3 "github.com/manul-net/manul/api/v3"
)

// meshName begins the names of the sessions among all nodes (v1alpha1.MeshGroup).
const meshName = "mesh"

// BGPPeer checks a BGPPeer. Secrets and filters that it names may come later.
func BGPPeer(p *v3.BGPPeer) field.ErrorList {
	s, spec := &p.Spec, field.NewPath("spec")
	errs := checkWho(spec, s)
	if p.Name == meshName {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), p.Name, "sessions are told apart by this name, and those of the mesh of all nodes bear it: choose another"))
	}
	errs = append(errs, checkPeerAS(spec, s)...)
	errs = append(errs, checkSelector(spec.Child("nodeSelector"), s.NodeSelector, false)...)
	errs = append(errs, checkSelector(spec.Child("peerSelector"), s.PeerSelector, false)...)
	errs = append(errs, checkSelector(spec.Child("localWorkloadSelector"), s.LocalWorkloadSelector, false)...)
	if s.Node != "" {
		for _, problem := range validation.IsDNS1123Subdomain(s.Node) {
			errs = append(errs, field.Invalid(spec.Child("node"), s.Node, "write the name of a node: "+problem))
		}
	}
	errs = append(errs, checkWay(spec, s)...)
	errs = append(errs, checkEnum(spec.Child("reversePeering"), s.ReversePeering, []string{"Auto", "Manual"})...)
	if s.ReversePeering != "" && s.LocalWorkloadSelector != "" {
		errs = append(errs, field.Forbidden(spec.Child("reversePeering"), "pods peer with their node by a configuration of their own: remove the field"))
	}
	errs = append(errs, checkNextHop(spec, s)...)
	errs = append(errs, checkPassword(spec.Child("password"), s.Password)...)
	errs = append(errs, checkEnum(spec.Child("sourceAddress"), s.SourceAddress, []string{"UseNodeIP", "None"})...)
	errs = append(errs, checkSpan(spec.Child("maxRestartTime"), s.MaxRestartTime, 0, maxRestart)...)
	errs = append(errs, checkSpan(spec.Child("keepaliveTime"), s.KeepaliveTime, minKeepalive, maxKeepalive)...)
	if n := s.NumAllowedLocalASNumbers; n != nil && *n < 0 {
		errs = append(errs, field.Invalid(spec.Child("numAllowedLocalASNumbers"), *n, "write 0 or more"))
	}
	errs = append(errs, checkRange(spec.Child("ttlSecurity"), s.TTLSecurity, 0, 255)...)
	return append(errs, checkFilterNames(spec.Child("filters"), s.Filters)...)
}

// checkWho finds out whether it is clear who peers with whom.
func checkWho(spec *field.Path, s *v3.BGPPeerSpec) field.ErrorList {
	var errs field.ErrorList
	if s.Node != "" && s.NodeSelector != "" {
		errs = append(errs, field.Forbidden(spec.Child("nodeSelector"), "node and nodeSelector exclude each other: remove one"))
	}
	switch {
	case s.PeerIP != "" && s.PeerSelector != "":
		errs = append(errs, field.Forbidden(spec.Child("peerSelector"), "peerIP and peerSelector exclude each other: remove one"))
	case s.LocalWorkloadSelector != "" && (s.PeerIP != "" || s.PeerSelector != ""):
		errs = append(errs, field.Forbidden(spec.Child("localWorkloadSelector"), "localWorkloadSelector excludes peerIP and peerSelector: remove either"))
	case s.LocalWorkloadSelector == "" && s.PeerIP == "" && s.PeerSelector == "":
		errs = append(errs, field.Required(spec.Child("peerIP"), "the peer is missing: give peerIP, peerSelector or localWorkloadSelector"))
	}
	return errs
}

func checkPeerAS(spec *field.Path, s *v3.BGPPeerSpec) field.ErrorList {
	errs := checkAS(spec.Child("localASNumber"), s.LocalASNumber)
	path := spec.Child("asNumber")
	switch {
	case s.PeerSelector != "" && s.ASNumber != 0:
		return append(errs, field.Forbidden(path, "nodes have their own AS numbers: remove it, or give peerIP instead of peerSelector"))
	case s.PeerIP != "" && s.ASNumber == 0:
		return append(errs, field.Required(path, "a peer by peerIP needs its AS number: write that of the router"))
	case s.LocalWorkloadSelector != "" && s.ASNumber == 0:
		return append(errs, field.Required(path, "peers by localWorkloadSelector need their AS number: write that of the pods"))
	}
	return errs
}

// checkWay looks at the addresses by which the peer is reached.
func checkWay(spec *field.Path, s *v3.BGPPeerSpec) field.ErrorList {
	var errs field.ErrorList
	peer, err := PeerAddress(s.PeerIP)
	if s.PeerIP != "" && err != nil {
		errs = append(errs, field.Invalid(spec.Child("peerIP"), s.PeerIP, err.Error()))
	}
	path := spec.Child("reachableBy")
	gateway := checkAddress(path, s.ReachableBy)
	errs = append(errs, gateway...)
	if s.ReachableBy == "" || len(gateway) > 0 {
		return errs
	}
	if s.PeerIP == "" {
		return append(errs, field.Forbidden(path, "reachableBy is the gateway to peerIP: remove it, or give peerIP"))
	}
	by, _ := PeerAddress(s.ReachableBy)
	switch {
	case err != nil || !by.IsValid():
	case by.Addr() == peer.Addr():
		errs = append(errs, field.Invalid(path, s.ReachableBy, "the gateway is the peer itself: remove reachableBy"))
	case by.Addr().Is4() != peer.Addr().Is4():
		errs = append(errs, field.Invalid(path, s.ReachableBy, "the gateway is of the other family than peerIP: write one of the same"))
	}
	return errs
}

func checkNextHop(spec *field.Path, s *v3.BGPPeerSpec) field.ErrorList {
	if s.NextHopMode == nil {
		return nil
	}
	if s.KeepOriginalNextHop {
		return field.ErrorList{field.Forbidden(spec.Child("keepOriginalNextHop"), "keepOriginalNextHop and nextHopMode exclude each other: write nextHopMode: Keep alone")}
	}
	return checkEnum(spec.Child("nextHopMode"), *s.NextHopMode, []string{"Auto", "Self", "Keep"})
}

func checkFilterNames(path *field.Path, names []string) field.ErrorList {
	if len(names) > maxFilters {
		return field.ErrorList{field.TooMany(path, len(names), maxFilters)}
	}
	errs := checkOnce(path, names)
	for i, name := range names {
		for _, problem := range validation.IsDNS1123Subdomain(name) {
			errs = append(errs, field.Invalid(path.Index(i), name, fmt.Sprintf("write the name of a BGPFilter: %s", problem)))
		}
	}
	return errs
}
