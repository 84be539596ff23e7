package plugin

import (
	"context"
	"errors"
	"fmt"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/manul-net/manul/cni/protocol"
)

func (p plugin) add(args *skel.CmdArgs) error {
	c, err := p.parse(args)
	if err != nil {
		return err
	}
	if prev, err := c.previous(); err != nil {
		return err
	} else if prev != nil {
		return configError("prevResult: manul makes a pod's main interface and must be the first plugin of the list")
	}
	result, err := c.add()
	if err != nil {
		err = failure(fmt.Sprintf("adding pod %s/%s to the network", c.pod.namespace, c.pod.name), err)
		c.log.Error("ADD", "error", err)
		return err
	}
	versioned, err := result.GetAsVersion(c.CNIVersion)
	if err == nil {
		err = versioned.PrintTo(p.stdout)
	}
	if err != nil {
		// The runtime did not get the result, so that for it the attachment does not exist.
		return errors.Join(fmt.Errorf("writing result: %w", err), c.release())
	}
	return nil
}

// add makes the attachment. After an error nothing of it is left.
func (c *call) add() (*types100.Result, error) {
	unlock, err := c.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	netns, err := openNetns(c.netns)
	if err != nil {
		return nil, types.NewError(types.ErrInvalidNetNS, err.Error(), "")
	}
	defer netns.Close() // nothing was written to it

	ctx, cancel := context.WithTimeoutCause(context.Background(), addTimeout, fmt.Errorf("no answer within %v", addTimeout))
	defer cancel()
	given, err := c.client.Add(ctx, protocol.AddRequest{
		Attachment: c.attachment, Netns: c.netns, MTU: c.MTU,
		PodNamespace: c.pod.namespace, PodName: c.pod.name, PodUID: c.pod.uid,
	})
	if err != nil {
		return nil, err
	}
	a := newAttachment(c.attachment, given)
	if err := a.make(netns); err != nil {
		// The interface is undone. The addresses go back as in a DEL.
		return nil, errors.Join(err, c.release())
	}
	return a.result(c.netns), nil
}
