package webhooks

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/test/apiserver"
)

// absentOperator: while no operator answers, policies and what they are about can't be written, lest one is stored of which nobody
// can say whether it is right. Pods, settings, policies of other APIs, labels of policies and deletions are not concerned.
func absentOperator(t *testing.T, server *apiserver.Server) {
	c := server.Client(t, schemes(t))
	stored := &v3.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "stored", Namespace: "default"}}
	if err := c.Create(t.Context(), stored); err != nil {
		t.Fatal(err)
	}
	installWebhook(t, c, apiserver.FreeAddress(t)) // nobody listens there
	a := &admitted{client: c, warnings: &warned{}, server: server}
	meta := metav1.ObjectMeta{Name: "default", Namespace: "default"}
	everywhere := metav1.ObjectMeta{Name: "default"}
	a.eventually(t, "policies are refused", func() error {
		return refusedByAbsence(c.Create(t.Context(), &v3.NetworkPolicy{ObjectMeta: meta}, client.DryRunAll))
	})
	for _, obj := range []client.Object{
		&v3.GlobalNetworkPolicy{ObjectMeta: everywhere}, &v3.StagedNetworkPolicy{ObjectMeta: meta}, &v3.StagedGlobalNetworkPolicy{ObjectMeta: everywhere},
		&v3.StagedKubernetesNetworkPolicy{ObjectMeta: meta}, &v3.Tier{ObjectMeta: metav1.ObjectMeta{Name: "mine"}},
		&v3.NetworkSet{ObjectMeta: meta}, &v3.GlobalNetworkSet{ObjectMeta: everywhere},
		&v3.HostEndpoint{ObjectMeta: everywhere, Spec: v3.HostEndpointSpec{InterfaceName: "*"}}, &v3.IPPool{ObjectMeta: everywhere, Spec: v3.IPPoolSpec{CIDR: "10.9.0.0/16"}},
	} {
		if err := refusedByAbsence(c.Create(t.Context(), obj, client.DryRunAll)); err != nil {
			t.Errorf("%T: %v", obj, err)
		}
	}
	for _, obj := range []client.Object{
		&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "pod", Namespace: namespace}, Spec: corev1.PodSpec{
			AutomountServiceAccountToken: new(false), Containers: []corev1.Container{{Name: "c", Image: "i"}},
		}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "new"}},
		&networkingv1.NetworkPolicy{ObjectMeta: meta},
		&v3.FelixConfiguration{ObjectMeta: everywhere}, &v3.IPAMConfiguration{ObjectMeta: everywhere}, &v3.IPReservation{ObjectMeta: everywhere},
		&v3.KubeControllersConfiguration{ObjectMeta: everywhere},
	} {
		if err := c.Create(t.Context(), obj, client.DryRunAll); err != nil {
			t.Errorf("%T: %v", obj, err)
		}
	}
	label := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"a":"b"}}}`))
	if err := c.Patch(t.Context(), stored, label); err != nil {
		t.Errorf("labelling a policy: %v", err)
	}
	change := client.RawPatch(types.MergePatchType, []byte(`{"spec":{"order":5}}`))
	if err := refusedByAbsence(c.Patch(t.Context(), stored, change)); err != nil {
		t.Errorf("changing a policy: %v", err)
	}
	if err := c.Delete(t.Context(), stored); err != nil {
		t.Errorf("deleting a policy: %v", err)
	}
}

// refusedByAbsence tells whether a write failed for want of somebody who answers.
func refusedByAbsence(err error) error {
	if err == nil {
		return errors.New("it was taken")
	}
	if !apierrors.IsInternalError(err) || !strings.Contains(err.Error(), `failed calling webhook "operator.manul.dev"`) {
		return fmt.Errorf("it was refused for something else: %w", err)
	}
	return nil
}
