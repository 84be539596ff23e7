package truthtable

// changeCases are about policies, labels and pods that change.
func changeCases() []Case {
	label := func(kind, namespace, name, key, value string) Step {
		return Step{Label: &Label{kind, namespace, name, key, value}}
	}
	set := func(nets string) string { return global("GlobalNetworkSet", "guests", `{nets: [`+nets+`]}`) }
	return []Case{
		{Name: "a policy is edited, and deleted", Steps: []Step{
			{Apply: knp("tx", "changing", `{podSelector: {}, ingress: [{ports: [{port: 80}]}]}`)},
			{Apply: knp("tx", "changing", `{podSelector: {}, ingress: [{ports: [{port: 81}]}]}`)},
			{Apply: knp("tx", "changing", `{podSelector: {matchLabels: {pod: b}}, ingress: [{from: [{podSelector: {}}]}]}`)},
			{Apply: knp("tx", "changing", `{podSelector: {matchLabels: {pod: b}}, policyTypes: [Egress]}`)},
			{Delete: knp("tx", "changing", `{podSelector: {matchLabels: {pod: b}}, policyTypes: [Egress]}`)},
		}},
		{Name: "one of two policies is deleted", Steps: []Step{
			{Apply: join(knp("tx", "deny", `{podSelector: {}}`), knp("tx", "allow", `{podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]}`))},
			{Delete: knp("tx", "allow", `{podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]}`)},
		}},
		{Name: "labels of a peer's pod, namespace and account come and go", Steps: []Step{
			{Apply: gnp("labels", `{namespaceSelector: ns == 'tx', ingress: [{action: Allow, source: {selector: guest == 'yes'}}, {action: Allow, source: {namespaceSelector: guests == 'welcome'}},
				{action: Allow, source: {serviceAccounts: {selector: guest == 'yes'}}}]}`)},
			label("pod", "ty", "a", "guest", "yes"),
			label("namespace", "", "tz", "guests", "welcome"),
			label("serviceaccount", "ty", "blue", "guest", "yes"),
			label("pod", "ty", "a", "guest", ""),
			label("namespace", "", "tz", "guests", ""),
			label("serviceaccount", "ty", "blue", "guest", ""),
		}},
		{Name: "labels bring a pod under a policy, and out of it", Steps: []Step{
			{Apply: knp("ty", "marked", `{podSelector: {matchLabels: {marked: "yes"}}, policyTypes: [Ingress, Egress]}`)},
			label("pod", "ty", "b", "marked", "yes"),
			label("pod", "ty", "b", "marked", ""),
		}},
		{Name: "the networks of a set change", Steps: []Step{
			{Apply: join(set(`"{{ip "ty" "a"}}/32"`), gnp("guests", `{namespaceSelector: ns == 'tx', ingress: [{action: Allow, source: {selector: set == 'guests'}}]}`))},
			{Apply: set(`"{{ip "ty" "b"}}/32", "{{ip "ty" "c"}}/32"`)},
			{Apply: set(`10.48.0.0/16`)},
		}},
		{Name: "a pod is made again, with another address", Steps: []Step{
			{Apply: join(
				knp("tx", "peers", `{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: ty}}, podSelector: {matchLabels: {pod: b}}}]}]}`),
				knp("ty", "own", `{podSelector: {matchLabels: {pod: b}}, ingress: [{ports: [{protocol: UDP, port: 80}]}]}`))},
			{Renew: Pod{"ty", "b"}},
		}},
	}
}
