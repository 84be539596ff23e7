#!/usr/bin/env bash
# All tests of all modules; ends with one line that counts them. Called by "make test", which has built what they need.
set -uo pipefail
cd "$(dirname "$0")/.."
cache=${MANUL_CACHE:-$HOME/.cache/manul}
tools=$cache/tools/$(sha256sum go.tools.mod | cut -c1-12)
export MANUL_KUBE_BIN=$cache/bin MANUL_REQUIRE_KUBE=1
results=$PWD/out/results
rm -rf "$results"; mkdir -p "$results"
status=0

run() { # name, module, go test's arguments...
  local name=$1 module=$2; shift 2
  echo "== $name ($(date +%T))"
  (cd "$module" && "$tools/gotestsum" --format pkgname-and-test-fails --format-hide-empty-pkg \
    --jsonfile "$results/$name.json" -- "$@") || status=1
}

# More packages at a time than there are cores: the longest wait for the kernel, for routers or for the API server.
run packages . -race -timeout 30m -p $((2 * $(nproc))) ./...
run ociimage hack/ociimage -race ./...
run plots hack/plots -race ./...
run cluster test/cluster -race -timeout 20m ./...
# Never from the cache: go test does not know of the images that it runs.
run e2e test/e2e -count=1 -race -timeout 40m ./...

echo "== slowest"
cat "$results"/*.json | "$tools/gotestsum" tool slowest --threshold 20s

echo "== all ($(date +%T))"
go run ./hack/testsum "$results"/*.json || status=1
exit $status
