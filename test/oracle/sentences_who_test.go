package oracle_test

import "slices"

// selecting says which pods a selector matches: those that a policy with it lets nothing in.
func selecting(says, selector string, pods ...string) sentence {
	var others []string
	for _, pod := range townPods() {
		if !slices.Contains(pods, pod) {
			others = append(others, pod)
		}
	}
	return sentence{
		says: says, manifests: globalPolicy("shut", "namespaceSelector: all()\nselector: "+quoted(selector)+"\ntypes: [Ingress]"),
		packets: verdicts(townPods(), "front@x -> %s tcp 80", others...),
	}
}

func quoted(text string) string { return "|-\n  " + text }

func selectorSentences() []sentence {
	return []sentence{
		selecting("== compares", "app == 'web'", "shop/web", "bank/web"),
		selecting("!= matches where the label is absent", `app != "web"`, "shop/db", "shop/cache", "bank/teller", "bank/vault"),
		selecting("in", "app in {'web','db'}", "shop/web", "bank/web", "shop/db"),
		selecting("not in matches where the label is absent", "app not in {'web','db'}", "shop/cache", "bank/teller", "bank/vault"),
		selecting("notin is not in", "tier notin {'front','back'}", "shop/cache", "bank/web", "bank/teller", "bank/vault"),
		selecting("contains", "tier contains 'o'", "shop/web", "bank/teller"),
		selecting("starts with", "tier starts with 'front'", "shop/web", "bank/teller"),
		selecting("ends with", "tier ends with 'office'", "bank/teller"),
		selecting("comparisons do not match where the label is absent", "tier contains '' || tier starts with '' || tier ends with ''", "shop/web", "shop/db", "bank/teller"),
		selecting("has", "has(tier)", "shop/web", "shop/db", "bank/teller"),
		selecting("!has", "!has(app)", "bank/vault"),
		selecting("all() and the empty selector", "all()", townPods()...),
		selecting("the empty selector", "", townPods()...),
		selecting("&& binds closer than ||", "app == 'vault' && has(app) || app == 'db'", "shop/db"),
		selecting("|| after &&", "app == 'db' || app == 'web' && tier == 'front'", "shop/db", "shop/web"),
		selecting("! binds closest", "!app == 'web' && has(app)", "shop/db", "shop/cache", "bank/teller"),
		selecting("parentheses", "(app == 'db' || app == 'web') && has(tier)", "shop/db", "shop/web"),
		selecting("! before parentheses", "!(app == 'db' || app == 'web')", "shop/cache", "bank/teller", "bank/vault"),
		selecting("tabs and blanks", "app  ==\t'db' ", "shop/db"),
		{
			says: "global() alone, in a rule's namespaceSelector", refused: true,
			manifests: globalPolicy("wrong", "types: [Ingress]\nselector: app == 'web' && global()"),
			packets:   "front@x -> shop/db tcp 80: arrives",
		},
	}
}

