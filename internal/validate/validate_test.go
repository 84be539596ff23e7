package validate

import (
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	v3 "github.com/manul-net/manul/api/v3"
)

func read(t *testing.T, text string, into any) {
	t.Helper()
	if err := yaml.UnmarshalStrict([]byte(text), into); err != nil {
		t.Fatalf("reading %q: %v", text, err)
	}
}

func TestRules(t *testing.T) {
	// Each rule with the field that is wrong and a part of the advice; nothing when all is right.
	for rule, want := range map[string]string{
		"{action: Allow}": "",
		"{action: LOG}":   "spec.ingress[0].action: write Log",
		"{action: Drop}":  "spec.ingress[0].action: supported values",
		"{}":              "spec.ingress[0].action: write Allow",

		"{action: Allow, protocol: TCP, destination: {ports: [80, '100:200', http]}}": "",
		"{action: Allow, destination: {ports: [80]}}":                                 "spec.ingress[0].destination.ports: ports need protocol TCP, UDP or SCTP",
		"{action: Allow, protocol: ICMP, source: {notPorts: [80]}}":                   "spec.ingress[0].source.notPorts: ports need protocol",
		"{action: Allow, protocol: TCP, destination: {ports: ['200:100']}}":           `spec.ingress[0].destination.ports[0]: write "100:200"`,
		"{action: Allow, protocol: TCP, destination: {ports: [0]}}":                   "spec.ingress[0].destination.ports[0]: from 1 to 65535",
		"{action: Allow, protocol: TCP, destination: {ports: ['a b']}}":               "spec.ingress[0].destination.ports[0]: the name of a port",
		"{action: Allow, protocol: TCP, destination: {ports: ['1:x']}}":               "spec.ingress[0].destination.ports[0]: a range of ports is two numbers",

		"{action: Allow, protocol: GRE}":    "spec.ingress[0].protocol: protocol number",
		"{action: Allow, protocol: 47}":     "",
		"{action: Allow, protocol: 256}":    "spec.ingress[0].protocol: from 1 to 255",
		"{action: Allow, notProtocol: GRE}": "spec.ingress[0].notProtocol: protocol number",
		"{action: Allow, ipVersion: 5}":     "spec.ingress[0].ipVersion: supported values",

		"{action: Allow, protocol: ICMP, icmp: {type: 8, code: 0}}":        "",
		"{action: Allow, icmp: {type: 8}}":                                 "spec.ingress[0].icmp: needs protocol ICMP or ICMPv6",
		"{action: Allow, protocol: ICMP, notICMP: {code: 1}}":              "spec.ingress[0].notICMP.type: a code needs a type",
		"{action: Allow, protocol: ICMP, icmp: {type: 255}}":               "spec.ingress[0].icmp.type: from 0 to 254",
		"{action: Allow, protocol: ICMP, ipVersion: 6}":                    "spec.ingress[0].protocol: write ICMPv6",
		"{action: Allow, protocol: ICMPv6, ipVersion: 4}":                  "spec.ingress[0].protocol: write ICMP",
		"{action: Allow, source: {nets: [10.0.0.0/8, '10.1.2.3']}}":        "",
		"{action: Allow, source: {nets: [10.0.0.1/8]}}":                    "spec.ingress[0].source.nets[0]: write 10.0.0.0/8",
		"{action: Allow, source: {nets: [ten]}}":                           "spec.ingress[0].source.nets[0]: write a CIDR",
		"{action: Allow, source: {notNets: [0.0.0.0/0]}}":                  "spec.ingress[0].source.notNets[0]: never matches",
		"{action: Allow, source: {notNets: ['::/0']}}":                     "spec.ingress[0].source.notNets[0]: never matches",
		"{action: Allow, source: {nets: [10.0.0.0/8, 'fd00::/8']}}":        "spec.ingress[0].source.nets[1]: a rule of its own",
		"{action: Allow, ipVersion: 6, destination: {nets: [10.0.0.0/8]}}": "spec.ingress[0].destination.nets[0]: the rule is about IPv6",

		"{action: Allow, source: {namespaceSelector: global()}}":             "",
		"{action: Allow, source: {selector: global()}}":                      "spec.ingress[0].source.selector: only in the namespaceSelector",
		"{action: Allow, source: {notSelector: app = 'x'}}":                  "spec.ingress[0].source.notSelector: at position",
		"{action: Allow, source: {selector: namespace//a == 'b'}}":           "spec.ingress[0].source.selector: at most one slash",
		"{action: Allow, source: {serviceAccounts: {selector: '('}}}":        "spec.ingress[0].source.serviceAccounts.selector: at position",
		"{action: Allow, source: {services: {name: s}}}":                     "",
		"{action: Allow, destination: {services: {name: s}}}":                "spec.ingress[0].destination.services: only in the source of ingress",
		"{action: Allow, source: {services: {name: s}, selector: a == 'b'}}": "spec.ingress[0].source.services: exclude",

		"{action: Allow, http: {paths: [{exact: /a}]}}":             "",
		"{action: Deny, http: {methods: [GET]}}":                    "spec.ingress[0].http: action Allow",
		"{action: Allow, protocol: UDP, http: {methods: [GET]}}":    "spec.ingress[0].http: protocol TCP",
		"{action: Allow, http: {paths: [{exact: /a, prefix: /b}]}}": "spec.ingress[0].http.paths[0]: exactly one",
	} {
		t.Run(rule, func(t *testing.T) {
			var p v3.NetworkPolicy
			read(t, "spec: {ingress: ["+rule+"]}", &p)
			errs := NetworkPolicy(&p)
			if want == "" {
				if len(errs) > 0 {
					t.Errorf("refused: %v", errs.ToAggregate())
				}
				return
			}
			field, advice, _ := strings.Cut(want, ": ")
			if len(errs) != 1 || errs[0].Field != field || !strings.Contains(errs[0].Error(), advice) {
				t.Errorf("got %v, want one finding on %s that says %q", errs.ToAggregate(), field, advice)
			}
		})
	}
}

