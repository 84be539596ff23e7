package hollow

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/render"
)

// prefix of the paths of rendered objects.
const prefix = "/apis/manul.dev/v1alpha1/"

// resources are the kinds by their names in paths.
func resources() map[string]render.Kind {
	return map[string]render.Kind{
		"nodestates": render.KindNodeState, "nodeendpoints": render.KindNodeEndpoints, "nodenetworks": render.KindNodeNetwork,
		"policyprograms": render.KindPolicyProgram, "setcatalogs": render.KindSetCatalog,
	}
}

// event is what a watch is told.
type event struct {
	key    render.Key
	object runtime.Object
	gone   bool
	at     uint64
}

// Serve has what happens remembered from now on, so that ServeHTTP can tell watches of it.
func (a *API) Serve() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.serves, a.forgotten = true, a.version-1
}

// ServeHTTP answers a node agent as an API server does: lists and watches of the rendered objects, and the status of NodeStates.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, ok := strings.CutPrefix(r.URL.Path, prefix)
	if name, isStatus := strings.CutSuffix(strings.TrimPrefix(path, "nodestates/"), "/status"); isStatus && r.Method == http.MethodPatch {
		a.serveStatus(w, r, name)
		return
	}
	kind, known := resources()[path]
	query := r.URL.Query()
	name := strings.TrimPrefix(query.Get("fieldSelector"), "metadata.name=")
	switch {
	case !ok || !known || r.Method != http.MethodGet:
		refuse(w, http.StatusNotFound, metav1.StatusReasonNotFound, "there is nothing at "+r.URL.Path)
	case query.Get("sendInitialEvents") == "true":
		refuse(w, http.StatusUnprocessableEntity, metav1.StatusReasonInvalid, "sendInitialEvents is not served")
	case query.Get("watch") == "true" || query.Get("watch") == "1":
		since, err := strconv.ParseUint(query.Get("resourceVersion"), 10, 64)
		if err != nil {
			refuse(w, http.StatusBadRequest, metav1.StatusReasonBadRequest, "resourceVersion: "+err.Error())
			return
		}
		a.watch(w, r, kind, name, since)
	default:
		a.list(w, kind, name)
	}
}

func refuse(w http.ResponseWriter, code int, reason metav1.StatusReason, why string) {
	answer(w, code, metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure, Code: int32(code), Reason: reason, Message: why,
	})
}

func answer(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // whoever asked has gone
}

func (a *API) serveStatus(w http.ResponseWriter, r *http.Request, node string) {
	var patch []struct{ Value v1alpha1.NodeStateStatus }
	if err := json.NewDecoder(r.Body).Decode(&patch); err != nil || len(patch) != 1 {
		refuse(w, http.StatusBadRequest, metav1.StatusReasonBadRequest, fmt.Sprintf("reading a status: %v", err))
		return
	}
	if err := a.Status(node, &patch[0].Value); err != nil {
		refuse(w, http.StatusInternalServerError, metav1.StatusReasonInternalError, err.Error())
		return
	}
	answer(w, http.StatusOK, map[string]string{"kind": string(render.KindNodeState), "apiVersion": v1alpha1.GroupName + "/" + v1alpha1.Version})
}

func (a *API) list(w http.ResponseWriter, kind render.Kind, name string) {
	a.mu.Lock()
	version := a.version
	items := []runtime.Object{}
	for key, obj := range a.objects {
		if key.Kind == kind && (name == "" || key.Name == name) {
			items = append(items, obj)
		}
	}
	a.mu.Unlock()
	answer(w, http.StatusOK, map[string]any{
		"kind": string(kind) + "List", "apiVersion": v1alpha1.GroupName + "/" + v1alpha1.Version,
		"metadata": map[string]string{"resourceVersion": fmt.Sprint(version)}, "items": items,
	})
}

// remembered bounds the events of which a watch can be told later. Who asks for older ones has to list again.
const remembered = 100_000

// note remembers an event, and has watches look. The lock is held.
func (a *API) note(e event) {
	if a.events = append(a.events, e); len(a.events) > remembered {
		a.forgotten = a.events[remembered/2-1].at
		a.events = append([]event(nil), a.events[remembered/2:]...)
	}
	close(a.more)
	a.more = make(chan struct{})
}

func (a *API) watch(w http.ResponseWriter, r *http.Request, kind render.Kind, name string, since uint64) {
	flush, _ := w.(http.Flusher)
	w.Header().Set("Content-Type", "application/json")
	out := json.NewEncoder(w)
	for {
		a.mu.Lock()
		var some []event
		for i := len(a.events) - 1; i >= 0 && a.events[i].at > since; i-- {
			if e := a.events[i]; e.key.Kind == kind && (name == "" || e.key.Name == name) {
				some = append(some, e)
			}
		}
		old, more := !a.serves || since < a.forgotten, a.more
		since = a.version
		a.mu.Unlock()
		if old {
			_ = out.Encode(map[string]any{"type": "ERROR", "object": metav1.Status{
				TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure, Code: http.StatusGone, Reason: metav1.StatusReasonExpired,
			}})
			return
		}
		for _, e := range slices.Backward(some) {
			what := "MODIFIED"
			if e.gone {
				what = "DELETED"
			}
			if err := out.Encode(map[string]any{"type": what, "object": e.object}); err != nil {
				return
			}
		}
		if flush != nil {
			flush.Flush()
		}
		select {
		case <-r.Context().Done():
			return
		case <-more:
		}
	}
}