func endpointSentences() []sentence {
	everybody := []string{"shop/web", "shop/cache", "bank/web", "bank/teller", "bank/vault", "front@x", "back@y"}
	from := func(source string) string {
		return globalPolicy("db", "selector: app == 'db'\ntypes: [Ingress]\ningress:\n- action: Allow\n  source: "+source)
	}
	return []sentence{
		selecting("a pod has its namespace as a label", "projectcalico.org/namespace == 'bank'", "bank/web", "bank/teller", "bank/vault"),
		selecting("a pod has its orchestrator as a label", "projectcalico.org/orchestrator == 'k8s'", townPods()...),
		selecting("a pod has its service account as a label", "projectcalico.org/serviceaccount == 'robot'", "shop/web", "bank/teller"),
		{says: "a namespace has its labels", manifests: from("{namespaceSelector: team == 'blue'}"), packets: verdicts(everybody, "%s -> shop/db tcp 80", "bank/web", "bank/teller", "bank/vault")},
		{says: "a namespace has its name as a label", manifests: from("{namespaceSelector: projectcalico.org/name == 'shop'}"), packets: verdicts(everybody, "%s -> shop/db tcp 80", "shop/web", "shop/cache")},
		{says: "an account has its labels", manifests: from("{serviceAccounts: {selector: role == 'front'}}"), packets: verdicts(everybody, "%s -> shop/db tcp 80", "shop/web")},
		{says: "an account has its name as a label", manifests: from("{serviceAccounts: {selector: projectcalico.org/name == 'robot'}}"), packets: verdicts(everybody, "%s -> shop/db tcp 80", "shop/web", "bank/teller")},
		{
			says: "a NetworkSet has its labels and its namespace", manifests: networkSet("NetworkSet", "bank", "net", "kind: partner", `192.0.2.0/24, "2001:db8::/64"`) +
				from("{selector: kind == 'partner' && projectcalico.org/namespace == 'bank'}"), packets: verdicts(everybody, "%s -> shop/db tcp 80", "front@x"),
		},
		{
			says: "a NetworkSet is in its namespace", manifests: networkSet("NetworkSet", "bank", "net", "kind: partner", `192.0.2.0/24, "2001:db8::/64"`) +
				from("{namespaceSelector: team == 'blue', selector: has(kind)}"), packets: verdicts(everybody, "%s -> shop/db tcp 80", "front@x"),
		},
		{
			says: "a GlobalNetworkSet has only its labels", manifests: networkSet("GlobalNetworkSet", "", "net", "kind: partner", `203.0.113.0/24, "2001:db8:1::/64"`) +
				from("{selector: kind == 'partner' && !has(projectcalico.org/namespace)}"), packets: verdicts(everybody, "%s -> shop/db tcp 80", "back@y"),
		},
		{
			says: "a HostEndpoint has only its labels", manifests: hostEndpoint("hx", "kind: host", "node: x\ninterfaceName: eth0\nexpectedIPs: [192.168.0.1, \"fd10::1\"]\nprofiles: [projectcalico-default-allow]") +
				from("{selector: kind == 'host' && !has(projectcalico.org/orchestrator)}"), packets: "node x -> shop/db tcp 80: arrives\nshop/web -> shop/db tcp 80: dropped\nfront@x -> shop/db tcp 80: dropped",
		},
		{
			says: "host-networked pods are not endpoints", manifests: from("{selector: app == 'agent'}") +
				"{apiVersion: v1, kind: Pod, metadata: {name: agent, namespace: shop, uid: a, labels: {app: agent}}, spec: {nodeName: x, hostNetwork: true, serviceAccountName: default, containers: [{name: main, image: a}]}, status: {phase: Running, podIPs: [{ip: 192.168.0.1}]}}\n",
			packets: "4 node x -> shop/db tcp 80: dropped\nnode y -> shop/db tcp 80: arrives",
		},
		{
			says: "a pod that has finished is no endpoint", manifests: from("{selector: app == 'job'}") +
				"{apiVersion: v1, kind: Pod, metadata: {name: job, namespace: shop, uid: a, labels: {app: job}}, spec: {nodeName: x, serviceAccountName: default, containers: [{name: main, image: a}]}, status: {phase: Succeeded, podIPs: [{ip: 10.0.0.3}]}}\n",
			packets: "4 shop/cache -> shop/db tcp 80: dropped",
		},
	}
}

