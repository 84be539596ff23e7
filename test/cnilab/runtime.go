package cnilab

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/containernetworking/plugins/pkg/testutils"
)

// Sandbox is a container of a pod, as the runtime knows it.
type Sandbox struct {
	Node *Node
	// Pod is "namespace/name", ID the container's.
	Pod, ID string
	// IfName is the interface's name in the pod; empty: eth0. Network is the network's name; empty: manul.
	IfName, Network string
	// IPAM is the section of the network configuration in place of the node's.
	IPAM string
	// Result of the last ADD that succeeded; nil: none.
	Result *types100.Result
	netns  ns.NetNS
}

// Sandbox makes one, with a network namespace. Remove removes it.
func (n *Node) Sandbox(pod, id string) (*Sandbox, error) {
	netns, err := testutils.NewNS()
	if err != nil {
		return nil, fmt.Errorf("making a network namespace: %w", err)
	}
	return &Sandbox{Node: n, Pod: pod, ID: id, netns: netns}, nil
}

// Another is a further interface of the sandbox's container, on another network. What it has is the sandbox's to remove.
func (s *Sandbox) Another(ifName, network, ipam string) *Sandbox {
	return &Sandbox{Node: s.Node, Pod: s.Pod, ID: s.ID, netns: s.netns, IfName: ifName, Network: network, IPAM: ipam}
}

func (s *Sandbox) ifName() string { return cmp.Or(s.IfName, "eth0") }

// Netns is the path of the sandbox's network namespace.
func (s *Sandbox) Netns() string { return s.netns.Path() }

// In runs f in the sandbox's network namespace.
func (s *Sandbox) In(f func() error) error {
	return s.netns.Do(func(ns.NetNS) error { return f() })
}

// Remove removes the sandbox's network namespace.
func (s *Sandbox) Remove() error { return removeNamespace(s.netns) }

// Add calls the plugin, and tells how long it took, its start as a process included.
func (s *Sandbox) Add() (time.Duration, error) {
	out, took, err := s.call("ADD")
	if err != nil {
		return took, err
	}
	var result types100.Result
	if err := json.Unmarshal(out, &result); err != nil {
		return took, fmt.Errorf("reading the plugin's result: %w", err)
	}
	s.Result = &result
	return took, nil
}

// Del calls the plugin.
func (s *Sandbox) Del() (time.Duration, error) {
	_, took, err := s.call("DEL")
	return took, err
}

// Check calls the plugin.
func (s *Sandbox) Check() error {
	_, _, err := s.call("CHECK")
	return err
}

// GC calls the plugin with the sandboxes that the runtime knows.
func (n *Node) GC(valid ...*Sandbox) error {
	attachments := []types.GCAttachment{}
	for _, s := range valid {
		attachments = append(attachments, types.GCAttachment{ContainerID: s.ID, IfName: s.ifName()})
	}
	_, _, err := n.run("GC", nil, map[string]any{"cni.dev/valid-attachments": attachments})
	return err
}

// AddThatDies calls the plugin for an ADD and ends it by force once until says so.
func (s *Sandbox) AddThatDies(until func() error) error {
	cmd, _, _, err := s.Node.command("ADD", s.env(), s.more("ADD"))
	if err != nil {
		return err
	}
	if err := s.Node.In(cmd.Start); err != nil {
		return fmt.Errorf("starting the plugin: %w", err)
	}
	err = until()
	killed := cmd.Process.Kill()
	if done := cmd.Wait(); done == nil {
		err = errors.Join(err, errors.New("the ADD succeeded before"))
	}
	return errors.Join(err, killed)
}

func (s *Sandbox) call(command string) ([]byte, time.Duration, error) {
	return s.Node.run(command, s.env(), s.more(command))
}

// more is what the configuration has beside the node's.
func (s *Sandbox) more(command string) map[string]any {
	more := map[string]any{"name": cmp.Or(s.Network, "manul")}
	if s.IPAM != "" {
		more["ipam"] = json.RawMessage(s.IPAM)
	}
	if s.Result != nil && command != "ADD" {
		more["prevResult"] = s.Result
	}
	return more
}

func (s *Sandbox) env() []string {
	namespace, name, _ := strings.Cut(s.Pod, "/")
	return []string{
		"CNI_CONTAINERID=" + s.ID, "CNI_IFNAME=" + s.ifName(), "CNI_NETNS=" + s.netns.Path(),
		fmt.Sprintf("CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=%s;K8S_POD_NAME=%s;K8S_POD_UID=%s", namespace, name, UID(s.Pod)),
	}
}

// command is a call of the program that was built; it bounds itself.
func (n *Node) command(command string, env []string, more map[string]any) (cmd *exec.Cmd, stdout, stderr *bytes.Buffer, err error) {
	config := map[string]any{"cniVersion": "1.1.0", "name": "manul", "type": "manul", "socket": n.socket(), "stateDir": n.Dir + "/cni"}
	if n.IPAM != "" {
		config["ipam"] = json.RawMessage(n.IPAM)
	}
	maps.Copy(config, more)
	stdin, err := json.Marshal(config)
	if err != nil {
		return nil, nil, nil, err
	}
	cmd = exec.Command(n.Plugin)
	cmd.Env = slices.Concat(env, []string{"CNI_COMMAND=" + command, "CNI_PATH=" + cmp.Or(n.Plugins, "/nowhere")})
	cmd.Stdin = bytes.NewReader(stdin)
	stdout, stderr = new(bytes.Buffer), new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	return cmd, stdout, stderr, nil
}

func (n *Node) run(command string, env []string, more map[string]any) ([]byte, time.Duration, error) {
	cmd, stdout, stderr, err := n.command(command, env, more)
	if err != nil {
		return nil, 0, err
	}
	var took time.Duration
	err = n.In(func() error { // the child has the network namespace of the thread
		began := time.Now()
		defer func() { took = time.Since(began) }()
		return cmd.Run()
	})
	if err == nil {
		return stdout.Bytes(), took, nil
	}
	var e types.Error
	if json.Unmarshal(stdout.Bytes(), &e) != nil {
		return nil, took, errors.Join(err, errors.New(stdout.String()+stderr.String()))
	}
	return nil, took, &e
}
