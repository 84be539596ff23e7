package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/rpc"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/controllers/inputs"
	"github.com/manul-net/manul/controllers/rendered"
	"github.com/manul-net/manul/controllers/stream"
	"github.com/manul-net/manul/internal/board"
	"github.com/manul-net/manul/internal/live"
	"github.com/manul-net/manul/internal/render"
	"github.com/manul-net/manul/test/hollow"
)

// operator is a replica of the operator, in a process of its own. Its exported methods are for the parent.
type operator struct {
	profile

	parent *rpc.Client
	trim   func(any) (any, error)
	states inputs.States
	world  *live.World
	board  *board.Board
	server *stream.Server
	pump   *stream.Pump

	elected chan struct{}

	mu sync.Mutex
	// cache is what an operator's client would hold beside the compiler.
	cache  map[string]runtime.Object
	begun  bool
	writer *hollow.Writer
}

func newOperator(parent *rpc.Client) *operator {
	o := &operator{trim: inputs.NewTrim(), parent: parent, world: live.New(), board: board.New(), cache: map[string]runtime.Object{}, elected: make(chan struct{})}
	o.states.Known = o.world.State
	log := funcr.New(func(_, args string) { fmt.Fprintln(os.Stderr, "operator:", args) }, funcr.Options{})
	o.pump = stream.NewPump(o.world, o.board, log)
	o.server = &stream.Server{
		World: o.world, Board: o.board, Filled: o.pump.Filled, Node: nodeInToken, Elected: o.elected, Metrics: stream.NewMetrics(), Log: logr.Discard(),
	}
	return o
}

// nodeInToken takes the token itself for the name of the node: no API server is asked.
func nodeInToken(ctx context.Context) (string, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	if values := md.Get("authorization"); len(values) == 1 {
		return strings.TrimPrefix(values[0], "Bearer "), nil
	}
	return "", errors.New("no token")
}

// Feed takes what watches bring. What comes before Begin is held in the cache only.
func (o *operator) Feed(objects []Object, _ *None) error {
	for _, x := range objects {
		obj, err := o.read(x)
		if err != nil {
			return err
		}
		trimmed, err := o.trim(obj)
		if err != nil {
			return err
		}
		obj, ok := trimmed.(runtime.Object)
		if !ok {
			return fmt.Errorf("trimmed to a %T", trimmed)
		}
		o.world.Arrives(obj)
		o.mu.Lock()
		if x.Gone {
			delete(o.cache, nameOf(obj))
		} else {
			o.cache[nameOf(obj)] = obj
		}
		begun := o.begun
		o.mu.Unlock()
		switch {
		case !begun:
		case x.Gone:
			err = o.world.Delete(obj)
		default:
			err = o.world.Set(obj)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// read reads an object as the product does.
func (o *operator) read(x Object) (runtime.Object, error) {
	if x.Type == typeOf(&v1alpha1.NodeState{}) {
		return o.states.Read(x.JSON)
	}
	return x.decode()
}

// Serving says where a replica serves, and how long its cold start took: from objects in its cache to a full board.
type Serving struct {
	Address string
	Took    time.Duration
}

// Begin compiles what is in the cache and begins to serve. There must be no Feed meanwhile.
func (o *operator) Begin(certificate [2][]byte, serving *Serving) error {
	pair, err := tls.X509KeyPair(certificate[0], certificate[1])
	if err != nil {
		return fmt.Errorf("reading the certificate: %w", err)
	}
	o.mu.Lock()
	o.begun = true
	objects := make([]runtime.Object, 0, len(o.cache))
	for _, name := range slices.Sorted(maps.Keys(o.cache)) { // as lists are
		objects = append(objects, o.cache[name])
	}
	o.mu.Unlock()
	start := time.Now()
	for _, obj := range objects {
		if err := o.world.Set(obj); err != nil {
			return err
		}
	}
	o.world.Open()
	go func() {
		if err := o.pump.Start(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, "operator:", err)
		}
	}()
	for !o.pump.Filled() {
		<-time.After(time.Millisecond)
	}
	serving.Took = time.Since(start)
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	serving.Address = listener.Addr().String()
	s := o.server.NewGRPC(&tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}})
	go func() {
		if err := s.Serve(listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			fmt.Fprintln(os.Stderr, "operator:", err)
		}
	}()
	return nil
}

// Write is what the leader writes; Object without JSON: there must be none.
type Write struct {
	Key    render.Key
	Object Object
}

// Lead has the replica write what it renders from now on.
func (o *operator) Lead(_ None, _ *None) error { //nolint:unparam // as net/rpc wants it
	close(o.elected)
	w := hollow.NewWriter(o.world, rendered.AfterStream, func(key render.Key, want runtime.Object) error {
		w := Write{Key: key}
		if want != nil {
			var err error
			if w.Object, err = encode(want, false); err != nil {
				return err
			}
		}
		return o.parent.Call("parent.Write", w, &None{})
	})
	o.mu.Lock()
	o.writer = w
	o.mu.Unlock()
	go func() {
		if err := w.Run(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, "operator:", err)
		}
	}()
	return nil
}

// Idle tells whether the leader has written all that it has compiled.
func (o *operator) Idle(_ None, idle *bool) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	*idle = o.writer != nil && o.writer.Idle()
	return nil
}

// Memory tells how much the process holds, after a collection.
func (o *operator) Memory(_ None, m *Memory) (err error) {
	*m, err = memory()
	return err
}

// Pushed tells how long changes took from the compiler until they were sent to a node.
func (o *operator) Pushed(_ None, p *Pushed) error {
	m := &dto.Metric{}
	if err := o.server.Metrics.Push().Write(m); err != nil {
		return fmt.Errorf("reading a metric: %w", err)
	}
	for _, b := range m.GetHistogram().GetBucket() {
		p.Bounds = append(p.Bounds, b.GetUpperBound())
		p.Counts = append(p.Counts, b.GetCumulativeCount())
	}
	p.All = m.GetHistogram().GetSampleCount()
	return nil
}

// Nodes counts the agents that follow.
func (o *operator) Nodes(_ None, n *int) error { //nolint:unparam // as net/rpc wants it
	*n = o.board.Nodes()
	return nil
}
