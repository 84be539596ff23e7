package walkthrough

// port tells whether a TCP port of master1 answers host1. Without an answer it gives up after three seconds.
func port(number, name string) string {
	return `on host1 timeout 3 bash -c '</dev/tcp/10.0.0.10/` + number + `' && echo '` + name + ` answers'`
}

func open(say, number, name string) Step {
	return Step{Say: say, Run: port(number, name), Expect: []Expectation{Succeeds(), Shows(name + " answers")}, Within: soon}
}

func closed(say, number, name string) Step {
	return Step{Say: say, Run: port(number, name), Expect: []Expectation{Fails("no answer comes"), ShowsNot(name + " answers")}, Within: soon}
}

// wellNodes shows that the cluster's own traffic goes on: kubelets report, the API server reaches the kubelets, and their probes the pods.
func wellNodes(say string) Step {
	return Step{
		Say: say,
		Run: "kubectl get nodes && kubectl get pods -n yaobank && kubectl exec -n yaobank deploy/customer -- hostname && kubectl logs -n manul-system daemonset/manul-node --tail=1 >/dev/null && echo logs come",
		Expect: []Expectation{
			Succeeds(), Count(`^(master1|worker1|worker2)\s+Ready`, 3, "three nodes Ready"),
			Count(`^\S+\s+1/1\s+Running`, 4, "four pods, all of them ready"), Matches(`^customer-\S+$`, "a command runs in a pod"), Shows("logs come"),
		},
		Within: soon,
	}
}

func hosts() Lab {
	return Lab{Name: "Host endpoints", Steps: []Step{
		open("Policies so far were about pods. The nodes themselves stand open: host1, outside the cluster, reaches etcd on master1, where all secrets are ...", "2379", "etcd"),
		open("... and the kubelet.", "10250", "the kubelet"),
		{
			Say:    "A host endpoint stands for the interfaces of a host. Manul makes one for every node, if told to, and keeps it up to date.",
			Run:    "kubectl apply -f " + manifests + "automatic-host-endpoints.yaml",
			Expect: []Expectation{Succeeds()},
		},
		{
			Say: "They have the labels of their nodes. Without a policy they change nothing: all have a profile that allows.",
			Run: "kubectl get hostendpoints -o custom-columns=NAME:.metadata.name,NODE:.spec.node,INTERFACE:.spec.interfaceName,ADDRESSES:.spec.expectedIPs,PROFILES:.spec.profiles",
			Expect: []Expectation{
				Count(`^(master1|worker1|worker2)-auto-hep\s+\S+\s+\*\s+\[\S*10\.0\.0\.1[012]\S*\]\s+\[projectcalico-default-allow\]`, 3, "one for each node, for all its interfaces, with its address"),
			},
			Within: soon,
		},
		open("etcd still answers.", "2379", "etcd"),
		{
			Say:    "A policy for nodes: they let in each other, and echo requests, and nobody else.",
			Run:    enforced("nodes.yaml", "globalnetworkpolicy/default-node-policy"),
			Expect: []Expectation{Succeeds()},
		},
		closed("The kubelet is closed to host1 ...", "10250", "the kubelet"),
		open("... and etcd is not: its port is among those that stay open whatever policies say, so that a mistake does not lock the doors for good.", "2379", "etcd"),
		{
			Say:    "This list of failsafe ports can be changed. Here SSH, DHCP and the API server are enough.",
			Run:    "kubectl patch felixconfiguration default --type=merge --patch-file " + manifests + "failsafe.yaml",
			Expect: []Expectation{Succeeds()},
		},
		closed("etcd is closed to host1.", "2379", "etcd"),
		open("The API server is not.", "6443", "the API server"),
		{
			Say:    "host1 may ping the node; nothing keeps nodes from what they need of each other.",
			Run:    "on host1 ping -c 1 -W 3 10.0.0.10 && on worker1 timeout 3 bash -c '</dev/tcp/10.0.0.10/10250' && echo worker1 reaches the kubelet of master1",
			Expect: []Expectation{Succeeds(), Shows("1 received", "worker1 reaches")},
			Within: soon,
		},
		wellNodes("The cluster goes on: kubelets report and probe pods, the API server reaches kubelets."),
		page("Traffic that only passes through a node on its way to a pod is not asked. The page still comes."),
	}}
}

func nodePorts() Lab {
	return Lab{Name: "Node ports", Steps: []Step{
		{
			Say:    "Node ports are on every node, and what arrives there goes on to a pod. To close them, a policy must come before that translation: preDNAT.",
			Run:    enforced("node-ports-closed.yaml", "globalnetworkpolicy/node-ports-closed"),
			Expect: []Expectation{Succeeds()},
		},
		{
			Say:    "The page is closed to host1, at every node.",
			Run:    "for node in 10.0.0.10 10.0.0.11 10.0.0.12; do on host1 curl -sS -m 2 http://$node:30180 || true; done",
			Expect: []Expectation{Count("timed out", 3, "all three time out"), ShowsNot("Welcome")},
			Within: soon,
		},
		{
			Say:    "Within the cluster the service is in reach as before.",
			Run:    "kubectl exec -n yaobank deploy/summary -- curl -sS -m 5 http://customer | grep -E '<h1'",
			Expect: []Expectation{Succeeds(), Shows("Welcome")},
			Within: soon,
		},
		{
			Say:    "One node port is opened again, to the network of host1, by a policy that comes before the other.",
			Run:    enforced("node-port-yaobank.yaml", "globalnetworkpolicy/node-port-yaobank"),
			Expect: []Expectation{Succeeds()},
		},
		page("The page comes again."),
		wellNodes("And everything else goes on."),
	}}
}
