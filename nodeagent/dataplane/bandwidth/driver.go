// Package bandwidth makes the kernel's traffic control of workload interfaces equal to tables.Bandwidth.
//
// What goes to a workload is shaped where it leaves the node, at the host's end of the pair, by a token bucket. What comes from
// a workload is redirected to an interface of its own (ifb), which shapes it likewise and gives it back to the host's end, so that
// policy sees it as before. The buckets bear a handle of the driver's, the ifb interfaces a prefix; nothing else is touched.
package bandwidth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/tables"
)

// shaperPrefix begins the names of the interfaces that shape what comes from workloads. The rest is that of the workload's
// interface without its own prefix.
const shaperPrefix = "mnlq"

// Options of a driver.
type Options struct {
	// WorkloadPrefix is what the names of workload interfaces begin with: as long as [shaperPrefix] or longer.
	WorkloadPrefix string
	// Log takes what an operator of the node may want to know. Nil: nothing is logged.
	Log *slog.Logger
}

// Driver keeps one network namespace's limits equal to desired tables. Its methods may be called from one goroutine at a time,
// Resync and Changed from any.
type Driver struct {
	options Options
	handle  *netlink.Handle
	monitor *monitor
	resync  atomic.Bool
	// have is what is in the kernel, by workload interface; nil when it is not known.
	have map[string]limits
	// refused are interfaces that the kernel takes no limits for: they are tried again when something of them changes, or everything is
	// compared.
	refused map[string]error
}

// limits are those of an interface in the kernel.
type limits struct {
	index int
	tables.Limits
}

// New opens a lasting connection to the traffic control of the calling thread's network namespace. It changes nothing.
func New(options Options) (*Driver, error) {
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	if len(options.WorkloadPrefix) < len(shaperPrefix) || strings.HasPrefix(shaperPrefix, options.WorkloadPrefix) {
		return nil, fmt.Errorf("opening traffic control: the workloads' prefix %q is not one of %d characters or more other than %q",
			options.WorkloadPrefix, len(shaperPrefix), shaperPrefix)
	}
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("opening traffic control: %w", err)
	}
	d := &Driver{options: options, handle: handle, refused: map[string]error{}}
	if d.monitor, err = startMonitor(options.Log); err != nil {
		handle.Close()
		return nil, fmt.Errorf("opening traffic control: %w", err)
	}
	return d, nil
}

// Close ends the connection. The limits stay.
func (d *Driver) Close() error {
	d.monitor.Close()
	d.handle.Close()
	return nil
}

// Resync makes the next Apply compare everything with the kernel.
func (d *Driver) Resync() { d.resync.Store(true) }

// Changed yields a value when interfaces with limits came, or went.
func (d *Driver) Changed() <-chan struct{} { return d.monitor.Changed() }

// Disturbances is 0: changes by others are undone at the next comparison, and not noticed before.
func (d *Driver) Disturbances() int64 { return 0 }

// Apply makes the kernel's limits equal to desired. The first call, and the next one after an error or Resync, compares
// everything with the kernel; others look at what changed. The limits of an interface that does not exist wait and are no failure.
// What can't be put into force alone is reported as tables.ItemErrors, joined, while all else is in force.
func (d *Driver) Apply(ctx context.Context, desired *tables.Bandwidth) error {
	full := d.resync.Swap(false) || d.have == nil
	news, all := d.monitor.take()
	full = full || all
	look := map[string]bool{}
	for name := range desired.Dirty() {
		look[name] = true
	}
	for name := range news {
		look[name] = true
	}
	if full {
		if err := d.list(desired, look); err != nil {
			d.have = nil
			return fmt.Errorf("reading traffic control: %w", err)
		}
	}
	d.monitor.want(desired)
	for _, name := range slices.Sorted(maps.Keys(look)) {
		if err := ctx.Err(); err != nil {
			d.have = nil
			return fmt.Errorf("applying limits: %w", err)
		}
		wish, _ := desired.Get(name)
		if err := d.apply(name, wish); err != nil {
			d.refused[name] = err
		} else {
			delete(d.refused, name)
		}
	}
	problems := make([]error, 0, len(d.refused))
	for _, name := range slices.Sorted(maps.Keys(d.refused)) {
		problems = append(problems, &tables.ItemError{Kind: tables.KindBandwidth, Name: name, Err: d.refused[name]})
	}
	desired.Clean()
	return errors.Join(problems...)
}