func appliesSentences() []sentence {
	const shut = "types: [Ingress]\n"
	open := func(pods ...string) string { return verdicts(townPods(), "front@x -> %s tcp 80", pods...) }
	types := func(says, spec, in, out string) sentence {
		return sentence{says: says, manifests: policyIn("shop", "p", "selector: app == 'web'\n"+spec), packets: "bank/web -> shop/web tcp 80: " + in + "\nshop/web -> bank/web tcp 80: " + out}
	}
	return []sentence{
		{says: "a NetworkPolicy selects in its namespace", manifests: policyIn("shop", "p", shut+"selector: app == 'web'"), packets: open("shop/db", "shop/cache", "bank/web", "bank/teller", "bank/vault")},
		{says: "a NetworkPolicy without selector", manifests: policyIn("shop", "p", shut), packets: open("bank/web", "bank/teller", "bank/vault")},
		{says: "a NetworkPolicy's serviceAccountSelector", manifests: policyIn("shop", "p", shut+"serviceAccountSelector: has(role)"), packets: open("shop/db", "shop/cache", "bank/web", "bank/teller", "bank/vault")},
		{says: "a NetworkPolicy's selector and serviceAccountSelector", manifests: policyIn("shop", "p", shut+"selector: app == 'db'\nserviceAccountSelector: has(role)"), packets: open(townPods()...)},
		{says: "a GlobalNetworkPolicy selects everywhere", manifests: globalPolicy("p", shut+"selector: app == 'web'"), packets: open("shop/db", "shop/cache", "bank/teller", "bank/vault")},
		{says: "a GlobalNetworkPolicy's namespaceSelector", manifests: globalPolicy("p", shut+"selector: app == 'web'\nnamespaceSelector: team == 'red'"), packets: open("shop/db", "shop/cache", "bank/web", "bank/teller", "bank/vault")},
		{says: "a GlobalNetworkPolicy's serviceAccountSelector", manifests: globalPolicy("p", shut+"serviceAccountSelector: role == 'back'"), packets: open("shop/web", "shop/db", "shop/cache", "bank/web", "bank/vault")},
		{
			says: "without namespaceSelector it selects HostEndpoints, too", manifests: hostEndpoint("hx", "kind: host", "node: x\ninterfaceName: eth0\nprofiles: [projectcalico-default-allow]") + globalPolicy("p", shut),
			packets: "front@x -> node x tcp 80: dropped\nfront@x -> shop/web tcp 80: dropped\nfront@y -> node y tcp 80: arrives",
		},
		{
			says: "namespaceSelector: all() means pods only", manifests: hostEndpoint("hx", "kind: host", "node: x\ninterfaceName: eth0\nprofiles: [projectcalico-default-allow]") + globalPolicy("p", shut+"namespaceSelector: all()"),
			packets: "front@x -> node x tcp 80: arrives\nfront@x -> shop/web tcp 80: dropped",
		},
		types("no rules: Ingress", "", "dropped", "arrives"),
		types("ingress rules only: Ingress", "ingress: [{action: Allow, protocol: UDP}]", "dropped", "arrives"),
		types("egress rules only: Egress", "egress: [{action: Allow, protocol: UDP}]", "arrives", "dropped"),
		types("rules of both: both", "ingress: [{action: Allow, protocol: UDP}]\negress: [{action: Allow, protocol: UDP}]", "dropped", "dropped"),
		types("types as given", "types: [Egress]\ningress: [{action: Deny}]", "arrives", "dropped"),
	}
}

