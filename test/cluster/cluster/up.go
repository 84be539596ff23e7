package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/manul-net/manul/test/cluster/binaries"
	"github.com/manul-net/manul/test/cluster/nodeinit"
)

// The longest that steps of Up take on a slow machine.
const (
	apiServerWait = 3 * time.Minute
	nodesWait     = 3 * time.Minute
)

// Build builds everything that Up needs into the cache, unless it is there. Only Cache and Say of the options are used.
func Build(ctx context.Context, o Options) error {
	o, err := o.WithDefaults()
	if err != nil {
		return err
	}
	bin, err := binaries.Ensure(ctx, o.Cache, o.Say)
	if err != nil {
		return err
	}
	_, err = makeImages(ctx, o.Cache, bin, o.Say)
	return err
}

// Up starts a cluster and returns when its API server is ready and its nodes are registered; with CNI ptp, when they are
// Ready. A cluster that is up with the same options stays as it is, and the images of Load are imported. What a run that was
// cut off has left is removed first.
func Up(ctx context.Context, o Options) (*Cluster, error) {
	o, err := o.WithDefaults()
	if err != nil {
		return nil, err
	}
	if err := preflight(); err != nil {
		return nil, err
	}
	p := newPaths(o)
	if _, err := nodeinit.NewClient(p.host("worker10")); err != nil { // the longest name; a path that is too long is told before any work
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(p.lock()), 0o755); err != nil {
		return nil, fmt.Errorf("making the cache: %w", err)
	}
	unlock, err := binaries.Lock(ctx, p.lock(), func() { o.Say("waiting for another run on cluster %s", o.Name) })
	if err != nil {
		return nil, err
	}
	defer unlock()

	old, err := Open(o)
	switch {
	case err == nil && old.healthy(ctx) == nil:
		return again(ctx, old, o)
	case err == nil || !errors.Is(err, ErrNotUp):
		o.Say("removing what an earlier run left")
	}
	if err := remove(ctx, p); err != nil {
		return nil, err
	}
	bin, err := binaries.Ensure(ctx, o.Cache, o.Say)
	if err != nil {
		return nil, err
	}
	images, err := makeImages(ctx, o.Cache, bin, o.Say)
	if err != nil {
		return nil, err
	}
	c := &Cluster{opts: o, paths: p, kubectl: bin.Path(binaries.Kubectl)}
	if err := c.start(ctx, bin, append(images, o.Load...)); err != nil {
		return nil, fmt.Errorf("starting cluster %s (logs are in %s): %w", o.Name, p.logs(), err)
	}
	return c, nil
}

// again is Up for a cluster that is up.
func again(ctx context.Context, c *Cluster, o Options) (*Cluster, error) {
	if c.opts.Workers != o.Workers || c.opts.Proxy != o.Proxy || c.opts.CNI != o.CNI || c.opts.NoFsync != o.NoFsync {
		return nil, fmt.Errorf("cluster %s is up with other options (%d workers, kube-proxy %s, CNI %s, fsync %t): take it down first",
			o.Name, c.opts.Workers, c.opts.Proxy, c.opts.CNI, !c.opts.NoFsync)
	}
	o.Say("cluster %s is up already", o.Name)
	ctx, cancel := context.WithTimeout(ctx, apiServerWait)
	defer cancel()
	if err := c.waitAPIServer(ctx); err != nil {
		return nil, err
	}
	return c, c.Load(ctx, o.Load...)
}

// preflight says what is missing before anything is made.
func preflight() error {
	if os.Geteuid() != 0 {
		return errors.New("starting a cluster: it makes network namespaces and mounts, run it as root")
	}
	for _, program := range []string{"containerd", "ctr", "runc", "nft", "iptables", "conntrack", "nsenter"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("starting a cluster: %s is not installed: run hack/install-packages.sh", program)
		}
	}
	if _, err := os.Stat(filepath.Join(pluginDir, "loopback")); err != nil {
		return fmt.Errorf("starting a cluster: no CNI plugins in %s: run hack/install-packages.sh", pluginDir)
	}
	return nil
}

