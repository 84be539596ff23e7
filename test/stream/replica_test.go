package stream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/controllers/stream"
	"github.com/manul-net/manul/internal/board"
	"github.com/manul-net/manul/internal/live"
	"github.com/manul-net/manul/internal/render"
	"github.com/manul-net/manul/internal/wire"
	"github.com/manul-net/manul/nodeagent/source"
	"github.com/manul-net/manul/test/apiserver"
	"github.com/manul-net/manul/test/hollow"
	"github.com/manul-net/manul/webhooks/certs"
)

// patience is how long a test waits for what takes milliseconds.
const patience = time.Minute

const namespace = "manul-system"

// replica is the part of an operator that compiles and streams. A test feeds it.
type replica struct {
	world  *live.World
	board  *board.Board
	server *stream.Server
	// elected is closed once it leads.
	elected chan struct{}

	// listen opens the address; the default is that of this process' namespace.
	listen func(address string) (net.Listener, error)

	mu      sync.Mutex
	address string
	running *grpc.Server
}

// network is a cluster of replicas and agents, in which a hollow API stands for the API server: it has the rendered objects as the first
// replica, the leader, writes them.
type network struct {
	t        testing.TB
	mu       sync.Mutex // of replicas, while they are made, pair and cert
	api      *hollow.API
	replicas []*replica
	server   *httptest.Server // of the API
	serves   atomic.Bool
	mute     atomic.Bool // agents can't write to the API
	resign   func()      // ends the leader's writing
	pair     *certs.Pair
	cert     *tls.Certificate
}

