package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const namespaceDir = "/run/netns" // where `ip netns` looks

// fabric is the namespace with the bridge that joins the hosts.
const fabric = "fabric"

// inNamespace calls do on a thread that is in a named network namespace. A process that do starts is born there, and a socket
// that do opens stays there.
func inNamespace(name string, do func() error) (err error) {
	runtime.LockOSThread()
	own, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("entering namespace %s: %w", name, err)
	}
	defer func() { _ = own.Close() }()
	target, err := netns.GetFromPath(filepath.Join(namespaceDir, name))
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("entering namespace %s: %w", name, err)
	}
	defer func() { _ = target.Close() }()
	if err := netns.Set(target); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("entering namespace %s: %w", name, err)
	}
	defer func() {
		// A thread that cannot go back is never used again: it stays locked and ends with its goroutine.
		if back := netns.Set(own); back != nil {
			err = errors.Join(err, fmt.Errorf("leaving namespace %s: %w", name, back))
			return
		}
		runtime.UnlockOSThread()
	}()
	return do()
}

// addNamespace makes a named network namespace.
func addNamespace(name string) error {
	runtime.LockOSThread()
	own, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("making namespace %s: %w", name, err)
	}
	defer func() { _ = own.Close() }()
	made, err := netns.NewNamed(name)
	if back := netns.Set(own); back != nil {
		return fmt.Errorf("leaving namespace %s: %w", name, back)
	}
	runtime.UnlockOSThread()
	if err != nil {
		return fmt.Errorf("making namespace %s: %w", name, err)
	}
	return made.Close()
}

// namespacesOf lists the namespaces of a cluster, whatever a run that was cut off has left of them.
func namespacesOf(p paths) ([]string, error) {
	entries, err := os.ReadDir(namespaceDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing namespaces: %w", err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), p.namespace("")) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func deleteNamespace(name string) error {
	path := filepath.Join(namespaceDir, name)
	// A run that was cut off may have left the file without the mount.
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("removing namespace %s: %w", name, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing namespace %s: %w", name, err)
	}
	return nil
}

// makeNetwork makes the namespaces of the hosts and joins them: each host has ens160, whose other end is on a bridge in the
// fabric's namespace.
func makeNetwork(p paths, list []Host) error {
	if err := addNamespace(p.namespace(fabric)); err != nil {
		return err
	}
	for _, h := range list {
		if err := addNamespace(p.namespace(h.Name)); err != nil {
			return err
		}
	}
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}
	err := inNamespace(p.namespace(fabric), func() error {
		if err := linkUp("lo"); err != nil {
			return err
		}
		if err := netlink.LinkAdd(bridge); err != nil {
			return fmt.Errorf("adding bridge: %w", err)
		}
		if err := addAddress(bridge, fabricAddress); err != nil {
			return err
		}
		for _, h := range list {
			if err := addCable(p, bridge, h); err != nil {
				return fmt.Errorf("connecting %s: %w", h.Name, err)
			}
		}
		return linkUp("br0")
	})
	if err != nil {
		return fmt.Errorf("making the network between hosts: %w", err)
	}
	for _, h := range list {
		if err := inNamespace(p.namespace(h.Name), func() error { return configureHost(h) }); err != nil {
			return fmt.Errorf("configuring the network of %s: %w", h.Name, err)
		}
	}
	return nil
}

// addCable is called in the fabric's namespace.
func addCable(p paths, bridge *netlink.Bridge, h Host) error {
	host, err := netns.GetFromPath(filepath.Join(namespaceDir, p.namespace(h.Name)))
	if err != nil {
		return err
	}
	defer func() { _ = host.Close() }()
	veth := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: h.Name, MasterIndex: bridge.Index},
		PeerName:      hostInterface,
		PeerNamespace: netlink.NsFd(host),
	}
	if err := netlink.LinkAdd(veth); err != nil {
		return err
	}
	return linkUp(h.Name)
}

// hostInterface is the interface by which a host reaches the others.
const hostInterface = "ens160"

// configureHost is called in the host's namespace.
func configureHost(h Host) error {
	for _, name := range []string{"lo", hostInterface} {
		if err := linkUp(name); err != nil {
			return err
		}
	}
	link, err := netlink.LinkByName(hostInterface)
	if err != nil {
		return err
	}
	if err := addAddress(link, h.Address.String()); err != nil {
		return err
	}
	gateway, err := netlink.ParseAddr(fabricAddress + "/32")
	if err != nil {
		return err
	}
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: gateway.IP}); err != nil {
		return fmt.Errorf("adding the default route: %w", err)
	}
	return nil
}

func addAddress(link netlink.Link, address string) error {
	addr, err := netlink.ParseAddr(fmt.Sprintf("%s/%d", address, hostBits))
	if err != nil {
		return fmt.Errorf("adding address %s: %w", address, err)
	}
	if err := netlink.AddrAdd(link, addr); err != nil {
		return fmt.Errorf("adding address %s: %w", address, err)
	}
	return nil
}

func linkUp(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("finding interface %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("setting interface %s up: %w", name, err)
	}
	return nil
}
