package nodeinit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// controlName is the socket in the host's folder through which the first process takes commands.
const controlName = "control.sock"

// Run is the life of a host's first process after Prepare. It returns only with an error: a host is ended by ending this
// process, with which the kernel ends all others of the host.
func Run(configPath string) error {
	c, err := ReadConfig(configPath)
	if err != nil {
		return err
	}
	s := newSupervisor(c.Components)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go s.reap(ctx)
	for _, component := range c.Components {
		if component.Manual {
			continue
		}
		if err := s.start(component.Name); err != nil {
			return err
		}
	}
	path := filepath.Join(c.Dir, controlName)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("listening for commands: %w", err)
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("listening for commands: %w", err)
	}
	server := &http.Server{Handler: handler(s), ReadHeaderTimeout: 10 * time.Second}
	return fmt.Errorf("listening for commands: %w", server.Serve(listener))
}

func handler(s *supervisor) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /components", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(s.list()); err != nil {
			fmt.Fprintln(os.Stderr, "answering:", err)
		}
	})
	command := func(do func(ctx context.Context, name string) error) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if err := do(r.Context(), r.PathValue("name")); err != nil {
				http.Error(w, err.Error(), http.StatusConflict)
			}
		}
	}
	mux.HandleFunc("POST /components/{name}/start", command(func(_ context.Context, name string) error { return s.start(name) }))
	mux.HandleFunc("POST /components/{name}/stop", command(s.stop))
	mux.HandleFunc("POST /components/{name}/kill", command(s.kill))
	return mux
}
