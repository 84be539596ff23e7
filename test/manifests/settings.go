package manifests

import "strings"

func (s *Source) tier() map[string]any {
	spec := map[string]any{}
	s.maybe(spec, 70, "order", func() any { return s.word([]any{10, 1.5}, []any{"10", true}) })
	s.maybe(spec, 60, "defaultAction", func() any { return s.word([]any{"Deny", "Pass"}, []any{"Allow", "deny", "", 1}) })
	return spec
}

func (s *Source) hostEndpoint() map[string]any {
	spec := map[string]any{}
	s.maybe(spec, 90, "node", func() any { return s.word([]any{"worker1"}, []any{"", 5, "Worker 1", strings.Repeat("n", 254)}) })
	s.maybe(spec, 70, "interfaceName", func() any {
		return s.word([]any{"eth0", "*", "ens3.100"}, []any{"", "a-very-long-interface", "eth 0", "eth/0", "eth*", ".", "ü", "üüüüüüüüüüüü"})
	})
	s.maybe(spec, 60, "expectedIPs", func() any {
		return s.list(2, func() any {
			return s.word([]any{"192.0.2.1", "2001:db8::1", "192.0.2.2", "192.0.2.3"},
				[]any{"192.0.2.1/24", "192.0.2", "", "fe80::1%eth0", "::ffff:192.0.2.1", 5, "2001:DB8::1", "192.0.2.001"})
		})
	})
	s.maybe(spec, 30, "profiles", func() any { return []any{s.word([]any{"projectcalico-default-allow"}, []any{"", "gone", 5})} })
	s.maybe(spec, 50, "ports", func() any {
		return s.list(2, func() any {
			return map[string]any{
				"name": s.word([]any{"http", "kubelet"}, []any{"", "a b", 5, strings.Repeat("p", 129)}), "protocol": s.protocol(),
				"port": s.word([]any{80, 10250}, []any{0, 65536, "80", nil}),
			}
		})
	})
	return spec
}

func (s *Source) pool() map[string]any {
	right, wrong := []any{"172.20.0.0/16", "172.20.0.0/26"}, []any{"172.20.0.1/16", "172.20.0.0", "x", "", nil, 5, "172.020.0.0/16"}
	sizes, tunnel := []any{26, 32, 28}, pick(s, "ipipMode", "vxlanMode")
	if s.chance(30) {
		right, wrong = []any{"fd20::/48", "fd20::/112"}, []any{"fd20::1/48", "fd20::", "::ffff:172.20.0.0/112", "FD20::/48"}
		sizes, tunnel = []any{122, 128}, "vxlanMode"
	}
	spec := map[string]any{"cidr": s.word(right, wrong)}
	s.maybe(spec, 50, "blockSize", func() any { return s.word(sizes, []any{0, 8, 20, 64, 129, -1, "26", 26.5}) })
	s.maybe(spec, 30, tunnel, func() any { return s.word([]any{"Always", "Never", "CrossSubnet"}, []any{"always", "", 5}) })
	s.maybe(spec, 10, "vxlanMode", func() any { return "Always" })
	s.maybe(spec, 30, "natOutgoing", func() any { return s.word([]any{true, false}, []any{"true", "yes", 1}) })
	s.maybe(spec, 30, "nodeSelector", s.selector)
	s.maybe(spec, 30, "namespaceSelector", s.selector)
	s.maybe(spec, 20, "allowedUses", func() any {
		return s.word([]any{[]any{"Workload"}, []any{"Workload", "Tunnel"}, []any{"LoadBalancer"}},
			[]any{[]any{"Workload", "LoadBalancer"}, []any{"workload"}, []any{}, []any{"Tunnel", "Tunnel"}})
	})
	s.maybe(spec, 20, "assignmentMode", func() any { return s.word([]any{"Automatic", "Manual"}, []any{"automatic", ""}) })
	return spec
}

func (s *Source) ipam() map[string]any {
	spec := map[string]any{"strictAffinity": s.word([]any{true, false}, []any{"true", nil}), "autoAllocateBlocks": s.word([]any{true, true, false}, []any{"x", nil})}
	s.maybe(spec, 50, "maxBlocksPerHost", func() any { return s.word([]any{0, 20}, []any{-1, 1_000_001, 5_000_000_000, "20"}) })
	s.maybe(spec, 50, "ipCooldownSeconds", func() any { return s.word([]any{0, 30}, []any{-1, 1201, "30s"}) })
	s.maybe(spec, 20, "kubeVirtVMAddressPersistence", func() any { return s.word([]any{"Enabled", "Disabled"}, []any{"On", ""}) })
	return spec
}

func (s *Source) duration() any {
	return s.word([]any{"30s", "1m30s", "5m", "500ms", "0s", "1.5s"}, []any{"30", "", "1 min", "-5s", "5d", 30, "h", "99999999999h", "1us", "+5s", ".5s", "5.s"})
}

func (s *Source) failsafe() any {
	port := map[string]any{"port": s.word([]any{22, 179}, []any{0, -1, 65536, "22", nil})}
	s.maybe(port, 80, "protocol", func() any { return s.word([]any{"TCP", "UDP", "tcp"}, []any{"ICMP", "", "Tcp", "6", 6}) })
	s.maybe(port, 40, "net", func() any { return s.net(pick(s, 4, 6)) })
	return port
}

