package webhooks

import (
	"context"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/policy"
	"github.com/manul-net/manul/internal/validate"
)

// builtIn returns the default action of a built-in tier. The operator makes these tiers, and restores them.
func builtIn(name string) (v3.Action, bool) {
	switch name {
	case "kube-admin", "kube-baseline":
		return v3.Pass, true
	case policy.DefaultTier:
		return v3.Deny, true
	}
	return "", false
}

// tierOf returns the tier of a policy; nil when there is none of that name. Built-in tiers always exist, even in the first
// moments of a cluster, before the operator has made them.
func tierOf(ctx context.Context, in Cluster, name string) (*v3.Tier, error) {
	if name == "" {
		name = policy.DefaultTier
	}
	if action, ok := builtIn(name); ok {
		tier := &v3.Tier{Spec: v3.TierSpec{DefaultAction: action}}
		tier.Name = name
		return tier, nil
	}
	return in.Tier(ctx, name)
}

func writeTier(_ context.Context, _ Cluster, obj client.Object) (verdict, error) {
	t, ok := obj.(*v3.Tier)
	if !ok {
		return verdict{}, unexpected(obj)
	}
	errs := validate.Tier(t)
	if order, ok := builtInOrder(t.Name); ok && t.Spec.Order != nil && *t.Spec.Order != order {
		errs = append(errs, field.Invalid(field.NewPath("spec", "order"), *t.Spec.Order,
			fmt.Sprintf("tier %q is built in, and its order is %.0f: make a tier of your own with this order", t.Name, order)))
	}
	return verdict{errs: errs, warnings: warnTier(t)}, nil
}

// warnTier tells what the operator will put back. It is no error: an operator of another version may have made the tier otherwise.
func warnTier(t *v3.Tier) []string {
	action, ok := builtIn(t.Name)
	if !ok || t.Spec.DefaultAction == "" || t.Spec.DefaultAction == action {
		return nil
	}
	return []string{fmt.Sprintf("spec.defaultAction: tier %q is built in, and the operator puts %s back: for another default action make a tier of your own", t.Name, action)}
}

// builtInOrder returns the order of a built-in tier.
func builtInOrder(name string) (float64, bool) {
	switch name {
	case "kube-admin":
		return 1_000, true
	case policy.DefaultTier:
		return 1_000_000, true
	case "kube-baseline":
		return 10_000_000, true
	}
	return 0, false
}

func removeTier(ctx context.Context, in Cluster, obj client.Object) (verdict, error) {
	name := obj.GetName()
	if _, ok := builtIn(name); ok {
		return refuse("tier %q is built in and can't be deleted", name), nil
	}
	policies, err := in.PoliciesIn(ctx, name)
	if err != nil || len(policies) == 0 {
		return verdict{}, err
	}
	if len(policies) > named {
		policies = append(policies[:named:named], "others")
	}
	return refuse("tier %q has policies: delete these first, or move them to another tier: %s", name, strings.Join(policies, ", ")), nil
}

// refuse is a verdict on a deletion.
func refuse(format string, args ...any) verdict {
	return verdict{errs: field.ErrorList{field.Forbidden(field.NewPath("metadata"), fmt.Sprintf(format, args...))}}
}
