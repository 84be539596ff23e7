package walkthrough

func fundamentals() Lab {
	return Lab{Name: "Policy fundamentals", Steps: []Step{
		{
			Say:    "Suppose that the customer pod is compromised. Nothing keeps it from reading the database behind the summary service's back.",
			Run:    inCustomer + readAccount,
			Expect: []Expectation{Succeeds(), Shows(`"kvs"`)},
		},
		{
			Say:    "A Kubernetes NetworkPolicy lets only the summary service reach the database.",
			Run:    "kubectl apply -f " + manifests + "database-policy.yaml",
			Expect: []Expectation{Succeeds()},
		},
		{
			Say:    "The customer pod does not reach the database any more ...",
			Run:    inCustomer + readAccount,
			Expect: []Expectation{Fails("the connection times out"), ShowsNot(`"kvs"`)},
			Within: soon,
		},
		{
			Say:    "Why not? Because no rule of the policy lets it in, on the node of the database.",
			Run:    "pod() { kubectl get pods -n yaobank -l app=$1 -o jsonpath='yaobank/{.items[0].metadata.name}'; }; kubectl manul explain $(pod customer) $(pod database) --port 2379",
			Expect: []Expectation{Succeeds(), Shows("no ingress rule matches of KubernetesNetworkPolicy yaobank/database-policy", "Denied on worker")},
		},
		page("... while the page, which goes through the summary service, still works."),
		{
			Say:    "How far the policy is in force can be read from its program: on the one node that runs the database.",
			Run:    "kubectl get policyprograms",
			Expect: []Expectation{Matches(`knp\.yaobank\.database-policy\s.*True\s+1/1`, "the policy is accepted, and enforced on 1 of 1 nodes")},
			Within: soon,
		},
		{
			Say:    "A security team denies by default, in all namespaces but the system's, with one GlobalNetworkPolicy.",
			Run:    "kubectl apply -f " + manifests + "default-deny.yaml && kubectl wait --for=condition=Enforced globalnetworkpolicy/default-app-policy --timeout=60s",
			Expect: []Expectation{Succeeds()},
		},
		{
			Say:    "Its status says on how many nodes this generation is in force.",
			Run:    "kubectl describe globalnetworkpolicy default-app-policy",
			Expect: []Expectation{Matches(`Message:\s+.*2 of 2 nodes`, "it is enforced on 2 of 2 nodes"), Shows("Accepted", "Enforced")},
			Within: soon,
		},
		{
			Say:    "Nobody is allowed to ask DNS now.",
			Run:    inCustomer + "curl -sS -m 3 http://summary",
			Expect: []Expectation{Fails("the name summary is not resolved"), Matches(`Could not resolve|Resolving timed out|timed out`, "the reason is DNS")},
			Within: soon,
		},
		{
			Say:    "So DNS is allowed for all, for it is needed by all.",
			Run:    "kubectl apply -f " + manifests + "allow-dns.yaml && kubectl wait --for=condition=Enforced globalnetworkpolicy/allow-dns --timeout=60s",
			Expect: []Expectation{Succeeds()},
		},
		{
			Say:    "Names are resolved again; the connection itself is still denied.",
			Run:    inCustomer + "sh -c 'nslookup summary.yaobank.svc.cluster.local; curl -sS -m 3 http://summary'",
			Expect: []Expectation{Fails("the connection times out"), Matches(`Address.*10\.49\.\d+\.\d+$`, "the name summary has an address again")},
			Within: soon,
		},
		{
			Say:    "Policies for each of the three tiers allow just what YAO Bank needs.",
			Run:    "kubectl apply -f " + manifests + "yaobank-policies.yaml && kubectl -n yaobank wait --for=condition=Enforced networkpolicies.projectcalico.org --all --timeout=60s",
			Expect: []Expectation{Succeeds()},
		},
		page("The page works again."),
		{
			Say:    "And the customer pod still reaches neither the database nor anything outside.",
			Run:    inCustomer + "sh -c '" + `curl -sS -m 2 http://database:2379/health || curl -sS -m 2 http://10.0.0.20` + "'",
			Expect: []Expectation{Fails("both connections time out"), Count("timed out", 2, "each runs into its time limit")},
		},
	}}
}
