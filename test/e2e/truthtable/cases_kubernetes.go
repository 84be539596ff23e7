package truthtable

// kubernetesCases are about directions, ports and protocols.
func kubernetesCases() []Case {
	return []Case{
		{Name: "without a policy everybody reaches everybody", Steps: []Step{{}}},
		one("ingress is denied by default", knp("tx", "deny", `{podSelector: {}, policyTypes: [Ingress]}`)),
		one("egress is denied by default", knp("tx", "deny", `{podSelector: {}, policyTypes: [Egress]}`)),
		one("both are denied, in two namespaces",
			knp("tx", "deny", `{podSelector: {}, policyTypes: [Ingress, Egress]}`),
			knp("ty", "deny", `{podSelector: {}, policyTypes: [Ingress, Egress]}`)),
		one("a policy without types is about ingress", knp("tx", "deny", `{podSelector: {matchLabels: {pod: a}}}`)),
		one("a policy without types but with egress rules is about both",
			knp("tx", "out", `{podSelector: {matchLabels: {pod: a}}, egress: [{to: [{podSelector: {matchLabels: {pod: b}}}]}]}`)),
		one("a rule without peers allows all", knp("tx", "open", `{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{}], egress: [{}]}`)),
		one("one TCP port", knp("tx", "port", `{podSelector: {}, ingress: [{ports: [{port: 80}]}]}`)),
		one("a protocol without a port", knp("tx", "udp", `{podSelector: {}, ingress: [{ports: [{protocol: UDP}]}]}`)),
		one("one SCTP port", knp("tx", "sctp", `{podSelector: {}, ingress: [{ports: [{protocol: SCTP, port: 81}]}]}`)),
		one("several ports of several protocols", knp("tx", "ports", `{podSelector: {}, ingress: [{ports: [{port: 80}, {protocol: UDP, port: 81}, {protocol: SCTP, port: 80}]}]}`)),
		one("named ports", knp("ty", "named", `{podSelector: {}, ingress: [{ports: [{port: tcp-81}, {protocol: SCTP, port: sctp-80}]}]}`)),
		one("a named port of another protocol matches nothing", knp("ty", "named", `{podSelector: {}, ingress: [{ports: [{protocol: UDP, port: tcp-81}]}]}`)),
		one("named ports of egress are those of the destination", knp("ty", "named", `{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{protocol: UDP, port: udp-80}]}]}`)),
		one("a range of ports", knp("tz", "range", `{podSelector: {}, ingress: [{ports: [{port: 81, endPort: 90}, {protocol: SCTP, port: 70, endPort: 80}]}]}`)),
		one("egress to one port", knp("tz", "out", `{podSelector: {matchLabels: {pod: c}}, policyTypes: [Egress], egress: [{ports: [{protocol: TCP, port: 81}]}]}`)),
	}
}

// kubernetesPeerCases are about peers.
func kubernetesPeerCases() []Case {
	return []Case{
		one("peers by label, in the policy's namespace", knp("tx", "pods", `{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}]}]}`)),
		one("peers by namespace", knp("tx", "ns", `{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: ty}}}]}]}`)),
		one("peers by namespace and label together", knp("tx", "both", `{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: ty}}, podSelector: {matchLabels: {pod: b}}}]}]}`)),
		one("peers by namespace or label", knp("tx", "either", `{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: ty}}}, {podSelector: {matchLabels: {pod: b}}}]}]}`)),
		one("an empty selector of pods is the namespace", knp("tx", "own", `{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}`)),
		one("an empty selector of namespaces is the cluster", knp("tx", "all", `{podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]}`)),
		one("expressions", knp("tx", "expressions", `{podSelector: {matchExpressions: [{key: pod, operator: In, values: [a, b]}]}, ingress: [{from: [
			{namespaceSelector: {matchExpressions: [{key: ns, operator: NotIn, values: [ty]}]}, podSelector: {matchExpressions: [{key: pod, operator: Exists}, {key: none, operator: DoesNotExist}]}}]}]}`)),
		one("by the label that every namespace has", knp("tx", "name", `{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: tz}}}]}]}`)),
		one("a block of addresses", knp("tx", "block", `{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: {{ip "ty" "b"}}/32}}]}]}`)),
		one("a block of addresses with exceptions", knp("tx", "except", `{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.48.0.0/16, except: [{{ip "ty" "b"}}/32, {{ip "tx" "c"}}/32]}}]}]}`)),
		one("egress to a block of addresses", knp("ty", "out", `{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [{{ip "tz" "a"}}/32]}}], ports: [{protocol: UDP, port: 80}, {protocol: TCP}]}]}`)),
		one("egress to labelled pods of a namespace, by one port", knp("tx", "out", `{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {ns: tz}}, podSelector: {matchLabels: {pod: a}}}], ports: [{protocol: SCTP, port: 81}]}]}`)),
		one("policies add up", knp("tx", "deny", `{podSelector: {}, policyTypes: [Ingress, Egress]}`),
			knp("tx", "in", `{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {pod: c}}}], ports: [{port: 80}]}]}`),
			knp("tx", "in-too", `{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: tz}}}], ports: [{protocol: UDP, port: 81}]}]}`),
			knp("tx", "out", `{podSelector: {matchLabels: {pod: b}}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {ns: ty}}}]}]}`)),
		one("egress of one and ingress of the other must both allow",
			knp("tx", "out", `{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {ns: ty}}}], ports: [{port: 80}, {protocol: UDP}]}]}`),
			knp("ty", "in", `{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: tx}}, podSelector: {matchLabels: {pod: a}}}], ports: [{port: 80}, {port: 81}]}]}`)),
	}
}
