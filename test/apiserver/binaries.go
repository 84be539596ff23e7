package apiserver

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
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

// findBinaries looks for the programs where the package documentation says.
func findBinaries(getenv func(string) string) (binaries, error) {
	dir := getenv(EnvBin)
	if dir == "" {
		dir = filepath.Join(getenv("HOME"), ".cache", "manul", "bin")
	}
	b := binaries{etcd: filepath.Join(dir, "etcd"), apiserver: filepath.Join(dir, "kube-apiserver")}
	for _, path := range []string{b.etcd, b.apiserver} {
		info, err := os.Stat(path)
		if err != nil {
			return binaries{}, fmt.Errorf("looking for the programs of an API server (make kubernetes builds them, %s names their folder): %w", EnvBin, err)
		}
		if info.IsDir() || info.Mode()&0o111 == 0 {
			return binaries{}, fmt.Errorf("looking for the programs of an API server: %s is not an executable file", path)
		}
	}
	return b, nil
}

// required tells whether a test must not be skipped for want of the programs.
func required(getenv func(string) string) bool {
	return strings.EqualFold(getenv("CI"), "true") || getenv(EnvRequire) == "1"
}
