// Package policy compiles one policy: its rules with their peers as sets, whom it selects, in which directions, and its
// place among others. What cannot be compiled fails closed: the policy then drops all that it could have decided on.
package policy

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"math"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/selector"
)

// Kinds of policies, as PolicyPrograms and the order of policies know them.
const (
	KindGlobalNetworkPolicy     = "GlobalNetworkPolicy"
	KindNetworkPolicy           = "NetworkPolicy"
	KindKubernetesNetworkPolicy = "KubernetesNetworkPolicy"
	KindClusterNetworkPolicy    = "ClusterNetworkPolicy"

	KindAdminNetworkPolicy         = "AdminNetworkPolicy"
	KindBaselineAdminNetworkPolicy = "BaselineAdminNetworkPolicy"

	KindStagedGlobalNetworkPolicy     = "StagedGlobalNetworkPolicy"
	KindStagedNetworkPolicy           = "StagedNetworkPolicy"
	KindStagedKubernetesNetworkPolicy = "StagedKubernetesNetworkPolicy"
)

// Stage is a point of a packet's way through a node.
type Stage int

// The stages. Filter is where pods and the node itself get and send packets, and where the node passes them on; PreDNAT is
// where packets come in, before the addresses of services are translated; Untracked is before connections are tracked.
const (
	Filter Stage = iota
	PreDNAT
	Untracked
)

// DefaultTier is the tier of policies that name none.
const DefaultTier = "default"

// Ref names a policy.
type Ref struct {
	Kind      string
	Namespace string
	Name      string
}

// String is "name/namespace/kind", by which policies of equal order are ordered.
func (r Ref) String() string { return r.Name + "/" + r.Namespace + "/" + r.Kind }

// staged begins the kinds of staged policies.
const staged = "Staged"

// Real names the policy that a staged one stands for.
func (r Ref) Real() Ref { return Ref{strings.TrimPrefix(r.Kind, staged), r.Namespace, r.Name} }

// Staged names the staged policy that stands for this one.
func (r Ref) Staged() Ref { return Ref{staged + r.Kind, r.Namespace, r.Name} }

// maxProgramName is the greatest length of the name of an API object.
const maxProgramName = 253

// ProgramName is the name of the policy's PolicyProgram.
func (r Ref) ProgramName() string {
	var name string
	switch r.Kind {
	case KindGlobalNetworkPolicy:
		name = "gnp." + r.Name
	case KindNetworkPolicy:
		name = "np." + r.Namespace + "." + r.Name
	case KindClusterNetworkPolicy:
		name = "cnp." + r.Name
	case KindAdminNetworkPolicy:
		name = "anp." + r.Name
	case KindBaselineAdminNetworkPolicy:
		name = "banp." + r.Name
	default:
		name = "knp." + r.Namespace + "." + r.Name
	}
	if len(name) <= maxProgramName {
		return name
	}
	id := hash(name)
	return strings.TrimRight(name[:maxProgramName-len(id)-1], ".-") + "-" + id
}

// Compiled is a policy in compiled form.
type Compiled struct {
	Ref        Ref
	UID        types.UID
	Generation int64

	// Tier of the policy, and its order there: +Inf when it has none.
	Tier  string
	Order float64

	// Selector says which endpoints the policy applies to (see EndpointLabels). nil: none, because what the user wrote
	// cannot be understood.
	Selector *selector.Selector
	// Ingress and Egress are the directions in which it applies.
	Ingress, Egress bool

	// Stage is the point of a packet's way at which the policy decides. All but Filter are for host endpoints alone, and the
	// selector says so.
	Stage Stage
	// Forward: on host endpoints a policy of the stage Filter also decides on what the node passes on.
	Forward bool

	// Program holds the rules.
	Program v1alpha1.PolicyProgramSpec
	// Sets that the rules name, by ID.
	Sets map[string]Set

	// Staged: the policy is tried out. It has neither program nor sets and decides nothing.
	Staged bool
	// Deletes: the staged policy stands for deleting the one that it is called after.
	Deletes bool
	// proposed is the program that the staged policy would have.
	proposed v1alpha1.PolicyProgramSpec

	// Finding is what became of the policy.
	Finding Finding
	// Errs is what is wrong with the policy, or asks for too much, field by field; the finding tells of the first few.
	Errs field.ErrorList
	// problems that the finding tells of.
	problems string
}

