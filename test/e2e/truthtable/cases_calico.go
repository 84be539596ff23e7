package truthtable

// calicoCases are about rules of projectcalico.org.
func calicoCases() []Case {
	return []Case{
		one("rules are tried in order", np("tx", "order", `{ingress: [
			{action: Deny, protocol: TCP, source: {selector: pod == 'b'}}, {action: Allow, source: {selector: "pod in {'b', 'c'}"}}, {action: Log}, {action: Allow, protocol: SCTP, source: {namespaceSelector: ns == 'ty'}}]}`)),
		one("policies are tried in order, and by name where that is equal",
			np("tx", "z-first", `{order: 10, selector: pod == 'a', ingress: [{action: Deny, source: {namespaceSelector: ns == 'ty'}}]}`),
			np("tx", "b-third", `{order: 20, selector: pod == 'a', ingress: [{action: Deny}]}`),
			np("tx", "a-second", `{order: 20, selector: pod == 'a', ingress: [{action: Allow, source: {namespaceSelector: "ns in {'tx', 'ty'}"}}]}`)),
		one("a selector alone means the policy's namespace", np("tx", "own", `{ingress: [{action: Allow, source: {selector: pod == 'a'}}]}`)),
		one("notSelector alone means the policy's namespace, too", np("tx", "own", `{ingress: [{action: Allow, source: {notSelector: pod == 'a'}}]}`)),
		one("service accounts by name", np("tx", "accounts", `{serviceAccountSelector: team == 'red', ingress: [{action: Allow, source: {serviceAccounts: {names: [blue]}}}]}`)),
		one("service accounts by label, of any namespace",
			gnp("accounts", `{namespaceSelector: ns == 'tx', serviceAccountSelector: team == 'blue', types: [Ingress, Egress], ingress: [{action: Allow, source: {serviceAccounts: {selector: team == 'red'}}}], egress: [{action: Allow}]}`)),
		one("networks and what is left out of them",
			gnp("nets", `{namespaceSelector: `+ours+`, selector: pod == 'b', ingress: [{action: Allow, source: {nets: [10.48.0.0/16], notNets: [{{ip "tz" "c"}}/32, {{ip "tx" "a"}}/32]}}]}`)),
		one("ports by number, range and name, and all but some",
			gnp("ports", `{namespaceSelector: ns == 'ty', ingress: [{action: Allow, protocol: TCP, destination: {ports: [81]}}, {action: Allow, protocol: UDP, destination: {ports: ["80:80"]}}, {action: Allow, protocol: SCTP, destination: {ports: [sctp-81]}}]}`),
			np("tz", "ports", `{ingress: [{action: Allow, protocol: TCP, destination: {notPorts: [80]}}, {action: Allow, protocol: SCTP, destination: {notPorts: ["81:90"]}}]}`)),
		one("protocols by number, and all but one",
			np("tx", "protocols", `{selector: pod == 'a', ingress: [{action: Allow, protocol: 17}, {action: Allow, protocol: 132}]}`),
			np("tx", "others", `{selector: pod == 'b', ingress: [{action: Allow, notProtocol: TCP}]}`)),
		one("network sets as peers, of a namespace and of none",
			"apiVersion: projectcalico.org/v3\nkind: NetworkSet\nmetadata: {namespace: tx, name: friends, labels: {set: friends}}\nspec: {nets: [{{ip \"ty\" \"a\"}}/32, 10.48.0.0/31]}",
			global("GlobalNetworkSet", "foes", `{nets: ["{{ip "ty" "b"}}", "{{ip "tz" "b"}}/32"]}`),
			np("tx", "sets", `{order: 1, selector: pod == 'a', ingress: [{action: Allow, source: {selector: set == 'friends'}}]}`),
			gnp("sets", `{order: 2, namespaceSelector: ns == 'tx', selector: pod == 'c', ingress: [{action: Deny, source: {selector: set == 'foes', namespaceSelector: global()}}, {action: Allow}]}`)),
		{Name: "the endpoints of a service", Steps: []Step{{
			Apply: join("apiVersion: v1\nkind: Service\nmetadata: {namespace: tx, name: first}\nspec: {selector: {pod: a}, ports: [{port: 8080, targetPort: tcp-80}]}",
				np("ty", "service", `{selector: pod == 'a', egress: [{action: Allow, destination: {services: {namespace: tx, name: first}}}]}`)),
			Expect: func(p Probe) bool {
				return p.From != Pod{"ty", "a"} || p.To == Pod{"tx", "a"} && p.Protocol == "TCP" && p.Port == First
			},
		}}},
		one("an http match lets nothing through", np("tx", "http", `{ingress: [{action: Allow, protocol: TCP, http: {methods: [GET]}}, {action: Allow, protocol: UDP}]}`)),
		one("a staged policy changes nothing",
			global("StagedGlobalNetworkPolicy", "staged", `{namespaceSelector: `+ours+`, types: [Ingress, Egress]}`)),
		one("a policy that selects nothing changes nothing", gnp("nothing", `{namespaceSelector: ns == 'elsewhere', types: [Ingress, Egress]}`)),
	}
}

