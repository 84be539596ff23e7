package render

import (
	"slices"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
)

// defaultInquiryPeriod is how often a CalicoNodeStatus is answered that does not say how often, seconds.
const defaultInquiryPeriod = 10

// inquiry is what a CalicoNodeStatus asks of a node.
type inquiry struct {
	node  string
	wants v1alpha1.Inquiry
}

// setInquiry takes in a CalicoNodeStatus; nil when it is gone. One with a period of 0 asks nothing.
func (c *Cluster) setInquiry(name string, spec *v3.CalicoNodeStatusSpec) {
	var now inquiry
	if spec != nil {
		now = inquiryOf(spec)
	}
	before := c.inquiries[name]
	if before == now {
		return
	}
	delete(c.inquiries, name)
	if now.node != "" {
		c.inquiries[name] = now
	}
	for _, node := range []string{before.node, now.node} {
		if c.nodes[node] != nil {
			c.touch(KindNodeState, node)
		}
	}
}

func inquiryOf(spec *v3.CalicoNodeStatusSpec) inquiry {
	period := uint32(defaultInquiryPeriod)
	if spec.UpdatePeriodSeconds != nil {
		period = *spec.UpdatePeriodSeconds
	}
	if period == 0 || len(spec.Classes) == 0 {
		return inquiry{}
	}
	return inquiry{node: spec.Node, wants: v1alpha1.Inquiry{
		PeriodSeconds: int32(period),
		Sessions:      slices.Contains(spec.Classes, v3.NodeStatusClassBGP),
		Routes:        slices.Contains(spec.Classes, v3.NodeStatusClassRoutes),
	}}
}

// inquiryFor is all that is asked of a node, as often as the most frequent wants it; nil: nothing.
func (c *Cluster) inquiryFor(node string) *v1alpha1.Inquiry {
	var out *v1alpha1.Inquiry
	for _, i := range c.inquiries {
		if i.node != node {
			continue
		}
		if out == nil {
			out = &v1alpha1.Inquiry{PeriodSeconds: i.wants.PeriodSeconds}
		}
		out.PeriodSeconds = min(out.PeriodSeconds, i.wants.PeriodSeconds)
		out.Sessions = out.Sessions || i.wants.Sessions
		out.Routes = out.Routes || i.wants.Routes
	}
	return out
}