// Set is what a set stands for: a selector of endpoints, one of nodes, or the ready endpoints of a service.
type Set struct {
	// Selector of endpoints and network sets (see EndpointLabels); nil: nodes or a service.
	Selector *selector.Selector
	// Namespace in which alone the selector finds something; empty when it may find something anywhere.
	Namespace string

	// Nodes selects nodes, by their labels: the set holds their addresses. nil: endpoints or a service.
	Nodes *selector.Selector

	// Service whose ready endpoints are in the set.
	Service Service
	// Ports: the endpoints' ports and protocols count as well as their addresses.
	Ports bool
}

// Service names a service.
type Service struct{ Namespace, Name string }

// String is "namespace/name".
func (s Service) String() string { return s.Namespace + "/" + s.Name }

// ID of the set: a hash of what it stands for. No selector reads like the words for nodes or a service.
func (s Set) ID() string {
	switch {
	case s.Selector != nil:
		return SetID(s.Selector)
	case s.Nodes != nil:
		return hash("addresses of nodes " + s.Nodes.String())
	case s.Ports:
		return hash("ports of service " + s.Service.String())
	}
	return hash("addresses of service " + s.Service.String())
}

// Compare puts the policies of a tier in the order of their evaluation.
func Compare(a, b *Compiled) int {
	if c := cmp.Compare(a.Order, b.Order); c != 0 {
		return c
	}
	return strings.Compare(a.Ref.String(), b.Ref.String())
}

// Reasons of findings.
const (
	// ReasonAccepted: the policy was compiled as it is written.
	ReasonAccepted = "Accepted"
	// ReasonHTTPNotEnforced: the policy was compiled, but its rules with http match nothing.
	ReasonHTTPNotEnforced = "HTTPNotEnforced"
	// ReasonInvalidSelector: the policy's own selector cannot be understood, so that it selects nothing.
	ReasonInvalidSelector = "InvalidSelector"
	// ReasonInvalid: the policy breaks a rule. It drops everything that it could have decided on.
	ReasonInvalid = "Invalid"
	// ReasonNotSupported: the policy asks for what is not implemented. It drops everything that it could have decided on.
	ReasonNotSupported = "NotSupported"
	// ReasonTierNotFound: the tier that the policy names does not exist. The policy is not in force.
	ReasonTierNotFound = "TierNotFound"
)

// Finding says what became of a policy.
type Finding struct {
	// Accepted: the policy is in force as it is written.
	Accepted bool
	// Reason is one of the constants above.
	Reason string
	// Message says which field is wrong and what to do.
	Message string
}

func accepted() Finding {
	return Finding{Accepted: true, Reason: ReasonAccepted, Message: "the policy is valid and was compiled"}
}

// TierNotFound is the finding on a policy whose tier does not exist.
func TierNotFound(tier string) Finding {
	return Finding{
		Reason:  ReasonTierNotFound,
		Message: "spec.tier: there is no tier " + tier + ", so that the policy is not in force: create the tier or name another",
	}
}

// SetID is the ID of the set that a selector stands for.
func SetID(s *selector.Selector) string { return hash(s.String()) }

// hash is the first 16 hexadecimal digits of the SHA-256 of text.
func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:8])
}

func orderOf(order *float64) float64 {
	if order == nil {
		return math.Inf(1)
	}
	return *order
}

func tierOf(name string) string {
	if name == "" {
		return DefaultTier
	}
	return name
}
