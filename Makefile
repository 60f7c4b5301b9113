# Two commands tell the story: make quickstart, make test. Both install what is missing (Debian, root).
SHELL := /bin/bash
GO ?= go
ARGS ?=
# Everything is watched for races but wazero: its compiler, watched, takes a minute for a guest written in Go.
RACE = -race '-gcflags=github.com/tetratelabs/wazero/...=-race=false'

.PHONY: quickstart test bench lint deps

quickstart: deps
	$(GO) run ./examples/quickstart $(ARGS)

# -race over everything but real containers and the story under load, which watched guests are too slow for;
# the appliance's own tests run WASI pods with -race. lint has vetted already.
test: deps lint
	$(GO) test -vet=off $(RACE) -timeout 20m $$($(GO) list ./... | grep -v -e /runtime/containerd -e /examples/)
	$(GO) test -vet=off -p 1 -timeout 20m ./runtime/containerd/... ./examples/...
	cd internal/e2e && $(GO) test $(RACE) -timeout 20m ./controllerruntime
	cd internal/e2e && $(GO) test -timeout 20m $$($(GO) list ./... | grep -v /controllerruntime)

bench: deps
	@.ci/deps nginx-light wrk
	cd examples/bench && $(GO) run . $(ARGS)

lint:
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "gofmt would change:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	CGO_ENABLED=0 $(GO) build ./...
	GOOS=darwin CGO_ENABLED=0 $(GO) build ./...

# What real containers need. Nothing is started: the appliance runs a containerd of its own.
deps:
	@.ci/deps
