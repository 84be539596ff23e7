package plugin

import (
	"context"
	"fmt"

	"github.com/containernetworking/cni/pkg/skel"

	"github.com/manul-net/manul/cni/protocol"
)

func (p plugin) gc(args *skel.CmdArgs) error {
	c, err := p.parse(args)
	if err != nil {
		return err
	}
	if err := c.gc(); err != nil {
		err = failure("collecting what stale containers left", err)
		c.log.Error("GC", "error", err)
		return err
	}
	return nil
}

// gc removes the interfaces and the addresses of attachments that the runtime does not list. Interfaces first, as in DEL.
func (c *call) gc() error {
	req := protocol.GCRequest{Valid: make([]protocol.Attachment, 0, len(c.ValidAttachments))}
	valid := make(map[protocol.Attachment]bool, len(c.ValidAttachments))
	for _, v := range c.ValidAttachments {
		a := protocol.Attachment{ContainerID: v.ContainerID, IfName: v.IfName}
		req.Valid = append(req.Valid, a)
		valid[a] = true
	}
	// Before anything goes: a list that the agent would refuse is no ground to remove interfaces on.
	if err := req.Validate(); err != nil {
		return err
	}
	removed, kernelErr := removeStale(valid)
	if removed > 0 {
		c.log.Info("GC removed interfaces", "count", removed)
	}
	if kernelErr != nil {
		return kernelErr // addresses of an interface that is still there must not be given away
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), callTimeout, fmt.Errorf("no answer within %v", callTimeout))
	defer cancel()
	if err := c.client.GC(ctx, req); err != nil {
		return err
	}
	return c.passOn(ctx, "GC")
}
