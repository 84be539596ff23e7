package webhooks

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/intstr"

	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/policy"
)

// unreachable finds the first rule that decides about every packet although others stand behind it.
func unreachable(direction string, rules []v3.Rule) []string {
	for i := range rules {
		if i == len(rules)-1 || !matchesAll(&rules[i]) || rules[i].Action == v3.Log {
			continue
		}
		behind := fmt.Sprintf("spec.%s[%d]", direction, i+1)
		if last := len(rules) - 1; last > i+1 {
			behind += fmt.Sprintf(" to [%d]", last)
		}
		return []string{fmt.Sprintf("%s: no packet gets there, since rule [%d] matches everything (%s): move it to the end, or limit it", behind, i, rules[i].Action)}
	}
	return nil
}

// matchesAll tells whether a rule has no condition at all. Whatever is not its action or a note is one.
func matchesAll(r *v3.Rule) bool {
	rest := *r
	rest.Action, rest.Metadata = "", nil
	return reflect.DeepEqual(rest, v3.Rule{})
}

// withoutRules tells what a policy does that applies in a direction and has no rules there.
func withoutRules(c *policy.Compiled, tier *v3.Tier, ingress, egress int) []string {
	var empty []string
	if c.Ingress && ingress == 0 {
		empty = append(empty, "ingress")
	}
	if c.Egress && egress == 0 {
		empty = append(empty, "egress")
	}
	if len(empty) == 0 || tier.Spec.DefaultAction == v3.Pass {
		return nil
	}
	return []string{fmt.Sprintf("without rules for %s the policy denies all %s of the pods that it selects, except what other policies of tier %q allow",
		strings.Join(empty, " and "), strings.Join(empty, " and "), c.Tier)}
}

// misnamed finds ports that are taken for names and surely meant as ranges: no pod can call a port so.
func misnamed(direction string, rules []v3.Rule) []string {
	for i := range rules {
		for _, end := range []struct {
			field string
			ports []intstr.IntOrString
		}{
			{"source.ports", rules[i].Source.Ports},
			{"source.notPorts", rules[i].Source.NotPorts},
			{"destination.ports", rules[i].Destination.Ports},
			{"destination.notPorts", rules[i].Destination.NotPorts},
		} {
			for j, port := range end.ports {
				first, last, ok := strings.Cut(port.StrVal, "-")
				if ok && first != "" && last != "" && strings.Trim(first+last, "0123456789") == "" {
					return []string{fmt.Sprintf("spec.%s[%d].%s[%d]: %q is taken for the name of a port, which none has: ranges are written %q", direction, i, end.field, j, port.StrVal, first+":"+last)}
				}
			}
		}
	}
	return nil
}

// idleRules finds rules for a direction in which the policy does not apply. No types: it applies where it has rules.
func idleRules(path string, types []string, ingress, egress int) []string {
	if len(types) == 0 {
		return nil
	}
	var warnings []string
	for _, d := range []struct {
		field, is string
		rules     int
	}{{"ingress", "Ingress", ingress}, {"egress", "Egress", egress}} {
		if d.rules > 0 && !slices.Contains(types, d.is) {
			warnings = append(warnings, fmt.Sprintf("spec.%s: these rules do nothing, since %s does not list %s: add it, or leave the rules out", d.field, path, d.is))
		}
	}
	return warnings
}

func selectsNone(p *policy.Compiled, namespace string) string {
	const compare = " with kubectl get pods --show-labels, unless the pods are still to come"
	switch {
	case ofCluster(p.Ref.Kind):
		return "the policy selects no pod now: compare spec.subject" + compare
	case p.Ref.Kind == policy.KindKubernetesNetworkPolicy || p.Ref.Kind == policy.KindStagedKubernetesNetworkPolicy:
		return fmt.Sprintf("the policy selects no pod of namespace %q now: compare spec.podSelector", namespace) + compare
	case namespace != "":
		return fmt.Sprintf("the policy selects no pod of namespace %q now: compare spec.selector", namespace) + compare
	}
	return "the policy selects no pod and no host endpoint now: compare spec.selector and spec.namespaceSelector" + compare
}

// ofCluster tells policies for all the pods of a cluster, which select them by subject.
func ofCluster(kind string) bool {
	return !slices.Contains([]string{
		policy.KindGlobalNetworkPolicy, policy.KindStagedGlobalNetworkPolicy, policy.KindNetworkPolicy, policy.KindStagedNetworkPolicy,
		policy.KindKubernetesNetworkPolicy, policy.KindStagedKubernetesNetworkPolicy,
	}, kind)
}
