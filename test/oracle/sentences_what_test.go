package oracle_test

func matchSentences() []sentence {
	rule := func(says, match, packets string) sentence {
		return sentence{says: says, manifests: policyIn("shop", "db", "selector: app == 'db'\ningress:\n- {action: Allow, "+match+"}"), packets: packets}
	}
	return []sentence{
		rule("protocol by name", "protocol: UDP", "shop/web -> shop/db udp 9: arrives\nshop/web -> shop/db tcp 9: dropped\nshop/web -> shop/db sctp 9: dropped"),
		rule("protocol by number", "protocol: 132", "shop/web -> shop/db sctp 9: arrives\nshop/web -> shop/db tcp 9: dropped"),
		rule("a protocol without ports", "protocol: 47", "shop/web -> shop/db gre: arrives\nshop/web -> shop/db tcp 9: dropped"),
		rule("notProtocol", "notProtocol: TCP", "shop/web -> shop/db tcp 9: dropped\nshop/web -> shop/db udp 9: arrives\nshop/web -> shop/db icmp 8: arrives"),
		rule("ipVersion", "ipVersion: 6", "4 shop/web -> shop/db tcp 9: dropped\n6 shop/web -> shop/db tcp 9: arrives"),
		rule("ICMP means IPv4", "protocol: ICMP", "4 shop/web -> shop/db icmp 8: arrives\n6 shop/web -> shop/db icmp 8: dropped"),
		rule("ICMPv6 means IPv6", "protocol: ICMPv6", "4 shop/web -> shop/db icmp 8: dropped\n6 shop/web -> shop/db icmp 8: arrives"),
		rule("icmp type", "protocol: ICMP, icmp: {type: 8}", "4 shop/web -> shop/db icmp 8: arrives\n4 shop/web -> shop/db icmp 8/1: arrives\n4 shop/web -> shop/db icmp 13: dropped"),
		rule("icmp type and code", "protocol: ICMP, icmp: {type: 8, code: 1}", "4 shop/web -> shop/db icmp 8/1: arrives\n4 shop/web -> shop/db icmp 8: dropped"),
		rule("notICMP", "protocol: ICMP, notICMP: {type: 8, code: 1}", "4 shop/web -> shop/db icmp 8/1: dropped\n4 shop/web -> shop/db icmp 8: arrives"),
		rule("ports: a number", "protocol: TCP, destination: {ports: [80]}", "shop/web -> shop/db tcp 80: arrives\nshop/web -> shop/db tcp 81: dropped\nshop/web -> shop/db udp 80: dropped"),
		rule("ports: a range has both its ends", "protocol: TCP, destination: {ports: ['80:82']}", "shop/web -> shop/db tcp 79: dropped\nshop/web -> shop/db tcp 80: arrives\nshop/web -> shop/db tcp 82: arrives\nshop/web -> shop/db tcp 83: dropped"),
		rule("ports: any of them", "protocol: UDP, destination: {ports: [53, '100:110']}", "shop/web -> shop/db udp 53: arrives\nshop/web -> shop/db udp 105: arrives\nshop/web -> shop/db udp 54: dropped"),
		rule("ports: a name is the policy's own endpoint's, and has a protocol", "protocol: TCP, destination: {ports: [http]}", "shop/web -> shop/db tcp 80: arrives\nshop/web -> shop/db tcp 8080: dropped"),
		rule("ports: a name of another protocol", "protocol: TCP, destination: {ports: [dns]}", "shop/web -> shop/db tcp 53: dropped\nshop/web -> shop/db udp 53: dropped"),
		rule("notPorts", "protocol: TCP, destination: {notPorts: [80, '90:99']}", "shop/web -> shop/db tcp 80: dropped\nshop/web -> shop/db tcp 95: dropped\nshop/web -> shop/db tcp 81: arrives\nshop/web -> shop/db udp 81: dropped"),
		rule("ports and notPorts are ANDed", "protocol: TCP, destination: {ports: ['80:90'], notPorts: [85]}", "shop/web -> shop/db tcp 85: dropped\nshop/web -> shop/db tcp 84: arrives\nshop/web -> shop/db tcp 91: dropped"),
		rule("source ports", "protocol: UDP, source: {ports: [53]}", "shop/web -> shop/db udp 9 from 53: arrives\nshop/web -> shop/db udp 53 from 9: dropped"),
		rule("source and destination are ANDed", "protocol: TCP, source: {selector: app == 'web'}, destination: {ports: [80]}", "shop/web -> shop/db tcp 80: arrives\nshop/cache -> shop/db tcp 80: dropped\nshop/web -> shop/db tcp 81: dropped"),
		{
			says: "a named port is each peer's own", manifests: globalPolicy("cache", "selector: app == 'cache'\negress:\n- {action: Allow, protocol: TCP, destination: {selector: app == 'web', ports: [http]}}"),
			packets: "shop/cache -> shop/web tcp 8080: arrives\nshop/cache -> shop/web tcp 8081: dropped\nshop/cache -> bank/web tcp 8081: arrives\nshop/cache -> bank/web tcp 8080: dropped\nshop/cache -> shop/db tcp 80: dropped",
		},
		{
			says:      "an http rule does not match",
			manifests: policyIn("shop", "db", "selector: app == 'db'\ningress:\n- {action: Allow, protocol: TCP, http: {methods: [GET]}}\n- {action: Allow, protocol: UDP}"),
			packets:   "shop/web -> shop/db tcp 80: dropped\nshop/web -> shop/db udp 80: arrives",
		},
	}
}

