package walkthrough

func addressPools() Lab {
	pods := "kubectl get pods -o custom-columns=NAME:.metadata.name,NODE:.spec.nodeName,ADDRESS:.status.podIP,PHASE:.status.phase"
	return Lab{Name: "Address pools", Steps: []Step{
		{
			Say:    "The workers stand in two zones. Pods should bear addresses that tell their zone, so that the network outside needs one route for each.",
			Run:    "kubectl label node worker1 topology.kubernetes.io/zone=a && kubectl label node worker2 topology.kubernetes.io/zone=b && kubectl apply -f " + manifests + "zone-pools.yaml",
			Expect: []Expectation{Succeeds(), Shows("zone-a created", "zone-b created")},
		},
		{
			Say:    "The pool that was there from the beginning is left to nodes without a zone.",
			Run:    `kubectl patch ippool default-ipv4-ippool --type=merge -p '{"spec":{"nodeSelector":"!has(topology.kubernetes.io/zone)"}}'`,
			Expect: []Expectation{Succeeds()},
		},
		{
			Say:    "Each worker gets a block of its zone's pool, as soon as it may use it, and before a pod needs it.",
			Run:    "kubectl get blockaffinities",
			Expect: []Expectation{Matches(`10\.48\.16\.\d+/28\s+worker1`, "a block of zone a for worker1"), Matches(`10\.48\.17\.\d+/28\s+worker2`, "a block of zone b for worker2")},
			Within: soon,
		},
		{
			Say: "Pods that start now have addresses of their zone. Those that run keep what they have.",
			Run: "kubectl apply -f " + manifests + "zone-pods.yaml && kubectl rollout status daemonset/zones --timeout=120s && " + pods + " -l app=zones && kubectl get pods -n yaobank -o wide",
			Expect: []Expectation{
				Matches(`worker1\s+10\.48\.16\.\d+\s+Running`, "an address of zone a on worker1"), Matches(`worker2\s+10\.48\.17\.\d+\s+Running`, "an address of zone b on worker2"),
				Count(`1/1\s+Running\s+\d+.*10\.48\.[01]\.\d+`, 4, "YAO Bank's four pods as they were"),
			},
			Within: rollout,
		},
		{
			Say: "How full are the pools, and who has which block? Does what the API says fit with what the nodes say?",
			Run: "kubectl manul ipam show && kubectl manul ipam check",
			Expect: []Expectation{
				Succeeds(), Matches(`zone-a\s+10\.48\.16\.0/24\s+256\s+[1-9]`, "addresses of zone a in use"),
				Matches(`10\.48\.17\.\d+/28\s+zone-b\s+worker2\s+16\s+[1-9]`, "a block of worker2 with addresses in use"),
			},
			Within: soon,
		},
		{
			Say:    "A mistake is refused before it is stored, here a pool that overlaps with another ...",
			Run:    "sed 's,10.48.16.0/24,10.48.17.128/25,; s,name: zone-a,name: zone-c,' " + manifests + "zone-pools.yaml | kubectl apply -f -",
			Expect: []Expectation{Fails("it is refused"), Shows("spec.cidr", "zone-b")},
			Within: soon,
		},
		{
			Say:    "... or the removal of a pool that pods have addresses of.",
			Run:    "kubectl delete ippool zone-a",
			Expect: []Expectation{Fails("it is refused"), Shows("zones-", "Set spec.disabled to true")},
			Within: soon,
		},
		{
			Say:    "Some pods are to be reached from outside by their own addresses. A pool for these is used only by who asks for it; its blocks are small.",
			Run:    "kubectl apply -f " + manifests + "external-pool.yaml",
			Expect: []Expectation{Succeeds()},
		},
		{
			Say: "A namespace asks for all its pods, by an annotation. A pod can ask for one certain address.",
			Run: "kubectl apply -f " + manifests + "external-namespace.yaml && kubectl wait -n external --for=condition=Ready pod --all --timeout=120s && " + pods + " -n external && kubectl get blockaffinities",
			Expect: []Expectation{
				Count(`^web-\S+\s+worker[12]\s+10\.48\.2\.\d+\s+Running`, 2, "two pods with addresses from 10.48.2.0/24"),
				Matches(`^fixed\s+\S+\s+10\.48\.2\.200\s+Running`, "the pod with the address that it asked for"),
				Matches(`10\.48\.2\.\d+/29`, "blocks of eight addresses"),
			},
			Within: rollout,
		},
		{
			Say:    "An address that is taken is not given twice. The pod's events say what is wrong, with the annotation, and nothing else is disturbed.",
			Run:    "kubectl apply -f " + manifests + "fixed-twice.yaml && kubectl describe pod -n external fixed-twice | grep -A9 ^Events",
			Expect: []Expectation{Succeeds(), Shows("address 10.48.2.200 is in use by external/fixed", "cni.projectcalico.org/ipAddrs")},
			Within: soon,
		},
		{
			Say:    "Once the address is free, the pod gets it.",
			Run:    "kubectl delete pod -n external fixed --ignore-not-found && kubectl wait -n external --for=condition=Ready pod/fixed-twice --timeout=60s && " + pods + " -n external",
			Expect: []Expectation{Matches(`^fixed-twice\s+\S+\s+10\.48\.2\.200\s+Running`, "the address that has become free")},
			Within: rollout,
		},
		{
			Say:    "An address that does not belong to one pod for good is a floating one: it is translated to the own address of the pod that names it. That is for the operator of the cluster to allow.",
			Run:    `kubectl patch felixconfiguration default --type=merge -p '{"spec":{"floatingIPs":"Enabled"}}' && kubectl apply -f ` + manifests + "floating-address.yaml && kubectl wait -n external --for=condition=Ready pod/front --timeout=60s",
			Expect: []Expectation{Succeeds(), Shows("pod/front condition met")},
			Within: rollout,
		},
		floating("The pod's own node reaches the pod by it ...", "worker1"),
		floating("... and so does another node, which has a route for it ...", "worker2"),
		{
			Say:    "... to the node of the pod.",
			Run:    "on worker2 ip route get 10.48.3.7",
			Expect: []Expectation{Succeeds(), Shows("via 10.0.0.11")},
			Within: soon,
		},
		{
			Say:    "When the pod goes, so does its floating address.",
			Run:    "kubectl delete pod -n external front --ignore-not-found --wait && on worker2 ip route get 10.48.3.7",
			Expect: []Expectation{ShowsNot("via 10.0.0.11")},
			Within: soon,
		},
	}}
}

// floating shows that a host reaches the pod with the floating address.
func floating(say, host string) Step {
	return Step{
		Say: say, Run: "on " + host + ` timeout 3 bash -c '</dev/tcp/10.48.3.7/8080' && echo the pod answers`,
		Expect: []Expectation{Succeeds(), Shows("the pod answers")}, Within: soon,
	}
}
