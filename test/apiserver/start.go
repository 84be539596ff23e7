package apiserver

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Server is a running API server.
type Server struct {
	// Config is the administrator's, without a client-side rate limit. Copy it before changing it.
	Config *rest.Config
	// Kubeconfig is the path of a file with the same access, for kubectl.
	Kubeconfig string
}

// Start returns an API server: the one that Main shares among the tests of a package, else one that lives as long as tb.
func Start(tb testing.TB) *Server {
	tb.Helper()
	if path := os.Getenv(envShared); path != "" {
		s, err := open(path)
		if err != nil {
			tb.Fatal(err)
		}
		return s
	}
	bin, err := findBinaries(os.Getenv)
	if err != nil {
		if required(os.Getenv) {
			tb.Fatalf("this test may not be skipped here: %v", err)
		}
		tb.Skipf("skipped: %v", err)
	}
	in, err := launch(tb.Context(), bin)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := in.close(); err != nil {
			tb.Error(err)
		}
	})
	path, err := in.writeKubeconfig()
	if err != nil {
		tb.Fatal(err)
	}
	return &Server{Config: in.config, Kubeconfig: path}
}

// Main runs the tests of a package with one API server for all that call Start, and returns the code to exit with.
// Without the programs of an API server it runs the tests all the same, and Start decides.
func Main(m *testing.M) int {
	bin, err := findBinaries(os.Getenv)
	if err != nil {
		return m.Run()
	}
	code, err := runShared(m, bin)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return max(code, 1)
	}
	return code
}

func runShared(m *testing.M, bin binaries) (code int, err error) {
	in, err := launch(context.Background(), bin)
	if err != nil {
		return 1, err
	}
	defer func() {
		if cerr := in.close(); err == nil {
			err = cerr
		}
	}()
	path, err := in.writeKubeconfig()
	if err != nil {
		return 1, err
	}
	if err := os.Setenv(envShared, path); err != nil {
		return 1, fmt.Errorf("telling tests of the shared API server: %w", err)
	}
	return m.Run(), nil
}

// open returns the server that a kubeconfig leads to.
func open(kubeconfig string) (*Server, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig of the shared API server: %w", err)
	}
	cfg.QPS = -1
	return &Server{Config: cfg, Kubeconfig: kubeconfig}, nil
}

// Client returns an administrator's client without a cache that knows the kinds of scheme.
func (s *Server) Client(tb testing.TB, scheme *runtime.Scheme) client.Client {
	tb.Helper()
	c, err := client.New(s.Config, client.Options{Scheme: scheme})
	if err != nil {
		tb.Fatalf("making a client: %v", err)
	}
	return c
}

// Root returns the top folder of the module that the test belongs to.
func Root(tb testing.TB) string {
	tb.Helper()
	dir, err := os.Getwd()
	if err != nil {
		tb.Fatalf("looking for the module: %v", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			tb.Fatal("looking for the module: no go.mod above the test")
		}
		dir = up
	}
}
