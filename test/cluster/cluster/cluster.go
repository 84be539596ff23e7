package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/manul-net/manul/test/cluster/nodeinit"
	"github.com/manul-net/manul/test/cluster/procfs"
)

// Cluster is a cluster that is up, or that has been.
type Cluster struct {
	opts    Options
	paths   paths
	kubectl string
}

// settings is what is kept of a cluster for Open.
type settings struct {
	Options Options `json:"options"`
	Kubectl string  `json:"kubectl"`
}

// Open finds a cluster that Up made, by its name. Only Name and Cache of the options are used.
func Open(o Options) (*Cluster, error) {
	o, err := o.WithDefaults()
	if err != nil {
		return nil, err
	}
	c := &Cluster{opts: o, paths: newPaths(o)}
	data, err := os.ReadFile(c.paths.settings())
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("opening cluster %s: %w", o.Name, ErrNotUp)
	}
	if err != nil {
		return nil, fmt.Errorf("opening cluster %s: %w", o.Name, err)
	}
	var s settings
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("opening cluster %s: %w", o.Name, err)
	}
	c.opts.Workers, c.opts.Proxy, c.opts.CNI, c.opts.NoFsync = s.Options.Workers, s.Options.Proxy, s.Options.CNI, s.Options.NoFsync
	c.kubectl = s.Kubectl
	return c, nil
}

// ErrNotUp says that there is no such cluster.
var ErrNotUp = errors.New("the cluster is not up")

// Name is the name of the cluster.
func (c *Cluster) Name() string { return c.opts.Name }

// Options are what the cluster was started with.
func (c *Cluster) Options() Options { return c.opts }

// Hosts lists the hosts: master1, worker1 and so on, host1.
func (c *Cluster) Hosts() []Host { return hosts(c.opts.Workers) }

// Nodes lists the hosts that are nodes of Kubernetes.
func (c *Cluster) Nodes() []Host {
	return slices.DeleteFunc(c.Hosts(), func(h Host) bool { return !h.Node })
}

// Kubeconfig is the path of the administrator's kubeconfig. Its API server answers inside the cluster's namespaces only.
func (c *Cluster) Kubeconfig() string { return c.paths.kubeconfig("admin") }

// KubectlPath is the kubectl of the cluster's version.
func (c *Cluster) KubectlPath() string { return c.kubectl }

// LogFile is the path of the log of a component, which outlives the cluster. Only Name and Cache of the options are used.
func LogFile(o Options, host, component string) (string, error) {
	o, err := o.WithDefaults()
	if err != nil {
		return "", err
	}
	return newPaths(o).log(host, component), nil
}

// Stop ends a component of a host; it stays down until StartComponent.
func (c *Cluster) Stop(ctx context.Context, host, component string) error {
	return c.command(ctx, host, component, "stopping", (*nodeinit.Client).Stop)
}

// Start starts a component that was stopped.
func (c *Cluster) Start(ctx context.Context, host, component string) error {
	return c.command(ctx, host, component, "starting", (*nodeinit.Client).Start)
}

// Kill ends a component with SIGKILL; it starts again by itself.
func (c *Cluster) Kill(ctx context.Context, host, component string) error {
	return c.command(ctx, host, component, "killing", (*nodeinit.Client).Kill)
}

func (c *Cluster) command(ctx context.Context, host, component, what string, do func(*nodeinit.Client, context.Context, string) error) error {
	client, err := c.control(host)
	if err == nil {
		err = do(client, ctx, component)
	}
	if err != nil {
		return fmt.Errorf("%s %s on %s: %w", what, component, host, err)
	}
	return nil
}

func (c *Cluster) control(host string) (*nodeinit.Client, error) {
	if _, err := c.process(host); err != nil {
		return nil, err
	}
	return nodeinit.NewClient(c.paths.host(host))
}

// HostStatus is the state of one host.
type HostStatus struct {
	Host
	// PID is the host's first process, 0 when the host is down.
	PID int
	// Components are what runs on the host.
	Components []nodeinit.Status
	// Err says why the components are not known.
	Err error
}

// Status reports the state of every host.
func (c *Cluster) Status(ctx context.Context) []HostStatus {
	var list []HostStatus
	for _, h := range c.Hosts() {
		s := HostStatus{Host: h}
		p, err := c.process(h.Name)
		if err == nil {
			s.PID = p.PID
			var client *nodeinit.Client
			if client, err = c.control(h.Name); err == nil {
				s.Components, err = client.Status(ctx)
			}
		}
		s.Err = err
		list = append(list, s)
	}
	return list
}

// process returns the first process of a host that is up.
func (c *Cluster) process(host string) (procfs.Process, error) {
	if !slices.ContainsFunc(c.Hosts(), func(h Host) bool { return h.Name == host }) {
		return procfs.Process{}, fmt.Errorf("no host %s in cluster %s", host, c.opts.Name)
	}
	p, err := readProcess(c.paths.process(host))
	if err != nil {
		return p, err
	}
	if !p.Alive() {
		return p, fmt.Errorf("host %s is down", host)
	}
	return p, nil
}

func readProcess(path string) (procfs.Process, error) {
	var p procfs.Process
	data, err := os.ReadFile(path)
	if err != nil {
		return p, fmt.Errorf("reading the record of a host: %w", err)
	}
	if err := json.Unmarshal(data, &p); err != nil {
		return p, fmt.Errorf("reading the record of a host: %w", err)
	}
	return p, nil
}

// healthy reports whether every host's first process runs and answers: one that was killed stays among the processes, with
// its socket closed, until the kernel has ended all others of its host.
func (c *Cluster) healthy(ctx context.Context) error {
	for _, h := range c.Status(ctx) {
		if h.Err != nil {
			return fmt.Errorf("host %s: %w", h.Name, h.Err)
		}
	}
	return nil
}

// paths are the files of one cluster.
type paths struct {
	cache, dir string
	name       string
}

func newPaths(o Options) paths {
	return paths{cache: o.Cache, dir: filepath.Join(o.Cache, "clusters", o.Name), name: o.Name}
}

func (p paths) settings() string              { return filepath.Join(p.dir, "cluster.json") }
func (p paths) lock() string                  { return filepath.Join(p.cache, "clusters", "."+p.name+".lock") }
func (p paths) pki(file string) string        { return filepath.Join(p.dir, "pki", file) }
func (p paths) kubeconfig(user string) string { return p.pki(user + ".kubeconfig") }
func (p paths) host(name string) string       { return filepath.Join(p.dir, "hosts", name) }
func (p paths) process(host string) string    { return filepath.Join(p.host(host), "process.json") }
func (p paths) logs() string                  { return filepath.Join(p.dir, "logs") }
func (p paths) log(host, what string) string  { return filepath.Join(p.logs(), what+"-"+host+".log") }
func (p paths) program() string               { return filepath.Join(p.dir, "node-init") }
func (p paths) namespace(host string) string  { return "manul-" + p.name + "-" + host }
func (p paths) cgroup(host string) string     { return "/manul/" + p.name + "/" + host }

// poll calls try until it returns nil, or until ctx ends; then the last error is returned.
func poll(ctx context.Context, what string, try func() error) error {
	const every = 100 * time.Millisecond
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w (last: %w)", what, context.Cause(ctx), err)
		case <-time.After(every):
		}
	}
}