func orderSentences() []sentence {
	in := func(name, tier, order, rule string) string {
		spec := "selector: app == 'db'\ntypes: [Ingress]\n"
		if tier != "" {
			spec += "tier: " + tier + "\n"
		}
		if order != "" {
			spec += "order: " + order + "\n"
		}
		return globalPolicy(name, spec+"ingress:\n- {action: "+rule+"}")
	}
	const arrives, dropped = "shop/web -> shop/db tcp 80: arrives", "shop/web -> shop/db tcp 80: dropped"
	cluster := func(tier, name, priority, action string) string {
		return manifestOf("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy", "", name, "tier: "+tier+"\npriority: "+priority+"\nsubject: {namespaces: {}}\ningress:\n- {name: a, action: "+action+", from: [{namespaces: {}}]}")
	}
	return []sentence{
		{says: "tiers by order", manifests: tier("late", "order: 500") + tier("early", "order: 400") + in("a", "late", "", "Allow") + in("b", "early", "", "Deny"), packets: dropped},
		{says: "tiers without order come last", manifests: tier("none", "defaultAction: Deny") + in("a", "none", "", "Deny") + in("b", "default", "", "Allow"), packets: arrives},
		{says: "tiers of one order by name", manifests: tier("b", "order: 5") + tier("a", "order: 5") + in("x", "b", "", "Allow") + in("y", "a", "", "Deny"), packets: dropped},
		{says: "kube-admin before default", manifests: in("a", "kube-admin", "", "Allow") + in("b", "default", "", "Deny"), packets: arrives},
		{says: "kube-admin's end passes", manifests: in("a", "kube-admin", "", "Deny, protocol: UDP") + in("b", "default", "", "Allow, protocol: TCP"), packets: arrives + "\nshop/web -> shop/db udp 80: dropped"},
		{says: "default's end denies", manifests: in("b", "default", "", "Allow, protocol: UDP"), packets: dropped},
		{says: "kube-baseline after default", manifests: in("a", "kube-baseline", "", "Deny") + in("b", "default", "", "Allow"), packets: arrives},
		{says: "kube-baseline's end passes", manifests: in("a", "kube-baseline", "", "Deny, protocol: UDP"), packets: arrives},
		{says: "policies by order", manifests: in("a", "", "20", "Deny") + in("b", "", "10", "Allow"), packets: arrives},
		{says: "orders may be fractions and negative", manifests: in("a", "", "0.5", "Deny") + in("b", "", "-1.5", "Allow"), packets: arrives},
		{says: "policies without order come last", manifests: in("a", "", "", "Deny") + in("b", "", "99999", "Allow"), packets: arrives},
		{says: "ties by name", manifests: in("b", "", "10", "Deny") + in("a", "", "10", "Allow"), packets: arrives},
		{says: "ties by name before namespace and kind", manifests: in("b", "", "10", "Deny") + policyIn("shop", "a", "order: 10\ningress: [{action: Allow}]"), packets: arrives},
		{says: "ties by namespace, then kind: that of no namespace first", manifests: in("a", "", "10", "Deny") + policyIn("shop", "a", "order: 10\ningress: [{action: Allow}]"), packets: dropped},
		{says: "networking.k8s.io has order 1000 in default", manifests: in("a", "", "1001", "Deny") + kubernetesPolicy("shop", "k", "podSelector: {}\ningress: [{}]"), packets: arrives},
		{says: "networking.k8s.io comes after order 999", manifests: in("a", "", "999", "Deny") + kubernetesPolicy("shop", "k", "podSelector: {}\ningress: [{}]"), packets: dropped},
		{says: "ClusterNetworkPolicy of tier Admin comes before", manifests: cluster("Admin", "c", "10", "Accept") + in("a", "", "1", "Deny"), packets: arrives},
		{says: "ClusterNetworkPolicy of tier Baseline comes after", manifests: cluster("Baseline", "c", "10", "Deny") + in("a", "", "1", "Allow"), packets: arrives},
		{says: "ClusterNetworkPolicies by priority", manifests: cluster("Admin", "a", "20", "Deny") + cluster("Admin", "b", "10", "Accept"), packets: arrives},
	}
}