func newNetwork(t testing.TB, replicas int) *network {
	t.Helper()
	n := &network{t: t}
	names := []string{wire.ServerName(namespace)}
	var err error
	if n.pair, err = certs.Make(time.Now(), names, nil); err != nil {
		t.Fatal(err)
	}
	if n.cert, err = n.pair.Check(time.Now(), names); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var wg sync.WaitGroup
	t.Cleanup(func() { cancel(); wg.Wait() })
	var worlds []hollow.Replica
	for range replicas {
		r := &replica{world: live.New(), board: board.New(), elected: make(chan struct{})}
		pump := stream.NewPump(r.world, r.board, logr.Discard())
		relay := stream.NewRelay()
		relay.Find, relay.Certificate, relay.ServerName = n.addresses, n.certificate, names[0]
		relay.Elected, relay.Unwritten, relay.Log = r.elected, r.world.Unwritten, logr.Discard()
		r.server = &stream.Server{
			Relay: relay, Certificate: n.certificate,
			World: r.world, Board: r.board, Filled: pump.Filled, Node: nodeInToken, Elected: r.elected, Metrics: stream.NewMetrics(), Log: logr.Discard(),
		}
		n.mu.Lock()
		n.replicas = append(n.replicas, r)
		n.mu.Unlock()
		worlds = append(worlds, r.world)
		wg.Go(func() {
			if err := pump.Start(ctx); err != nil {
				t.Error(err)
			}
		})
		r.world.Open()
		n.start(r)
		wg.Go(func() {
			if err := relay.Start(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	n.api = hollow.NewAPI(worlds...)
	n.server = httptest.NewServer(n.apiServer())
	t.Cleanup(n.server.Close)
	n.lead(n.replicas[0])
	t.Cleanup(func() { n.resign() })
	return n
}

// lead has a replica write the API's objects until it resigns.
func (n *network) lead(r *replica) {
	n.t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(n.t.Context()))
	ended := make(chan struct{})
	n.resign = func() { cancel(); <-ended }
	close(r.elected)
	go func() {
		defer close(ended)
		if err := n.api.Lead(ctx, r.world); err != nil {
			n.t.Error(err)
		}
	}()
}

// certificate is the operator's, which may be renewed.
func (n *network) certificate() (*tls.Certificate, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cert, nil
}

func (n *network) pairNow() *certs.Pair {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.pair
}

// addresses are those of all replicas.
func (n *network) addresses(context.Context) ([]string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []string
	for _, r := range n.replicas {
		r.mu.Lock()
		out = append(out, r.address)
		r.mu.Unlock()
	}
	return out, nil
}

// nodeInToken takes the token itself for the name of the node.
func nodeInToken(ctx context.Context) (string, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	if values := md.Get("authorization"); len(values) == 1 {
		return strings.TrimPrefix(values[0], "Bearer "), nil
	}
	return "", errors.New("no token")
}

// start has a replica serve, at the address that it had.
func (n *network) start(r *replica) {
	n.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	address := r.address
	if address == "" {
		address = apiserver.FreeAddress(n.t) // nobody else gets it while the replica is down
	}
	var listener net.Listener
	n.eventually("the replica listens", func() (err error) {
		if r.listen != nil {
			listener, err = r.listen(address)
			return err
		}
		listener, err = new(net.ListenConfig).Listen(n.t.Context(), "tcp", address)
		return err
	})
	r.address = listener.Addr().String()
	r.running = r.server.NewGRPC(&tls.Config{MinVersion: tls.VersionTLS13, ClientAuth: tls.RequestClientCert, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return n.certificate() }})
	go func(s *grpc.Server) {
		if err := s.Serve(listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			n.t.Error(err)
		}
	}(r.running)
	n.t.Cleanup(r.stop)
}

// stop ends all streams of a replica at once.
func (r *replica) stop() {
	r.mu.Lock()
	running := r.running
	r.running = nil
	r.mu.Unlock()
	if running != nil { // without the lock: a call that comes just now may ask for what waits for it
		running.Stop()
	}
}

func (n *network) set(objs ...runtime.Object) {
	n.t.Helper()
	for _, obj := range objs {
		for _, r := range n.replicas {
			if err := r.world.Set(obj.DeepCopyObject()); err != nil {
				n.t.Fatal(err)
			}
		}
	}
}

func (n *network) delete(obj runtime.Object) {
	n.t.Helper()
	for _, r := range n.replicas {
		if err := r.world.Delete(obj.DeepCopyObject()); err != nil {
			n.t.Fatal(err)
		}
	}
}

func (n *network) eventually(what string, ask func() error) {
	n.t.Helper()
	deadline := time.After(patience)
	for {
		err := ask()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			n.t.Fatalf("%s: not within %s: %v", what, patience, err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// trusted are the certificates that agents trust.
func (n *network) trusted() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(n.pairNow().Trusted)
	return pool
}

// falling has agents fall back to the API's objects when no replica serves, from now on or no more.
func (n *network) falling(back bool) {
	if back {
		n.api.Serve()
	}
	n.serves.Store(back)
	n.server.CloseClientConnections()
}

// apiServer takes what agents write to the API server. There is nothing else at its address, unless agents may fall back to the API's
// objects.
func (n *network) apiServer() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPatch && !n.mute.Load() || r.Method != http.MethodPatch && n.serves.Load() {
			n.api.ServeHTTP(w, r)
			return
		}
		http.Error(w, "there is no API server", http.StatusServiceUnavailable)
	})
}

// silence has agents write nothing to the API any more. By then it has the addresses of their pods: those of agents that follow another replica
// one knows by the API alone, and until then what the leader writes of them is strange to it.
func (n *network) silence() {
	n.t.Helper()
	n.eventually("the API has the addresses of all pods", func() error {
		for _, o := range n.api.All()[render.KindNodeState] {
			if s, ok := o.(*v1alpha1.NodeState); ok && len(s.Status.Endpoints) < len(s.Spec.Endpoints) {
				return fmt.Errorf("those of %s are missing", s.Name)
			}
		}
		return nil
	})
	n.mute.Store(true)
}

// agent starts an agent that follows some of the replicas.
func (n *network) agent(node string, check func(map[string]bool, int), replicas ...*replica) *hollow.Mirror {
	n.t.Helper()
	return n.agentBy(nil, node, check, replicas...)
}

// agentBy is agent with a way to connect of its own.
func (n *network) agentBy(dial func(context.Context, string) (net.Conn, error), node string, check func(map[string]bool, int), replicas ...*replica) *hollow.Mirror {
	n.t.Helper()
	m := hollow.NewMirror(node, addressOf)
	m.Check(check)
	src := n.source(dial, node, replicas...)
	m.Say(src)
	n.follow(m, src)
	return m
}

// source is an agent's source of news.
func (n *network) source(dial func(context.Context, string) (net.Conn, error), node string, replicas ...*replica) source.Source {
	n.t.Helper()
	return n.sourceWith(source.StreamOptions{Node: node, Token: n.tokenFile(node), Dial: dial}, replicas...)
}

// sourceWith is source with a token of its own.
func (n *network) sourceWith(o source.StreamOptions, replicas ...*replica) source.Source {
	n.t.Helper()
	o.Namespace, o.Log = namespace, slog.New(slog.DiscardHandler)
	o.Find = func(context.Context) (source.Replicas, error) {
		found := source.Replicas{Trusted: n.trusted()}
		for _, r := range replicas {
			r.mu.Lock()
			found.Addresses = append(found.Addresses, r.address)
			r.mu.Unlock()
		}
		return found, nil
	}
	src, err := source.NewCarriers(&rest.Config{Host: n.server.URL}, o)
	if err != nil {
		n.t.Fatal(err)
	}
	return src
}

// tokenFile is a file with a token.
func (n *network) tokenFile(token string) string {
	n.t.Helper()
	file := filepath.Join(n.t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		n.t.Fatal(err)
	}
	return file
}

// follow has a source bring news until the test ends.
func (n *network) follow(m *hollow.Mirror, src source.Source) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(n.t.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := src.Run(ctx, m); err != nil {
			n.t.Error(err)
		}
	}()
	n.t.Cleanup(func() { cancel(); <-done })
}