// list finds what has to be looked at when everything is compared: what is desired, and what bears the driver's marks.
func (d *Driver) list(desired *tables.Bandwidth, look map[string]bool) error {
	d.have = map[string]limits{}
	clear(d.refused)
	for name := range desired.All() {
		look[name] = true
	}
	links, err := d.handle.LinkList()
	if err != nil {
		return err
	}
	byIndex := map[int]string{}
	for _, l := range links {
		byIndex[l.Attrs().Index] = l.Attrs().Name
		if rest, ours := strings.CutPrefix(l.Attrs().Name, shaperPrefix); ours && l.Type() == "ifb" {
			look[d.options.WorkloadPrefix+rest] = true
		}
	}
	qdiscs, err := d.handle.QdiscList(nil)
	if err != nil {
		return err
	}
	for _, q := range qdiscs {
		if name := byIndex[q.Attrs().LinkIndex]; isOurs(q) && strings.HasPrefix(name, d.options.WorkloadPrefix) {
			look[name] = true
		}
	}
	return nil
}

// apply makes the limits of one interface what they should be; none when there are to be none.
func (d *Driver) apply(name string, wish tables.Limits) error {
	link, err := d.find(name)
	if err != nil {
		return err
	}
	if link == nil {
		delete(d.have, name)
		return d.removeShaper(name) // it went with the pod
	}
	have, known := d.have[name]
	if known && have.index == link.Attrs().Index && have.Limits == wish {
		return nil
	}
	delete(d.have, name) // until it is known again
	if err := d.ingress(link, wish.Ingress); err != nil {
		return err
	}
	if err := d.egress(link, wish.Egress); err != nil {
		return err
	}
	if wish != (tables.Limits{}) {
		d.have[name] = limits{link.Attrs().Index, wish}
	}
	return nil
}

// ingress limits what goes to the workload.
func (d *Driver) ingress(link netlink.Link, limit tables.Limit) error {
	if limit.BitsPerSecond > 0 {
		return d.shape(link, limit)
	}
	qdiscs, err := d.handle.QdiscList(link)
	if err != nil {
		return fmt.Errorf("reading the queues of %s: %w", link.Attrs().Name, err)
	}
	for _, q := range qdiscs {
		if !isOurs(q) {
			continue
		}
		if err := d.handle.QdiscDel(q); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("removing the limit of %s: %w", link.Attrs().Name, err)
		}
	}
	return nil
}

// egress limits what comes from the workload.
func (d *Driver) egress(link netlink.Link, limit tables.Limit) error {
	name := link.Attrs().Name
	if limit.BitsPerSecond == 0 {
		return d.removeShaper(name)
	}
	shaper, err := d.makeShaper(name, link.Attrs().MTU)
	if err != nil {
		return err
	}
	// First the bucket, so that nothing is redirected to where there is none.
	if err := d.shape(shaper, limit); err != nil {
		return err
	}
	return d.redirect(link, shaper)
}

func (d *Driver) find(name string) (netlink.Link, error) {
	link, err := d.handle.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil, nil //nolint:nilnil // there is none
	}
	if err != nil {
		return nil, fmt.Errorf("looking for %s: %w", name, err)
	}
	return link, nil
}

func (d *Driver) shaperOf(name string) string {
	return shaperPrefix + strings.TrimPrefix(name, d.options.WorkloadPrefix)
}

func (d *Driver) makeShaper(name string, mtu int) (netlink.Link, error) {
	shaper := d.shaperOf(name)
	link, err := d.find(shaper)
	if err != nil {
		return nil, err
	}
	if link == nil {
		// Its queues' length must be left to the kernel: the library would ask for none, and the bucket would pass nothing.
		if err := d.handle.LinkAdd(&netlink.Ifb{LinkAttrs: netlink.LinkAttrs{Name: shaper, MTU: mtu, TxQLen: -1}}); err != nil {
			return nil, fmt.Errorf("making interface %s: %w", shaper, err)
		}
		if link, err = d.find(shaper); err != nil || link == nil {
			return nil, errors.Join(fmt.Errorf("making interface %s: it is not there", shaper), err)
		}
	}
	if link.Type() != "ifb" {
		return nil, fmt.Errorf("making interface %s: the name is taken by an interface of type %s; remove it", shaper, link.Type())
	}
	if err := d.handle.LinkSetUp(link); err != nil {
		return nil, fmt.Errorf("setting %s up: %w", shaper, err)
	}
	return link, nil
}

// removeShaper ends the redirection and removes where it led to.
func (d *Driver) removeShaper(name string) error {
	shaper, err := d.find(d.shaperOf(name))
	if err != nil || shaper == nil || shaper.Type() != "ifb" {
		return err
	}
	link, err := d.find(name)
	if err != nil {
		return err
	}
	if link != nil {
		if err := d.unredirect(link, shaper); err != nil {
			return err
		}
	}
	if err := d.handle.LinkDel(shaper); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("removing interface %s: %w", shaper.Attrs().Name, err)
	}
	return nil
}