func evaluationSentences() []sentence {
	rules := func(says, rules, packets string) sentence {
		return sentence{says: says, manifests: tier("first", "order: 1") + globalPolicy("a", "tier: first\nselector: app == 'db'\ntypes: [Ingress]\ningress:\n"+rules), packets: packets}
	}
	const arrives, dropped = "shop/web -> shop/db tcp 80: arrives\n", "shop/web -> shop/db tcp 80: dropped\n"
	staged := func(kind, namespace, spec string) string {
		return manifestOf("projectcalico.org/v3", kind, namespace, "try", "selector: app == 'db'\nstagedAction: Set\n"+spec)
	}
	service := oracleService("10.96.0.10", "10.0.0.2")
	return []sentence{
		{says: "no policy, no restriction", packets: arrives + "front@x -> shop/db udp 9: arrives\nshop/web -> back@x tcp 9: arrives"},
		rules("Allow accepts, whatever comes later", "- {action: Allow, protocol: TCP}\n- {action: Deny}", arrives+"shop/web -> shop/db udp 9: dropped"),
		rules("Deny drops, whatever comes later", "- {action: Deny, protocol: TCP}\n- {action: Allow}", dropped+"shop/web -> shop/db udp 9: arrives"),
		rules("Pass leaves the tier", "- {action: Pass, protocol: TCP}\n- {action: Deny}", arrives+"shop/web -> shop/db udp 9: dropped"),
		rules("Log goes on", "- {action: Log}\n- {action: Allow, protocol: TCP}", arrives+"shop/web -> shop/db udp 9: dropped"),
		rules("a tier's end denies", "- {action: Allow, protocol: UDP}", dropped+"shop/web -> shop/cache tcp 80: arrives"),
		{says: "a tier's end passes if that is its default action", manifests: tier("first", "order: 1\ndefaultAction: Pass") + globalPolicy("a", "tier: first\nselector: app == 'db'\ningress: [{action: Allow, protocol: UDP}]"), packets: arrives},
		{says: "a tier counts in the directions in which its policies select", manifests: globalPolicy("a", "selector: app == 'db'\ntypes: [Egress]\negress: [{action: Deny}]"), packets: arrives + "shop/db -> shop/web tcp 80: dropped"},
		{says: "a staged policy decides nothing", manifests: staged("StagedGlobalNetworkPolicy", "", "ingress: [{action: Deny}]"), packets: arrives},
		{says: "a tier in which only staged policies apply passes", manifests: staged("StagedNetworkPolicy", "shop", "types: [Ingress]"), packets: arrives},
		{
			says:      "a staged policy beside others changes nothing",
			manifests: staged("StagedNetworkPolicy", "shop", "ingress: [{action: Allow}]") + policyIn("shop", "p", "selector: app == 'db'\ntypes: [Ingress]"), packets: dropped,
		},
		{says: "to its own node a pod's egress policy comes first", manifests: felix("defaultEndpointToHostAction: Accept") + policyIn("shop", "p", "selector: app == 'web'\negress: [{action: Allow, protocol: TCP}]"), packets: "shop/web -> node x tcp 80: arrives\nshop/web -> node x udp 80: dropped"},
		{says: "defaultEndpointToHostAction is Drop when unset", packets: "shop/web -> node x tcp 80: dropped\nshop/web -> node y tcp 80: arrives"},
		{says: "defaultEndpointToHostAction Return goes on to the host's own rules", manifests: felix("defaultEndpointToHostAction: Return"), packets: "shop/web -> node x tcp 80: arrives"},
		{says: "from a node to its own pods always", manifests: policyIn("shop", "p", "types: [Ingress]"), packets: "node x -> shop/web tcp 80: arrives\nnode y -> shop/web tcp 80: dropped"},
		{says: "pods send no VXLAN and no IPIP", packets: "shop/web -> front@x udp 4789: dropped\nshop/web -> front@x udp 4790: arrives\nshop/web -> shop/db ipip: dropped\nfront@x -> shop/db ipip: arrives"},
		{says: "pods send VXLAN where that is allowed", manifests: felix("allowVXLANPacketsFromWorkloads: true"), packets: "shop/web -> front@x udp 4789: arrives\nshop/web -> shop/db ipip: dropped"},
		{says: "pods send IPIP where that is allowed", manifests: felix("allowIPIPPacketsFromWorkloads: true"), packets: "shop/web -> front@x udp 4789: dropped\nshop/web -> shop/db ipip: arrives"},
		{says: "the VXLAN port is the configured one", manifests: felix("vxlanPort: 8472"), packets: "shop/web -> front@x udp 4789: arrives\nshop/web -> front@x udp 8472: dropped"},
		{says: "a pod sends only from its own addresses", packets: "shop/web as front -> shop/db tcp 80: dropped\nshop/web as shop/cache -> shop/db tcp 80: dropped"},
		{
			says: "egress policy of the source, then ingress policy of the destination", manifests: policyIn("shop", "out", "selector: app == 'web'\negress: [{action: Allow, protocol: TCP, destination: {ports: ['80:81']}}]") +
				policyIn("shop", "in", "selector: app == 'cache'\ningress: [{action: Allow, protocol: TCP, destination: {ports: ['81:82']}}]"),
			packets: "shop/web -> shop/cache tcp 80: dropped\nshop/web -> shop/cache tcp 81: arrives\nshop/web -> shop/cache tcp 82: dropped",
		},
		{
			says: "through a service, policy sees the chosen endpoint", services: service,
			manifests: policyIn("shop", "out", "selector: app == 'web'\negress: [{action: Allow, protocol: TCP, destination: {selector: app == 'db', ports: [8080]}}]"),
			packets:   "4 shop/web -> service tcp 80: arrives at shop/db\n4 shop/cache -> service tcp 80: arrives at shop/db",
		},
		{
			says: "through a service, the cluster IP does not matter", services: service,
			manifests: policyIn("shop", "out", "selector: app == 'web'\negress: [{action: Allow, destination: {nets: [10.96.0.10/32]}}]"), packets: "4 shop/web -> service tcp 80: dropped",
		},
	}
}

