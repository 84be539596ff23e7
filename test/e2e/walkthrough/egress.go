package walkthrough

const (
	inSummary = "kubectl exec -n yaobank deploy/summary -- "
	// host1 is a machine outside the cluster. It answers with its name.
	askOutside = "curl -sS -m 3 http://10.0.0.20/hostname"
)

// reaches and staysIn show whether a pod gets an answer from outside.
func reaches(say, pod string) Step {
	return Step{Say: say, Run: pod + askOutside, Expect: []Expectation{Succeeds(), Matches(`^host1$`, "host1 answers")}, Within: soon}
}

func staysIn(say, pod string) Step {
	return Step{Say: say, Run: pod + askOutside, Expect: []Expectation{Fails("the connection times out"), Shows("timed out")}, Within: soon}
}

func egress() Lab {
	return Lab{Name: "Egress lockdown", Steps: []Step{
		{
			Say:    "The application team gives all its pods leave to speak to everybody.",
			Run:    enforced("yaobank-egress.yaml", "-n yaobank networkpolicies.projectcalico.org/speak-to-everybody"),
			Expect: []Expectation{Succeeds()},
		},
		reaches("So the customer pod reaches a machine outside the cluster ...", inCustomer),
		reaches("... and the summary pod, too. A stolen program could carry off what it finds.", inSummary),
		{
			Say:    "The security team locks the way out, for all pods but those whose service account has the label internet-egress=allowed.",
			Run:    enforced("egress-lockdown.yaml", "globalnetworkpolicy/egress-lockdown"),
			Expect: []Expectation{Succeeds()},
		},
		staysIn("The customer pod is kept in ...", inCustomer),
		staysIn("... and the summary pod ...", inSummary),
		page("... while all goes on within the cluster."),
		{
			Say:    "The customer's account gets the label.",
			Run:    "kubectl label serviceaccount -n yaobank customer internet-egress=allowed",
			Expect: []Expectation{Succeeds(), Shows("labeled")},
		},
		reaches("Now the customer pod reaches the outside, without being started anew ...", inCustomer),
		staysIn("... and the summary pod, with an account of its own, still does not.", inSummary),
		{
			Say:    "Without the label it is as before.",
			Run:    "kubectl label serviceaccount -n yaobank customer internet-egress-",
			Expect: []Expectation{Succeeds(), Shows("unlabeled")},
		},
		staysIn("The customer pod is kept in again.", inCustomer),
	}}
}
