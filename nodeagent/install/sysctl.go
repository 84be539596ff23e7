package install

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Forwarding makes the network namespace under the procfs at proc (usually "/proc") pass packets on between interfaces. What is
// set already is not written: in a container /proc/sys can often only be read. A node without IPv6 is no error.
func Forwarding(proc string) error {
	var problems []error
	for _, key := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
		path := filepath.Join(proc, "sys", key)
		value, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && string(bytes.TrimSpace(value)) == "1" {
			continue
		}
		if err == nil {
			err = os.WriteFile(path, []byte("1"), 0)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("setting %s to 1: %w", key, err))
		}
	}
	return errors.Join(problems...)
}
