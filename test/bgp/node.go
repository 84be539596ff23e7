// Package bgp lets node agents talk BGP with real routers, BIRD and FRR, in network namespaces.
package bgp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/nodeagent/agent"
	"github.com/manul-net/manul/nodeagent/attachments"
	"github.com/manul-net/manul/nodeagent/dataplane/bgp"
	"github.com/manul-net/manul/nodeagent/dataplane/loops"
	"github.com/manul-net/manul/nodeagent/dataplane/peering"
	"github.com/manul-net/manul/nodeagent/dataplane/routes"
	"github.com/manul-net/manul/nodeagent/source"
	"github.com/manul-net/manul/nodeagent/tables"
)

// NodeVariable in the environment makes a process of a test a node agent: see Serve.
const NodeVariable = "MANUL_TEST_BGP_NODE"

// Input is all that a node is told, at once.
type Input struct {
	Generation int64                               `json:"generation"`
	State      v1alpha1.NodeStateSpec              `json:"state"`
	Networks   map[string]v1alpha1.NodeNetworkSpec `json:"networks,omitempty"`
	// Secrets by "name/key".
	Secrets map[string]string `json:"secrets,omitempty"`
	// Pods are the addresses that pods hold, by ID.
	Pods map[string][]string `json:"pods,omitempty"`
}

// Serve is a node agent with its loop, speaker and drivers of routes, in the process's own network namespace. It takes
// Inputs from in, one a line, and writes the statuses that it would report to out.
func Serve(in io.Reader, out io.Writer) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
	driver, err := routes.New(routes.Options{WorkloadPrefix: "cali", Log: log})
	if err != nil {
		return err
	}
	defer driver.Close()
	learned, err := routes.NewLearned(routes.LearnedOptions{Log: log})
	if err != nil {
		return err
	}
	defer learned.Close()
	told := &told{in: in, out: json.NewEncoder(out), changed: make(chan struct{}, 1)}
	speaker := bgp.New(bgp.Options{Secrets: told, Log: log})
	defer speaker.Close()
	lister, err := routes.NewLister(0, 0)
	if err != nil {
		return err
	}
	defer lister.Close()
	addresses, err := peering.New()
	if err != nil {
		return err
	}
	defer addresses.Close()
	unused, err := loops.New()
	if err != nil {
		return err
	}
	defer unused.Close()
	a := agent.New(agent.Options{
		Loops:        unused,
		KernelRoutes: lister.List, Peering: addresses,
		Node: os.Getenv(NodeVariable), Version: "test", Dataplane: func() string { return "" }, Source: told,
		Policy: noPolicy{}, Routes: driver, BGP: speaker, Learned: learned, Addresses: told, Checkpoint: noCheckpoint{},
		Interfaces: noInterfaces{}, MTU: func([]netip.Addr, string) (int, error) { return 1500, nil }, Log: log,
	})
	return a.Run(ctx)
}

// told is source, Secrets and addresses of a node, from Inputs.
type told struct {
	in      io.Reader
	changed chan struct{}

	mu   sync.Mutex
	out  *json.Encoder
	last Input
}