func kubernetesSentences() []sentence {
	everybody := []string{"shop/web", "shop/cache", "bank/web", "bank/teller", "bank/vault", "front@x", "back@y"}
	in := func(says, rule string, arrive ...string) sentence {
		return sentence{says: says, manifests: kubernetesPolicy("shop", "k", "podSelector: {matchLabels: {app: db}}\ningress:\n- "+rule), packets: verdicts(everybody, "%s -> shop/db tcp 80", arrive...)}
	}
	admin := func(says, kind, spec, packets string) sentence {
		return sentence{says: says, manifests: manifestOf("policy.networking.k8s.io/v1alpha1", kind, "", "default", spec), packets: packets}
	}
	const subject = "subject: {namespaces: {matchLabels: {team: red}}}\n"
	return []sentence{
		in("an empty rule allows all", "{}", everybody...),
		in("podSelector is of the same namespace", "{from: [{podSelector: {}}]}", "shop/web", "shop/cache"),
		in("namespaceSelector", "{from: [{namespaceSelector: {matchLabels: {team: blue}}}]}", "bank/web", "bank/teller", "bank/vault"),
		in("both in one peer are ANDed", "{from: [{namespaceSelector: {}, podSelector: {matchLabels: {app: web}}}]}", "shop/web", "bank/web"),
		in("peers are ORed", "{from: [{podSelector: {matchLabels: {app: cache}}}, {namespaceSelector: {matchLabels: {team: blue}}, podSelector: {matchLabels: {app: web}}}]}", "shop/cache", "bank/web"),
		in("matchExpressions", "{from: [{namespaceSelector: {}, podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [web]}, {key: tier, operator: DoesNotExist}]}}]}", "shop/cache", "bank/vault"),
		in("ipBlock with except", `{from: [{ipBlock: {cidr: 10.0.0.0/29, except: [10.0.0.4/31]}}]}`).four("shop/web", "shop/cache", "bank/vault"),
		{says: "no rules deny", manifests: kubernetesPolicy("shop", "k", "podSelector: {}"), packets: "shop/web -> shop/db tcp 80: dropped\nshop/web -> bank/web tcp 80: arrives"},
		{says: "Ingress always, Egress too when there are egress rules", manifests: kubernetesPolicy("shop", "k", "podSelector: {matchLabels: {app: web}}\negress: [{ports: [{port: 80}]}]"), packets: "bank/web -> shop/web tcp 80: dropped\nshop/web -> bank/web tcp 80: arrives\nshop/web -> bank/web tcp 81: dropped"},
		{says: "policyTypes as given", manifests: kubernetesPolicy("shop", "k", "podSelector: {matchLabels: {app: web}}\npolicyTypes: [Egress]"), packets: "bank/web -> shop/web tcp 80: arrives\nshop/web -> bank/web tcp 80: dropped"},
		{says: "policies of one pod are ORed", manifests: kubernetesPolicy("shop", "k1", "podSelector: {}\ningress: [{ports: [{port: 80}]}]") + kubernetesPolicy("shop", "k2", "podSelector: {}\ningress: [{ports: [{port: 81}]}]"), packets: "bank/web -> shop/db tcp 80: arrives\nbank/web -> shop/db tcp 81: arrives\nbank/web -> shop/db tcp 82: dropped"},
		{says: "ports, endPort, names, and TCP by default", manifests: kubernetesPolicy("shop", "k", "podSelector: {}\ningress: [{ports: [{port: 90, endPort: 99}, {port: http}, {port: 7, protocol: SCTP}, {protocol: UDP}]}]"), packets: "bank/web -> shop/db tcp 90: arrives\nbank/web -> shop/db tcp 99: arrives\nbank/web -> shop/db tcp 100: dropped\nbank/web -> shop/db tcp 80: arrives\nbank/web -> shop/db sctp 7: arrives\nbank/web -> shop/db sctp 90: dropped\nbank/web -> shop/db udp 1: arrives"},
		admin("AdminNetworkPolicy denies before others", "AdminNetworkPolicy", "priority: 5\n"+subject+"ingress: [{action: Deny, from: [{namespaces: {matchLabels: {team: blue}}}]}]", "bank/web -> shop/db tcp 80: dropped\nshop/web -> shop/db tcp 80: arrives"),
		admin("AdminNetworkPolicy with ports", "AdminNetworkPolicy", "priority: 5\n"+subject+"ingress: [{action: Deny, from: [{namespaces: {}}], ports: [{portNumber: {protocol: TCP, port: 80}}, {portRange: {protocol: UDP, start: 5, end: 7}}]}]", "bank/web -> shop/db tcp 80: dropped\nbank/web -> shop/db udp 7: dropped\nbank/web -> shop/db tcp 81: arrives"),
		admin("AdminNetworkPolicy with networks", "AdminNetworkPolicy", "priority: 5\n"+subject+"egress: [{action: Deny, to: [{networks: [192.0.2.0/24]}]}]", "4 shop/web -> front@x tcp 80: dropped\nshop/web -> back@x tcp 80: arrives"),
		admin("AdminNetworkPolicy with nodes", "AdminNetworkPolicy", "priority: 5\n"+subject+"egress: [{action: Deny, to: [{nodes: {matchLabels: {zone: one}}}]}]", "shop/db -> node x tcp 80: dropped\nshop/web -> node y tcp 80: arrives"),
		admin("BaselineAdminNetworkPolicy decides last", "BaselineAdminNetworkPolicy", subject+"ingress: [{action: Deny, from: [{namespaces: {matchLabels: {team: blue}}}]}]", "bank/web -> shop/db tcp 80: dropped\nshop/web -> shop/db tcp 80: arrives"),
	}
}
