package oracle_test

import (
	"net/netip"

	"github.com/manul-net/manul/test/oracle"
)

// oracleService is TCP port 80 of an address that leads to port 8080 of an endpoint.
func oracleService(address, endpoint string) []oracle.Translation {
	return []oracle.Translation{{
		Address: netip.MustParseAddr(address), Protocol: oracle.TCP, Port: 80, Endpoint: netip.MustParseAddr(endpoint), EndpointPort: 8080,
	}}
}

func hostSentences() []sentence {
	const allowing = "\nprofiles: [projectcalico-default-allow]"
	eth0 := hostEndpoint("hx", "kind: host", "node: x\ninterfaceName: eth0")
	open := hostEndpoint("hx", "kind: host", "node: x\ninterfaceName: eth0"+allowing)
	on := func(name, spec string) string { return globalPolicy(name, "selector: kind == 'host'\n"+spec) }
	return []sentence{
		{says: "without profiles it denies, failsafe ports and forwarded traffic apart", manifests: eth0, packets: "front@x -> node x tcp 80: dropped\nnode x -> front@x tcp 80: dropped\nfront@x -> node x tcp 22: arrives\nnode x -> front@x udp 53: arrives\nfront@x -> shop/web tcp 80: arrives"},
		{says: "a profile that nobody knows denies", manifests: hostEndpoint("hx", "kind: host", "node: x\ninterfaceName: eth0\nprofiles: [another]"), packets: "front@x -> node x tcp 80: dropped"},
		{says: "with the profile that allows it allows", manifests: open, packets: "front@x -> node x tcp 80: arrives\nnode x -> front@x tcp 80: arrives"},
		{says: "by interfaceName: other interfaces are not policed", manifests: eth0, packets: "back@x -> node x tcp 80: arrives\nfront@x -> node x eth1 tcp 80: dropped\nfront@y -> node y tcp 80: arrives"},
		{says: "* is all the host's interfaces", manifests: hostEndpoint("all", "kind: host", "node: x\ninterfaceName: '*'"), packets: "back@x -> node x tcp 80: dropped\nfront@x -> node x tcp 80: dropped\nshop/web -> shop/cache tcp 80: arrives"},
		{says: "by expectedIPs", manifests: hostEndpoint("hx", "kind: host", "node: x\nexpectedIPs: [172.16.0.1]"), packets: "back@x -> node x tcp 80: dropped\nfront@x -> node x tcp 80: arrives"},
		{says: "a name goes before addresses, and addresses before *", manifests: hostEndpoint("a", "kind: host", "node: x\ninterfaceName: '*'"+allowing) + hostEndpoint("b", "kind: host", "node: x\nexpectedIPs: [172.16.0.1]") + hostEndpoint("c", "kind: host", "node: x\ninterfaceName: eth0"), packets: "back@x -> node x tcp 80: dropped\nfront@x -> node x tcp 80: dropped"},
		{says: "local traffic by default", manifests: open + on("p", "ingress: [{action: Allow, protocol: TCP}]\negress: [{action: Allow, protocol: UDP}]"), packets: "front@x -> node x tcp 80: arrives\nfront@x -> node x udp 80: dropped\nnode x -> front@x udp 80: arrives\nnode x -> front@x tcp 80: dropped\nfront@x -> shop/web udp 80: arrives\nfront@x -> back@x udp 80: arrives"},
		{says: "forwarded traffic by policies with applyOnForward", manifests: open + on("p", "applyOnForward: true\ningress: [{action: Allow, protocol: TCP}]"), packets: "front@x -> shop/web tcp 80: arrives\nfront@x -> shop/web udp 80: dropped\nshop/web -> front@x udp 80: arrives\nfront@x -> back@x udp 80: dropped\nfront@x -> node x udp 80: dropped"},
		{says: "forwarded traffic passes in a direction without such a policy", manifests: open + on("p", "applyOnForward: true\ntypes: [Egress]\negress: [{action: Deny, protocol: UDP}]"), packets: "front@x -> shop/web udp 80: arrives\nshop/web -> front@x udp 80: dropped"},
		{says: "preDNAT comes before translation", manifests: open + on("p", "applyOnForward: true\npreDNAT: true\ntypes: [Ingress]\ningress: [{action: Deny, protocol: TCP, destination: {ports: [80]}}]"), services: oracleService("192.168.0.1", "10.0.0.1"), packets: "4 front@x -> node x tcp 80: dropped\n4 front@x -> shop/web tcp 8080: arrives\n4 back@x -> node x tcp 80: arrives at shop/web"},
		{says: "preDNAT: no default drop at the end of the tier", manifests: open + on("p", "applyOnForward: true\npreDNAT: true\ntypes: [Ingress]\ningress: [{action: Deny, protocol: UDP}]"), packets: "front@x -> node x tcp 80: arrives\nfront@x -> shop/web tcp 80: arrives\nfront@x -> shop/web udp 80: dropped"},
		{says: "preDNAT Allow skips local policy", manifests: eth0 + on("p", "applyOnForward: true\npreDNAT: true\ntypes: [Ingress]\ningress: [{action: Allow, protocol: TCP}]"), packets: "front@x -> node x tcp 80: arrives\nfront@x -> node x udp 80: dropped"},
		{says: "doNotTrack: before connection tracking, no default drop", manifests: open + on("p", "applyOnForward: true\ndoNotTrack: true\ningress: [{action: Deny, protocol: UDP}]\negress: [{action: Deny, protocol: SCTP}]"), packets: "front@x -> node x udp 80: dropped\nfront@x -> shop/web udp 80: dropped\nfront@x -> node x tcp 80: arrives\nnode x -> front@x sctp 80: dropped\nnode x -> front@x tcp 80: arrives"},
		{says: "doNotTrack Allow skips local policy", manifests: eth0 + on("p", "applyOnForward: true\ndoNotTrack: true\ningress: [{action: Allow, protocol: TCP}]"), packets: "front@x -> node x tcp 80: arrives\nfront@x -> node x udp 80: dropped"},
		{says: "preDNAT and doNotTrack do not apply to pods", manifests: globalPolicy("p", "applyOnForward: true\npreDNAT: true\ntypes: [Ingress]\ningress: [{action: Deny}]") + globalPolicy("q", "applyOnForward: true\ndoNotTrack: true\ntypes: [Ingress]\ningress: [{action: Deny}]"), packets: "shop/web -> shop/db tcp 80: arrives"},
		{says: "applyOnForward alone applies to pods as usual", manifests: globalPolicy("p", "applyOnForward: true\nselector: app == 'db'\ningress: [{action: Deny}]"), packets: "shop/web -> shop/db tcp 80: dropped"},
		{says: "failsafe inbound by default", manifests: eth0, packets: "front@x -> node x tcp 179: arrives\nfront@x -> node x tcp 2379: arrives\nfront@x -> node x tcp 2380: arrives\nfront@x -> node x tcp 5473: arrives\nfront@x -> node x tcp 6443: arrives\nfront@x -> node x tcp 6666: arrives\nfront@x -> node x tcp 6667: arrives\nfront@x -> node x udp 68: arrives\nfront@x -> node x udp 53: dropped\nfront@x -> node x udp 22: dropped"},
		{says: "failsafe outbound by default", manifests: eth0, packets: "node x -> front@x tcp 179: arrives\nnode x -> front@x tcp 2379: arrives\nnode x -> front@x tcp 2380: arrives\nnode x -> front@x tcp 5473: arrives\nnode x -> front@x tcp 6443: arrives\nnode x -> front@x tcp 6666: arrives\nnode x -> front@x tcp 6667: arrives\nnode x -> front@x udp 67: arrives\nnode x -> front@x tcp 22: dropped\nnode x -> front@x udp 68: dropped"},
		{says: "failsafe ports as configured, with the other end's net", manifests: eth0 + felix("failsafeInboundHostPorts: [{protocol: tcp, port: 80}, {protocol: udp, port: 7, net: 203.0.113.0/24}]\nfailsafeOutboundHostPorts: []"), packets: "front@x -> node x tcp 80: arrives\nfront@x -> node x tcp 22: dropped\n4 front@x -> node x udp 7: dropped\nnode x -> front@x udp 53: dropped"},
		{says: "from a node to its own pods host endpoints are not asked", manifests: hostEndpoint("all", "kind: host", "node: x\ninterfaceName: '*'"), packets: "node x -> shop/web tcp 80: arrives"},
		{says: "defaultEndpointToHostAction Return goes on to the host endpoint of all interfaces", manifests: felix("defaultEndpointToHostAction: Return") + hostEndpoint("all", "kind: host", "node: x\ninterfaceName: '*'") + on("p", "ingress: [{action: Allow, protocol: UDP}]"), packets: "shop/web -> node x tcp 80: dropped\nshop/web -> node x udp 80: arrives"},
		{says: "loopback is never policed", manifests: hostEndpoint("all", "kind: host", "node: x\ninterfaceName: '*'"), packets: "node x -> node x eth1 tcp 80: arrives"},
	}
}