// Run implements source.Source.
func (n *told) Run(ctx context.Context, sink source.Sink) error {
	failed := make(chan error, 1)
	go func() { failed <- n.read(sink) }() // nothing ends it but the end of the process
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

func (n *told) read(sink source.Sink) error {
	lines := bufio.NewScanner(n.in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var input Input
		if err := json.Unmarshal(lines.Bytes(), &input); err != nil {
			return fmt.Errorf("reading an input: %w", err)
		}
		n.mu.Lock()
		n.last = input
		n.mu.Unlock()
		select {
		case n.changed <- struct{}{}:
		default:
		}
		state := &v1alpha1.NodeState{Spec: input.State}
		state.Name, state.Generation, state.UID = os.Getenv(NodeVariable), input.Generation, "u"
		var networks []source.Object
		for name, spec := range input.Networks {
			o := &v1alpha1.NodeNetwork{Spec: spec}
			o.Name, o.Generation, o.UID = name, input.Generation, "u"
			networks = append(networks, o)
		}
		version := fmt.Sprint(input.Generation)
		sink.Replace(source.NodeNetwork, networks, version)
		for _, kind := range []source.Kind{source.NodeEndpoints, source.PolicyProgram, source.SetCatalog} {
			sink.Replace(kind, nil, version)
		}
		sink.Replace(source.NodeState, []source.Object{state}, version)
	}
	return lines.Err()
}

// Report implements source.Source.
func (n *told) Report(r source.Report) {
	n.mu.Lock()
	defer n.mu.Unlock()
	_ = n.out.Encode(r.Status)
}

// Password implements bgp.Secrets.
func (n *told) Password(name, key string) (string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p, ok := n.last.Secrets[name+"/"+key]
	if !ok {
		return "", fmt.Errorf("there is no key %s in Secret %s", key, name)
	}
	return p, nil
}

// Keep implements bgp.Secrets.
func (*told) Keep(map[string]bool) {}

// Changed implements bgp.Secrets.
func (n *told) Changed() <-chan struct{} { return n.changed }

// Save implements agent.Addresses.
func (*told) Save(context.Context, int) error { return nil }

// Mark implements agent.Addresses.
func (*told) Mark() int { return 0 }

// Failing implements agent.Addresses.
func (*told) Failing() error { return nil }

// Unsaved implements agent.Addresses.
func (*told) Unsaved() bool { return false }

// Held implements agent.Addresses.
func (n *told) Held(each func(attachments.Held)) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for id, list := range n.last.Pods {
		var addrs []netip.Addr
		for _, s := range list {
			addrs = append(addrs, netip.MustParseAddr(s))
		}
		each(attachments.Held{Owner: attachments.Owner{Endpoint: id, UID: "u"}, Addresses: addrs})
	}
	return nil
}

var errNone = errors.New("the test gives no addresses")

// SetLeases implements agent.Addresses.
func (*told) SetLeases([]v1alpha1.BlockLease, []v1alpha1.BorrowedAddress, time.Duration) error {
	return nil
}

// Leases implements agent.Addresses.
func (*told) Leases() ([]v1alpha1.LeaseStatus, bool) { return nil, false }

// NeedsAdoption implements agent.Addresses.
func (*told) NeedsAdoption() (bool, error) { return false, nil }

// Adopt implements agent.Addresses.
func (*told) Adopt([]v1alpha1.EndpointStatus, []string) error { return nil }

// Allocate implements agent.Addresses.
func (*told) Allocate(string, string, v1alpha1.AddressRequest) ([]netip.Addr, error) {
	return nil, errNone
}

// AllocateTunnel implements agent.Addresses.
func (*told) AllocateTunnel(string, string) (netip.Addr, error) { return netip.Addr{}, errNone }

// Attach implements agent.Addresses.
func (*told) Attach(attachments.Owner, string) error { return errNone }

// AllocateAttached implements agent.Addresses.
func (*told) AllocateAttached(attachments.Owner, v1alpha1.AddressRequest, string) error {
	return errNone
}

// AttachmentsOf implements agent.Addresses.
func (*told) AttachmentsOf(attachments.Owner) []string { return nil }

// Detach implements agent.Addresses.
func (*told) Detach(string) error { return nil }

// Retain implements agent.Addresses.
func (*told) Retain([]string) error { return nil }

// KeepAttachments implements agent.Addresses.
func (*told) KeepAttachments([]string) error { return nil }

// EachAttachment implements agent.Addresses.
func (*told) EachAttachment(func(attachment string, of attachments.Held)) error { return nil }

// Take implements agent.Addresses.
func (*told) Take(attachments.Owner, []netip.Addr, string, bool) error { return errNone }

// Attached implements agent.Addresses.
func (*told) Attached(string) (attachments.Owner, bool) { return attachments.Owner{}, false }

// Drop implements agent.Addresses.
func (*told) Drop(string, string) (bool, error) { return false, nil }

// noPolicy polices nothing.
type noPolicy struct{}

func (noPolicy) Apply(_ context.Context, desired *tables.Policy) error { desired.Clean(); return nil }
func (noPolicy) Resync()                                               {}
func (noPolicy) Changed() <-chan struct{}                              { return nil }
func (noPolicy) Disturbances() int64                                   { return 0 }

type noCheckpoint struct{}

func (noCheckpoint) Set(source.Kind, source.Object)              {}
func (noCheckpoint) Delete(source.Kind, string)                  {}
func (noCheckpoint) HasPending() bool                            { return false }
func (noCheckpoint) Flush() error                                { return nil }
func (noCheckpoint) Load(func(source.Kind, source.Object)) error { return nil }

type noInterfaces struct{}

func (noInterfaces) Addresses() map[string][]netip.Addr { return nil }
func (noInterfaces) Changed() <-chan struct{}           { return nil }