// tierCases are about tiers.
func tierCases() []Case {
	tier := func(name, spec string) string { return global("Tier", name, spec) }
	return []Case{
		one("Pass leaves the tier, and the next decides",
			tier("first", `{order: 10, defaultAction: Deny}`),
			gnp("first.some", `{tier: first, namespaceSelector: ns == 'tx', types: [Ingress, Egress], ingress: [{action: Pass, source: {selector: pod == 'a'}}, {action: Allow, source: {selector: pod == 'b'}}], egress: [{action: Pass}]}`),
			knp("tx", "second", `{podSelector: {}, ingress: [{ports: [{port: 80}]}]}`)),
		one("Pass in the last tier allows, as without policies",
			tier("first", `{order: 10}`), gnp("first.some", `{tier: first, namespaceSelector: ns == 'tx', ingress: [{action: Pass, protocol: UDP}]}`)),
		one("a tier whose default action is Pass", tier("first", `{order: 10, defaultAction: Pass}`),
			gnp("first.some", `{tier: first, namespaceSelector: `+ours+`, ingress: [{action: Deny, protocol: SCTP}, {action: Allow, protocol: UDP, destination: {ports: [80]}}]}`),
			np("tx", "own", `{ingress: [{action: Allow, source: {selector: pod == 'a'}}]}`)),
		one("tiers are asked in order, whatever the order of policies in them",
			tier("later", `{order: 20}`), tier("sooner", `{order: 10}`),
			gnp("later.deny", `{tier: later, order: 1, namespaceSelector: ns == 'tx', ingress: [{action: Deny}]}`),
			gnp("sooner.allow", `{tier: sooner, order: 1000, namespaceSelector: ns == 'tx', ingress: [{action: Allow, source: {namespaceSelector: ns == 'ty'}}, {action: Pass}]}`)),
		one("a policy of one direction leaves the other alone", tier("first", `{order: 10}`),
			gnp("first.out", `{tier: first, namespaceSelector: ns == 'ty', types: [Egress], egress: [{action: Pass, destination: {namespaceSelector: ns == 'tz'}}]}`)),
	}
}

// clusterCases are about ClusterNetworkPolicy.
func clusterCases() []Case {
	subject := `subject: {namespaces: {matchLabels: {ns: tx}}}`
	return []Case{
		one("an administrator's policy comes before all others",
			cnp("admin", `{tier: Admin, priority: 10, `+subject+`, ingress: [
				{name: friends, action: Accept, from: [{namespaces: {matchLabels: {ns: ty}}}], protocols: [{tcp: {destinationPort: {number: 80}}}]},
				{name: passed, action: Pass, from: [{namespaces: {matchLabels: {ns: tz}}}]},
				{name: foes, action: Deny, from: [{namespaces: {}}]}]}`),
			knp("tx", "deny", `{podSelector: {}, ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {pod: a}}}]}]}`)),
		one("a baseline comes after all others",
			cnp("baseline", `{tier: Baseline, priority: 10, `+subject+`, egress: [
				{name: some, action: Accept, to: [{pods: {namespaceSelector: {matchLabels: {ns: tz}}, podSelector: {matchLabels: {pod: b}}}}]},
				{name: rest, action: Deny, to: [{networks: [10.48.0.0/16]}]}]}`),
			knp("tx", "open", `{podSelector: {matchLabels: {pod: a}}, policyTypes: [Egress], egress: [{ports: [{port: 81}]}]}`)),
	}
}