func (c *Cluster) start(ctx context.Context, bin binaries.Set, images []string) error {
	say, p := c.opts.Say, c.paths
	say("making %d hosts", len(c.Hosts()))
	if err := c.prepare(ctx); err != nil {
		return err
	}
	for _, h := range c.Hosts() {
		config := hostConfig(c.opts, p, bin, h)
		if c.opts.CNI == PTP && h.Node {
			conf, err := ptpConfig(h)
			if err != nil {
				return err
			}
			config.Files["/etc/cni/net.d/10-ptp.conflist"] = conf
		}
		if err := startHost(p, h, config); err != nil {
			return err
		}
	}
	say("starting the control plane, loading %d images", len(images))
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error {
		ctx, cancel := context.WithTimeout(groupCtx, apiServerWait)
		defer cancel()
		if err := c.waitAPIServer(ctx); err != nil {
			return err
		}
		say("the API server is ready")
		_, err := c.KubectlInput(ctx, dnsManifest(), "apply", "--server-side", "-f", "-")
		return err
	})
	for _, h := range c.Nodes() {
		group.Go(func() error { return c.startNode(groupCtx, h, images) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return c.waitNodes(ctx)
}

// prepare makes all that the hosts need before they start.
func (c *Cluster) prepare(ctx context.Context) error {
	p := c.paths
	for _, dir := range []string{p.dir, p.logs()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("making the cluster's folder: %w", err)
		}
	}
	data, err := json.MarshalIndent(settings{Options: c.opts, Kubectl: c.kubectl}, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the cluster's settings: %w", err)
	}
	if err := os.WriteFile(p.settings(), data, 0o600); err != nil {
		return fmt.Errorf("writing the cluster's settings: %w", err)
	}
	if err := installProgram(ctx, c.opts.Program, p.program()); err != nil {
		return err
	}
	if err := writeCredentials(p, c.Hosts()); err != nil {
		return err
	}
	if err := makeNetwork(p, c.Hosts()); err != nil {
		return err
	}
	for _, h := range c.Hosts() {
		if err := makeCgroups(p.cgroup(h.Name)); err != nil {
			return err
		}
		if h.Node {
			if err := installPlugins(p, h); err != nil {
				return err
			}
		}
	}
	if c.opts.CNI == PTP {
		return addPodRoutes(p, c.Hosts())
	}
	return nil
}

func (c *Cluster) waitAPIServer(ctx context.Context) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	return poll(ctx, "the API server", func() error {
		_, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return err
	})
}

// startNode loads the images, without which a kubelet would try to pull and then hold back, and starts the kubelet.
func (c *Cluster) startNode(ctx context.Context, h Host, images []string) error {
	client, err := nodeinit.NewClient(c.paths.host(h.Name))
	if err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, nodesWait)
	defer cancel()
	err = poll(wait, "containerd on "+h.Name, func() error {
		if _, err := c.process(h.Name); err != nil {
			return err
		}
		_, err := c.Exec(wait, h.Name, "ctr", "version")
		return err
	})
	if err != nil {
		return err
	}
	if err := c.loadOn(ctx, h.Name, images); err != nil {
		return err
	}
	if err := client.Start(ctx, Kubelet); err != nil {
		return fmt.Errorf("starting the kubelet on %s: %w", h.Name, err)
	}
	return nil
}

// waitNodes waits until the nodes are registered, labels the control plane, and starts kube-proxy, which needs its node.
func (c *Cluster) waitNodes(ctx context.Context) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, nodesWait)
	defer cancel()
	for _, h := range c.Nodes() {
		err := poll(wait, "node "+h.Name, func() error {
			_, err := client.CoreV1().Nodes().Get(wait, h.Name, metav1.GetOptions{})
			return err
		})
		if err != nil {
			return err
		}
		if h.ControlPlane {
			if err := labelControlPlane(wait, client, h.Name); err != nil {
				return err
			}
		}
		if err := c.Start(wait, h.Name, KubeProxy); err != nil {
			return err
		}
	}
	c.opts.Say("%d nodes are registered", len(c.Nodes()))
	if c.opts.CNI == NoCNI {
		return nil
	}
	for _, h := range c.Nodes() {
		if err := poll(wait, "node "+h.Name+" to be ready", func() error { return nodeReady(wait, client, h.Name) }); err != nil {
			return err
		}
	}
	c.opts.Say("the nodes are ready")
	return nil
}

// labelControlPlane sets the label that a kubelet may not give to itself.
func labelControlPlane(ctx context.Context, client kubernetes.Interface, node string) error {
	patch := []byte(`{"metadata":{"labels":{"node-role.kubernetes.io/control-plane":""}}}`)
	if _, err := client.CoreV1().Nodes().Patch(ctx, node, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("labelling node %s: %w", node, err)
	}
	return nil
}

func nodeReady(ctx context.Context, client kubernetes.Interface, name string) error {
	node, err := client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	i := slices.IndexFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == corev1.NodeReady })
	if i < 0 {
		return errors.New("no condition Ready")
	}
	if c := node.Status.Conditions[i]; c.Status != corev1.ConditionTrue {
		return errors.New(c.Message)
	}
	return nil
}
