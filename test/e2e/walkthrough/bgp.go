package walkthrough

// all three nodes as next hops of one route.
const (
	overAll    = `10\.0\.0\.10[\s\S]*10\.0\.0\.11[\s\S]*10\.0\.0\.12`
	customerIP = `$(kubectl get service -n yaobank customer -o jsonpath={.spec.clusterIP})`
)

func router() Lab {
	return Lab{Name: "A router outside the cluster", Steps: []Step{
		{
			Say:    "host1 becomes a router. It runs BIRD, which is to learn from the nodes where pods are.",
			Run:    "on host1 sh -c 'mkdir -p /etc/bird && cat > /etc/bird/cluster.conf' < " + manifests + "host1-bird.conf && cluster start host1 router",
			Expect: []Expectation{Succeeds()},
		},
		{
			Say:    "All nodes are told to peer with it. The status of the peer counts the sessions.",
			Run:    "kubectl apply -f " + manifests + "bgp-peer.yaml && kubectl wait --for=condition=Established bgppeer/host1 --timeout=60s && kubectl describe bgppeer host1 | grep -A8 Conditions",
			Expect: []Expectation{Succeeds(), Shows("3 of 3 nodes")},
			Within: soon,
		},
		{
			Say:    "The other side says the same.",
			Run:    "on host1 birdc -s /tmp/bird.ctl show protocols",
			Expect: []Expectation{Count(`^(master1|worker1|worker2)\s+BGP\s.*Established`, 3, "three sessions, Established")},
			Within: soon,
		},
		{
			Say: "All sessions at a glance, those between the nodes counted; and what a node knows of its routes.",
			Run: "kubectl manul bgp peers && kubectl manul bgp routes --node worker1",
			Expect: []Expectation{
				Count(`^(master1|worker1|worker2)\s+host1\s+10\.0\.0\.20\s+64513\s+Established`, 3, "a session of each node with host1"),
				Count(`^(master1|worker1|worker2)\s+mesh\s.*2 of 2 Established`, 3, "each node's sessions with the others"),
				Matches(`^10\.48\.16\.\d+/28\s+-\s+-\s+kernel\s+Static`, "worker1's own block of zone a"),
			},
			Within: soon,
		},
		{
			Say: "The router has a route for each block: those of the default pool, of the zones, and of the external pool.",
			Run: "on host1 ip route",
			Expect: []Expectation{
				Matches(`^10\.48\.[01]\.\d+/26 via 10\.0\.0\.1[012] .*proto bird`, "blocks of the default pool"),
				Matches(`^10\.48\.16\.\d+/28 via 10\.0\.0\.11 .*proto bird`, "the block of zone a, at worker1"), Matches(`^10\.48\.2\.\d+/29 via 10\.0\.0\.1[12] .*proto bird`, "blocks of the external pool"),
			},
			Within: soon,
		},
		{
			Say:    "So host1 reaches the pods of the external pool by their own addresses, with nothing translated on the way.",
			Run:    "for ip in $(kubectl get pods -n external -l app=web -o jsonpath='{.items[*].status.podIP}'); do on host1 timeout 3 bash -c \"</dev/tcp/$ip/8080\" && echo $ip answers; done",
			Expect: []Expectation{Count(`^10\.48\.2\.\d+ answers`, 2, "both pods answer")},
			Within: soon,
		},
	}}
}

