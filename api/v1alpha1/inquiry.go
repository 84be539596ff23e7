package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Inquiry asks a node to report more than it always does. It is what the CalicoNodeStatuses of projectcalico.org ask of the node.
type Inquiry struct {
	// PeriodSeconds between two reports.
	PeriodSeconds int32 `json:"periodSeconds"`
	// Sessions: list those of the mesh and of groups too.
	// +optional
	Sessions bool `json:"sessions,omitempty"`
	// Routes: list them.
	// +optional
	Routes bool `json:"routes,omitempty"`
}

// MaxReportedSessions and MaxReportedRoutes bound the lists of a Report.
const (
	MaxReportedSessions = 250
	MaxReportedRoutes   = 500
)

// Report answers an Inquiry.
type Report struct {
	// At is when it was made, Started when the agent began, Configured when what BGP has to do last changed.
	At metav1.Time `json:"at"`
	// +optional
	Started metav1.Time `json:"started,omitzero"`
	// +optional
	Configured metav1.Time `json:"configured,omitzero"`
	// Sessions of all kinds, the first by name when there are too many.
	// +listType=atomic
	// +optional
	Sessions []BGPSessionStatus `json:"sessions,omitempty"`
	// Routes of both families, in order of destination, IPv4 first; the first in this order when there are too many.
	// +listType=atomic
	// +optional
	Routes []RouteStatus `json:"routes,omitempty"`
	// RoutesTotal is how many routes there are.
	// +optional
	RoutesTotal int32 `json:"routesTotal,omitempty"`
	// Message says what could not be found out.
	// +optional
	Message string `json:"message,omitempty"`
}

// RouteStatus is one way to a destination; a destination with several has several.
type RouteStatus struct {
	// Destination in CIDR notation.
	Destination string `json:"destination"`
	// Gateway to it. Absent: it is on the interface's network, or the route leads nowhere.
	// +optional
	Gateway string `json:"gateway,omitempty"`
	// +optional
	Interface string `json:"interface,omitempty"`
	// Installed: the kernel has it. Otherwise BGP alone knows it.
	// +optional
	Installed bool `json:"installed,omitempty"`
	// Source: Kernel, Static, Direct, NodeMesh, BGPPeer.
	Source string `json:"source"`
	// Peer that a route of source NodeMesh or BGPPeer comes from.
	// +optional
	Peer string `json:"peer,omitempty"`
}
