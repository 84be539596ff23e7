package defaults

import (
	"context"
	"encoding/json"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
)

// once puts the given names on a controller's queue when it starts: what does not exist yet sends no event.
func once(names ...string) source.Source {
	return source.Func(func(_ context.Context, q workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		for _, name := range names {
			q.Add(request(name))
		}
		return nil
	})
}

// Patches carry no resource version: the fields in them have one writer, so there is nothing to lose by winning.

func mergePatch(ctx context.Context, c client.Client, into client.Object, name string, body any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encoding the patch: %w", err)
	}
	into.SetName(name)
	return client.IgnoreNotFound(c.Patch(ctx, into, client.RawPatch(types.MergePatchType, raw)))
}

func mergeStatus(ctx context.Context, c client.Client, into client.Object, name string, status any) error {
	raw, err := json.Marshal(map[string]any{"status": status})
	if err != nil {
		return fmt.Errorf("encoding the status: %w", err)
	}
	into.SetName(name)
	return client.IgnoreNotFound(c.Status().Patch(ctx, into, client.RawPatch(types.MergePatchType, raw)))
}

// ignoreExists takes an object that exists already for a cache that has yet to hear of it: its event follows.
func ignoreExists(err error, doing string, args ...any) error {
	if err == nil || apierrors.IsAlreadyExists(err) {
		return nil
	}
	return fmt.Errorf(doing+": %w", append(args, err)...)
}
