SHELL := /bin/bash
.DEFAULT_GOAL := help

DATA   ?= data
LISTEN ?= 127.0.0.1:8080
TIME   ?= 10s

##@ See it work

.PHONY: run
run: build bin/demo-peer ## Start the gateway with a demonstration (DATA=data LISTEN=127.0.0.1:8080)
	bin/peat dev --demo --data $(DATA) --listen $(LISTEN)

.PHONY: dev
dev: ## Start the gateway and restart it when a source file changes
	scripts/dev --listen $(LISTEN)

##@ Build

.PHONY: build
build: ## Build bin/peat, without cgo
	CGO_ENABLED=0 go build -trimpath -o bin/peat ./cmd/peat

.PHONY: bin/demo-peer
bin/demo-peer: ## Build the demonstration peer, which needs a C compiler
	CGO_ENABLED=1 go build -trimpath -o bin/demo-peer ./cmd/demo-peer

.PHONY: generate
generate: ## Write what is generated anew
	go generate ./...

##@ Test

.PHONY: test
test: ## Run every test with the race detector, Postgres and the JavaScript library beside them
	RESULTS=$(RESULTS) scripts/test -race ./...

.PHONY: test/short
test/short: ## Run what needs nothing installed and takes little time
	go test -short ./...

.PHONY: test/postgres
test/postgres: ## Run the store's tests on SQLite and a throw-away Postgres
	PEAT_TEST_REQUIRE=postgres scripts/postgres go test ./shared/...

.PHONY: test/kafka
test/kafka: ## Run the Kafka sink's tests with a real broker, fetched if it is not there
	scripts/kafka
	PEAT_TEST_REQUIRE=kafka go test ./shared/platform/testenv ./shared/driver/kafka/...

.PHONY: test/keycloak
test/keycloak: ## Run the tests of enrollment and sign-in with a real Keycloak, fetched if it is not there
	scripts/keycloak
	PEAT_TEST_REQUIRE=keycloak go test -timeout 30m -run Keycloak ./shared/platform/testenv ./shared/identity/saml ./test

.PHONY: test/e2e
test/e2e: ## Run the tests that drive the program from outside (RUN=TestKill PEAT_SEED=… PEAT_KILLS=…)
	PEAT_TEST_REQUIRE=postgres,nats,redis,node scripts/test -v -run '$(or $(RUN),.)' ./test/...

.PHONY: test/faults
test/faults: ## Break everything around a delivery, again and again, and judge what arrives (RUNS=500 PEAT_SEED=…)
	scripts/redis
	scripts/kafka
	PEAT_TEST_REQUIRE=postgres,redis,kafka PEAT_FAULT_RUNS=$(or $(RUNS),500) scripts/postgres \
		go test -v -count 1 -parallel 4 -timeout 8h -run 'TestFaults|TestLedger' ./test

.PHONY: test/tools
test/tools: # Run the tests of the build's own helpers
	@mkdir -p bin && cd tools && go build -o ../bin/testsum ./testsum && \
		set -o pipefail && go test -json ./... | ../bin/testsum $(if $(RESULTS),-save $(RESULTS))

.PHONY: fuzz
fuzz: ## Run each fuzz target for a while (TIME=10s)
	RESULTS=$(RESULTS) scripts/fuzz $(TIME)

.PHONY: bench
bench: ## Measure capture, delivery, latency and memory; print a table
	go test ./test -run '^$$' -bench BenchmarkGateway -benchtime 1x -timeout 20m

.PHONY: golden
golden: ## Accept what the tests now produce as their golden files, and show the difference
	UPDATE=1 go test ./...
	git diff --stat

##@ Keep it in order

.PHONY: check
check: ## Run exactly what CI runs
	.ci/run

.PHONY: fmt
fmt: ## Format the Go code
	gofmt -w $$(git ls-files --cached --others --exclude-standard '*.go')

.PHONY: fmt/check
fmt/check: # Fail if something is not formatted
	@out=$$(gofmt -l $$(git ls-files --cached --others --exclude-standard '*.go')) && \
		{ [ -z "$$out" ] || { echo "not formatted (make fmt):"; echo "$$out"; exit 1; }; }

.PHONY: vet
vet: ## Run go vet
	go vet ./...
	cd tools && go vet ./...

.PHONY: lint
lint: ## Run staticcheck, pinned in tools/go.mod
	scripts/lint

.PHONY: verify
verify: ## Fail if generated files or go.mod are not in step
	scripts/verify

.PHONY: clean
clean: ## Remove what was built and the demonstration's data
	rm -rf bin dist data

.PHONY: help
help: ## Print this
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z0-9\/-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
