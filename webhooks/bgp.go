package webhooks

import (
	v3 "github.com/manul-net/manul/api/v3"
)

// peerWarnings are about what is right and perhaps not meant.
func peerWarnings(p *v3.BGPPeer) []string {
	var warnings []string
	if p.Spec.ReversePeering == "Manual" && p.Spec.PeerSelector != "" {
		warnings = append(warnings, "spec.reversePeering: with Manual the nodes of peerSelector need a BGPPeer of their own that names these nodes, or no session comes up")
	}
	if p.Spec.TTLSecurity != nil && *p.Spec.TTLSecurity > 0 && p.Spec.LocalWorkloadSelector != "" {
		warnings = append(warnings, "spec.ttlSecurity: pods are one hop away: write 1 or leave it out")
	}
	return warnings
}

func bgpWarnings(c *v3.BGPConfiguration) []string {
	var warnings []string
	if c.Spec.ServiceLoadBalancerAggregation == "Disabled" && len(c.Spec.ServiceLoadBalancerIPs) == 0 && c.Name == theOnly {
		warnings = append(warnings, "spec.serviceLoadBalancerAggregation: it says how serviceLoadBalancerIPs are advertised, and there are none: write the ranges")
	}
	if c.Spec.NodeToNodeMeshEnabled != nil && !*c.Spec.NodeToNodeMeshEnabled && c.Spec.ProgramClusterRoutes != nil && *c.Spec.ProgramClusterRoutes != "Disabled" {
		warnings = append(warnings, "spec.nodeToNodeMeshEnabled: without the mesh and with programClusterRoutes nodes reach each other's pods only by the routes that BGPPeers bring: make route reflectors")
	}
	return warnings
}
