package plugin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/manul-net/manul/cni/conflist"
	"github.com/manul-net/manul/cni/protocol"
)

const defaultStateDir = "/var/lib/manul/cni"

// config is the network configuration as the runtime hands it over. Decoding is strict: a member that is not listed
// here is an error, for a misspelt setting would otherwise pass for one that is in force.
type config struct {
	// Ours.
	Socket   string `json:"socket"`
	StateDir string `json:"stateDir"`
	MTU      int    `json:"mtu"`
	LogLevel string `json:"logLevel"`

	// IPAM says who gives addresses: the agent, without it, or another plugin.
	IPAM json.RawMessage `json:"ipam"`

	// Every plugin's, by the specification.
	CNIVersion       string               `json:"cniVersion"`
	Name             string               `json:"name"`
	Type             string               `json:"type"`
	PrevResult       json.RawMessage      `json:"prevResult"`
	ValidAttachments []types.GCAttachment `json:"cni.dev/valid-attachments"`

	// Given to every plugin of the list, and of no use to this one.
	Capabilities  map[string]bool `json:"capabilities"`
	RuntimeConfig json.RawMessage `json:"runtimeConfig"`
	Args          json.RawMessage `json:"args"`
	// libcni up to 1.3 sends the attachments under this name too.
	Attachments json.RawMessage `json:"cni.dev/attachments"`

	level slog.Level
	ipam  conflist.IPAM
}

func parseConfig(data []byte) (*config, error) {
	c := &config{Socket: protocol.DefaultSocket, StateDir: defaultStateDir}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	err := dec.Decode(c)
	if err == nil && dec.More() {
		err = errors.New("more than one JSON value")
	}
	if err != nil {
		return nil, configError("%s", strings.TrimPrefix(err.Error(), "json: "))
	}
	for _, f := range []struct{ name, path string }{{"socket", c.Socket}, {"stateDir", c.StateDir}} {
		if !filepath.IsAbs(f.path) {
			return nil, configError("%s: got %q, want an absolute path", f.name, f.path)
		}
	}
	if c.MTU < 0 || c.MTU > 65535 {
		return nil, configError("mtu: got %d, want 0 (automatic) to 65535", c.MTU)
	}
	if c.LogLevel != "" {
		if err := c.level.UnmarshalText([]byte(c.LogLevel)); err != nil {
			return nil, configError("logLevel: got %q, want debug, info, warn or error", c.LogLevel)
		}
	}
	if c.ipam, err = conflist.ParseIPAM(c.IPAM); err != nil {
		return nil, configError("%v", err)
	}
	return c, nil
}

func configError(format string, args ...any) error {
	return types.NewError(types.ErrInvalidNetworkConfig, "network configuration of plugin manul: "+fmt.Sprintf(format, args...), "")
}

func (c *config) logger(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: c.level}))
}

func (c *config) queue() protocol.Queue {
	return protocol.Queue{Dir: filepath.Join(c.StateDir, "deferred")}
}

// previous gives the result of the ADD that the runtime remembers, nil when it sent none.
func (c *config) previous() (*types100.Result, error) {
	if len(c.PrevResult) == 0 || string(c.PrevResult) == "null" {
		return nil, nil
	}
	res, err := version.NewResult(c.CNIVersion, c.PrevResult)
	if err != nil {
		return nil, configError("prevResult: %v", err)
	}
	prev, err := types100.NewResultFromResult(res)
	if err != nil {
		return nil, configError("prevResult: %v", err)
	}
	return prev, nil
}

// pod is what CNI_ARGS says of the pod.
type pod struct{ namespace, name, uid string }

// parseArgs reads CNI_ARGS ("KEY=value;KEY=value"). Keys that are not the pod's are other plugins' business.
func parseArgs(args string) pod {
	var p pod
	for pair := range strings.SplitSeq(args, ";") {
		key, value, _ := strings.Cut(pair, "=")
		switch key {
		case "K8S_POD_NAMESPACE":
			p.namespace = value
		case "K8S_POD_NAME":
			p.name = value
		case "K8S_POD_UID":
			p.uid = value
		}
	}
	return p
}
