package tunnels

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// kubeAPI is what kube-proxy needs of an API server: it lists and watches nodes, services and endpoint slices.
type kubeAPI struct {
	mu      sync.Mutex
	version int
	// objects by resource and name; news is closed and made anew with each change, of which log holds all.
	objects map[string]map[string]*unstructured.Unstructured
	log     []change
	news    chan struct{}
}

// listOf is the kind of list of a resource, with its group if it has one. There are no ServiceCIDRs.
func listOf(resource string) string {
	return map[string]string{
		"nodes": "NodeList", "services": "ServiceList", "endpointslices": "discovery.k8s.io/v1 EndpointSliceList", "servicecidrs": "networking.k8s.io/v1 ServiceCIDRList",
	}[resource]
}

// change of an object, numbered by its place in the log from 1 on.
type change struct {
	resource, event string
	object          *unstructured.Unstructured
}

func newKubeAPI() *kubeAPI {
	return &kubeAPI{objects: map[string]map[string]*unstructured.Unstructured{}, news: make(chan struct{})}
}

// apply takes in manifests, separated by "---".
func (a *kubeAPI) apply(manifests string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for text := range strings.SplitSeq(manifests, "\n---\n") {
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(text), &o.Object); err != nil {
			return fmt.Errorf("reading a manifest: %w\n%s", err, text)
		}
		resource := map[string]string{"Node": "nodes", "Service": "services", "EndpointSlice": "endpointslices"}[o.GetKind()]
		if resource == "" {
			return fmt.Errorf("kube-proxy asks for no %s", o.GetKind())
		}
		if a.objects[resource] == nil {
			a.objects[resource] = map[string]*unstructured.Unstructured{}
		}
		event := "ADDED"
		if a.objects[resource][o.GetName()] != nil {
			event = "MODIFIED"
		}
		a.version++
		o.SetResourceVersion(strconv.Itoa(a.version))
		a.objects[resource][o.GetName()] = o
		a.log = append(a.log, change{resource, event, o})
	}
	close(a.news)
	a.news = make(chan struct{})
	return nil
}

// ServeHTTP answers lists and watches.
func (a *kubeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	resource := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	switch {
	case r.Method != http.MethodGet: // an event, or a question of access
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write([]byte("{}"))
	case r.URL.Query().Get("watch") != "":
		a.watch(w, r, resource)
	case listOf(resource) != "":
		a.list(w, resource)
	default:
		http.NotFound(w, r)
	}
}

func (a *kubeAPI) list(w http.ResponseWriter, resource string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	group, kind, named := strings.Cut(listOf(resource), " ")
	if !named {
		group, kind = "v1", group
	}
	items := []any{}
	for _, name := range slices.Sorted(maps.Keys(a.objects[resource])) {
		items = append(items, a.objects[resource][name].Object)
	}
	_ = json.NewEncoder(w).Encode(map[string]any{
		"kind": kind, "apiVersion": group, "metadata": map[string]any{"resourceVersion": strconv.Itoa(a.version)}, "items": items,
	})
}

func (a *kubeAPI) watch(w http.ResponseWriter, r *http.Request, resource string) {
	from, err := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	if err != nil {
		http.Error(w, "want a resourceVersion", http.StatusBadRequest)
		return
	}
	flusher, ok := w.(http.Flusher)
	if !ok {
		return
	}
	flusher.Flush()
	for {
		a.mu.Lock()
		log, news := a.log[min(from, len(a.log)):], a.news
		from = len(a.log)
		a.mu.Unlock()
		for _, c := range log {
			if c.resource != resource {
				continue
			}
			if err := json.NewEncoder(w).Encode(map[string]any{"type": c.event, "object": c.object.Object}); err != nil {
				return
			}
		}
		flusher.Flush()
		select {
		case <-r.Context().Done():
			return
		case <-news:
		}
	}
}

// KubeProxy runs the real kube-proxy on a node, in a mode, and has it follow the API.
func (n *Node) KubeProxy(program, mode string, api *kubeAPI) {
	t := n.world.t
	t.Helper()
	var listener net.Listener
	n.Must("serving the API", func() (err error) {
		listener, err = new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		return err
	})
	server := &http.Server{Handler: api}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener) // until it is closed
	}()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, "--proxy-mode="+mode, "--master=http://"+listener.Addr().String(), "--hostname-override="+n.Name,
		"--cluster-cidr="+pool4, "--healthz-bind-address=127.0.0.1:10256", "--metrics-bind-address=127.0.0.1:10249", "--conntrack-max-per-core=0",
		"--kube-api-content-type=application/json", "--ipvs-min-sync-period=100ms", "--iptables-min-sync-period=100ms")
	cmd.Env = append(os.Environ(), "KUBE_FEATURE_WatchListClient=false")
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	n.Must("starting kube-proxy", cmd.Start)
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was killed
		_ = server.Close()
		<-served
	})
}
