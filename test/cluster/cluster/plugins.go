package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
)

// pluginDir is where Debian's package containernetworking-plugins puts the standard plugins.
const pluginDir = "/usr/lib/cni"

// standardPlugins are what a node usually has whatever its pod network; the runtime itself needs loopback.
func standardPlugins() []string {
	return []string{"bandwidth", "bridge", "host-local", "loopback", "portmap", "ptp", "tuning"}
}

// installPlugins fills the /opt/cni/bin of a host before it starts.
func installPlugins(p paths, h Host) error {
	dir := filepath.Join(p.host(h.Name), "fs", "opt", "cni", "bin")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("installing CNI plugins: %w", err)
	}
	for _, name := range standardPlugins() {
		if err := copyFile(filepath.Join(pluginDir, name), filepath.Join(dir, name), 0o755); err != nil {
			return fmt.Errorf("installing CNI plugins: %w", err)
		}
	}
	return nil
}

// podSubnet is the part of the pods' addresses that a host has with CNI ptp.
func podSubnet(h Host) string {
	address := h.Address.As4()
	return fmt.Sprintf("10.48.%d.0/24", address[3])
}

// ptpConfig is the configuration of the reference plugin for a host.
func ptpConfig(h Host) (string, error) {
	type object = map[string]any
	data, err := json.MarshalIndent(object{
		"cniVersion": "0.4.0",
		"name":       "ptp",
		"plugins": []object{
			{"type": "ptp", "ipam": object{
				"type":   "host-local",
				"ranges": [][]object{{{"subnet": podSubnet(h)}}},
				"routes": []object{{"dst": "0.0.0.0/0"}},
			}},
			{"type": "portmap", "capabilities": object{"portMappings": true}},
		},
	}, "", "  ")
	if err != nil {
		return "", fmt.Errorf("making the ptp configuration of %s: %w", h.Name, err)
	}
	return string(data), nil
}

// addPodRoutes gives each host the way to the pods of the others.
func addPodRoutes(p paths, list []Host) error {
	for _, h := range list {
		err := inNamespace(p.namespace(h.Name), func() error {
			var errs []error
			for _, other := range list {
				if other.Name == h.Name || !other.Node {
					continue
				}
				errs = append(errs, addPodRoute(other))
			}
			return errors.Join(errs...)
		})
		if err != nil {
			return fmt.Errorf("adding routes on %s: %w", h.Name, err)
		}
	}
	return nil
}

func addPodRoute(to Host) error {
	_, subnet, err := net.ParseCIDR(podSubnet(to))
	if err != nil {
		return err
	}
	if err := netlink.RouteReplace(&netlink.Route{Dst: subnet, Gw: to.Address.AsSlice()}); err != nil {
		return fmt.Errorf("adding route to %s: %w", subnet, err)
	}
	return nil
}
