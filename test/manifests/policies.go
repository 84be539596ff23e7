package manifests

import "strings"

func (s *Source) spec(kind string) map[string]any {
	switch kind {
	case "NetworkPolicy":
		return s.policy(false)
	case "GlobalNetworkPolicy":
		return s.policy(true)
	case "StagedNetworkPolicy":
		return s.staged(s.policy(false))
	case "StagedGlobalNetworkPolicy":
		return s.staged(s.policy(true))
	case "StagedKubernetesNetworkPolicy":
		return s.staged(s.kubernetesPolicy())
	case "Tier":
		return s.tier()
	case "NetworkSet", "GlobalNetworkSet":
		return map[string]any{"nets": s.list(3, func() any { return s.net(pick(s, 4, 6)) })}
	case "HostEndpoint":
		return s.hostEndpoint()
	case "IPPool":
		return s.pool()
	case "IPReservation":
		return map[string]any{"reservedCIDRs": s.list(2, func() any {
			return s.word([]any{"10.48.0.0/28", "10.48.9.7/32", "fd00::/120", "10.48.1.0/24"}, []any{s.net(4), s.net(6), "10.48.0.1/28", "10.48.0.1"})
		})}
	case "IPAMConfiguration":
		return s.ipam()
	case "FelixConfiguration":
		return s.felix()
	case "KubeControllersConfiguration":
		return s.controllers()
	}
	panic("no such kind: " + kind) //nolint:forbidigo // a mistake of the test that asks
}

func (s *Source) staged(spec map[string]any) map[string]any {
	if s.chance(15) {
		spec = map[string]any{}
	}
	s.maybe(spec, 60, "stagedAction", func() any { return s.word([]any{"Set", "Set", "Delete", "Learn", "Ignore"}, []any{"set", "Remove", 1}) })
	return spec
}

func (s *Source) policy(global bool) map[string]any {
	spec := map[string]any{}
	s.maybe(spec, 40, "tier", func() any { return s.word([]any{"default", "security", "kube-admin"}, []any{"gone", "Upper", "", 5}) })
	s.maybe(spec, 50, "order", func() any { return s.word([]any{10, 1.5, 0, -3}, []any{"100", "", true}) })
	s.maybe(spec, 70, "selector", s.selector)
	s.maybe(spec, 20, "serviceAccountSelector", s.selector)
	s.maybe(spec, 50, "types", func() any {
		return pick(s, []any{"Ingress"}, []any{"Egress"}, []any{"Ingress", "Egress"}, []any{"Ingress", "Egress"})
	})
	s.maybe(spec, 70, "ingress", func() any { return s.list(3, func() any { return s.rule(global, true) }) })
	s.maybe(spec, 50, "egress", func() any { return s.list(3, func() any { return s.rule(global, false) }) })
	s.maybe(spec, 5, "performanceHints", func() any { return []any{s.word([]any{"AssumeNeededOnEveryNode"}, []any{"Fast"})} })
	if !global {
		return spec
	}
	s.maybe(spec, 20, "namespaceSelector", s.selector)
	if s.chance(20) {
		spec["applyOnForward"] = true
		switch s.random.IntN(4) {
		case 0:
			spec["preDNAT"] = true
			if s.chance(80) {
				delete(spec, "egress")
				delete(spec, "types")
			}
		case 1:
			spec["doNotTrack"] = true
		}
	}
	return spec
}

func (s *Source) selector() any {
	return s.word(
		[]any{
			"app == 'web'", "all()", "", "has(role)", "!has(role)", "app in {'a','b'} && role != \"x\"", "role not in {'a'}", "name contains 'we'",
			"(a == 'b' || c == 'd') && !(e == 'f')", "kubernetes.io/metadata.name starts with 'kube'",
		},
		[]any{
			"app = 'web'", "app == web", "app == 'web", "app in ('a')", "(a == 'b'", "global()", "app == 'web' and x == 'y'", "all(", "a//b == 'c'",
			"ü == 'a'", "a == '" + strings.Repeat("ü", 1018) + "'", "a == '" + strings.Repeat("x", 1018) + "'", "a == '" + strings.Repeat("x", 1019) + "'", 5, true,
			[]any{"a"},
		},
	)
}

func (s *Source) net(family int) any {
	if family == 6 {
		return s.word(
			[]any{"2001:db8::/32", "fd00::1", "::/0", "fe80::/10", "2001:db8::1/128", "fd12::/64", "2001:db8:7::/48"},
			[]any{"2001:db8::1/32", "2001:db8::/129", "2001:db8", "::ffff:10.0.0.1", "fe80::1%eth0", "::ffff:10.0.0.0/104", "2001:DB8::/32"},
		)
	}
	return s.word(
		[]any{"10.0.0.0/8", "192.0.2.1", "198.51.100.0/24", "0.0.0.0/0", "192.0.2.7/32", "172.16.0.0/12", "203.0.113.9"},
		[]any{"10.0.0.1/8", "10.0.0.0/33", "10.0.0", "010.0.0.0/8", "10.0.0.0/08", "10.0.0.0-10.0.0.9", "", 10, "10.0.0.0/8 ", "web", nil},
	)
}

