package render

import (
	"fmt"
	"math"

	"github.com/manul-net/manul/api/v1alpha1"
)

// Annotations on pods that limit their packets and connections.
const (
	annotationIngressPackets     = "qos.projectcalico.org/ingressPacketRate"
	annotationIngressPacketBurst = "qos.projectcalico.org/ingressPacketBurst"
	annotationIngressConnections = "qos.projectcalico.org/ingressMaxConnections"
	annotationEgressPackets      = "qos.projectcalico.org/egressPacketRate"
	annotationEgressPacketBurst  = "qos.projectcalico.org/egressPacketBurst"
	annotationEgressConnections  = "qos.projectcalico.org/egressMaxConnections"
)

// Bounds of the annotations' values, and what holds when no burst is set: that of users of Calico.
const (
	maxPacketRate      = 1_000_000
	defaultPacketBurst = 5
)

// packetWishes are the values of these annotations, as they are.
type packetWishes struct{ ingress, egress packetWish }

// packetWish are those of one direction.
type packetWish struct{ rate, burst, connections string }

func packetsOf(annotations map[string]string) packetWishes {
	return packetWishes{
		packetWish{annotations[annotationIngressPackets], annotations[annotationIngressPacketBurst], annotations[annotationIngressConnections]},
		packetWish{annotations[annotationEgressPackets], annotations[annotationEgressPacketBurst], annotations[annotationEgressConnections]},
	}
}

// render reads the limits, or tells what is wrong with them. A limit that can't be read is none: the pod does not start with it.
func (w packetWishes) render() (*v1alpha1.PacketLimits, string) {
	if w == (packetWishes{}) {
		return nil, ""
	}
	ingress, problem := w.ingress.render(annotationIngressPackets, annotationIngressPacketBurst, annotationIngressConnections)
	if problem != "" {
		return nil, problem
	}
	egress, problem := w.egress.render(annotationEgressPackets, annotationEgressPacketBurst, annotationEgressConnections)
	if problem != "" {
		return nil, problem
	}
	return &v1alpha1.PacketLimits{Ingress: ingress, Egress: egress}, ""
}

func (w packetWish) render(rate, burst, connections string) (*v1alpha1.PacketLimit, string) {
	if w == (packetWish{}) {
		return nil, ""
	}
	var out v1alpha1.PacketLimit
	var problem string
	if w.rate == "" && w.burst != "" {
		return nil, fmt.Sprintf("annotation %s: a burst needs a rate: set %s too", burst, rate)
	}
	if w.rate != "" {
		if out.PacketsPerSecond, problem = quantity(rate, w.rate, 1, maxPacketRate, "500, packets per second, from 1 to 1M"); problem != "" {
			return nil, problem
		}
		out.Burst = defaultPacketBurst
	}
	if w.burst != "" {
		if out.Burst, problem = quantity(burst, w.burst, 1, maxPacketRate, "50, packets, from 1 to 1M"); problem != "" {
			return nil, problem
		}
	}
	if w.connections != "" {
		if out.Connections, problem = quantity(connections, w.connections, 1, math.MaxUint32, "100, connections, from 1 to 4294967295"); problem != "" {
			return nil, problem
		}
	}
	return &out, ""
}
