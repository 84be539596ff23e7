package validate

import (
	"regexp"
	"strings"
)

// FieldAdvice says what to do about a field that a kind does not have, by its path such as spec.ingress[0].order.
func FieldAdvice(kind, path string) string {
	name := path[strings.LastIndex(path, ".")+1:]
	if strings.HasSuffix(kind, "NetworkPolicy") && !strings.Contains(kind, "Kubernetes") {
		at := levelOf(path)
		if right := misnamed(name, at); right != "" {
			return "write " + right
		}
		if advice := misplaced(kind, name, at); advice != "" {
			return advice
		}
	}
	return "kubectl explain " + strings.ToLower(kind) + ".spec lists those that there are"
}

// level is where in a policy a field stands.
type level int

const (
	elsewhere level = iota
	inSpec
	inRule
	inEntity
)

func levelOf(path string) level {
	switch {
	case regexp.MustCompile(`^spec\.[^.\[]+$`).MatchString(path):
		return inSpec
	case regexp.MustCompile(`^spec\.(in|e)gress\[\d+\]\.[^.\[]+$`).MatchString(path):
		return inRule
	case regexp.MustCompile(`^spec\.(in|e)gress\[\d+\]\.(source|destination)\.[^.\[]+$`).MatchString(path):
		return inEntity
	}
	return elsewhere
}

// misplaced is for names that exist, and stand in the wrong place.
func misplaced(kind, name string, at level) string {
	switch name {
	case "order":
		return "rules are tried as they stand, and order belongs into spec, where it is the policy's among those of its tier"
	case "tier", "types", "preDNAT", "doNotTrack", "applyOnForward", "serviceAccountSelector":
		if strings.Contains(kind, "Global") || name == "tier" || name == "types" || name == "serviceAccountSelector" {
			return "it belongs into spec"
		}
		return "only a GlobalNetworkPolicy can have it"
	case "http", "icmp", "notICMP", "protocol", "notProtocol", "action", "ipVersion", "source", "destination":
		return "it belongs into a rule, which is an entry of ingress or egress, beside action"
	case "nets", "notNets", "ports", "notPorts", "notSelector", "services", "serviceAccounts":
		return "it belongs into the source or the destination of a rule"
	case "selector", "namespaceSelector":
		if at == inSpec {
			return "such a policy is for its own namespace; a GlobalNetworkPolicy can select namespaces"
		}
		return "it belongs into the source or the destination of a rule, or into spec"
	case "methods", "paths":
		return "it belongs into http, in a rule of ingress"
	}
	return ""
}

// misnamed finds the right name for a wrong one that people write, or that differs in small and capital letters.
func misnamed(name string, at level) string {
	names := map[level]map[string][]string{
		inSpec: {
			"selector": {"podSelector", "endpointSelector", "labels"}, "types": {"type", "policyTypes"}, "order": {"priority"},
			"ingress or egress": {"rules"}, "ingress": {"in", "inbound"}, "egress": {"out", "outbound"}, "namespaceSelector": {"namespaces"},
			"tier": nil, "preDNAT": nil, "doNotTrack": nil, "applyOnForward": nil, "serviceAccountSelector": {"serviceAccounts"}, "performanceHints": nil,
		},
		inRule: {
			"source": {"from", "src"}, "destination": {"to", "dest", "dst"}, "protocol": {"protocols", "proto"}, "action": {"verdict"},
			"destination with ports": {"port", "destinationPort", "destinationPorts"}, "source or destination with nets": {"cidr", "ipBlock"},
			"source or destination with selector": {"podSelector"}, "notProtocol": nil, "icmp": nil, "notICMP": nil, "ipVersion": nil, "http": nil, "metadata": nil,
		},
		inEntity: {
			"ports": {"port"}, "nets": {"net", "cidr", "cidrs", "ipBlock"}, "selector": {"podSelector", "labels"}, "namespaceSelector": {"namespace", "namespaces"},
			"serviceAccounts": {"serviceAccount", "serviceAccountSelector"}, "services": {"service"}, "notNets": {"except"}, "notPorts": nil, "notSelector": nil,
			"a GlobalNetworkSet with these addresses, and its labels in selector": {"domains", "networkSet"},
		},
	}
	for right, wrongs := range names[at] {
		for _, wrong := range append(wrongs, right) {
			if name != right && strings.EqualFold(name, wrong) {
				return right
			}
		}
	}
	return ""
}
