package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v3 "github.com/manul-net/manul/api/v3"
)

const (
	// inquiryPrefix begins the names of the objects by which nodes are asked.
	inquiryPrefix = "kubectl-manul-"
	// pollEvery is how often the answer is looked for.
	pollEvery = 200 * time.Millisecond
	// tidy is how long deleting the object may take, also when the command was interrupted.
	tidy = 5 * time.Second
)

// Ask asks a node for its state by a CalicoNodeStatus of its own, which is deleted afterwards. An answer from before the question is
// waited past.
func (c *Cluster) Ask(ctx context.Context, node string, within time.Duration, classes ...v3.NodeStatusClass) (answer *v3.CalicoNodeStatus, err error) {
	ask := &v3.CalicoNodeStatus{
		ObjectMeta: metav1.ObjectMeta{GenerateName: inquiryPrefix},
		Spec:       v3.CalicoNodeStatusSpec{Node: node, Classes: classes, UpdatePeriodSeconds: new(uint32(1))},
	}
	if err := c.Client.Create(ctx, ask); err != nil {
		return nil, fmt.Errorf("asking node %q by a CalicoNodeStatus: %w", node, err)
	}
	defer func() {
		ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), tidy)
		defer stop()
		if gone := client.IgnoreNotFound(c.Client.Delete(ctx, ask)); gone != nil {
			err = errors.Join(err, fmt.Errorf("deleting CalicoNodeStatus %q, by which the node was asked: %w", ask.Name, gone))
		}
	}()
	var first metav1.Time
	err = wait.PollUntilContextTimeout(ctx, pollEvery, within, true, func(ctx context.Context) (bool, error) {
		if err := c.Client.Get(ctx, client.ObjectKeyFromObject(ask), ask); err != nil {
			return false, fmt.Errorf("reading CalicoNodeStatus %q: %w", ask.Name, err)
		}
		at := ask.Status.LastUpdated
		if at.IsZero() {
			return false, nil
		}
		if first.IsZero() {
			first = at
		}
		// The clocks of node and API server may differ: a second answer is new in any case.
		return !at.Before(&ask.CreationTimestamp) || !at.Equal(&first), nil
	})
	if wait.Interrupted(err) && ctx.Err() == nil {
		return nil, fmt.Errorf("node %q has not answered within %s: see kubectl manul nodes %s, and whether the operator runs", node, within, node)
	}
	return ask, err
}
