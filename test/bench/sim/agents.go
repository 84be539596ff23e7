package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/rpc"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/wire"
	"github.com/manul-net/manul/nodeagent/source"
	"github.com/manul-net/manul/nodeagent/verdict"
	"github.com/manul-net/manul/test/bench/clusters"
	"github.com/manul-net/manul/test/hollow"
)

// namespace of the operator, as its certificate has it.
const namespace = "manul-system"

const (
	// leisure is how long an agent waits before it writes to the API what the operator has heard already, as in nodeagent/source.
	leisure = 300 * time.Millisecond
	// beginning: so many agents begin at a time at most.
	beginning = 64
)

// agents are all node agents, in a process of their own. Its exported methods are for the parent.
type agents struct {
	profile

	parent *rpc.Client
	fleet  *hollow.Fleet
	probes probes
	words  *words
	slots  chan struct{}

	mu       sync.Mutex
	replicas []string
	running  map[string]*running
	sampled  map[string]*hollow.Mirror
	trusted  *x509.CertPool
}

// running is an agent at work.
type running struct {
	cancel context.CancelFunc
	done   chan struct{}
}

func newAgents(parent *rpc.Client) *agents {
	klog.SetLogger(logr.Discard()) // of vain attempts to fall back to the API's objects
	return &agents{
		parent: parent, running: map[string]*running{}, sampled: map[string]*hollow.Mirror{}, slots: make(chan struct{}, beginning),
		probes: probes{open: map[string]*probe{}}, words: newWords(),
	}
}

func addressOf(id string) string {
	n, _ := clusters.NumberOf(id)
	return clusters.AddressOf(n).String()
}

// Nodes are those that begin, and those of them that keep what they are told.
type Nodes struct {
	Trusted []byte
	Nodes   []string
	Sample  []string
}

// Begin starts agents. They call replicas as soon as there are any.
func (a *agents) Begin(n Nodes, _ *None) error {
	a.trusted = x509.NewCertPool()
	a.trusted.AppendCertsFromPEM(n.Trusted)
	a.fleet = &hollow.Fleet{
		Replicas:  a.addresses,
		TLS:       &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: a.trusted, ServerName: wire.ServerName(namespace)},
		Token:     func(node string) string { return node },
		AddressOf: addressOf,
		Told:      a.probes.told,
		Said: func(node string, status *v1alpha1.NodeStateStatus) {
			a.words.put(node, status, time.Now().Add(leisure))
		},
	}
	for _, node := range n.Sample {
		if err := a.beginSampled(node); err != nil {
			return err
		}
	}
	go func() {
		for _, node := range n.Nodes {
			if !slices.Contains(n.Sample, node) {
				a.begin(node)
			}
		}
	}()
	go a.words.write(a.parent)
	return nil
}

func (a *agents) addresses() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.replicas)
}

// Serve says which replicas there are.
func (a *agents) Serve(addresses []string, _ *None) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.replicas = addresses
	return nil
}

// begin starts the agent of a node.
func (a *agents) begin(node string) {
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{cancel: cancel, done: make(chan struct{})}
	a.mu.Lock()
	a.running[node] = r
	a.mu.Unlock()
	go func() {
		defer close(r.done)
		a.fleet.NewAgent(node).Run(ctx)
	}()
}

// Restart has agents end, and begin anew with nothing, one after the other, over some time.
func (a *agents) Restart(r Restart, _ *None) error { //nolint:unparam // as net/rpc wants it
	go func() {
		for _, node := range r.Nodes {
			a.mu.Lock()
			old := a.running[node]
			a.mu.Unlock()
			if old != nil {
				old.cancel()
				<-old.done
				a.begin(node)
			}
			<-time.After(r.Over / time.Duration(len(r.Nodes)))
		}
	}()
	return nil
}

// Restart of nodes' agents.
type Restart struct {
	Nodes []string
	Over  time.Duration
}

