// Package cluster runs a real Kubernetes cluster on one machine: each host is a network namespace with a process tree of its
// own. End-to-end tests and benchmarks use it as a library; the command in the folder above is a thin layer over it.
package cluster

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
)

// Proxy is kube-proxy's mode.
type Proxy string

// The modes.
const (
	NFTables Proxy = "nftables"
	IPTables Proxy = "iptables"
)

// CNI is the pod network that Up installs.
type CNI string

// The pod networks.
const (
	// NoCNI leaves the pod network to the caller; nodes are NotReady until there is one.
	NoCNI CNI = "none"
	// PTP is the reference plugin `ptp` with `host-local` addresses and static routes: no policy, for comparisons.
	PTP CNI = "ptp"
)

// MaxWorkers is how many workers fit below the address of host1.
const MaxWorkers = 9

// Addresses of every cluster. Clusters have networks of their own, and so these repeat.
const (
	PodCIDR     = "10.48.0.0/16"
	ServiceCIDR = "10.49.0.0/16"
	DNSAddress  = "10.49.0.10"
	APIServer   = "https://10.0.0.10:6443"

	hostBits       = 24
	fabricAddress  = "10.0.0.254"
	serviceAddress = "10.49.0.1"
)

// Options say what cluster to run. The zero value, with WithDefaults, is a cluster of two workers.
type Options struct {
	// Name tells clusters of one machine apart: lower-case letters and digits, 20 at most. Default "default".
	Name string `json:"name"`
	// Workers is the number of workers, 1 to MaxWorkers. Default 2.
	Workers int `json:"workers"`
	// Proxy is kube-proxy's mode. Default nftables.
	Proxy Proxy `json:"proxy"`
	// CNI is the pod network. Default none.
	CNI CNI `json:"cni"`
	// NoFsync makes etcd skip waiting for the disk: quicker, and wrong for measurements.
	NoFsync bool `json:"noFsync"`
	// Load are image archives imported on every node.
	Load []string `json:"-"`
	// Cache is the folder of built programs and cluster state. Default $MANUL_CACHE or $HOME/.cache/manul.
	Cache string `json:"-"`
	// Program serves `node-init`, as the command in the folder above does. Default: that command is built.
	Program string `json:"-"`
	// Say is told each step. Default: nothing is said.
	Say func(format string, args ...any) `json:"-"`
}

// WithDefaults fills in what is not set, and checks the rest.
func (o Options) WithDefaults() (Options, error) {
	if o.Name == "" {
		o.Name = "default"
	}
	if o.Workers == 0 {
		o.Workers = 2
	}
	if o.Proxy == "" {
		o.Proxy = NFTables
	}
	if o.CNI == "" {
		o.CNI = NoCNI
	}
	if o.Say == nil {
		o.Say = func(string, ...any) {}
	}
	if o.Cache == "" {
		cache, err := defaultCache()
		if err != nil {
			return o, err
		}
		o.Cache = cache
	}
	if !regexp.MustCompile(`^[a-z0-9]{1,20}$`).MatchString(o.Name) {
		return o, fmt.Errorf("cluster name %q: want 1 to 20 lower-case letters and digits", o.Name)
	}
	if o.Workers < 1 || o.Workers > MaxWorkers {
		return o, fmt.Errorf("%d workers: want 1 to %d", o.Workers, MaxWorkers)
	}
	if o.Proxy != NFTables && o.Proxy != IPTables {
		return o, fmt.Errorf("kube-proxy mode %q: want %s or %s", o.Proxy, NFTables, IPTables)
	}
	if o.CNI != NoCNI && o.CNI != PTP {
		return o, fmt.Errorf("pod network %q: want %s or %s", o.CNI, NoCNI, PTP)
	}
	if !filepath.IsAbs(o.Cache) {
		return o, fmt.Errorf("cache %q: want an absolute path", o.Cache)
	}
	return o, nil
}

func defaultCache() (string, error) {
	if dir := os.Getenv("MANUL_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("finding the cache folder (MANUL_CACHE sets it): %w", err)
	}
	return filepath.Join(home, ".cache", "manul"), nil
}

// Host is one host of a cluster.
type Host struct {
	Name string
	// Address is on the interface ens160, in a network of 24 bits that all hosts share.
	Address netip.Addr
	// ControlPlane is set for the host that runs etcd and the API server.
	ControlPlane bool
	// Node is set for hosts that run a kubelet.
	Node bool
}

// hosts lists the hosts of a cluster, the control plane first.
func hosts(workers int) []Host {
	address := func(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}) }
	list := []Host{{Name: "master1", Address: address(10), ControlPlane: true, Node: true}}
	for i := 1; i <= workers; i++ {
		list = append(list, Host{Name: fmt.Sprintf("worker%d", i), Address: address(10 + i), Node: true})
	}
	return append(list, Host{Name: "host1", Address: address(20)})
}
