package plugin

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// setting of the kernel, by its path below /proc/sys. It concerns the network namespace of the thread that sets it.
type setting struct{ key, value string }

func apply(settings []setting) error {
	for _, s := range settings {
		err := os.WriteFile("/proc/sys/"+s.key, []byte(s.value), 0o644) //nolint:gosec // the file is the kernel's, as is its mode
		if errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(s.key, "net/ipv6/") {
			return fmt.Errorf("setting %s=%s: %w: the pod has an IPv6 address, but this kernel has no IPv6", s.key, s.value, err)
		}
		if err != nil {
			return fmt.Errorf("setting %s=%s: %w", s.key, s.value, err)
		}
	}
	return nil
}
