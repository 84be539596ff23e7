package nodeinit

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
)

// maxSocketPath is what the kernel takes for the path of a unix socket, without the closing zero.
const maxSocketPath = 107

// Client gives commands to the first process of a host.
type Client struct {
	http http.Client
}

// NewClient makes a client for the host whose folder is dir (Config.Dir).
func NewClient(dir string) (*Client, error) {
	path := filepath.Join(dir, controlName)
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("path %s of a socket is %d bytes long, the kernel takes %d: choose a shorter MANUL_CACHE or cluster name",
			path, len(path), maxSocketPath)
	}
	return &Client{http: http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
	}}}, nil
}

// Status lists the components of the host.
func (c *Client) Status(ctx context.Context) ([]Status, error) {
	body, err := c.do(ctx, http.MethodGet, "/components")
	if err != nil {
		return nil, fmt.Errorf("asking for components: %w", err)
	}
	var list []Status
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("asking for components: %w", err)
	}
	return list, nil
}

// Start starts a component that was stopped or waits to start again.
func (c *Client) Start(ctx context.Context, component string) error {
	_, err := c.do(ctx, http.MethodPost, "/components/"+component+"/start")
	return err
}

// Stop ends a component, by force when it does not end in ten seconds. It stays down until Start.
func (c *Client) Stop(ctx context.Context, component string) error {
	_, err := c.do(ctx, http.MethodPost, "/components/"+component+"/stop")
	return err
}

// Kill ends a component with SIGKILL, as a crash would. It starts again by itself.
func (c *Client) Kill(ctx context.Context, component string) error {
	_, err := c.do(ctx, http.MethodPost, "/components/"+component+"/kill")
	return err
}

func (c *Client) do(ctx context.Context, method, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://host"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s", strings.TrimSpace(string(body)))
	}
	return body, nil
}