func peerSentences() []sentence {
	everybody := []string{"shop/web", "shop/cache", "bank/web", "bank/teller", "bank/vault", "front@x", "back@y"}
	in := func(says, source string, arrive ...string) sentence {
		return sentence{says: says + ", in a namespaced policy", manifests: policyIn("shop", "db", "selector: app == 'db'\ningress:\n- action: Allow\n  source: "+source), packets: verdicts(everybody, "%s -> shop/db tcp 80", arrive...)}
	}
	global := func(says, source string, arrive ...string) sentence {
		return sentence{says: says + ", in a global policy", manifests: globalPolicy("db", "selector: app == 'db'\ningress:\n- action: Allow\n  source: "+source), packets: verdicts(everybody, "%s -> shop/db tcp 80", arrive...)}
	}
	sets := networkSet("GlobalNetworkSet", "", "net", "kind: partner", `203.0.113.0/24, "2001:db8:1::/64"`) + networkSet("NetworkSet", "bank", "net", "kind: partner", `192.0.2.0/24, "2001:db8::/64"`)
	with := func(s sentence) sentence { s.manifests = sets + s.manifests; return s }
	service := "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: s4, namespace: bank, labels: {kubernetes.io/service-name: money}}, addressType: IPv4, ports: [{port: 80, protocol: TCP}], endpoints: [{addresses: [10.0.0.4], conditions: {ready: true}}, {addresses: [10.0.0.5], conditions: {ready: false}}]}\n---\n"
	return []sentence{
		in("a selector means pods of the same namespace", "{selector: has(tier)}", "shop/web"),
		global("a selector means anybody", "{selector: has(tier)}", "shop/web", "bank/teller"),
		in("namespaceSelector", "{namespaceSelector: team == 'blue', selector: app == 'web'}", "bank/web"),
		in("namespaceSelector alone", "{namespaceSelector: all()}", "shop/web", "shop/cache", "bank/web", "bank/teller", "bank/vault"),
		with(in("global() is what is in no namespace", "{namespaceSelector: global()}", "back@y")),
		with(global("global() with a selector", "{namespaceSelector: global(), selector: kind == 'partner'}", "back@y")),
		with(global("a selector finds sets of any namespace and of none", "{selector: kind == 'partner'}", "back@y", "front@x")),
		in("notSelector alone still means the same namespace", "{notSelector: app == 'web'}", "shop/cache"),
		global("notSelector alone means anybody else", "{notSelector: app == 'web'}", "shop/cache", "bank/teller", "bank/vault", "front@x", "back@y"),
		in("selector and notSelector", "{selector: has(app), notSelector: app == 'web'}", "shop/cache"),
		in("account names mean the policy's namespace", "{serviceAccounts: {names: [robot]}}", "shop/web"),
		in("account names with namespaceSelector", "{serviceAccounts: {names: [robot]}, namespaceSelector: team == 'blue'}", "bank/teller"),
		global("account names", "{serviceAccounts: {names: [robot]}}", "shop/web", "bank/teller"),
		global("account names and selector are ANDed", "{serviceAccounts: {names: [robot], selector: role == 'front'}}", "shop/web"),
		global("account names or others", "{serviceAccounts: {names: [robot, default]}, namespaceSelector: team == 'blue'}", "bank/web", "bank/teller", "bank/vault"),
		in("nets are addresses of anybody", `{nets: [192.0.2.0/24, 10.0.0.4/31]}`).four("bank/web", "bank/teller", "front@x"),
		in("nets and selector are ANDed", `{nets: [10.0.0.0/31], selector: all()}`).four("shop/web"),
		global("notNets", `{notNets: [10.0.0.0/29]}`).four("front@x", "back@y"),
		global("nets and notNets", `{nets: [10.0.0.0/29], notNets: [10.0.0.4/31]}`).four("shop/web", "shop/cache", "bank/vault"),
		in("with none of them, any address", "{}", everybody...),
		{
			says: "services: a ready endpoint's address, as a source", manifests: service + policyIn("shop", "db", "selector: app == 'db'\ningress:\n- action: Allow\n  source: {services: {name: money, namespace: bank}}"),
			packets: "4 bank/web -> shop/db tcp 80: arrives\n4 bank/web -> shop/db udp 9: arrives\n4 bank/teller -> shop/db tcp 80: dropped\n4 shop/web -> shop/db tcp 80: dropped",
		},
		{
			says: "services: a ready endpoint's address and ports, as a destination", manifests: service + policyIn("shop", "web", "selector: app == 'web'\negress:\n- action: Allow\n  destination: {services: {name: money, namespace: bank}}"),
			packets: "4 shop/web -> bank/web tcp 80: arrives\n4 shop/web -> bank/web tcp 81: dropped\n4 shop/web -> bank/web udp 80: dropped\n4 shop/web -> bank/teller tcp 80: dropped",
		},
		{
			says: "services: the policy's namespace unless another is given", manifests: service + policyIn("bank", "teller", "selector: app == 'teller'\negress:\n- action: Allow\n  destination: {services: {name: money}}") +
				policyIn("shop", "web", "selector: app == 'web'\negress:\n- action: Allow\n  destination: {services: {name: money}}"),
			packets: "4 bank/teller -> bank/web tcp 80: arrives\n4 shop/web -> bank/web tcp 80: dropped",
		},
		{
			says: "a global policy must give a service's namespace, or nothing passes", refused: true,
			manifests: globalPolicy("web", "selector: app == 'web'\negress:\n- action: Allow\n  destination: {services: {name: money}}"),
			packets:   "4 shop/web -> bank/teller tcp 80: dropped",
		},
	}
}

// four is the sentence about IPv4 alone.
func (s sentence) four(arrive ...string) sentence {
	s.packets = verdicts([]string{"shop/web", "shop/cache", "bank/web", "bank/teller", "bank/vault", "front@x", "back@y"}, "4 %s -> shop/db tcp 80", arrive...)
	return s
}
