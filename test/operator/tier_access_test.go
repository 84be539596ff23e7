package operator

import (
	"errors"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/controllers"
)

// rights of users whose names are the keys. All may write policies of any kind, as far as Kubernetes' own RBAC goes.
func tierRights() map[string][]rbacv1.PolicyRule {
	rule := func(resource string, names []string, verbs ...string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{APIGroups: []string{"projectcalico.org"}, Resources: []string{resource}, ResourceNames: names, Verbs: verbs}
	}
	all := []string{"create", "update", "delete"}
	return map[string][]rbacv1.PolicyRule{
		"nobody":        nil,
		"blind":         {rule("tier.networkpolicies", nil, all...)},
		"everywhere":    {rule("tiers", nil, "get"), rule("tier.networkpolicies", nil, all...), rule("tier.globalnetworkpolicies", nil, all...)},
		"default-tier":  {rule("tiers", []string{"default"}, "get"), rule("tier.networkpolicies", []string{"default.*"}, all...)},
		"security-tier": {rule("tiers", []string{"security"}, "get"), rule("tier.networkpolicies", []string{"security.*"}, all...)},
		"one-policy":    {rule("tiers", []string{"security"}, "get"), rule("tier.networkpolicies", []string{"security.web"}, all...)},
		"no-deletion":   {rule("tiers", []string{"default"}, "get"), rule("tier.networkpolicies", []string{"default.*"}, "create", "update")},
	}
}

// TestWhoMayWriteInATier tries users with rights for some tiers only.
func TestWhoMayWriteInATier(t *testing.T) {
	k := newCluster(t)
	scheme, err := controllers.Scheme()
	k.must(err, "making a scheme")
	admin, err := client.New(k.server.Config, client.Options{Scheme: rbacScheme(t)})
	k.must(err, "making a client")
	users := map[string]client.Client{}
	writer := rbacv1.PolicyRule{APIGroups: []string{"projectcalico.org"}, Resources: []string{"networkpolicies", "globalnetworkpolicies"}, Verbs: []string{"*"}}
	for user, rights := range tierRights() {
		name := metav1.ObjectMeta{Name: "tier-access-" + user}
		k.must(admin.Create(t.Context(), &rbacv1.ClusterRole{ObjectMeta: name, Rules: append(rights, writer)}), "making a role")
		k.must(admin.Create(t.Context(), &rbacv1.ClusterRoleBinding{
			ObjectMeta: name, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name.Name},
			Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: user}},
		}), "binding a role")
		users[user], err = client.New(k.as(user, nil), client.Options{Scheme: scheme})
		k.must(err, "making a client")
	}
	policy := func(name, tier string) *v3.NetworkPolicy {
		return &v3.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: v3.NetworkPolicySpec{Tier: tier}}
	}
	create := func(user string, p client.Object) error { return users[user].Create(t.Context(), p) }
	refusedFor := func(err error, tier string) bool {
		return apierrors.IsForbidden(err) && strings.Contains(err.Error(), "manul-tier-access") && strings.Contains(err.Error(), "the tier "+tier+":")
	}
	// Policies of admission and roles come into force a moment after they were written.
	k.eventually("rights are in force", func() error {
		if err := create("nobody", policy("probe", "")); !refusedFor(err, "default") {
			return errors.Join(errors.New("a user without rights is not refused"), err)
		}
		for _, user := range []string{"everywhere", "default-tier"} {
			p := policy("probe", "")
			if err := create(user, p); err != nil {
				return err
			}
			k.delete(p)
		}
		return nil
	})

	for _, tc := range []struct {
		user, name, tier string
		refused          string // tier that the refusal names; "": allowed
	}{
		{"nobody", "web", "", "default"},
		{"nobody", "web", "security", "security"},
		{"blind", "web", "default", "default"}, // does not see the tier
		{"everywhere", "web", "", ""},
		{"everywhere", "web", "security", ""},
		{"default-tier", "web", "", ""},
		{"default-tier", "web", "default", ""},
		{"default-tier", "web", "security", "security"},
		{"security-tier", "web", "security", ""},
		{"security-tier", "web", "", "default"},
		{"one-policy", "web", "security", ""},
		{"one-policy", "security.web", "security", ""}, // as Calico names them
		{"one-policy", "other", "security", "security"},
		{"one-policy", "security.web", "default", "default"},
	} {
		p := policy(tc.name, tc.tier)
		err := create(tc.user, p)
		switch {
		case err == nil && tc.refused != "":
			t.Errorf("%s may create %s in tier %q", tc.user, tc.name, tc.tier)
		case err != nil && (tc.refused == "" || !refusedFor(err, tc.refused)):
			t.Errorf("%s creates %s in tier %q: %v", tc.user, tc.name, tc.tier, err)
		}
		if err == nil {
			k.delete(p)
		}
	}

	// Global policies have a resource of their own.
	gnp := &v3.GlobalNetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "web"}}
	if err := create("default-tier", gnp.DeepCopy()); !refusedFor(err, "default") {
		t.Errorf("rights for namespaced policies are enough for a global one: %v", err)
	}
	k.must(create("everywhere", gnp), "creating a global policy")

	p := policy("moves", "security")
	k.must(create("security-tier", p), "creating a policy")
	move := p.DeepCopy()
	move.Spec.Tier = "default"
	if err := users["default-tier"].Update(t.Context(), move.DeepCopy()); !refusedFor(err, "security") {
		t.Errorf("a policy is moved out of a tier without rights there: %v", err)
	}
	if err := users["security-tier"].Update(t.Context(), move.DeepCopy()); !refusedFor(err, "default") {
		t.Errorf("a policy is moved into a tier without rights there: %v", err)
	}
	if err := users["default-tier"].Delete(t.Context(), p.DeepCopy()); !refusedFor(err, "security") {
		t.Errorf("a policy is deleted without rights in its tier: %v", err)
	}
	k.must(users["everywhere"].Update(t.Context(), move), "moving a policy")
	if err := users["no-deletion"].Delete(t.Context(), move.DeepCopy()); !refusedFor(err, "default") {
		t.Errorf("a policy is deleted without the right to delete: %v", err)
	}
	k.must(users["default-tier"].Delete(t.Context(), move), "deleting a policy")
}
