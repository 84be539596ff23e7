// Package v3 is the API that users write: network policies, tiers, address pools, BGP and the settings of the cluster.
// It serves the group projectcalico.org/v3 as custom resources, so that manifests written for that group apply unchanged.
//
// What one object alone can show to be wrong is refused by the API server: bounds, enums and the CEL rules of these types.
// What needs a second object, or more than the API server's cost budget for CEL allows, is refused by the admission webhook
// and shown in the status of the object. The following rules concern one object alone and are still the webhook's, because the API server
// bounds the estimated cost of CEL by the greatest object that the bounds of the schema let through:
//
//   - Ports and protocols, as int-or-string: the estimate takes every string for one of megabytes. Ranges with low above
//     high, malformed names, numbers outside 1..65535, and unknown protocols are the webhook's. (That ports need a protocol with ports is CEL.)
//   - Networks of rules: 1,024 rules with 256 networks in four lists leave room for the rules on families, not for parsing. Malformed
//     networks, and those with bits after their prefix, are the webhook's.
//   - Corrections in messages, such as the masked network: text that CEL makes from a network has no bound for the estimate.
//   - Selectors: their grammar, and global() only alone and only in a rule's namespaceSelector.
//   - BGPConfiguration: names in prefixAdvertisements that communities lacks; 500 lists of 50 against 500 names.
//   - Durations without a pattern in the published schema; see Duration.
//
// The API server prunes unknown fields by default; kubectl asks for strict validation and has
// them refused by name.
//
// +kubebuilder:object:generate=true
// +groupName=projectcalico.org
package v3
