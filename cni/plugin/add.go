package plugin

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/plugins/pkg/ns"

	"github.com/manul-net/manul/cni/protocol"
)

func (p plugin) add(args *skel.CmdArgs) error {
	c, err := p.parse(args)
	if err != nil {
		return err
	}
	result, err := c.previous()
	if err != nil {
		return err
	}
	giveUp := c.releaseAll
	if result != nil { // there are plugins before this one in the list
		err, giveUp = c.addChained(result), c.release
	} else {
		result, err = c.add()
	}
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
		return errors.Join(fmt.Errorf("writing result: %w", err), giveUp())
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
	obtained, err := c.obtain(ctx)
	if err != nil {
		return nil, err
	}
	result, err := c.addWith(ctx, netns, obtained)
	if err != nil && obtained != nil {
		err = errors.Join(err, c.releaseAll())
	}
	return result, err
}

// addWith makes the attachment with the addresses that an IPAM plugin gave, or else the agent's.
func (c *call) addWith(ctx context.Context, netns ns.NetNS, obtained *types100.Result) (*types100.Result, error) {
	addrs, err := addressesOf(obtained)
	if err != nil {
		return nil, err
	}
	given, err := c.client.Add(ctx, protocol.AddRequest{
		Attachment: c.attachment, Netns: c.netns, MTU: c.MTU, Pools: c.pools(), Given: addrs,
		PodNamespace: c.pod.namespace, PodName: c.pod.name, PodUID: c.pod.uid,
	})
	if err != nil {
		return nil, err
	}
	if addrs != nil && !sameAddrs(addrs, given.Addresses) {
		return nil, protocol.Errorf(protocol.CodeInternal, "the node agent answers with addresses %v, and the IPAM plugin gave %v: the plugin and the agent are of different releases", given.Addresses, addrs)
	}
	a := newAttachment(c.attachment, given)
	if err := a.make(netns); err != nil {
		// The interface is undone. The addresses go back as in a DEL.
		return nil, errors.Join(err, c.release()) //nolint:contextcheck // the time of the ADD may be over
	}
	result := a.result(c.netns)
	if obtained != nil {
		result.DNS = obtained.DNS
	}
	return result, nil
}

func sameAddrs(a, b []netip.Addr) bool {
	return slices.Equal(slices.SortedFunc(slices.Values(a), netip.Addr.Compare), slices.SortedFunc(slices.Values(b), netip.Addr.Compare))
}
