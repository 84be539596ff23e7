# Manul. "make help" lists what can be made.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -ec
.DEFAULT_GOAL := help

export GOFLAGS := -buildvcs=false
export MANUL_CACHE ?= $(HOME)/.cache/manul
VERSION ?= v0.1.0
# The tools are built once for each version of their module file, outside the tree.
TOOLS := $(MANUL_CACHE)/tools/$(shell sha256sum go.tools.mod | cut -c1-12)
CLUSTER := $(CURDIR)/out/cluster
LDFLAGS := -s -w -X main.version=$(VERSION)
MODULES := . hack/ociimage hack/plots test/cluster test/e2e
# Packages that start a program only once at a time, so that two cores are not asked for more than they have.
GOTEST := $(TOOLS)/gotestsum --format pkgname-and-test-fails --format-hide-empty-pkg

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9.-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(TOOLS)/.done: go.tools.mod go.tools.sum
	mkdir -p $(TOOLS)
	go build -modfile=go.tools.mod -o $(TOOLS)/ github.com/golangci/golangci-lint/v2/cmd/golangci-lint \
	  sigs.k8s.io/controller-tools/cmd/controller-gen sigs.k8s.io/kustomize/kustomize/v5 gotest.tools/gotestsum
	touch $@

tools: $(TOOLS)/.done ## build the tools of go.tools.mod

generate: tools ## deep-copy functions of the API types
	$(TOOLS)/controller-gen object paths=./api/...

manifests: tools ## CRDs, and the install manifest from them
	$(TOOLS)/controller-gen crd:allowDangerousTypes=true paths=./api/... output:crd:dir=config/crd/bases
	hack/crds.sh
	$(MAKE) install.yaml

install.yaml: tools ## config/install.yaml, what users apply
	$(TOOLS)/kustomize build config/default > config/install.yaml

build: ## the programs, in bin/: operator, node agent, CNI plugin, and kubectl-manul for people
	mkdir -p bin
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/manul-operator .
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/manul-node ./nodeagent
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/manul ./cni
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/kubectl-manul ./cmd/kubectl-manul

image: build ## the images as OCI archives, in out/images/ (no Docker needed)
	hack/images.sh $(VERSION) product

samples: kubernetes ## the images of YAO Bank and of the tests' prober, in out/images/
	hack/images.sh v0.1.0 samples

packages: ## install the Debian packages that the local cluster needs
	hack/install-packages.sh

kubernetes: packages ## build Kubernetes once, into the cache
	mkdir -p out
	go -C test/cluster build -o $(CLUSTER) .
	$(CLUSTER) build

lint: tools ## lint all modules
	set -e; for m in $(MODULES); do (cd $$m && $(TOOLS)/golangci-lint run --allow-parallel-runners -c $(CURDIR)/.golangci.yml ./...); done
	test -z "$$(gofmt -l $$(git ls-files '*.go'))"
	$(MAKE) --no-print-directory vulncheck

vulncheck:
	@hack/vulncheck.sh

verify: generate manifests ## what is generated is checked in and up to date
	@test -z "$$(git status --porcelain -- api config)" || { git --no-pager diff -- api config; git status --short -- api config; \
	  echo "generated files differ from what is checked in: commit the result of make generate manifests"; exit 1; }

test: kubernetes verify lint image samples ## everything: verify, lint, all tests, the walk-through on a real cluster
	hack/test.sh

unit: tools ## the tests that need no cluster
	$(GOTEST) -- -race ./...

# What they print is kept: docs/performance.md says what it means.
MEASURED := docs/measured
bench: kubernetes image samples ## print the figures, and keep them in docs/measured/
	mkdir -p $(MEASURED)
	go run ./test/bench/compile | tee $(MEASURED)/compiler.md
	{ go test -timeout 30m -run xxx -bench 'Connections|Throughput' -benchtime 10x -count 3 ./test/bench/traffic; \
	  go test -timeout 1h -run xxx -bench Edits ./test/bench/traffic; } | tee $(MEASURED)/traffic.txt
	{ go test -run xxx -bench ChangeToRouter -benchtime 200x ./test/bench/bgp; \
	  go test -run xxx -bench 'Tables|Mesh|Reflector' -benchtime 1x ./test/bench/bgp; } | tee $(MEASURED)/bgp.txt
	go test -run xxx -bench . -benchtime 1x ./test/bench/leases | tee $(MEASURED)/leases.txt
	go test -timeout 30m -run xxx -bench 'Throughput|Parts' -benchtime 10x ./test/bench/tunnels | tee $(MEASURED)/tunnels.txt
	{ go run ./test/bench/sim -curve 500,1000,2000 -duration 1m; \
	  go run ./test/bench/sim -curve 5000 -duration 10m; } | tee $(MEASURED)/sim.md
	go run ./test/bench/cni | tee $(MEASURED)/cni.md
	go -C test/e2e run ./cmd/bench -project $(CURDIR) -n 30 | tee $(MEASURED)/changes.md

bench-plots: ## draw the figures of docs/measured/ as SVG, in docs/pictures/
	go -C hack/plots run . --from $(CURDIR)/$(MEASURED) --to $(CURDIR)/docs/pictures

demo: kubernetes image samples ## a real cluster with Manul, and a walk-through; keeps the cluster
	go -C test/e2e run ./cmd/demo -project $(CURDIR)

demo-down: ## remove the demo's cluster
	$(CLUSTER) down --name demo

.PHONY: help tools samples generate manifests install.yaml build image packages kubernetes lint vulncheck verify test unit bench bench-plots demo demo-down