// told is what a node's tables are when it is told all of the API's objects.
func (n *network) told(node string) []string {
	n.t.Helper()
	m := hollow.NewMirror(node, addressOf)
	for kind, list := range n.api.All() {
		var objects []source.Object
		for _, o := range list {
			object, ok := o.DeepCopyObject().(source.Object)
			if !ok {
				n.t.Fatalf("%T is no object", o)
			}
			if kind != "NodeState" || object.GetName() == node {
				objects = append(objects, object)
			}
		}
		m.Replace(source.Kind(kind), objects, "")
	}
	return m.Tables()
}

// agree waits until agents know what the API's objects say, and these are what the leader has compiled.
func (n *network) agree(agents ...*hollow.Mirror) {
	n.t.Helper()
	n.eventually("the leader has written everything", func() error {
		if !n.api.Idle() {
			return errors.New("it writes")
		}
		return nil
	})
	for _, m := range agents {
		n.eventually(m.Node+" knows what the API's objects say", func() error {
			has, want := m.Tables(), n.told(m.Node)
			if slices.Equal(has, want) {
				return nil
			}
			var diff []string
			for _, x := range want {
				if !slices.Contains(has, x) {
					diff = append(diff, "- "+x)
				}
			}
			for _, x := range has {
				if !slices.Contains(want, x) {
					diff = append(diff, "+ "+x)
				}
			}
			return fmt.Errorf("%s", strings.Join(diff, "\n"))
		})
	}
}

func node(name string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Status:     corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2." + name[1:]}}},
	}
}

func team(name string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kubernetes.io/metadata.name": name}}}
}

// pod of a number on a node, of a colour.
func pod(number int, on, colour string) *corev1.Pod {
	name := fmt.Sprintf("pod-%d", number)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: name, UID: types.UID(name), Labels: map[string]string{"colour": colour, "name": name}},
		Spec:       corev1.PodSpec{NodeName: on},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning},
	}
}

// letIn is a policy for the pods of one colour that lets in those of another.
func letIn(name, selector, from string) *v3.NetworkPolicy {
	return &v3.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: name, UID: types.UID(name), Generation: 1},
		Spec: v3.NetworkPolicySpec{
			Selector: selector, Types: []v3.PolicyType{v3.PolicyTypeIngress},
			Ingress: []v3.Rule{{Action: v3.Allow, Source: v3.EntityRule{Selector: from}}},
		},
	}
}
