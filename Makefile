# Signpost. `make` alone explains itself. Everything that is missing on the
# machine is installed or built by the targets that need it.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
BIN := $(CURDIR)/bin
CLUSTER := go run ./hack/cluster

# Debian packages, named by what needs them.
NET_PACKAGES := iptables iproute2 nftables conntrack
API_PACKAGES := etcd-server

##@ Use

.PHONY: help
help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## Show Signpost at work on a real two-node cluster (DOWN=1 removes the cluster afterwards)
	go run ./hack/demo $(if $(DOWN),-down)

.PHONY: build
build: ## Build bin/signpost
	CGO_ENABLED=0 go build -buildvcs=auto -trimpath -o $(BIN)/signpost ./cmd/signpost

##@ Cluster

.PHONY: images
images: ## Build the container images into bin/images
	go run ./hack/image -o $(BIN)/images

.PHONY: cluster-up
cluster-up: images ## Start a local two-node Kubernetes (PROXY=kube-proxy DNS=coredns for the usual one)
	$(CLUSTER) up $(if $(PROXY),--proxy=$(PROXY)) $(if $(DNS),--dns=$(DNS))

.PHONY: cluster-load
cluster-load: images ## Build the image again, load it on the nodes and restart the DaemonSet
	$(CLUSTER) load

.PHONY: cluster-status
cluster-status: ## Say what of the cluster runs and how to talk to it
	$(CLUSTER) status

.PHONY: cluster-down
cluster-down: ## Remove the cluster and all that it made
	$(CLUSTER) down

.PHONY: programs
programs: ## Build the Kubernetes programs that the tests need, once per version
	$(CLUSTER) programs kube-apiserver kube-controller-manager kube-proxy coredns

.PHONY: bench-proxy
bench-proxy: packages programs ## Measure what happens to packets beside kube-proxy (about 25 minutes)
	go run ./test/bench/proxy

.PHONY: bench-dns
bench-dns: packages programs ## Measure the name server beside CoreDNS, and unbound if it is installed (about 12 minutes)
	go run ./test/bench/dns

.PHONY: bench-controllers
bench-controllers: packages programs ## Measure the endpoint controllers beside kube-controller-manager's (about 15 minutes)
	go run ./test/bench/controllers

.PHONY: bench-announce
bench-announce: packages ## Measure how load balancer addresses move when a node fails (about 30 minutes)
	go run ./test/bench/announce
	go run ./test/bench/announce -spread 1000

##@ Check

.PHONY: test
test: packages programs ## Run all tests but e2e: unit, scenario, real iptables, real API server (needs root)
	@go run ./hack/gotest -race -count=1 -tags=netns,integration -timeout=15m ./...

.PHONY: fuzz
fuzz: ## Run every fuzz test in turn (EACH=1m for each)
	go run ./hack/fuzz -each $(or $(EACH),1m)

.PHONY: e2e
e2e: ## Run the demo's assertions as tests on the local cluster, which it starts if it has to
	@go run ./hack/demo -setup
	@go run ./hack/gotest -count=1 -tags=e2e -timeout=20m ./test/e2e/...

.PHONY: verify
verify: tidy-check lint floors ## Check formatting, lint, module files and the floors of the house

.PHONY: lint
lint: $(BIN)/golangci-lint ## Run golangci-lint
	$(BIN)/golangci-lint run --allow-parallel-runners ./...

.PHONY: fmt
fmt: $(BIN)/golangci-lint ## Format the code
	$(BIN)/golangci-lint fmt

.PHONY: floors
floors: ## Check who imports whom (never cached)
	go test -count=1 ./test/arch

.PHONY: tidy-check
tidy-check: # go.mod and go.sum say exactly what is used
	@go mod tidy -diff || { echo 'go.mod or go.sum is not tidy: run go mod tidy' >&2; exit 1; }

.PHONY: packages
packages: # Debian packages of the tests
	@$(CLUSTER) packages $(NET_PACKAGES) $(API_PACKAGES)

$(BIN)/golangci-lint: hack/tools/go.mod hack/tools/go.sum
	@echo "building golangci-lint (once, 3 to 5 minutes)"
	cd hack/tools && go build -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@touch $@
