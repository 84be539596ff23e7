package walkthrough

// receiverIP is the address of the pod of worker2 that is sent to.
const receiverIP = `$(kubectl get pod -n measure receiver -o jsonpath={.status.podIP})`

// switched changes the pool's mode while a pod of worker1 sends 500 datagrams a second to one of worker2, and waits until worker1
// sends them by the device, before the sender says what was lost.
func switched(say, mode, device string) Step {
	return Step{
		Say: say,
		Run: "to=" + receiverIP + "; exec 3< <(kubectl exec -n measure sender -- /prober stream -udp -every 2ms -for 8s $to:7007 2>&1); read -r <&3\n" +
			`kubectl patch ippool default-ipv4-ippool --type=merge -p '{"spec":{"vxlanMode":"` + mode + `"}}'` + "\n" +
			"until on worker1 ip route get $to | grep -q 'dev " + device + " '; do sleep 0.1; done; on worker1 ip route get $to; cat <&3",
		Expect: []Expectation{
			Succeeds(), Shows("dev " + device),
			Matches(`"lost":\d{1,3},`, "fewer than 1,000 of some 4,000 datagrams are lost"),
			Matches(`"longestGap":\d{1,9}\}`, "the longest time without an answer is less than a second"),
		},
	}
}

func tunnels() Lab {
	return Lab{Name: "Packets between nodes", Steps: []Step{
		{
			Say:    "A pod on each worker, to see how packets get from one to the other: these nodes are on one subnet, so they send them as they are.",
			Run:    "kubectl apply -f " + manifests + "measure.yaml && kubectl wait -n measure --for=condition=Ready pod --all --timeout=120s && on worker1 ip route get " + receiverIP,
			Expect: []Expectation{Succeeds(), Shows("via 10.0.0.12 dev ens160")},
			Within: rollout,
		},
		{
			Say:    "With CrossSubnet packets to nodes of other subnets are encapsulated. Each node has its end of the tunnel now, with an address out of its own block, and 50 bytes less room for a packet.",
			Run:    `kubectl patch ippool default-ipv4-ippool --type=merge -p '{"spec":{"vxlanMode":"CrossSubnet"}}' && kubectl get nodestate worker1 -o jsonpath='{.status.tunnels}' && on worker1 ip -d address show vxlan.manul`,
			Expect: []Expectation{Succeeds(), Matches(`"address":"10\.48\.\d+\.\d+","kind":"VXLAN"`, "the node's end, with its address"), Shows("mtu 1450", "vxlan id 4096 local 10.0.0.11", "dstport 4789"), Matches(`inet 10\.48\.\d+\.\d+/32`, "the address on the device")},
			Within: soon,
		},
		{
			Say: "All nodes are on one subnet: nothing changes on the way between them.",
			Run: "kubectl get nodenetworks -o custom-columns=NODE:.metadata.name,SUBNETS:.spec.subnets && on worker1 ip route get " + receiverIP,
			Expect: []Expectation{
				Succeeds(), Count(`^(master1|worker1|worker2)\s+\[10\.0\.0\.0/24\]`, 3, "the three nodes' subnet"), Shows("via 10.0.0.12 dev ens160"),
			},
			Within: soon,
		},
		switched("With Always, packets to all other nodes are encapsulated. The pods go on talking meanwhile: 500 datagrams a second, none of which is sent again.", "Always", "vxlan.manul"),
		{
			Say: "The routes to the other nodes' blocks lead over the device, and its neighbours and forwarding entries to the nodes. No node asks where another is.",
			Run: "on worker1 ip route show dev vxlan.manul; on worker1 ip neighbour show dev vxlan.manul; on worker1 bridge fdb show dev vxlan.manul",
			Expect: []Expectation{
				Matches(`^10\.48\.\d+\.\d+/26 via 10\.0\.0\.10 .*onlink`, "a route to the block of master1"), Matches(`^10\.48\.\d+\.\d+/26 via 10\.0\.0\.12 .*onlink`, "a route to the block of worker2"),
				Count(`^10\.0\.0\.1[02] lladdr \S+ PERMANENT`, 2, "two neighbours"), Count(`dst 10\.0\.0\.1[02] self permanent`, 2, "two forwarding entries"),
			},
			Within: soon,
		},
		{
			Say:    "A pod that starts now has the MTU that fits. Those that are older learn it from the network.",
			Run:    "sed 's/name: sender/name: newcomer/' " + manifests + "measure.yaml | kubectl apply -f - && kubectl wait -n measure --for=condition=Ready pod/newcomer --timeout=120s && for pod in sender newcomer; do on worker1 ip -o link show $(on worker1 ip route get $(kubectl get pod -n measure $pod -o jsonpath={.status.podIP}) | sed -n 's/.* dev \\(\\S*\\) .*/\\1/p'); done",
			Expect: []Expectation{Succeeds(), Matches(`(?s)mtu 1500.*mtu 1450`, "1500 for the older pod, 1450 for the newer one")},
			Within: rollout,
		},
		page("YAO Bank's pods, which are on different nodes, talk through the tunnels, too."),
		switched("And back, in the same way.", "Never", "ens160"),
		{
			Say:    "Nothing is left behind on the nodes.",
			Run:    "for host in master1 worker1 worker2; do on $host ip link show vxlan.manul; on $host ip route | grep onlink; done; kubectl get nodestates -o jsonpath='{.items[*].status.tunnels}'",
			Expect: []Expectation{Count(`Device "vxlan.manul" does not exist`, 3, "no device on any of the three nodes"), ShowsNot("onlink", "VXLAN")},
			Within: soon,
		},
		{
			Say:    "The pods have done their work.",
			Run:    "kubectl delete namespace measure --timeout=120s",
			Expect: []Expectation{Succeeds()},
		},
	}}
}