// beginSampled starts the agent of a node with the product's own source of news, whose tables are kept.
func (a *agents) beginSampled(node string) error {
	m := hollow.NewMirror(node, addressOf)
	dir, err := os.MkdirTemp("", "manul-sim-")
	if err != nil {
		return fmt.Errorf("making a folder for a token: %w", err)
	}
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte(node), 0o600); err != nil {
		return fmt.Errorf("writing a token: %w", err)
	}
	api := httptest.NewServer(http.HandlerFunc(a.status))
	src, err := source.NewCarriers(&rest.Config{Host: api.URL}, source.StreamOptions{
		Node: node, Namespace: namespace, Token: token, Log: slog.New(slog.DiscardHandler),
		Find: func(context.Context) (source.Replicas, error) {
			found := source.Replicas{Addresses: a.addresses(), Trusted: a.trusted}
			if len(found.Addresses) == 0 {
				return found, errors.New("no replica serves yet")
			}
			return found, nil
		},
	})
	if err != nil {
		return err
	}
	m.Say(src)
	a.sampled[node] = m
	go func() {
		if err := src.Run(context.Background(), m); err != nil {
			fmt.Fprintln(os.Stderr, "agents:", err)
		}
	}()
	return nil
}

// status takes what the sampled agents write to the API server. There is nothing else at its address: they can't fall back to the API's
// objects.
func (a *agents) status(w http.ResponseWriter, r *http.Request) {
	name, isStatus := strings.CutSuffix(strings.TrimPrefix(r.URL.Path, "/apis/manul.dev/v1alpha1/nodestates/"), "/status")
	var patch []struct{ Value v1alpha1.NodeStateStatus }
	if r.Method != http.MethodPatch || !isStatus || json.NewDecoder(r.Body).Decode(&patch) != nil || len(patch) != 1 {
		http.Error(w, "there is no API server", http.StatusServiceUnavailable)
		return
	}
	a.words.put(name, &patch[0].Value, time.Now()) // its own source has waited
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(`{"kind":"NodeState","apiVersion":"manul.dev/v1alpha1"}`))
}

// Counted is what the agents have counted.
type Counted struct {
	Following, Knowing                                 int
	Snapshots, Resumed, Lost, Messages, Bytes, Reports int64
}

// Count counts.
func (a *agents) Count(_ None, c *Counted) error { //nolint:unparam // as net/rpc wants it
	n := &a.fleet.Counts
	*c = Counted{
		Following: int(n.Following.Load()), Snapshots: n.Snapshots.Load(), Resumed: n.Resumed.Load(), Lost: n.Lost.Load(),
		Messages: n.Messages.Load(), Bytes: n.Bytes.Load(), Reports: n.Reports.Load(),
	}
	for _, m := range a.sampled {
		if m.Knows() {
			c.Knowing++
		}
	}
	return nil
}

// Memory tells how much the process holds.
func (a *agents) Memory(_ None, m *Memory) (err error) {
	*m, err = memory()
	return err
}

// Question is whether a sampled node lets through the first packet of a connection.
type Question struct {
	Node   string
	Packet verdict.Packet
}

// workloadPrefix begins the names of pods' interfaces.
const workloadPrefix = "cali"

// Judge answers questions by the nodes' tables.
func (a *agents) Judge(questions []Question, allowed *[]bool) error {
	byNode := map[string][]int{}
	for i := range questions {
		byNode[questions[i].Node] = append(byNode[questions[i].Node], i)
	}
	*allowed = make([]bool, len(questions))
	for node, those := range byNode {
		m := a.sampled[node]
		if m == nil {
			return fmt.Errorf("node %s is not among the sample", node)
		}
		m.Judge(workloadPrefix, func(e *verdict.Evaluator) {
			for _, i := range those {
				(*allowed)[i] = e.Evaluate(questions[i].Packet).Allowed
			}
		})
	}
	return nil
}
