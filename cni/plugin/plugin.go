// Package plugin is the CNI plugin: it makes a pod's interface and asks the node agent for everything else.
//
// ADD asks the agent once. The agent answers when the pod's addresses are durable and its policy is in the kernel under the
// name of the host-side interface; only then does that interface come to be. So no packet of the pod meets a node
// that is not ready for it. Whatever fails, ADD leaves nothing behind.
//
// DEL removes first what is in the kernel, then gives the addresses back, so that no address has two interfaces. It
// succeeds when things are gone already and when no agent answers: the agent finds the DEL on disk later.
package plugin

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/manul-net/manul/cni/protocol"
)

// How long one call of the plugin waits, beyond what the agent allows itself for an answer.
const (
	addTimeout  = 40 * time.Second
	delTimeout  = 15 * time.Second
	callTimeout = 15 * time.Second
	// lockTimeout is how long a call waits for another of the same attachment. Below the kubelet's patience of 2 min.
	lockTimeout = 60 * time.Second
)

// Main is the plugin's main function.
func Main(release string) {
	p := plugin{stdout: os.Stdout, stderr: os.Stderr}
	skel.PluginMainFuncs(skel.CNIFuncs{Add: p.add, Del: p.del, Check: p.check, Status: p.status, GC: p.gc},
		version.PluginSupports("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"), "CNI plugin manul "+release)
}

// plugin is one call.
type plugin struct {
	stdout, stderr io.Writer
}

// call is what every call has to know.
type call struct {
	*config
	// stdin is the configuration as it came.
	stdin  []byte
	log    *slog.Logger
	client protocol.Client
	// attachment and pod are empty in STATUS and GC.
	attachment protocol.Attachment
	pod        pod
	netns      string
}

func (p plugin) parse(args *skel.CmdArgs) (*call, error) {
	c, err := parseConfig(args.StdinData)
	if err != nil {
		return nil, err
	}
	return &call{
		config: c, stdin: args.StdinData, log: c.logger(p.stderr).With("container", args.ContainerID), client: protocol.Client{Socket: c.Socket},
		attachment: protocol.Attachment{ContainerID: args.ContainerID, IfName: args.IfName},
		pod:        parseArgs(args.Args), netns: args.Netns,
	}, nil
}

func (p plugin) status(args *skel.CmdArgs) error {
	c, err := p.parse(args)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	err = c.client.Status(ctx)
	if err == nil {
		return c.passOn(ctx, "STATUS")
	}
	// The specification knows two answers. Without an agent existing pods go on as they are.
	code := protocol.CodeNotAvailable
	var e *protocol.Error
	if errors.As(err, &e) && e.Code == protocol.CodeLimitedConnectivity {
		code = e.Code
	}
	return types.NewError(code, err.Error(), "")
}

// failure makes of err what the runtime is to see. An agent that cannot be reached is a passing condition.
func failure(doing string, err error) error {
	if _, ok := errors.AsType[*types.Error](err); ok {
		return err
	}
	message := doing + ": " + strings.ReplaceAll(err.Error(), "\n", "; ")
	if unreachable(err) {
		return types.NewError(protocol.CodeTryAgainLater, message, "is the agent's pod (manul-node) running on this node?")
	}
	if e, ok := errors.AsType[*protocol.Error](err); ok {
		return types.NewError(e.Code, message, "")
	}
	return types.NewError(protocol.CodeSetup, message, "")
}
