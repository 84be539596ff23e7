package poolstatus

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/usage"
)

// Reasons of the condition NearlyExhausted.
const (
	// ReasonEnoughFree: enough addresses are free.
	ReasonEnoughFree = "EnoughFree"
	// ReasonNearlyExhausted: most addresses are in use.
	ReasonNearlyExhausted = "NearlyExhausted"
	// ReasonExhausted: all addresses are in use.
	ReasonExhausted = "Exhausted"
)

// A pool is nearly exhausted from high per cent on, and until fewer than low are in use: it must not go back and forth with each pod.
const high, low = 90, 85

// statusOf is what a pool's status should say, given what it says. Other conditions stay.
func statusOf(o *v3.IPPool, p *usage.Pool) v3.IPPoolStatus {
	out := v3.IPPoolStatus{Conditions: slices.Clone(o.Status.Conditions)}
	out.Capacity, out.Allocated = new(p.Capacity), new(p.Allocated)
	out.Blocks, out.NodeCount = new(int32(p.Blocks)), new(int32(len(p.Nodes)))
	most := slices.Clone(p.Nodes)
	slices.SortStableFunc(most, func(a, b usage.NodeUse) int {
		return cmp.Or(cmp.Compare(b.Allocated, a.Allocated), cmp.Compare(b.Blocks, a.Blocks))
	})
	for _, n := range most[:min(len(most), v3.MaxPoolNodes)] {
		out.Nodes = append(out.Nodes, v3.IPPoolNodeUse{Node: n.Node, Blocks: int32(n.Blocks), Allocated: n.Allocated})
	}
	slices.SortFunc(out.Nodes, func(a, b v3.IPPoolNodeUse) int { return strings.Compare(a.Node, b.Node) })
	was := meta.IsStatusConditionTrue(o.Status.Conditions, v3.ConditionNearlyExhausted)
	meta.SetStatusCondition(&out.Conditions, nearlyExhausted(was, o.Generation, p))
	return out
}

// nearlyExhausted is the condition, which was true or not. Its message does not change with every address.
func nearlyExhausted(was bool, generation int64, p *usage.Pool) metav1.Condition {
	c := metav1.Condition{
		Type: v3.ConditionNearlyExhausted, Status: metav1.ConditionFalse, ObservedGeneration: generation,
		Reason: ReasonEnoughFree, Message: "enough addresses are free",
	}
	share := float64(p.Allocated) / float64(max(p.Capacity, 1)) * 100
	switch {
	case p.Allocated >= p.Capacity:
		c.Status, c.Reason = metav1.ConditionTrue, ReasonExhausted
		c.Message = fmt.Sprintf("all %d addresses are in use: add a pool, or delete what needs none any more", p.Capacity)
	case share >= high || was && share >= low:
		c.Status, c.Reason = metav1.ConditionTrue, ReasonNearlyExhausted
		c.Message = fmt.Sprintf("%d %% of the %d addresses or more are in use: add a pool before they are used up", low, p.Capacity)
	}
	return c
}

// same tells whether a pool says already what it should.
func same(a, b *v3.IPPoolStatus) bool { return equality.Semantic.DeepEqual(a, b) }
