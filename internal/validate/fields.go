package validate

import "strings"

// FieldAdvice says what to do about a field that a kind does not have, by its path such as spec.ingress[0].order.
func FieldAdvice(kind, path string) string {
	parts := strings.Split(path, ".")
	name, inRule := parts[len(parts)-1], strings.Contains(path, "gress[")
	switch {
	case name == "order" && inRule:
		return "rules are tried as they stand; an order is the policy's, in spec"
	case name == "order":
		return "it belongs into spec"
	case name == "http":
		return "it belongs into a rule of ingress"
	case strings.EqualFold(name, "namespaceSelector") && !inRule && strings.HasSuffix(kind, "NetworkPolicy") && !strings.Contains(kind, "Global"):
		return "such a policy is for its own namespace; a GlobalNetworkPolicy can select namespaces"
	case name == "rules":
		return "write ingress or egress"
	}
	for right, wrongs := range map[string][]string{
		"ports": {"port", "destinationPort", "destinationPorts"}, "nets": {"net", "cidr", "cidrs", "ipBlock"}, "selector": {"selectors", "podSelector", "labels"},
		"protocol": {"protocols", "proto"}, "source": {"from", "src"}, "destination": {"to", "dest", "dst"}, "types": {"policyTypes", "type"},
		"namespaceSelector": {"namespaceSelectors", "namespaces"}, "serviceAccounts": {"serviceAccount"}, "services": {"service"}, "expectedIPs": {"expectedIP", "ips"},
		"interfaceName": {"interface"}, "order": {"priority"}, "action": {"verdict"},
	} {
		for _, wrong := range wrongs {
			if strings.EqualFold(name, wrong) && !(right == "order" && inRule) {
				return "write " + right
			}
		}
		if strings.EqualFold(name, right) && name != right {
			return "write " + right + ", in small and capital letters as here"
		}
	}
	return "kubectl explain lists those that there are"
}
