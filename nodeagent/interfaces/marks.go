package interfaces

import (
	"errors"
	"fmt"
	"strings"

	"github.com/vishvananda/netlink"
)

// Marked lists the interfaces whose alias begins with the mark, by what follows it. The kernel is asked anew each time.
func (f *Follower) Marked() (map[string]string, error) {
	var list []netlink.Link
	var err error
	for range listAttempts {
		if list, err = f.handle.LinkList(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("listing interfaces: %w", err)
	}
	marked := map[string]string{}
	for _, link := range list {
		attrs := link.Attrs()
		if name, ok := strings.CutPrefix(attrs.Alias, f.options.Mark); ok && f.options.Mark != "" && isWorkload(attrs.Name, f.options.WorkloadPrefix) {
			marked[name] = attrs.Name
		}
	}
	return marked, nil
}

// Gone yields a value when a workload's interface was removed, or that can't be ruled out.
func (f *Follower) Gone() <-chan struct{} { return f.gone }
