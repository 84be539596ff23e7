package walkthrough

import (
	"regexp"
	"strings"
)

const (
	asDana = "--as=dana --as-group=application-team"
	asSam  = "--as=sam --as-group=security-team"
)

// canI asks of each request whether somebody may do it, and prints a table.
func canI(who string, requests []string) string {
	quoted := make([]string, len(requests))
	for i, r := range requests {
		quoted[i] = "'" + r + "'"
	}
	return "for request in " + strings.Join(quoted, " ") + `; do printf '%-75s %s\n' "$request" "$(kubectl auth can-i $request ` + who + ` 2>/dev/null)"; done`
}

// answers expects the same answer to all requests.
func answers(requests []string, answer, meaning string) Expectation {
	patterns := make([]string, len(requests))
	for i, r := range requests {
		patterns[i] = regexp.QuoteMeta(r)
	}
	return Count(`^(`+strings.Join(patterns, "|")+`)\s+`+answer+`$`, len(requests), meaning)
}

func forbidden(say, run string) Step {
	return Step{Say: say, Run: run, Expect: []Expectation{Fails("it is refused"), Matches(`[Ff]orbidden`, "the reason is that it is forbidden")}}
}

func teams() Lab {
	danaMay := []string{
		"create networkpolicies.projectcalico.org -n yaobank",
		"delete networkpolicies.networking.k8s.io -n yaobank",
		"create networksets.projectcalico.org -n yaobank",
	}
	danaMayNot := []string{
		"create networkpolicies.projectcalico.org -n kube-system",
		"update namespaces",
		"update serviceaccounts -n yaobank",
		"create globalnetworkpolicies.projectcalico.org",
		"delete globalnetworkpolicies.projectcalico.org",
		"create tiers.projectcalico.org",
		"create hostendpoints.projectcalico.org",
		"create globalnetworksets.projectcalico.org",
	}
	samMay := []string{
		"create globalnetworkpolicies.projectcalico.org",
		"create tiers.projectcalico.org",
		"update serviceaccounts -n yaobank",
		"update namespaces",
		"delete networkpolicies.projectcalico.org -n yaobank",
	}
	samMayNot := []string{"create deployments.apps -n yaobank", "delete pods -n yaobank", "get secrets -n yaobank"}
	return Lab{Name: "Two teams", Steps: []Step{
		{
			Say:    "Two teams, by roles of Kubernetes: Dana's application team has the policies of its namespace, Sam's security team those of the cluster.",
			Run:    "kubectl apply -f " + manifests + "teams.yaml",
			Expect: []Expectation{Succeeds()},
		},
		{
			Say:    "What Dana may do, and what not. By a label of a namespace or of a service account she could slip out of a policy: so she may not touch these either.",
			Run:    canI(asDana, append(danaMay, danaMayNot...)),
			Expect: []Expectation{answers(danaMay, "yes", "policies and network sets of her namespace: yes"), answers(danaMayNot, "no", "all the others: no")},
			Within: soon,
		},
		{
			Say:    "And Sam.",
			Run:    canI(asSam, append(samMay, samMayNot...)),
			Expect: []Expectation{answers(samMay, "yes", "policies, tiers and labels: yes"), answers(samMayNot, "no", "applications and secrets: no")},
			Within: soon,
		},
		forbidden("Dana tries to give her pods' account the label that opens the way out.", "kubectl label serviceaccount -n yaobank summary internet-egress=allowed "+asDana),
		forbidden("She tries to remove the lockdown.", "kubectl delete globalnetworkpolicy egress-lockdown "+asDana),
		forbidden("She tries to have her namespace taken for one of the system's.", "kubectl label namespace yaobank projectcalico.org/name=kube-system --overwrite "+asDana),
		{
			Say:    "But the lockdown is in the tier in which she writes, too, and in a tier the order decides. Hers comes first.",
			Run:    "kubectl apply " + asDana + " -f " + manifests + "yaobank-override.yaml && kubectl wait -n yaobank --for=condition=Enforced networkpolicies.projectcalico.org/override --timeout=60s",
			Expect: []Expectation{Succeeds()},
		},
		reaches("The summary pod is let out.", inSummary),
		{
			Say:    "So Sam gives the security team a tier of its own, asked before all others, and the lockdown moves there.",
			Run:    "kubectl apply " + asSam + " -f " + manifests + "security-tier.yaml && kubectl wait --for=condition=Enforced globalnetworkpolicy/security.egress-lockdown --timeout=60s && kubectl delete globalnetworkpolicy egress-lockdown " + asSam,
			Expect: []Expectation{Succeeds()},
		},
		staysIn("Dana's policy is still there, and overrides nothing.", inSummary),
		forbidden("And into the security team's tier she does not get.", "sed 's/name: override/name: slip-in/; s/^spec:/&\\n  tier: security/' "+manifests+"yaobank-override.yaml | kubectl apply "+asDana+" -f -"),
		{
			Say:    "The tiers, in the order in which they are asked.",
			Run:    "kubectl get tiers --sort-by=.spec.order",
			Expect: []Expectation{Matches(`(?s)^security\s+100\s+Pass.*^kube-admin\s+1000\s+Pass.*^default\s+1000000\s+Deny`, "security, kube-admin, default")},
		},
		page("The page still works: what the tier does not decide it passes on."),
		{
			Say:    "Dana removes her policy again, which she may.",
			Run:    "kubectl delete networkpolicies.projectcalico.org -n yaobank override " + asDana,
			Expect: []Expectation{Succeeds()},
		},
	}}
}
