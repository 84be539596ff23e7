package cluster

import (
	"context"
	"fmt"
	"net"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// RESTConfig is an administrator's configuration for Go clients. It connects from inside the cluster, and so works in a
// process that is in the machine's own namespace.
func (c *Cluster) RESTConfig() (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		return nil, fmt.Errorf("reading the cluster's kubeconfig: %w", err)
	}
	config.Dial = c.Dialer(c.Hosts()[0].Name)
	// A test is not to measure its own client's limits.
	config.QPS, config.Burst = -1, -1
	return config, nil
}

// Dialer makes connections from a host's network namespace. Addresses must be numeric: names would be looked up in the
// machine's own namespace.
func (c *Cluster) Dialer(host string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if h, _, err := net.SplitHostPort(address); err != nil || net.ParseIP(h) == nil {
			return nil, fmt.Errorf("connecting from %s to %q: want an IP address and a port", host, address)
		}
		var conn net.Conn
		err := inNamespace(c.paths.namespace(host), func() error {
			var err error
			var d net.Dialer
			conn, err = d.DialContext(ctx, network, address)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("connecting from %s to %s: %w", host, address, err)
		}
		return conn, nil
	}
}

func (c *Cluster) client() (kubernetes.Interface, error) {
	config, err := c.RESTConfig()
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(config)
}
