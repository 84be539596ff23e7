package plugin

import (
	"context"
	"errors"
	"fmt"

	"github.com/containernetworking/cni/pkg/skel"

	"github.com/manul-net/manul/cni/protocol"
)

func (p plugin) del(args *skel.CmdArgs) error {
	c, err := p.parse(args)
	if err != nil {
		return err
	}
	if err := c.del(); err != nil {
		err = failure("removing container from the network", err)
		c.log.Error("DEL", "error", err)
		return err
	}
	return nil
}

func (c *call) del() error {
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	defer unlock()
	// A result that cannot be read is no reason to keep the interface: it is found without.
	hostName := ""
	if prev, err := c.previous(); err != nil {
		c.log.Warn("DEL: ignoring what the runtime remembers", "error", err)
	} else if prev != nil && len(prev.Interfaces) > 0 {
		hostName = prev.Interfaces[0].Name
	}
	// The interface first: its addresses may have a new owner as soon as the agent knows.
	if err := removeInterface(c.attachment, c.netns, hostName); err != nil {
		return err
	}
	return c.releaseAll()
}

// releaseAll gives the attachment's addresses back to the agent, and then to the IPAM plugin that gave them, which may give them to the next
// pod at once.
func (c *call) releaseAll() error {
	if err := c.release(); err != nil {
		return err
	}
	return c.giveBack()
}

// release gives the attachment's addresses back to the agent, or leaves word on disk when no agent answers.
func (c *call) release() error {
	req := protocol.DelRequest{
		Attachment: c.attachment, PodNamespace: c.pod.namespace, PodName: c.pod.name, PodUID: c.pod.uid,
	}
	err := c.askDel(req)
	if !unreachable(err) {
		return err
	}
	started, err := c.deferDel(req, err, true)
	if !started {
		return err
	}
	err = c.askDel(req)
	if !unreachable(err) {
		return err
	}
	_, err = c.deferDel(req, err, false)
	return err
}

func (c *call) askDel(req protocol.DelRequest) error {
	ctx, cancel := context.WithTimeoutCause(context.Background(), delTimeout, fmt.Errorf("no answer within %v", delTimeout))
	defer cancel()
	return c.client.Del(ctx, req)
}

// deferDel leaves req on disk. With look it first looks, under the queue's lock, whether an agent has started meanwhile: it may
// have read the queue already, and so must be asked again. It is not asked under the lock, for which it may be waiting.
func (c *call) deferDel(req protocol.DelRequest, reason error, look bool) (started bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), delTimeout)
	defer cancel()
	err = c.queue().Locked(ctx, func() error {
		if look && c.client.Listening(ctx) {
			started = true
			return nil
		}
		if err := c.queue().Put(req); err != nil {
			return err
		}
		c.log.Info("DEL deferred until the node agent answers", "reason", reason)
		return nil
	})
	if err != nil {
		return false, errors.Join(reason, err)
	}
	return started, nil
}

func unreachable(err error) bool {
	var u *protocol.UnreachableError
	return errors.As(err, &u)
}
