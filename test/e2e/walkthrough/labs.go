package walkthrough

import "time"

const (
	manifests = "docs/guide/manifests/"
	// soon bounds the waiting for an effect that takes milliseconds; slow machines get all the time they need.
	soon = time.Minute
	// rollout bounds the start of pods.
	rollout = 4 * time.Minute
	// The key "account" in base64, as etcd's JSON gateway wants it.
	readAccount = `curl -s -m 3 http://database:2379/v3/kv/range -d '{"key":"YWNjb3VudA=="}'`
	inCustomer  = "kubectl exec -n yaobank deploy/customer -- "
	getPage     = "on host1 curl -s -m 5 http://10.0.0.10:30180 | grep -E '<(h1|dt|p)'"
)

// page shows that YAO Bank's page comes, to host1, through the node port.
func page(say string) Step {
	return Step{Say: say, Run: getPage, Expect: []Expectation{Succeeds(), Shows("Welcome, Pallas Otocolobus")}, Within: soon}
}

// enforced applies a manifest of the guide and waits until it is in force. What is waited for is in kubectl's words.
func enforced(manifest, what string) string {
	return "kubectl apply -f " + manifests + manifest + " && kubectl wait --for=condition=Enforced " + what + " --timeout=60s"
}

// Labs are the chapters of the walk-through, in order. Each builds on those before it. What nodes use is the dataplane of
// kube-proxy: nftables or iptables.
func Labs(dataplane string) []Lab {
	return []Lab{install(dataplane), yaobank(), fundamentals(), podConnectivity(), tunnels(), egress(), teams(), hosts(), nodePorts(), machine(), addressPools(), router(), advertisedServices()}
}

func install(dataplane string) Lab {
	return Lab{Name: "Install Manul", Steps: []Step{
		{
			Say:    "A cluster without a network: the nodes have registered, and wait for one.",
			Run:    "kubectl get nodes -o wide",
			Expect: []Expectation{Count(`^(master1|worker1|worker2)\s+NotReady`, 3, "three nodes, none of them Ready")},
			Within: soon,
		},
		{
			Say:    "Manul is installed by one manifest: its API, the operator, and an agent on every node. The pool of addresses for pods is made smaller than usual: the network outside knows what to do with some that lie behind it.",
			Run:    "sed s,10.48.0.0/16,10.48.0.0/23, config/install.yaml | kubectl apply --server-side -f - | grep -v ^customresourcedefinition",
			Expect: []Expectation{Succeeds(), Shows("deployment.apps/manul-operator", "daemonset.apps/manul-node")},
		},
		{
			Say:    "The agents put the CNI plugin in place, and the nodes become Ready. The operator is ready to take policies.",
			Run:    "kubectl wait --for=condition=Ready node --all --timeout=240s && kubectl -n manul-system rollout status deployment/manul-operator --timeout=120s",
			Expect: []Expectation{Succeeds(), Count(`^node/\S+ condition met`, 3, "three nodes Ready")},
		},
		{
			Say:    "What each node has in effect can be read from the API. Every node has got a block of addresses from the default pool.",
			Run:    "kubectl get nodestates; echo; kubectl get ippools; echo; kubectl get blockaffinities",
			Expect: []Expectation{Succeeds(), Count(`^\S+\s.*\s`+dataplane+`\s`, 3, "three nodes that use "+dataplane+", as kube-proxy does"), Shows("default-ipv4-ippool", "10.48.0.0/23"), Count(`10\.48\.\d+\.\d+/26\s+(master1|worker1|worker2)`, 3, "a block for each of the three nodes")},
			Within: soon,
		},
		{
			Say:    "Cluster DNS runs in pods; it starts now that pods get a network.",
			Run:    "kubectl -n kube-system rollout status deployment/coredns --timeout=240s",
			Expect: []Expectation{Succeeds()},
			Within: rollout,
		},
	}}
}

func yaobank() Lab {
	return Lab{Name: "Launch YAO Bank", Steps: []Step{
		{
			Say:    "YAO Bank has three tiers: a customer's page, a summary service, a database.",
			Run:    "kubectl apply -f test/yaobank/yaobank.yaml && kubectl -n yaobank rollout status deployment --timeout=240s",
			Expect: []Expectation{Succeeds()},
		},
		{
			Say:    "Every pod has an address of its own from the block of its node.",
			Run:    "kubectl get pods -n yaobank -o wide",
			Expect: []Expectation{Count(`1/1\s+Running\s+0\s+\S+\s+10\.48\.\d+\.\d+`, 4, "four pods Running, each with an address from 10.48.0.0/23")},
			Within: soon,
		},
		{
			Say:    "The page is served through the node port, here asked for from a host outside the cluster.",
			Run:    getPage,
			Expect: []Expectation{Succeeds(), Shows("Welcome, Pallas Otocolobus", "2389.45")},
			Within: soon,
		},
	}}
}

func podConnectivity() Lab {
	return Lab{Name: "Pod connectivity", Steps: []Step{
		{
			Say:    "Inside a pod: one interface, eth0, with an address that is a network of its own (/32).",
			Run:    inCustomer + "ip addr show eth0",
			Expect: []Expectation{Succeeds(), Matches(`inet 10\.48\.\d+\.\d+/32`, "a /32 address"), Shows("eth0@if")},
		},
		{
			Say:    "Everything leaves through 169.254.1.1, an address that belongs to no one: the node answers for it.",
			Run:    inCustomer + "ip route",
			Expect: []Expectation{Shows("default via 169.254.1.1 dev eth0", "169.254.1.1 dev eth0 scope link")},
		},
		{
			Say:    "The other end of the pod's cable on the node, with the MAC address that all of them have.",
			Run:    "on worker1 ip -br link show type veth",
			Expect: []Expectation{Matches(`^cali[0-9a-f]{11}@\S+\s+UP\s+ee:ee:ee:ee:ee:ee`, "interfaces called cali..., with the MAC ee:ee:ee:ee:ee:ee")},
		},
		{
			Say: "The node's routes: one for every local pod; one for every other node's block; and a blackhole for its own block, so that packets to addresses that nobody has do not leave the node.",
			Run: "on worker1 ip route",
			Expect: []Expectation{
				Matches(`^10\.48\.\d+\.\d+ dev cali[0-9a-f]{11} .*scope link`, "a route for each local pod"),
				Matches(`^10\.48\.\d+\.\d+/26 via 10\.0\.0\.10 dev ens160`, "a route to the block of master1"),
				Matches(`^10\.48\.\d+\.\d+/26 via 10\.0\.0\.12 dev ens160`, "a route to the block of worker2"),
				Matches(`^blackhole 10\.48\.\d+\.\d+/26`, "a blackhole route for its own block"),
			},
		},
		{
			Say:    "The addresses that pods hold, node by node, as the rest of the cluster knows them.",
			Run:    "kubectl get nodenetworks; echo; kubectl get nodeendpoints",
			Expect: []Expectation{Succeeds(), Shows("10.0.0.11", "10.0.0.12")},
		},
	}}
}
