package defaults

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	v3 "github.com/manul-net/manul/api/v3"
)

// InformationName is the name of the only ClusterInformation.
const InformationName = "default"

// Information keeps the ClusterInformation "default", which tools ask for what they are talking to.
type Information struct {
	Client  client.Client
	Version string
}

// SetupInformation registers the controller of the cluster's information.
func SetupInformation(mgr manager.Manager, version string) error {
	c, err := controller.New("information", mgr, controller.Options{Reconciler: &Information{Client: mgr.GetClient(), Version: version}})
	if err != nil {
		return fmt.Errorf("making the controller of the cluster's information: %w", err)
	}
	if err := c.Watch(once(InformationName)); err != nil {
		return fmt.Errorf("starting with the cluster's information: %w", err)
	}
	info := source.Kind(mgr.GetCache(), &v3.ClusterInformation{}, &handler.TypedEnqueueRequestForObject[*v3.ClusterInformation]{})
	if err := c.Watch(info); err != nil {
		return fmt.Errorf("watching ClusterInformation: %w", err)
	}
	return nil
}

// Reconcile creates the information, and brings it up to date after an upgrade. DatastoreReady is left as it is: tools
// set it to false while they move data.
func (i *Information) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	if req.Name != InformationName {
		return reconcile.Result{}, nil
	}
	var system corev1.Namespace
	if err := i.Client.Get(ctx, types.NamespacedName{Name: metav1.NamespaceSystem}, &system); err != nil {
		return reconcile.Result{}, fmt.Errorf("reading namespace %q, whose UID is the cluster's identity: %w", metav1.NamespaceSystem, err)
	}
	spec := information(string(system.UID), i.Version)
	var info v3.ClusterInformation
	err := i.Client.Get(ctx, req.NamespacedName, &info)
	if apierrors.IsNotFound(err) {
		info = v3.ClusterInformation{ObjectMeta: metav1.ObjectMeta{Name: req.Name}, Spec: spec}
		return reconcile.Result{}, ignoreExists(i.Client.Create(ctx, &info), "creating ClusterInformation %q", req.Name)
	}
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("reading ClusterInformation %q: %w", req.Name, err)
	}
	if info.Spec.DatastoreReady != nil {
		spec.DatastoreReady = info.Spec.DatastoreReady
	}
	if info.Spec.ClusterGUID != "" {
		spec.ClusterGUID = info.Spec.ClusterGUID
	}
	if equality.Semantic.DeepEqual(info.Spec, spec) {
		return reconcile.Result{}, nil
	}
	if err := mergePatch(ctx, i.Client, &v3.ClusterInformation{}, req.Name, map[string]any{"spec": spec}); err != nil {
		return reconcile.Result{}, fmt.Errorf("updating ClusterInformation %q: %w", req.Name, err)
	}
	return reconcile.Result{}, nil
}

func information(uid, version string) v3.ClusterInformationSpec {
	return v3.ClusterInformationSpec{
		ClusterGUID:    strings.ReplaceAll(uid, "-", ""),
		ClusterType:    "k8s",
		CalicoVersion:  version,
		DatastoreReady: new(true),
		Variant:        "Manul",
	}
}
