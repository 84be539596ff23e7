package webhooks

import (
	"context"
	"fmt"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"
	clusterv1alpha1 "sigs.k8s.io/network-policy-api/apis/v1alpha1"
	clusterv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/policy"
	"github.com/manul-net/manul/internal/validate"
)

// verdict is what the checks found about one object.
type verdict struct {
	errs     field.ErrorList
	warnings []string
	// blind is why some warnings could not be looked for. No write fails for that.
	blind error
}

// warnNone warns of a policy that selects nothing now.
func (v *verdict) warnNone(ctx context.Context, in Cluster, p *policy.Compiled, namespace string) {
	selects, err := in.Selects(ctx, p, namespace)
	if err != nil {
		v.blind = err
	} else if !selects {
		v.warnings = append(v.warnings, selectsNone(p, namespace))
	}
}

// check looks at an object that is written or deleted. An error means that it could not look.
type check func(ctx context.Context, in Cluster, obj client.Object) (verdict, error)

// kind is what admission knows of a kind.
type kind struct {
	empty func() client.Object
	// others: the kind belongs to another API, which has the last word on what is right.
	others bool
	// setting: the kind decides about no packet.
	setting bool
	write   check // nil: nothing to check
	remove  check
}

// lookUp returns what admission knows of a kind of objects.
func lookUp(group, name string) (kind, bool) {
	k, ok := kinds()[schema.GroupKind{Group: group, Kind: name}]
	return k, ok
}

// kinds are the kinds that the webhook is asked about: those of config/webhook.
func kinds() map[schema.GroupKind]kind {
	all := map[schema.GroupKind]kind{
		{Group: networkingv1.GroupName, Kind: "NetworkPolicy"}:                 {empty: empty[networkingv1.NetworkPolicy], write: writeKubernetesNetworkPolicy, others: true},
		{Group: clusterv1alpha2.GroupName, Kind: "ClusterNetworkPolicy"}:       {empty: empty[clusterv1alpha2.ClusterNetworkPolicy], write: writeClusterPolicy, others: true},
		{Group: clusterv1alpha1.GroupName, Kind: "AdminNetworkPolicy"}:         {empty: empty[clusterv1alpha1.AdminNetworkPolicy], write: writeClusterPolicy, others: true},
		{Group: clusterv1alpha1.GroupName, Kind: "BaselineAdminNetworkPolicy"}: {empty: empty[clusterv1alpha1.BaselineAdminNetworkPolicy], write: writeClusterPolicy, others: true},
	}
	for name, k := range map[string]kind{
		"NetworkPolicy":                 {empty: empty[v3.NetworkPolicy], write: writeNetworkPolicy},
		"GlobalNetworkPolicy":           {empty: empty[v3.GlobalNetworkPolicy], write: writeGlobalNetworkPolicy},
		"StagedNetworkPolicy":           {empty: empty[v3.StagedNetworkPolicy], write: writeStagedNetworkPolicy},
		"StagedGlobalNetworkPolicy":     {empty: empty[v3.StagedGlobalNetworkPolicy], write: writeStagedGlobalNetworkPolicy},
		"StagedKubernetesNetworkPolicy": {empty: empty[v3.StagedKubernetesNetworkPolicy], write: writeStagedKubernetesNetworkPolicy},
		"Tier":                          {empty: empty[v3.Tier], write: writeTier, remove: removeTier},
		"NetworkSet":                    {empty: empty[v3.NetworkSet], write: byItself(validate.NetworkSet, nil)},
		"GlobalNetworkSet":              {empty: empty[v3.GlobalNetworkSet], write: byItself(validate.GlobalNetworkSet, nil)},
		"HostEndpoint":                  {empty: empty[v3.HostEndpoint], write: writeHostEndpoint},
		"IPPool":                        {empty: empty[v3.IPPool], write: writePool, remove: removePool},
		"BGPPeer":                       {empty: empty[v3.BGPPeer], write: byItself(validate.BGPPeer, peerWarnings)},
		"BGPFilter":                     {empty: empty[v3.BGPFilter], write: byItself(validate.BGPFilter, nil)},
		"BGPConfiguration":              {empty: empty[v3.BGPConfiguration], write: byItself(validate.BGPConfiguration, bgpWarnings)},
		"IPReservation":                 {empty: empty[v3.IPReservation], write: byItself(validate.IPReservation, nil), setting: true},
		"IPAMConfiguration":             {empty: empty[v3.IPAMConfiguration], write: byItself(validate.IPAMConfiguration, ipamWarnings), setting: true},
		"IPAMHandle":                    {empty: empty[v3.IPAMHandle], write: byItself(anyHandle, handleWarnings), setting: true},
		"FelixConfiguration":            {empty: empty[v3.FelixConfiguration], write: byItself(validate.FelixConfiguration, felixWarnings), setting: true},
		"KubeControllersConfiguration":  {empty: empty[v3.KubeControllersConfiguration], write: byItself(validate.KubeControllersConfiguration, controllersWarnings), setting: true},
	} {
		all[schema.GroupKind{Group: v3.GroupName, Kind: name}] = k
	}
	return all
}

// byItself checks an object of type T without a look at others. warn may be nil.
func byItself[T any, P interface {
	*T
	client.Object
}](validate func(P) field.ErrorList, warn func(P) []string) check {
	return func(_ context.Context, _ Cluster, obj client.Object) (verdict, error) {
		own, ok := obj.(P)
		if !ok {
			return verdict{}, unexpected(obj)
		}
		v := verdict{errs: validate(own)}
		if warn != nil {
			v.warnings = warn(own)
		}
		return v, nil
	}
}

func isClusterPolicy(obj client.Object) bool {
	switch obj.(type) {
	case *clusterv1alpha2.ClusterNetworkPolicy, *clusterv1alpha1.AdminNetworkPolicy, *clusterv1alpha1.BaselineAdminNetworkPolicy:
		return true
	}
	return false
}

// empty makes an object of type T.
func empty[T any, P interface {
	*T
	client.Object
}]() client.Object {
	return P(new(T))
}

// unexpected is a mistake in the table of kinds.
func unexpected(obj client.Object) error {
	return fmt.Errorf("the checks of another kind were asked about a %T", obj)
}
