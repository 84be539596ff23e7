// Package nodeinit is the first process of a host of the local cluster: it sets up the host's mount tree, then starts the
// host's components, restarts those that end, and takes up orphans.
package nodeinit

import (
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// Config is what a host's first process is told, as a JSON file.
type Config struct {
	// Hostname is the host's name in the cluster.
	Hostname string `json:"hostname"`
	// Dir is the host's own folder on a real file system. Control, logs and everything the host writes is there.
	Dir string `json:"dir"`
	// Shared are folders of the machine that the host sees as they are, at the same path.
	Shared []string `json:"shared"`
	// Private are folders that are empty at the start and whose content is kept below Dir, on a real file system.
	Private []string `json:"private"`
	// Cgroup is the path of the host's cgroup in each hierarchy of the machine.
	Cgroup string `json:"cgroup"`
	// Files are written before the components start: path on the host to content.
	Files map[string]string `json:"files"`
	// Sysctls are set in the host's network namespace: path below /proc/sys to value.
	Sysctls map[string]string `json:"sysctls"`
	// Tunables are settings of the machine's kernel that the host sees with these values, and may write, without any effect
	// on the machine: path below /proc/sys to value.
	Tunables map[string]string `json:"tunables"`
	// Components are the programs that run on the host.
	Components []Component `json:"components"`
}

// Component is a program that the first process supervises.
type Component struct {
	Name string   `json:"name"`
	Args []string `json:"args"` // Args[0] is the program
	Log  string   `json:"log"`  // file that its output is appended to
	// Manual components are started by a command, not with the host.
	Manual bool `json:"manual"`
}

// State is what a component is doing.
type State string

// The states.
const (
	Stopped State = "stopped" // by command, or never started
	Running State = "running"
	Waiting State = "waiting" // ended by itself; starts again after a pause
)

// Status is the state of one component.
type Status struct {
	Name     string `json:"name"`
	State    State  `json:"state"`
	PID      int    `json:"pid,omitempty"` // in the host's process namespace
	Restarts int    `json:"restarts"`      // times it ended by itself
	// Since is when it entered its state.
	Since time.Time `json:"since"`
	// LastExit says how it ended last.
	LastExit string `json:"lastExit,omitempty"`
}

// ReadConfig reads the file that Config.Write wrote.
func ReadConfig(path string) (Config, error) {
	var c Config
	data, err := os.ReadFile(path)
	if err != nil {
		return c, fmt.Errorf("reading the host's configuration: %w", err)
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return c, fmt.Errorf("reading the host's configuration %s: %w", path, err)
	}
	return c, nil
}

// Write writes the configuration.
func (c Config) Write(path string) error {
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the host's configuration: %w", err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return fmt.Errorf("writing the host's configuration: %w", err)
	}
	return nil
}