func (s *Source) port() any {
	return s.word(
		[]any{80, 443, "8080", "8000:8080", "http", "dns-tcp", 65535, 1},
		[]any{0, -1, 65536, 5_000_000_000, "90:80", "80:", ":80", "80-90", "0:10", "1:65536", "", "a b", "ü", 1.5, true, "080", "+80", nil},
	)
}

func (s *Source) protocol() any {
	return s.word(
		[]any{"TCP", "UDP", "SCTP", "tcp", "udp", 6, "17", "UDP", "TCP"},
		[]any{
			"Tcp", "TCPP", "", "HTTP", 0, 256, -6, 5_000_000_000, "0", "256", "06", "+6", 6.5, true, "ICMP", "ICMPv6", 1, 58, "icmpV6",
			"UDPLite", "sctp", 47,
			[]any{"TCP"},
		},
	)
}

func (s *Source) rule(global, ingress bool) map[string]any {
	rule := map[string]any{"action": s.word([]any{"Allow", "Allow", "Allow", "Deny", "Log", "Pass"}, []any{"allow", "LOG", "Drop", "", "Accept", nil})}
	family := pick(s, 4, 4, 6)
	s.maybe(rule, 15, "ipVersion", func() any { return s.word([]any{family}, []any{4, 6, 5, "4"}) })
	ports := false
	switch s.random.IntN(10) {
	case 0, 1, 2, 3, 4, 5:
		rule["protocol"], ports = s.protocol(), true
	case 6:
		delete(rule, "ipVersion")
		rule["protocol"] = pick[any](s, "ICMP", "ICMPv6", "icmp", 1, "58")
		s.maybe(rule, 50, pick(s, "icmp", "notICMP"), func() any {
			return s.word([]any{map[string]any{"type": 8}, map[string]any{"type": 3, "code": 1}, map[string]any{}},
				[]any{map[string]any{"code": 1}, map[string]any{"type": 255}, map[string]any{"type": 8, "code": 256}, map[string]any{"type": "8"}})
		})
	}
	s.maybe(rule, 10, "notProtocol", s.protocol)
	s.maybe(rule, 60, "source", func() any { return s.entity(global, ingress, ports && s.chance(30), family) })
	s.maybe(rule, 60, "destination", func() any { return s.entity(global, !ingress, ports, family) })
	if ingress && rule["action"] == "Allow" && s.chance(8) {
		rule["http"] = map[string]any{
			"methods": []any{s.word([]any{"GET", "POST"}, []any{5, ""})},
			"paths": []any{s.word([]any{map[string]any{"exact": "/a"}, map[string]any{"prefix": "/b"}}, []any{
				map[string]any{"exact": "/a", "prefix": "/b"}, map[string]any{}, map[string]any{"exact": ""}, map[string]any{"exact": strings.Repeat("x", 1025)}, "/a",
			})},
		}
	}
	s.maybe(rule, 8, "metadata", func() any {
		return map[string]any{"annotations": map[string]any{"ticket": s.word([]any{"12"}, []any{12, nil})}}
	})
	return rule
}

// entity is one end of a rule; far: the one that services may be.
func (s *Source) entity(global, far, ports bool, family int) map[string]any {
	e := map[string]any{}
	if far && !ports && s.chance(15) {
		service := map[string]any{"name": s.word([]any{"web", "dns"}, []any{"", nil, strings.Repeat("x", 254)})}
		if global || s.chance(20) {
			service["namespace"] = s.word([]any{"default"}, []any{"", nil})
		}
		e["services"] = service
		return e
	}
	s.maybe(e, 35, "selector", s.selector)
	s.maybe(e, 10, "notSelector", s.selector)
	s.maybe(e, 20, "namespaceSelector", func() any { return pick(s, "global()", s.selector()) })
	s.maybe(e, 15, "serviceAccounts", func() any {
		account := map[string]any{}
		s.maybe(account, 60, "names", func() any { return []any{s.word([]any{"robot", "default"}, []any{"", 5, nil})} })
		s.maybe(account, 40, "selector", s.selector)
		return account
	})
	s.maybe(e, 30, "nets", func() any { return s.list(3, func() any { return s.net(family) }) })
	s.maybe(e, 10, "notNets", func() any {
		if family == 6 {
			return []any{s.word([]any{"2001:db8:1::/48"}, []any{"::/0", "2001:db8::1/32"})}
		}
		return []any{s.word([]any{"10.9.0.0/16"}, []any{"0.0.0.0/0", "10.0.0.1/8", "1.2.3.4/0"})}
	})
	if ports {
		s.maybe(e, 60, "ports", func() any { return s.list(3, s.port) })
		s.maybe(e, 10, "notPorts", func() any { return s.list(3, s.port) })
	}
	return e
}