func advertisedServices() Lab {
	return Lab{Name: "Services for the network outside", Steps: []Step{
		{
			Say:    "Cluster IPs and external IPs of services can be advertised as well.",
			Run:    "kubectl apply -f " + manifests + "bgp-services.yaml",
			Expect: []Expectation{Succeeds()},
		},
		{
			Say:    "Every node advertises the range, and the router spreads connections over all of them.",
			Run:    "on host1 ip route show 10.49.0.0/16",
			Expect: []Expectation{Matches(overAll, "three next hops")},
			Within: soon,
		},
		{
			Say:    "The page comes from the service's own address, without a node port.",
			Run:    "on host1 curl -s -m 5 http://" + customerIP + " | grep -E '<h1'",
			Expect: []Expectation{Succeeds(), Shows("Welcome")},
			Within: soon,
		},
		{
			Say:    "With externalTrafficPolicy Local, a service is advertised on its own, and only by the nodes that have a pod of it: here worker1.",
			Run:    `kubectl patch service -n yaobank customer -p '{"spec":{"externalTrafficPolicy":"Local"}}' && on host1 ip route show ` + customerIP + "/32",
			Expect: []Expectation{Succeeds(), Shows("via 10.0.0.11"), ShowsNot("10.0.0.10", "10.0.0.12")},
			Within: soon,
		},
		{
			Say:    "The page still comes, over that node.",
			Run:    "on host1 curl -s -m 5 http://" + customerIP + " | grep -E '<h1'",
			Expect: []Expectation{Succeeds(), Shows("Welcome")},
			Within: soon,
		},
		{
			Say:    "So is an external IP of it, and the pod sees who asks: host1 by its own address, which kube-proxy hides only from those who ask by the cluster IP.",
			Run:    `kubectl patch service -n yaobank customer -p '{"spec":{"externalIPs":["10.50.0.10"]}}' && on host1 ip route show 10.50.0.10/32 && on host1 curl -s -m 5 http://10.50.0.10 | grep -E '<h1' && kubectl logs -n yaobank deployment/customer --tail=1`,
			Expect: []Expectation{Succeeds(), Shows("10.50.0.10 via 10.0.0.11", "Welcome", "by=10.0.0.20:")},
			Within: soon,
		},
		{
			Say:    "When its pods are gone, so is the route.",
			Run:    "kubectl scale deployment -n yaobank customer --replicas=0 && for i in $(seq 50); do on host1 ip route show " + customerIP + "/32 | grep -q via || break; sleep 0.2; done; on host1 ip route show " + customerIP + "/32; kubectl scale deployment -n yaobank customer --replicas=1",
			Expect: []Expectation{Succeeds(), ShowsNot("via 10.0.0.11")},
		},
		{
			Say:    "With a pod the node advertises the service again.",
			Run:    "kubectl rollout status deployment -n yaobank customer --timeout=120s && on host1 ip route show " + customerIP + "/32",
			Expect: []Expectation{Succeeds(), Shows("via 10.0.0.11")},
			Within: rollout,
		},
		{
			Say:    "An external IP of the range reaches the service, too.",
			Run:    `kubectl patch service -n yaobank customer -p '{"spec":{"externalTrafficPolicy":"Cluster","externalIPs":["10.50.0.10"]}}' && on host1 ip route show 10.50.0.0/24 && on host1 curl -s -m 5 http://10.50.0.10 | grep -E '<h1'`,
			Expect: []Expectation{Succeeds(), Matches(overAll, "three next hops"), Shows("Welcome")},
			Within: soon,
		},
		{
			Say:    "Services of type LoadBalancer get addresses from a pool for them: any of a pool that an annotation names, or just the one that it names.",
			Run:    `kubectl patch kubecontrollersconfiguration default --type=merge -p '{"spec":{"controllers":{"loadBalancer":{"assignIPs":"RequestedServicesOnly"}}}}' && kubectl apply -f ` + manifests + "bgp-load-balancers.yaml && kubectl get services -n yaobank",
			Expect: []Expectation{Succeeds(), Matches(`customer-any\s+LoadBalancer\s+\S+\s+10\.51\.0\.\d+`, "an address of the pool"), Matches(`customer-fixed\s+LoadBalancer\s+\S+\s+10\.51\.0\.7\s`, "the address 10.51.0.7")},
			Within: soon,
		},
		{
			Say:    "They are advertised like the others.",
			Run:    "on host1 ip route show 10.51.0.0/24 && on host1 curl -s -m 5 http://10.51.0.7 | grep -E '<h1'",
			Expect: []Expectation{Succeeds(), Matches(overAll, "three next hops"), Shows("Welcome")},
			Within: soon,
		},
		{
			Say:    "An address can be advertised from one zone only: here by worker2, though the pod is on worker1.",
			Run:    "kubectl apply -f " + manifests + "bgp-zone.yaml && on host1 ip route show 10.50.0.30/32 && on host1 curl -s -m 5 http://10.50.0.30 | grep -E '<h1'",
			Expect: []Expectation{Succeeds(), Shows("via 10.0.0.12", "Welcome"), ShowsNot("10.0.0.10", "10.0.0.11")},
			Within: soon,
		},
		{
			Say: "Why a node advertises it, or does not, and to whom.",
			Run: "kubectl manul bgp explain yaobank/customer-zone-b",
			Expect: []Expectation{
				Matches(`10\.50\.0\.30 from worker2: advertised as 10\.50\.0\.30/32: the service is advertised from nodes that match`, "worker2 advertises it"),
				Matches(`10\.50\.0\.30 from worker1: advertised as 10\.50\.0\.0/24: .* and this one does not`, "worker1 advertises the range"),
				Matches(`to zone-b \(10\.0\.0\.21\): not sent: the session is`, "the zone's router, which is not there"),
			},
			Within: soon,
		},
		{
			Say:    "There is no router in zone b yet: its peer goes again.",
			Run:    "kubectl delete bgppeer zone-b && kubectl delete bgpfilter zone-b",
			Expect: []Expectation{Succeeds()},
		},
		{
			Say:    "All the time Manul's own pods, the operator and an agent on each of three nodes, have run without a restart.",
			Run:    "kubectl get pods -n manul-system",
			Expect: []Expectation{Succeeds(), Count(`^manul-\S+\s+1/1\s+Running\s+0\s`, 4, "four pods Running, without a restart")},
		},
	}}
}
