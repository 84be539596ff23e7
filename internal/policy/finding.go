package policy

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/manul-net/manul/api/v1alpha1"
)

// maxProblems is how many problems a message tells.
const maxProblems = 5

func joinProblems(errs field.ErrorList) string {
	var parts []string
	for i, err := range errs {
		if i == maxProblems {
			parts = append(parts, fmt.Sprintf("and %d more", len(errs)-i))
			break
		}
		parts = append(parts, err.Error())
	}
	return strings.Join(parts, "; ")
}

// httpNotEnforced is the finding on a policy some of whose rules ask for a look into requests.
func httpNotEnforced(rules []*field.Path) Finding {
	var names []string
	for i, path := range rules {
		if i == maxProblems {
			names = append(names, fmt.Sprintf("%d more", len(rules)-i))
			break
		}
		names = append(names, path.String())
	}
	return Finding{
		Accepted: true, Reason: ReasonHTTPNotEnforced,
		Message: "the policy is valid and was compiled, but there is no proxy that could enforce a match on HTTP requests: " +
			strings.Join(names, ", ") + ` match nothing; to allow by port, leave "http" out`,
	}
}

// selectNothing is for a policy whose own selector cannot be understood.
func (c *Compiled) selectNothing(errs field.ErrorList) *Compiled {
	c.Selector = nil
	c.Errs, c.problems = errs, joinProblems(errs)
	c.Finding = Finding{Reason: ReasonInvalidSelector, Message: c.problems + "; until this is mended the policy selects nothing"}
	return c
}

// failClosed makes the policy drop everything that it could have decided on.
func (c *Compiled) failClosed(errs field.ErrorList) *Compiled {
	var what []string
	if c.Ingress {
		c.Program.Ingress = []v1alpha1.Rule{{Action: v1alpha1.Deny}}
		what = append(what, "ingress")
	}
	if c.Egress {
		c.Program.Egress = []v1alpha1.Rule{{Action: v1alpha1.Deny}}
		what = append(what, "egress")
	}
	c.Errs, c.problems = errs, joinProblems(errs)
	c.Finding = Finding{
		Reason:  ReasonInvalid,
		Message: fmt.Sprintf("%s; until this is mended the policy drops all %s of the endpoints that it selects", c.problems, strings.Join(what, " and ")),
	}
	return c
}
