package bandwidth

import (
	"errors"
	"fmt"
	"math"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/tables"
)

// ourHandle is that of the driver's token buckets: "ML" as the major number.
const ourHandle = 0x4d4c0000

// latency is how long a packet may wait for tokens at most, seconds; what would wait longer is dropped.
const latency = 0.025

func isOurs(q netlink.Qdisc) bool { return q.Type() == "tbf" && q.Attrs().Handle == ourHandle }

// shape makes an interface's outgoing traffic keep within a limit.
func (d *Driver) shape(link netlink.Link, limit tables.Limit) error {
	if err := d.handle.QdiscReplace(bucket(link, limit)); err != nil {
		return fmt.Errorf("limiting %s to %d bit/s: %w", link.Attrs().Name, limit.BitsPerSecond, err)
	}
	return nil
}

// bucket is the token bucket of a limit. The kernel counts its size in time; two full packets must fit in any case.
func bucket(link netlink.Link, limit tables.Limit) *netlink.Tbf {
	const header, bits = 14, 8
	rate := max(limit.BitsPerSecond/bits, 1)
	burst := max(float64(limit.BurstBits/bits), 2*float64(link.Attrs().MTU+header))
	micros := burst / float64(rate) * 1e6
	out := &netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Handle: ourHandle, Parent: netlink.HANDLE_ROOT},
		Rate:       rate,
		Buffer:     clamp(micros * netlink.TickInUsec()),
		Limit:      clamp(float64(rate)*latency + burst),
	}
	if limit.PeakBitsPerSecond > 0 {
		out.Peakrate = max(limit.PeakBitsPerSecond/bits, rate+1) // the kernel wants more than the rate
		out.Minburst = max(limit.MinBurstBytes, uint32(link.Attrs().MTU+header))
	}
	return out
}

func clamp(v float64) uint32 { return uint32(min(v, math.MaxUint32)) }

// redirect sends what comes in by an interface over another.
func (d *Driver) redirect(link, to netlink.Link) error {
	ingress := &netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_INGRESS,
	}}
	if err := d.handle.QdiscAdd(ingress); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("redirecting what comes from %s: %w", link.Attrs().Name, err)
	}
	there, err := d.redirections(link, to)
	if err != nil || len(there) > 0 {
		return err
	}
	filter := &netlink.U32{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: link.Attrs().Index, Parent: ingress.Handle, Priority: 1, Protocol: unix.ETH_P_ALL},
		Actions:     []netlink.Action{netlink.NewMirredAction(to.Attrs().Index)},
	}
	if err := d.handle.FilterAdd(filter); err != nil {
		return fmt.Errorf("redirecting what comes from %s to %s: %w", link.Attrs().Name, to.Attrs().Name, err)
	}
	return nil
}

// redirections are the filters of an interface that lead to another.
func (d *Driver) redirections(link, to netlink.Link) ([]netlink.Filter, error) {
	filters, err := d.handle.FilterList(link, netlink.MakeHandle(0xffff, 0))
	if err != nil && !errors.Is(err, unix.EINVAL) { // there is no queue for it
		return nil, fmt.Errorf("reading the filters of %s: %w", link.Attrs().Name, err)
	}
	var out []netlink.Filter
	for _, f := range filters {
		u32, ok := f.(*netlink.U32)
		if !ok {
			continue
		}
		for _, action := range u32.Actions {
			if m, ok := action.(*netlink.MirredAction); ok && m.Ifindex == to.Attrs().Index {
				out = append(out, f)
			}
		}
	}
	return out, nil
}

// unredirect ends the redirection. The queue that it is in goes when nobody else has filters there.
func (d *Driver) unredirect(link, to netlink.Link) error {
	ours, err := d.redirections(link, to)
	if err != nil {
		return err
	}
	for _, f := range ours {
		if err := d.handle.FilterDel(f); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("ending the redirection of what comes from %s: %w", link.Attrs().Name, err)
		}
	}
	if len(ours) == 0 {
		return nil
	}
	left, err := d.handle.FilterList(link, netlink.MakeHandle(0xffff, 0))
	if err != nil || len(left) > 0 {
		return nil //nolint:nilerr // an empty queue does no harm
	}
	ingress := &netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_INGRESS,
	}}
	if err := d.handle.QdiscDel(ingress); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("ending the redirection of what comes from %s: %w", link.Attrs().Name, err)
	}
	return nil
}
