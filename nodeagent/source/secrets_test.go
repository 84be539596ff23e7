package source

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

// secretServer answers for the Secrets of namespace bgp: with 403 for those that the agent may not read.
type secretServer struct {
	mu      sync.Mutex
	allowed bool
	// watching counts the requests that are open, listed those that were answered, by name.
	watching map[string]int
	listed   map[string]int
	changed  chan struct{}
}

// count takes in that a request is open, or is not any more.
func (s *secretServer) count(name string, more int) {
	s.watching[name] += more
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *secretServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Query().Get("fieldSelector"), "metadata.name=")
	s.mu.Lock()
	defer s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	switch {
	case !s.allowed:
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403}`)
	case r.URL.Query().Get("sendInitialEvents") == "true": // as an API server of before Kubernetes 1.34: the client lists then
		w.WriteHeader(http.StatusUnprocessableEntity)
		fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Invalid","code":422}`)
	case r.URL.Query().Get("watch") == "true":
		s.count(name, 1)
		w.WriteHeader(http.StatusOK)
		if f, ok := w.(http.Flusher); ok {
			f.Flush()
		}
		s.mu.Unlock()
		<-r.Context().Done()
		s.mu.Lock()
		s.count(name, -1)
	default:
		s.listed[name]++
		items := ""
		if name == "there" {
			items = `{"metadata":{"name":"there","namespace":"bgp","resourceVersion":"1"},"data":{"rack":"b25l"}}`
		}
		fmt.Fprintf(w, `{"kind":"SecretList","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[%s]}`, items)
	}
}

func (s *secretServer) allow() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.allowed = true
}

func (s *secretServer) watches(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.watching[name]
}

// eventually looks again at each change.
func eventually(t *testing.T, what string, changed <-chan struct{}, done func() bool) {
	t.Helper()
	timeout := time.After(time.Minute)
	for !done() {
		select {
		case <-changed:
		case <-timeout:
			t.Fatal(what)
		}
	}
}

func following(t *testing.T, allowed bool) (*Secrets, *secretServer) {
	t.Helper()
	server := &secretServer{allowed: allowed, watching: map[string]int{}, listed: map[string]int{}, changed: make(chan struct{}, 1)}
	web := httptest.NewServer(server)
	secrets, err := NewSecrets(&rest.Config{Host: web.URL}, "bgp", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = secrets.Close()
		web.CloseClientConnections()
		web.Close()
	})
	return secrets, server
}

// says waits until there is a password, or until the reason why there is none has the text.
func says(t *testing.T, s *Secrets, name, key, want string) {
	t.Helper()
	var got string
	eventually(t, fmt.Sprintf("%s, key %s: never said %q", name, key, want), s.Changed(), func() bool {
		password, err := s.Password(name, key)
		if got = password; err != nil {
			got = err.Error()
		}
		return strings.Contains(got, want)
	})
}

func TestWhyThereIsNoPassword(t *testing.T) {
	s, _ := following(t, true)
	says(t, s, "there", "rack", "one")
	says(t, s, "there", "row", "there is no key row in Secret there of the agents' namespace bgp")
	says(t, s, "absent", "rack", "there is no Secret absent in the agents' namespace bgp")
}

// A Secret that exists and may not be read is not called missing: what has to be done is another thing.
func TestASecretThatMayNotBeRead(t *testing.T) {
	s, server := following(t, false)
	says(t, s, "there", "rack", "may not read Secret bgp/there: give their service account the right to get, list and watch it")
	server.allow()
	says(t, s, "there", "rack", "one")
}

// A peer that was a mistake, and is gone, leaves no watch behind, and no request every few seconds.
func TestSecretsThatNobodyNamesAnyMore(t *testing.T) {
	s, server := following(t, true)
	says(t, s, "there", "rack", "one")
	says(t, s, "absent", "rack", "there is no Secret absent")
	eventually(t, "both are watched", server.changed, func() bool { return server.watches("there") == 1 && server.watches("absent") == 1 })
	s.Keep(map[string]bool{"there": true})
	eventually(t, "one is watched still", server.changed, func() bool { return server.watches("absent") == 0 })
	says(t, s, "there", "rack", "one")
	if server.watches("there") != 1 {
		t.Errorf("the Secret that is needed is not watched any more")
	}

	// Mistakes of the past take no room from what is needed now.
	for i := range 2 * maxSecrets {
		_, _ = s.Password(fmt.Sprintf("mistake-%d", i), "rack")
		s.Keep(nil)
	}
	says(t, s, "there", "rack", "one")
}
