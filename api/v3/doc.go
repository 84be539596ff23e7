// Package v3 is the API that users write: network policies, tiers, address pools, BGP and the settings of the cluster.
// It serves the group projectcalico.org/v3 as custom resources, so that manifests written for that group apply unchanged.
//
// What one object alone can show to be wrong is refused by the API server: bounds, enums and the CEL rules of these types.
// What needs a second object, or more than the API server's cost budget for CEL allows, is refused by the admission webhook
// and shown in the status of the object. The API server prunes unknown fields by default; kubectl asks for strict validation and has
// them refused by name.
//
// +kubebuilder:object:generate=true
// +groupName=projectcalico.org
package v3
