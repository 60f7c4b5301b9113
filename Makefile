# Two commands tell the story: make quickstart, make test. Both install what is missing (Debian, root).
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
GO ?= go
ARGS ?=
# How long each fuzzing of the store lasts.
FUZZ ?= 10s

.PHONY: quickstart test test-long proof powerloss linearizable fuzz bench lint deps guests

quickstart: deps
	$(GO) run ./examples/quickstart $(ARGS)

# Three packages at a time, whatever the cores: many of them wait more than they compute. -race over everything but what has no
# goroutines (PURE: each controller's own folder too, for reconcile's loop is what runs them, and controllers/ runs them all), real
# containers, and what compiles guests written in Go, for which a watched compiler is too slow: the appliance, the story, the example
# policies, the adapters of foreign ones, and some tests (COMPILES). To leave only wazero unwatched is no way: generic code that it
# shares with the standard library (atomic.Pointer, sync.Map) is linked once, from either, and races are reported that are none.
# lint has vetted already.
PURE := /orchestrator/(api|scheduler/(claims|gang|queues|volumes)|controllers/(?!reconcile$$).*)$$|/gpu/topology$$|/policies/abi|/guest/internal|/internal/patchdoc
# Example programs that need nothing of the host.
PROGRAMS := /examples/(?!quickstart|training)
UNWATCHED := /runtime/containerd|/examples|/orchestrator/appliance|/policies/compat
COMPILES := TestImportingCompilesAndStartingDoesNot|TestGuestsRunToTheirExitCodeAndLog|TestEveryMemberDecidesAlike|TestAnUploadedPolicyDecides|TestPoliciesSurviveARestart|TestASchedulingPolicyFiltersAndScores|TestAGangOfAPolicyIsBoundTogether|TestTenYearsPassWithoutARestart
test: deps guests lint
	$(GO) test -vet=off -race -p 3 -timeout 20m -skip '$(COMPILES)' $$($(GO) list ./... | grep -v -P '$(PURE)|$(UNWATCHED)')
	$(GO) test -vet=off -p 2 -timeout 20m $$($(GO) list ./... | grep -P '$(PURE)|/policies/compat|/policies/examples|$(PROGRAMS)')
	$(GO) test -vet=off -p 2 -timeout 20m -run '$(COMPILES)' ./runtime/wasm ./orchestrator/orchestratortest
	$(GO) test -vet=off -p 1 -timeout 20m ./runtime/containerd/... ./examples/quickstart ./examples/training ./orchestrator/appliance/...
	cd internal/e2e && $(GO) test -timeout 20m $$($(GO) list ./... | grep -v -e /powerloss -e /linearizable)
	cd policies/compat/opa/builtins && $(GO) test ./...
	@$(MAKE) --no-print-directory -j3 --output-sync=target proof

# The store's proofs: a sample of each. internal/e2e/powerloss and internal/e2e/linearizable say what they prove.
proof: fuzz linearizable powerloss

powerloss:
	cd internal/e2e && $(GO) test -count=1 -v -timeout 60m ./powerloss | grep --line-buffered -v -e '^=== '

linearizable:
	cd internal/e2e && $(GO) test -count=1 -v -timeout 60m -tags raftstore_faults ./linearizable | grep --line-buffered -v -e '^=== '

# Fuzzing the store against its model. Its goroutines make coverage waver: to minimize costs time and gains nothing.
fuzz:
	$(GO) test -run '^$$' -fuzz '^FuzzTheStoreAgreesWithTheModel$$' -fuzztime $(FUZZ) -fuzzminimizetime 1x -parallel 2 ./raftstore

# The same for half an hour: PINTLE_LONG is how many seconds each cluster of the histories is tested. What they do
# most is wait, so two at a time. Then the clusters of the store's tests with every member sealed.
test-long: deps
	@date -u '+make test-long, %Y-%m-%d, at '$$(git rev-parse --short HEAD)
	PINTLE_LONG=480 $(MAKE) --no-print-directory -j2 --output-sync=target proof FUZZ=5m
	PINTLE_SEALED=1 $(GO) test -count=1 -timeout 20m ./raftstore

bench: deps
	@.ci/deps nginx-light wrk etcd-server
	@.ci/guests
	cd examples/bench && $(GO) run . $(ARGS)

lint:
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "gofmt would change:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags raftstore_faults ./raftstore/...

# What builds the example policies from source: compilers for C, Rust and AssemblyScript.
guests:
	@.ci/guests

# What real containers need. Nothing is started: the appliance runs a containerd of its own.
deps:
	@.ci/deps