func TestPolicies(t *testing.T) {
	for spec, want := range map[string]string{
		"{}": "",
		"{applyOnForward: true, preDNAT: true, types: [Ingress]}": "",
		"{preDNAT: true}":    "spec.preDNAT",
		"{doNotTrack: true}": "spec.doNotTrack",
		"{applyOnForward: true, preDNAT: true, doNotTrack: true}":          "spec.preDNAT",
		"{applyOnForward: true, preDNAT: true, egress: [{action: Allow}]}": "spec.egress",
		"{types: [Ingress, Ingress]}":                                      "spec.types[1]",
		"{types: [Inbound]}":                                               "spec.types[0]",
		"{tier: Upper}":                                                    "spec.tier",
		"{namespaceSelector: global()}":                                    "spec.namespaceSelector",
		"{ingress: [{action: Allow, source: {services: {name: s}}}]}":      "spec.ingress[0].source.services.namespace",
		"{egress: [{action: Allow, http: {methods: [GET]}}]}":              "spec.egress[0].http",
		"{egress: [{action: Allow, protocol: TCP, destination: {services: {name: s, namespace: o}, ports: [1]}}]}": "spec.egress[0].destination.ports",
	} {
		t.Run(spec, func(t *testing.T) {
			var p v3.GlobalNetworkPolicy
			read(t, "spec: "+spec, &p)
			errs := GlobalNetworkPolicy(&p)
			if got := errs.ToAggregate(); (want == "") != (got == nil) || got != nil && errs[0].Field != want {
				t.Errorf("got %v, want a finding on %q", got, want)
			}
		})
	}
}

func TestBounds(t *testing.T) {
	var p v3.NetworkPolicy
	for range MaxRules + 1 {
		p.Spec.Ingress = append(p.Spec.Ingress, v3.Rule{Action: v3.Allow})
	}
	if errs := NetworkPolicy(&p); len(errs) != 1 || errs[0].Field != "spec.ingress" {
		t.Errorf("got %v, want a finding on the number of rules", errs.ToAggregate())
	}
	p.Spec.Ingress = p.Spec.Ingress[:1]
	for range MaxNets + 1 {
		p.Spec.Ingress[0].Source.Nets = append(p.Spec.Ingress[0].Source.Nets, "10.0.0.0/8")
	}
	if errs := NetworkPolicy(&p); len(errs) != 1 || errs[0].Field != "spec.ingress[0].source.nets" {
		t.Errorf("got %v, want a finding on the number of nets", errs.ToAggregate())
	}
}

func TestPools(t *testing.T) {
	for spec, want := range map[string]string{
		"{cidr: 10.48.0.0/16}":                                           "",
		"{cidr: 10.48.0.0/16, blockSize: 19}":                            "spec.blockSize",
		"{cidr: 10.48.0.0/28}":                                           "spec.blockSize",
		"{cidr: 'fd00::/48', blockSize: 122}":                            "",
		"{cidr: 'fd00::/48', blockSize: 64}":                             "spec.blockSize",
		"{cidr: 'fd00::/48', ipipMode: Always}":                          "spec.ipipMode",
		"{cidr: 10.48.0.0/16, ipipMode: Always, vxlanMode: CrossSubnet}": "spec.vxlanMode",
		"{cidr: 10.48.0.1/16}":                                           "spec.cidr",
		"{cidr: 169.254.0.0/24}":                                         "spec.cidr",
		"{cidr: 127.0.0.0/16}":                                           "spec.cidr",
		"{cidr: 239.1.0.0/16}":                                           "spec.cidr",
		"{cidr: 0.0.0.0/0}":                                              "spec.cidr",
		"{cidr: 'fe80::/64'}":                                            "spec.cidr",
		"{cidr: 'ff0e::/64'}":                                            "spec.cidr",
		"{cidr: '::/96'}":                                                "spec.cidr",
		"{cidr: 10.48.0.0/16, nodeSelector: '('}":                        "spec.nodeSelector",
	} {
		t.Run(spec, func(t *testing.T) {
			var p v3.IPPool
			read(t, "spec: "+spec, &p)
			errs := IPPool(&p)
			if got := errs.ToAggregate(); (want == "") != (got == nil) || got != nil && errs[0].Field != want {
				t.Errorf("got %v, want a finding on %q", got, want)
			}
		})
	}
}

func TestTiersAndSets(t *testing.T) {
	var tier v3.Tier
	read(t, "spec: {defaultAction: Allow}", &tier)
	if errs := Tier(&tier); len(errs) != 1 || errs[0].Field != "spec.defaultAction" {
		t.Errorf("tier: got %v", errs.ToAggregate())
	}
	var set v3.NetworkSet
	read(t, "spec: {nets: [10.0.0.0/8, 10.0.0.1/8]}", &set)
	if errs := NetworkSet(&set); len(errs) != 1 || errs[0].Field != "spec.nets[1]" {
		t.Errorf("network set: got %v", errs.ToAggregate())
	}
}
