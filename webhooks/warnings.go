package webhooks

import (
	"fmt"
	"reflect"
	"strings"

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

func selectsNone(namespace string) string {
	where := "the policy selects no pod now"
	if namespace != "" {
		where = fmt.Sprintf("the policy selects no pod of namespace %q now", namespace)
	}
	return where + ": compare spec.selector with kubectl get pods --show-labels, unless the pods are still to come"
}
