package cniserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/manul-net/manul/cni/protocol"
)

// handler whose methods are the test's. What is nil succeeds.
type handler struct {
	add    func(context.Context, protocol.AddRequest) (protocol.AddResult, error)
	del    func(context.Context, protocol.DelRequest) error
	status func(context.Context) error
}

func (h *handler) Add(ctx context.Context, r protocol.AddRequest) (protocol.AddResult, error) {
	if h.add == nil {
		return result(), nil
	}
	return h.add(ctx, r)
}

func (h *handler) Del(ctx context.Context, r protocol.DelRequest) error {
	if h.del == nil {
		return nil
	}
	return h.del(ctx, r)
}

func (h *handler) Check(context.Context, protocol.CheckRequest) (protocol.AddResult, error) {
	return result(), nil
}

func (h *handler) Status(ctx context.Context) error {
	if h.status == nil {
		return nil
	}
	return h.status(ctx)
}

func (h *handler) GC(context.Context, protocol.GCRequest) error { return nil }
func (h *handler) DescribeNode(context.Context) (protocol.NodeResult, error) {
	return protocol.NodeResult{PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.48.3.0/24")}}, nil
}

func result() protocol.AddResult {
	return protocol.AddResult{InterfaceName: "cali0a1b2c3d4e5", Addresses: []netip.Addr{netip.MustParseAddr("10.48.0.1")}, MTU: 1400}
}

func attachment(id string) protocol.Attachment {
	return protocol.Attachment{ContainerID: id, IfName: "eth0"}
}

func addRequest(id string) protocol.AddRequest {
	return protocol.AddRequest{Attachment: attachment(id), Netns: "/run/netns/x", PodNamespace: "default", PodName: "web"}
}

// start serves h until the test ends or stop is called; stop waits for Serve.
func start(t *testing.T, h Handler, o Options) (c protocol.Client, stop func()) {
	t.Helper()
	dir := t.TempDir()
	if o.Socket == "" {
		o.Socket = filepath.Join(dir, "cni.sock")
	}
	if o.Queue.Dir == "" {
		o.Queue.Dir = filepath.Join(dir, "deferred")
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, h, slog.New(slog.DiscardHandler), o) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(stop)
	c = protocol.Client{Socket: o.Socket}
	eventually(t, func() bool { return c.Listening(ctx) })
	return c, stop
}

func eventually(t *testing.T, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("not within a minute")
		}
	}
}

func wantCode(t *testing.T, err error, code uint, text string) {
	t.Helper()
	var e *protocol.Error
	if !errors.As(err, &e) || e.Code != code || !strings.Contains(e.Error(), text) {
		t.Errorf("got error %v, want code %d and text %q", err, code, text)
	}
}

