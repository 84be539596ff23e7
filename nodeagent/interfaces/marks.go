package interfaces

import (
	"errors"
	"fmt"
	"strings"

	"github.com/vishvananda/netlink"
)

// Marked lists the interfaces whose alias begins with the mark, by the two words that follow it: container and interface. The kernel is asked anew each time.
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
		name, ok := strings.CutPrefix(attrs.Alias, f.options.Mark)
		if parts := strings.SplitN(name, "/", 3); len(parts) > 2 {
			name = parts[0] + "/" + parts[1] // what follows says who made it
		}
		if ok && f.options.Mark != "" && isWorkload(attrs.Name, f.options.WorkloadPrefix) {
			marked[name] = attrs.Name
		}
	}
	return marked, nil
}

// Gone yields a value when a workload's interface was removed, or that can't be ruled out.
func (f *Follower) Gone() <-chan struct{} { return f.gone }
