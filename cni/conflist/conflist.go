// Package conflist renders the network configuration list that tells the container runtime to call the plugin.
package conflist

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Names that runtime and agent must agree on.
const (
	// PluginName is the name of the plugin's binary, and so its type.
	PluginName = "manul"
	// FileName sorts before the names of other networks: the runtime takes the first.
	FileName = "10-manul.conflist"
)

// Options of a network configuration. The zero value is the usual configuration.
type Options struct {
	// Network is the network's name. Empty: "manul".
	Network string
	// Socket is where the agent listens. Empty: the plugin's default.
	Socket string
	// StateDir is where the plugin keeps locks and deferred DELs. Empty: the plugin's default.
	StateDir string
	// MTU of pod interfaces, bytes. 0: the agent decides.
	MTU int
	// LogLevel of the plugin: "debug", "info", "warn" or "error". Empty: "info".
	LogLevel string
	// WithoutPortMap leaves the portmap plugin out: pods have no host ports.
	WithoutPortMap bool
	// IPAM is the "ipam" section, in JSON. Empty: none, and the agent gives addresses.
	IPAM json.RawMessage
	// Sysctls of every pod, by name: "net.core.somaxconn". The tuning plugin sets them; none: it is left out.
	Sysctls map[string]string
}

type list struct {
	CNIVersion  string   `json:"cniVersion"`
	CNIVersions []string `json:"cniVersions"`
	Name        string   `json:"name"`
	Plugins     []plugin `json:"plugins"`
}

type plugin struct {
	Type         string          `json:"type"`
	Socket       string          `json:"socket,omitempty"`
	StateDir     string          `json:"stateDir,omitempty"`
	MTU          int             `json:"mtu,omitempty"`
	LogLevel     string          `json:"logLevel,omitempty"`
	Capabilities map[string]bool `json:"capabilities,omitempty"`

	IPAM   json.RawMessage   `json:"ipam,omitempty"`
	Sysctl map[string]string `json:"sysctl,omitempty"`
}

// CheckSysctl tells why a sysctl can't be set for pods: only those under net are a pod's own.
func CheckSysctl(name, value string) error {
	parts := strings.Split(name, ".")
	if len(parts) < 2 || parts[0] != "net" || slices.Contains(parts, "") || strings.ContainsAny(name, "/ \t\n") {
		return fmt.Errorf("sysctl: got %q, want a name like net.core.somaxconn: pods have only those under net for themselves", name)
	}
	if value == "" || strings.ContainsAny(value, "\n\x00") {
		return fmt.Errorf("sysctl %s: got %q, want a value in one line", name, value)
	}
	return nil
}

// Render gives the file's content. The same options give the same bytes.
//
// cniVersion is 1.0.0 because a runtime older than CNI 1.1 (containerd before 2.0) refuses a plugin's answer in a version
// that it does not know. Newer runtimes take the highest of cniVersions that they know, and so get STATUS and GC.
func Render(o Options) ([]byte, error) {
	if o.Network == "" {
		o.Network = "manul"
	}
	if o.LogLevel == "" {
		o.LogLevel = "info"
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, o.LogLevel) {
		return nil, fmt.Errorf("rendering network configuration: log level: got %q, want debug, info, warn or error", o.LogLevel)
	}
	if o.MTU < 0 || o.MTU > 65535 {
		return nil, fmt.Errorf("rendering network configuration: MTU: got %d, want 0 (automatic) to 65535", o.MTU)
	}
	for _, path := range []string{o.Socket, o.StateDir} {
		if path != "" && !strings.HasPrefix(path, "/") {
			return nil, fmt.Errorf("rendering network configuration: path: got %q, want an absolute one", path)
		}
	}
	if _, err := ParseIPAM(o.IPAM); err != nil {
		return nil, fmt.Errorf("rendering network configuration: %w", err)
	}
	l := list{
		CNIVersion:  "1.0.0",
		CNIVersions: []string{"1.0.0", "1.1.0"},
		Name:        o.Network,
		Plugins: []plugin{{
			Type: PluginName, Socket: o.Socket, StateDir: o.StateDir, MTU: o.MTU, LogLevel: o.LogLevel, IPAM: o.IPAM,
		}},
	}
	for name, value := range o.Sysctls {
		if err := CheckSysctl(name, value); err != nil {
			return nil, fmt.Errorf("rendering network configuration: %w", err)
		}
	}
	if len(o.Sysctls) > 0 {
		l.Plugins = append(l.Plugins, plugin{Type: "tuning", Sysctl: o.Sysctls})
	}
	if !o.WithoutPortMap {
		l.Plugins = append(l.Plugins, plugin{Type: "portmap", Capabilities: map[string]bool{"portMappings": true}})
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetIndent("", "  ")
	if err := enc.Encode(l); err != nil {
		return nil, fmt.Errorf("rendering network configuration: %w", err)
	}
	return buf.Bytes(), nil
}