func (s *Source) felix() map[string]any {
	spec := map[string]any{}
	ports := []any{"http", 0, "2:1", 5_000_000_000, "", -1, 65536}
	s.maybe(spec, 50, "failsafeInboundHostPorts", func() any { return s.list(2, s.failsafe) })
	s.maybe(spec, 50, "failsafeOutboundHostPorts", func() any { return s.list(2, s.failsafe) })
	s.maybe(spec, 30, "kubeNodePortRanges", func() any { return s.list(2, func() any { return s.word([]any{"30000:32767", 31000}, ports) }) })
	s.maybe(spec, 20, "natPortRange", func() any { return s.word([]any{"32768:65535", 40000}, ports) })
	for _, f := range []struct {
		name         string
		right, wrong []any
	}{
		{"nftablesMode", []any{"Enabled", "Disabled", "Auto"}, []any{"enabled", "", true}},
		{"defaultEndpointToHostAction", []any{"Accept", "Drop", "Return", "ACCEPT"}, []any{"Deny", "", 5}},
		{"natOutgoingAddress", []any{"192.0.2.1"}, []any{"x", "192.0.2.0/24", "", "::ffff:192.0.2.1"}},
		{"vxlanPort", []any{4789}, []any{-1, 65536, "4789", 0}},
		{"vxlanMTU", []any{1450}, []any{-1, 65536, 0}},
		{"vxlanVNI", []any{4096}, []any{-1, 0, 1 << 24}},
		{"nodeSelector", []any{"all()", "has(role)"}, []any{s.selector(), "a = 'b'"}},
		{"interfacePrefix", []any{"cali", "cali,tap"}, []any{"", "a b", "a/b", "cali,", "averylongprefix1"}},
		{"interfaceExclude", []any{"kube-ipvs0", "/^veth/,dummy0"}, []any{"/(/", "", "a b", ","}},
		{"mtuIfacePattern", []any{"^eth"}, []any{"(", ""}},
		{"workloadSourceSpoofing", []any{"Any", "disabled"}, []any{"Yes", ""}},
		{"nftablesMarkMask", []any{0xffff0000}, []any{-1, 1 << 33}},
		{"routeTableRanges", []any{[]any{map[string]any{"min": 1, "max": 9}}}, []any{[]any{map[string]any{"min": 9, "max": 1}}, []any{map[string]any{"min": 1}}}},
	} {
		s.maybe(spec, 20, f.name, func() any { return s.word(f.right, f.wrong) })
	}
	s.maybe(spec, 20, "externalNodesList", func() any { return s.list(2, func() any { return s.net(4) }) })
	for _, name := range []string{"routeRefreshInterval", "iptablesRefreshInterval", "nftablesRefreshInterval", "dataplaneWatchdogTimeout", "localSubnetL2ReachabilityRefreshInterval"} {
		s.maybe(spec, 15, name, s.duration)
	}
	s.maybe(spec, 10, "healthTimeoutOverrides", func() any { return []any{map[string]any{"name": "loop", "timeout": s.duration()}} })
	return spec
}

func (s *Source) controllers() map[string]any {
	node := map[string]any{}
	onOff := func() any { return s.word([]any{"Enabled", "Disabled"}, []any{"enabled", "", true}) }
	s.maybe(node, 50, "reconcilerPeriod", s.duration)
	s.maybe(node, 50, "leakGracePeriod", s.duration)
	s.maybe(node, 20, "syncLabels", onOff)
	s.maybe(node, 70, "hostEndpoint", func() any {
		hep := map[string]any{"autoCreate": onOff()}
		s.maybe(hep, 50, "createDefaultHostEndpoint", onOff)
		s.maybe(hep, 50, "templates", func() any { return s.list(2, s.template) })
		return hep
	})
	spec := map[string]any{"controllers": map[string]any{"node": node}}
	s.maybe(spec, 30, "prometheusMetricsPort", func() any { return s.word([]any{9094}, []any{-1, 65536}) })
	s.maybe(spec, 30, "debugProfilePort", func() any { return s.word([]any{9095}, []any{-1, 65536, 5_000_000_000}) })
	s.maybe(spec, 30, "logSeverityScreen", func() any { return s.word([]any{"Info"}, []any{"info", ""}) })
	s.maybe(spec, 20, "healthChecks", onOff)
	s.maybe(spec, 20, "etcdV3CompactionPeriod", s.duration)
	return spec
}

// template of host endpoints.
func (s *Source) template() any {
	t := map[string]any{"generateName": s.word([]any{"front", "back"}, []any{"Front End", "", strings.Repeat("x", 254)})}
	s.maybe(t, 60, "interfaceCIDRs", func() any { return s.list(2, func() any { return s.net(pick(s, 4, 6)) }) })
	s.maybe(t, 40, "interfacePattern", func() any { return s.word([]any{"^eth"}, []any{"("}) })
	s.maybe(t, 40, "nodeSelector", s.selector)
	s.maybe(t, 40, "labels", func() any {
		return s.word([]any{map[string]any{"role": "x"}}, []any{map[string]any{"a b": "x"}, map[string]any{"role": "a b"}, map[string]any{"role": 5}})
	})
	return t
}
