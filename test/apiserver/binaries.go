package apiserver

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Environment variables that this package reads.
const (
	// EnvBin is the folder with etcd and kube-apiserver.
	EnvBin = "MANUL_KUBE_BIN"
	// EnvRequire set to 1 makes a test fail where it would be skipped for want of the programs.
	EnvRequire = "MANUL_REQUIRE_KUBE"
	// envShared is how Main tells Start where the shared server is.
	envShared = "MANUL_TEST_APISERVER"
)

// binaries are the programs that a server is made of.
type binaries struct {
	etcd, apiserver string
}

// Program is the path of another program that make kubernetes builds, such as kube-proxy. Where it is missing the test is skipped, or fails
// as it would for want of the others.
func Program(t testing.TB, name string) string {
	t.Helper()
	path, err := find(os.Getenv, name)
	switch {
	case err == nil:
	case required(os.Getenv):
		t.Fatal(err)
	default:
		t.Skip(err)
	}
	return path
}

// find looks for a program.
func find(getenv func(string) string, name string) (string, error) {
	dir := getenv(EnvBin)
	if dir == "" {
		dir = filepath.Join(getenv("HOME"), ".cache", "manul", "bin")
	}
	path := filepath.Join(dir, name)
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("looking for the programs of an API server (make kubernetes builds them, %s names their folder): %w", EnvBin, err)
	}
	if info.IsDir() || info.Mode()&0o111 == 0 {
		return "", fmt.Errorf("looking for the programs of an API server: %s is not an executable file", path)
	}
	return path, nil
}

// findBinaries looks for the programs where the package documentation says.
func findBinaries(getenv func(string) string) (binaries, error) {
	var b binaries
	var err error
	if b.etcd, err = find(getenv, "etcd"); err != nil {
		return binaries{}, err
	}
	if b.apiserver, err = find(getenv, "kube-apiserver"); err != nil {
		return binaries{}, err
	}
	return b, nil
}

// required tells whether a test must not be skipped for want of the programs.
func required(getenv func(string) string) bool {
	return strings.EqualFold(getenv("CI"), "true") || getenv(EnvRequire) == "1"
}