func TestEveryOperationReachesTheHandler(t *testing.T) {
	var added protocol.AddRequest
	var deleted protocol.DelRequest
	c, _ := start(t, &handler{
		add: func(_ context.Context, r protocol.AddRequest) (protocol.AddResult, error) {
			added = r
			return result(), nil
		},
		del: func(_ context.Context, r protocol.DelRequest) error { deleted = r; return nil },
	}, Options{})
	ctx := t.Context()
	req := addRequest("c1")
	req.PodUID, req.MTU = "u", 1300
	req.Pools = &protocol.Pools{IPv4: []string{"a"}, NoIPv6: true}
	req.Given = []netip.Addr{netip.MustParseAddr("10.77.0.9")}
	got, err := c.Add(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	same := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	if diff := cmp.Diff(result(), got, same) + cmp.Diff(req, added, same); diff != "" {
		t.Error(diff)
	}
	del := protocol.DelRequest{Attachment: attachment("c1"), PodName: "web"}
	if err := c.Del(ctx, del); err != nil || deleted != del {
		t.Errorf("DEL: %v, got %v", err, deleted)
	}
	if got, err := c.Check(ctx, protocol.CheckRequest{Attachment: attachment("c1"), Netns: "/n", PodNamespace: "d", PodName: "w"}); err != nil || got.MTU != 1400 {
		t.Errorf("CHECK: %v, %v", got, err)
	}
	if err := errors.Join(c.Status(ctx), c.GC(ctx, protocol.GCRequest{})); err != nil {
		t.Error(err)
	}
	if got, err := c.Node(ctx); err != nil || len(got.PodCIDRs) != 1 || got.PodCIDRs[0].String() != "10.48.3.0/24" {
		t.Errorf("node: %v, %v", got, err)
	}
}

func TestErrorsKeepTheirCode(t *testing.T) {
	var fail error
	c, _ := start(t, &handler{add: func(context.Context, protocol.AddRequest) (protocol.AddResult, error) {
		return protocol.AddResult{}, fail
	}}, Options{})
	for _, tc := range []struct {
		err  error
		code uint
		text string
	}{
		{errors.New("disk full"), protocol.CodeInternal, "disk full"},
		{protocol.Errorf(protocol.CodeNoAddress, "pool is full"), protocol.CodeNoAddress, "pool is full"},
		{fmt.Errorf("taking address: %w", protocol.Errorf(protocol.CodeTryAgainLater, "no block")), protocol.CodeTryAgainLater, "taking address: no block"},
		{nil, protocol.CodeInternal, "own answer is not usable"}, // an empty result
	} {
		fail = tc.err
		_, err := c.Add(t.Context(), addRequest("c1"))
		wantCode(t, err, tc.code, tc.text)
	}
}

func TestTimeIsBounded(t *testing.T) {
	c, _ := start(t, &handler{
		add: func(ctx context.Context, _ protocol.AddRequest) (protocol.AddResult, error) {
			<-ctx.Done()
			return protocol.AddResult{}, fmt.Errorf("waiting for policy: %w", ctx.Err())
		},
		status: func(ctx context.Context) error { <-ctx.Done(); return errors.New("still starting") },
	}, Options{AddTimeout: 20 * time.Millisecond, Timeout: 10 * time.Millisecond})
	_, err := c.Add(t.Context(), addRequest("c1"))
	wantCode(t, err, protocol.CodeTryAgainLater, "addresses and policy were not ready on the node within 20ms")
	wantCode(t, c.Status(t.Context()), protocol.CodeTryAgainLater, "not done within 10ms: still starting")
}

func TestHangupEndsTheRequest(t *testing.T) {
	began, ended := make(chan struct{}), make(chan error, 1)
	c, _ := start(t, &handler{add: func(ctx context.Context, _ protocol.AddRequest) (protocol.AddResult, error) {
		close(began)
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return protocol.AddResult{}, ctx.Err()
	}}, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-began; cancel() }()
	_, err := c.Add(ctx, addRequest("c1"))
	if !errors.As(err, new(*protocol.UnreachableError)) {
		t.Errorf("got error %v", err)
	}
	if cause := <-ended; cause == nil || !strings.Contains(cause.Error(), "hung up") {
		t.Errorf("cause %v", cause)
	}
}

func TestOneRequestAtATimePerAttachment(t *testing.T) {
	var mu sync.Mutex
	busy := map[protocol.Attachment]bool{}
	apart := make(chan struct{}) // closed once both attachments are busy
	enter := func(a protocol.Attachment) {
		mu.Lock()
		defer mu.Unlock()
		if busy[a] {
			t.Errorf("two requests for %v at a time", a)
		}
		busy[a] = true
		if len(busy) == 2 {
			select {
			case <-apart:
			default:
				close(apart)
			}
		}
	}
	leave := func(a protocol.Attachment) {
		<-apart
		mu.Lock()
		defer mu.Unlock()
		busy[a] = false
	}
	c, _ := start(t, &handler{
		add: func(_ context.Context, r protocol.AddRequest) (protocol.AddResult, error) {
			enter(r.Attachment)
			leave(r.Attachment)
			return result(), nil
		},
		del: func(_ context.Context, r protocol.DelRequest) error {
			enter(r.Attachment)
			leave(r.Attachment)
			return nil
		},
	}, Options{})
	var all sync.WaitGroup
	for i := range 40 {
		id := []string{"c1", "c2"}[i%2]
		all.Go(func() {
			var err error
			if i%4 < 2 {
				_, err = c.Add(t.Context(), addRequest(id))
			} else {
				err = c.Del(t.Context(), protocol.DelRequest{Attachment: attachment(id)})
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

func TestShutdownLetsRequestsFinish(t *testing.T) {
	began, finish := make(chan struct{}), make(chan struct{})
	c, stop := start(t, &handler{add: func(ctx context.Context, _ protocol.AddRequest) (protocol.AddResult, error) {
		close(began)
		select {
		case <-finish:
			return result(), nil
		case <-ctx.Done():
			return protocol.AddResult{}, ctx.Err()
		}
	}}, Options{})
	answered := make(chan error, 1)
	go func() { _, err := c.Add(context.Background(), addRequest("c1")); answered <- err }()
	<-began
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	eventually(t, func() bool { return !c.Listening(t.Context()) })
	select {
	case <-stopped:
		t.Error("stopped with a request underway")
	default:
	}
	close(finish)
	if err := <-answered; err != nil {
		t.Error(err)
	}
	<-stopped
}

func TestShutdownIsBounded(t *testing.T) {
	began := make(chan struct{})
	c, stop := start(t, &handler{add: func(ctx context.Context, _ protocol.AddRequest) (protocol.AddResult, error) {
		close(began)
		<-ctx.Done()
		return protocol.AddResult{}, ctx.Err()
	}}, Options{ShutdownGrace: 10 * time.Millisecond})
	answered := make(chan error, 1)
	go func() { _, err := c.Add(context.Background(), addRequest("c1")); answered <- err }()
	<-began
	stop()
	wantCode(t, <-answered, protocol.CodeTryAgainLater, "the node agent is stopping")
}

func TestSocket(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "run", "cni.sock")
	_, stop := start(t, &handler{}, Options{Socket: path})
	stop()
	c, _ := start(t, &handler{}, Options{Socket: path}) // over what the first left
	info, err := os.Stat(path)
	if err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := c.Status(t.Context()); err != nil {
		t.Error(err)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("left beside the socket: %v, %v", entries, err)
	}

	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err = Serve(t.Context(), &handler{}, slog.New(slog.DiscardHandler), Options{Socket: file})
	if err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("got error %v", err)
	}
}

func TestDeferredDels(t *testing.T) {
	q := protocol.Queue{Dir: filepath.Join(t.TempDir(), "deferred")}
	put := func(ids ...string) {
		t.Helper()
		for _, id := range ids {
			if err := q.Locked(t.Context(), func() error { return q.Put(protocol.DelRequest{Attachment: attachment(id)}) }); err != nil {
				t.Fatal(err)
			}
		}
	}
	put("c1", "broken", "c2")
	var mu sync.Mutex
	got := map[string]int{}
	refuse := true
	h := &handler{
		del: func(_ context.Context, r protocol.DelRequest) error {
			mu.Lock()
			defer mu.Unlock()
			got[r.ContainerID]++
			if r.ContainerID == "broken" && refuse {
				return errors.New("not now")
			}
			return nil
		},
		add: func(_ context.Context, r protocol.AddRequest) (protocol.AddResult, error) {
			mu.Lock()
			defer mu.Unlock()
			if got[r.ContainerID] == 0 {
				t.Error("ADD overtook the deferred DEL")
			}
			return result(), nil
		},
	}
	c, stop := start(t, h, Options{Queue: q})
	if err := c.Status(t.Context()); err != nil { // answered after the replay
		t.Fatal(err)
	}
	mu.Lock()
	if diff := cmp.Diff(map[string]int{"c1": 1, "c2": 1, "broken": 1}, got); diff != "" {
		t.Error(diff)
	}
	mu.Unlock()
	if q.Has(attachment("c1")) || q.Has(attachment("c2")) || !q.Has(attachment("broken")) {
		t.Error("want only what failed to stay in the queue")
	}
	put("c3")
	if _, err := c.Add(t.Context(), addRequest("c3")); err != nil || q.Has(attachment("c3")) {
		t.Errorf("ADD after a deferred DEL: %v", err)
	}
	stop()

	refuse = false
	start(t, h, Options{Queue: q, ReplayEvery: time.Millisecond})
	put("c4")
	eventually(t, func() bool { return !q.Has(attachment("broken")) && !q.Has(attachment("c4")) })
}

func TestConnectionsAreBounded(t *testing.T) {
	c, _ := start(t, &handler{}, Options{MaxConnections: 2, ExchangeTimeout: 50 * time.Millisecond})
	for range 5 { // say nothing, and hold what there is
		conn, err := net.Dial("unix", c.Socket)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	if err := c.Status(t.Context()); err != nil { // once the others ran out of time
		t.Error(err)
	}
}

func TestNonsenseIsRefused(t *testing.T) {
	c, _ := start(t, &handler{}, Options{})
	for in, want := range map[string]string{
		"hello\n":                         "decoding",
		"{}\n":                            "version: got 0",
		`{"version":1}` + "\n":            "exactly one of",
		`{"version":1,"add":{}}` + "\n":   "containerID",
		strings.Repeat(" ", 1<<20) + "\n": "longer than",
	} {
		conn, err := net.Dial("unix", c.Socket)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(conn, bytes.NewReader([]byte(in)))
		resp, err := protocol.ReadResponse(conn)
		_ = conn.Close()
		if err != nil || resp.Error == nil || !strings.Contains(resp.Error.Message, want) {
			t.Errorf("%.30q: got %v, %v, want an error with %q", in, resp, err, want)
		}
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	observe, err := Observer(reg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Observer(reg); err == nil {
		t.Error("registered twice")
	}
	c, stop := start(t, &handler{status: func(context.Context) error { return errors.New("no") }}, Options{Observe: observe})
	_ = c.Status(t.Context())
	_, _ = c.Add(t.Context(), addRequest("c1"))
	stop()
	families, err := reg.Gather()
	if err != nil || len(families) != 1 {
		t.Fatalf("%v, %v", families, err)
	}
	got := map[string]uint64{}
	for _, m := range families[0].GetMetric() {
		key := ""
		for _, l := range m.GetLabel() {
			key += l.GetName() + "=" + l.GetValue() + " "
		}
		got[key] = m.GetHistogram().GetSampleCount()
	}
	if diff := cmp.Diff(map[string]uint64{"code=0 operation=add ": 1, "code=100 operation=status ": 1}, got); diff != "" {
		t.Error(diff)
	}
}
