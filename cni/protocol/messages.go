package protocol

import "net/netip"

const (
	// Version of the protocol. A request or an answer of another version is refused.
	Version = 1

	// DefaultSocket is where the agent listens unless told otherwise.
	DefaultSocket = "/run/manul/cni.sock"

	// MaxMessage bounds a request or an answer, bytes with the line's end. A GC that lists 5,000 attachments fits.
	MaxMessage = 1 << 20

	// MaxAddresses bounds the addresses of one interface.
	MaxAddresses = 16

	// MaxPools bounds the pools of a family that a network configuration names.
	MaxPools = 16

	// MaxAttachments bounds the attachments that one GC may list.
	MaxAttachments = 8192

	// InterfacePrefix begins the name of every host-side interface of a pod.
	InterfacePrefix = "cali"
	// InterfaceMark begins the alias of every host-side interface that the plugin makes; container and interface follow: "manul:c1/eth0".
	InterfaceMark = "manul:"
	// ChainedMark ends the alias of one that another plugin made: "manul:c1/eth0/chained".
	ChainedMark = "/chained"
)

// How a pod reaches its node, the same for every pod.
const (
	// HostMAC is the hardware address of every host-side interface. Fixed, so that the pod's permanent neighbour
	// entries for its gateways hold whatever happens to the host side.
	HostMAC = "ee:ee:ee:ee:ee:ee"
	// GatewayIPv4 is the pod's next hop for IPv4. No interface bears it; the pod has a permanent neighbour entry for it.
	GatewayIPv4 = "169.254.1.1"
	// GatewayIPv6 is the pod's next hop for IPv6: the link-local address that follows from HostMAC (RFC 4291, appendix A).
	GatewayIPv6 = "fe80::ecee:eeff:feee:eeee"
	// RouteProtocol marks the node's routes as ours (rtm_protocol).
	RouteProtocol = 80
	// LearnedRouteProtocol marks those that the node learned by BGP.
	LearnedRouteProtocol = 81
)

// Request is one question of the plugin: exactly one of the operations is set.
type Request struct {
	Version int `json:"version"`

	Add    *AddRequest    `json:"add,omitempty"`
	Del    *DelRequest    `json:"del,omitempty"`
	Check  *CheckRequest  `json:"check,omitempty"`
	Status *StatusRequest `json:"status,omitempty"`
	GC     *GCRequest     `json:"gc,omitempty"`
	Node   *NodeRequest   `json:"node,omitempty"`
}

// Response is the agent's answer. Result answers Add and Check; an answer without Error means success.
type Response struct {
	Version int        `json:"version"`
	Result  *AddResult `json:"result,omitempty"`
	// Node answers Node.
	Node  *NodeResult `json:"node,omitempty"`
	Error *Error      `json:"error,omitempty"`
}

// Attachment is one interface of one container, as CNI identifies it.
type Attachment struct {
	// ContainerID is the runtime's name for the sandbox: CNI_CONTAINERID.
	ContainerID string `json:"containerID"`
	// IfName is the interface's name inside the pod: CNI_IFNAME.
	IfName string `json:"ifName"`
}

// AddRequest asks for an attachment to be prepared: addresses given and durable, policy in the kernel. It is idempotent:
// the same attachment asked for again gets the same answer.
type AddRequest struct {
	Attachment
	// Netns is the path of the pod's network namespace: CNI_NETNS.
	Netns string `json:"netns"`
	// PodNamespace, PodName and PodUID come from CNI_ARGS. PodUID is empty with runtimes that do not say it.
	PodNamespace string `json:"podNamespace"`
	PodName      string `json:"podName"`
	PodUID       string `json:"podUID,omitempty"`
	// MTU that the network configuration demands, bytes. 0: the agent decides.
	MTU int `json:"mtu,omitempty"`
	// Pools that the network configuration has pods take addresses from. Absent: it says nothing of that.
	Pools *Pools `json:"pools,omitempty"`
	// Given are the addresses that another plugin gave to the attachment. None: the agent gives addresses.
	Given []netip.Addr `json:"given,omitempty"`
	// Chained: the interface is another plugin's too, and so are its routes; policy is all that is wanted.
	Chained bool `json:"chained,omitempty"`
}

// Pools are those that a network configuration names for the pods of a node. What a pod or its namespace names counts before.
type Pools struct {
	// IPv4 and IPv6 are names or CIDRs of pools; none: those that serve every pod.
	IPv4 []string `json:"ipv4,omitempty"`
	IPv6 []string `json:"ipv6,omitempty"`
	// NoIPv4 and NoIPv6: pods get no address of the family.
	NoIPv4 bool `json:"noIPv4,omitempty"`
	NoIPv6 bool `json:"noIPv6,omitempty"`
}

// Silent tells whether the network configuration leaves everything to pods, namespaces and pools.
func (p *Pools) Silent() bool {
	return p == nil || len(p.IPv4)+len(p.IPv6) == 0 && !p.NoIPv4 && !p.NoIPv6
}

// CheckRequest asks what an attachment should look like.
type CheckRequest struct {
	Attachment
	Netns        string `json:"netns"`
	PodNamespace string `json:"podNamespace"`
	PodName      string `json:"podName"`
	PodUID       string `json:"podUID,omitempty"`
}

// DelRequest says that an attachment is no more. It is idempotent: an attachment that the agent does not know is no error.
// Only ContainerID and IfName decide: a late DEL of an old sandbox must not take the address of the pod's new one.
type DelRequest struct {
	Attachment
	// PodNamespace, PodName and PodUID are for messages; they may be empty.
	PodNamespace string `json:"podNamespace,omitempty"`
	PodName      string `json:"podName,omitempty"`
	PodUID       string `json:"podUID,omitempty"`
}

// StatusRequest asks whether an ADD would be served now.
type StatusRequest struct{}

// GCRequest lists every attachment that the runtime still knows; what the agent holds for any other is to be released.
type GCRequest struct {
	Valid []Attachment `json:"valid"`
}

// NodeRequest asks what IPAM plugins need to know of the node.
type NodeRequest struct{}

// NodeResult answers a NodeRequest.
type NodeResult struct {
	// PodCIDRs are those that Kubernetes allotted to the node.
	PodCIDRs []netip.Prefix `json:"podCIDRs,omitempty"`
}

// AddResult describes an attachment. It holds until DEL: Check gives the same.
type AddResult struct {
	// InterfaceName is the host side's name: [InterfacePrefix] and up to 11 letters and digits.
	InterfaceName string `json:"interfaceName"`
	// Addresses of the pod, IPv4 first: one at least, MaxAddresses at most.
	Addresses []netip.Addr `json:"addresses"`
	// MTU of both ends, bytes.
	MTU int `json:"mtu"`
	// HardwareAddress of the pod's end: the MAC address. Empty: the plugin chooses one that is always the same for the attachment.
	HardwareAddress string `json:"hardwareAddress,omitempty"`
	// Chained: another plugin made the interface.
	Chained bool `json:"chained,omitempty"`
}
