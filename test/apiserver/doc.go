// Package apiserver runs a real Kubernetes API server for tests: etcd and kube-apiserver on the loopback address, in a folder
// of their own, with nothing of a cluster behind them (no scheduler, no controllers, no nodes).
//
// A single test calls Start. A package whose tests share one server has a TestMain:
//
//	func TestMain(m *testing.M) { os.Exit(apiserver.Main(m)) }
//
// and calls Start all the same: it then returns the shared server. Tests that share a server keep apart by namespaces and names.
//
// The programs are taken from $MANUL_KUBE_BIN, else from $HOME/.cache/manul/bin. Where they are missing, tests are skipped,
// unless CI=true or MANUL_REQUIRE_KUBE=1: then they fail.
package apiserver
