package manifests

import "strings"

func (s *Source) labelSelector() any {
	expression := func(fields map[string]any) any {
		return map[string]any{"matchExpressions": []any{fields}}
	}
	return s.word(
		[]any{
			map[string]any{},
			map[string]any{"matchLabels": map[string]any{"app": "web"}},
			expression(map[string]any{"key": "app", "operator": "In", "values": []any{"a"}}), expression(map[string]any{"key": "app", "operator": "Exists"}),
		},
		[]any{
			map[string]any{"matchLabels": map[string]any{"app": 5}},
			"app == 'web'",
			map[string]any{"matchLabels": map[string]any{"a b": "c"}},
			map[string]any{"matchLabels": map[string]any{"app": "a b"}},
			expression(map[string]any{"key": "app", "operator": "Is", "values": []any{"a"}}),
			expression(map[string]any{"key": "app", "operator": "In"}), expression(map[string]any{"key": "app", "operator": "Exists", "values": []any{"a"}}),
			expression(map[string]any{"operator": "Exists"}),
		},
	)
}

func (s *Source) kubernetesPolicy() map[string]any {
	spec := map[string]any{}
	s.maybe(spec, 80, "podSelector", s.labelSelector)
	s.maybe(spec, 50, "policyTypes", func() any {
		return s.word([]any{[]any{"Ingress"}, []any{"Egress"}, []any{"Ingress", "Egress"}}, []any{[]any{"Inbound"}, []any{}, "Ingress"})
	})
	for _, side := range [][2]string{{"ingress", "from"}, {"egress", "to"}} {
		s.maybe(spec, 60, side[0], func() any {
			return s.list(2, func() any {
				rule := map[string]any{}
				s.maybe(rule, 70, side[1], func() any { return s.list(2, s.kubernetesPeer) })
				s.maybe(rule, 50, "ports", func() any { return s.list(2, s.kubernetesPort) })
				return rule
			})
		})
	}
	return spec
}

func (s *Source) kubernetesPeer() any {
	switch s.random.IntN(8) {
	case 0:
		return s.word([]any{map[string]any{"podSelector": map[string]any{}}}, []any{map[string]any{}, "web", nil})
	case 1, 2, 3:
		block := map[string]any{"cidr": s.word([]any{"10.0.0.0/8", "192.0.2.0/24", "fd00::/8"}, []any{s.net(4), s.net(6), "10.1.2.3"})}
		if block["cidr"] == "10.0.0.0/8" && s.chance(50) {
			block["except"] = []any{s.word([]any{"10.1.0.0/16"}, []any{"10.0.0.1/8", "x", "2001:db8::/64", "10.0.0.0/8", "11.0.0.0/16", "10.0.0.0/7"})}
		}
		peer := map[string]any{"ipBlock": block}
		s.maybe(peer, 4, "podSelector", s.labelSelector)
		return peer
	}
	peer := map[string]any{"podSelector": s.labelSelector()}
	s.maybe(peer, 40, "namespaceSelector", s.labelSelector)
	return peer
}

func (s *Source) kubernetesPort() any {
	port := map[string]any{}
	s.maybe(port, 70, "protocol", func() any { return s.word([]any{"TCP", "UDP", "SCTP"}, []any{"tcp", "ICMP", "", 6}) })
	s.maybe(port, 80, "port", func() any {
		return s.word([]any{80, "http", 443}, []any{0, 65536, 5_000_000_000, "80", "8000:8080", "", "ü", "-http", "x.y", strings.Repeat("p", 16)})
	})
	if _, named := port["port"].(string); !named && port["port"] != nil {
		s.maybe(port, 20, "endPort", func() any { return s.word([]any{8080, 443}, []any{1, 65536, 5_000_000_000, "90", 0}) })
	}
	s.maybe(port, 2, "endPort", func() any { return 9000 })
	return port
}
