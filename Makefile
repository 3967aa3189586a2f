SHELL := /bin/bash
.DEFAULT_GOAL := help
COVERAGE_LEAST := 85

# The race detector needs a C compiler; without one the tests run without it, and say so.
RACE := $(shell command -v cc >/dev/null 2>&1 && echo -race)
LINT := go tool -modfile=tools/go.mod

.PHONY: help build image image-test sbom upgrade-test run test unit e2e fleet sdk sdk-generate cover lint fmt fuzz bench bench-quick bench-audit bench-growth gitleaks soak-rotation clean

help: ## list the targets
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

build: ## build bin/agentidp, static
	CGO_ENABLED=0 go build -trimpath -o bin/agentidp ./cmd/agentidp

ENGINE ?= docker
image: ## build the image with ENGINE (docker, podman), the same from the same commit
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(ENGINE) build -f deploy/Dockerfile -t agentidp \
		--build-arg VERSION=$$(git describe --always --dirty) --build-arg REVISION=$$(git rev-parse HEAD) .

image-test: ## build program and image twice, run them in containers; says what is not run, and why
	cd test/e2e && E2E_IMAGE=1 go test -count=1 -v -timeout 30m -run 'TestTheImage|TestTheSameSource' .

sbom: build ## write bin/agentidp.cdx.json, what the binary was built of (CycloneDX)
	bin/agentidp version --sbom > bin/agentidp.cdx.json

run: ## run the server on embedded storage
	go run ./cmd/agentidp serve

test: ## all tests: units, contract, floors, end to end, coverage
	@command -v go >/dev/null || { echo "Go 1.26 or newer is missing: see go.dev/dl"; exit 1; }
	@scripts/needs.sh
	@$(if $(RACE),,echo "no C compiler: the tests run without the race detector";)
	@rm -rf .coverage && mkdir -p .coverage/unit .coverage/e2e
	go vet ./...
	go test $(RACE) -timeout 15m -cover -covermode=atomic -coverpkg=./internal/...,./cmd/... ./... -args -test.gocoverdir=$(CURDIR)/.coverage/unit
	$(if $(RACE),go test -count=1 -timeout 15m -run 'Million|Allocations' ./internal/app,@true)
	cd test/e2e && E2E_COVERDIR=$(CURDIR)/.coverage/e2e go test -count=1 -timeout 15m ./...
	@$(MAKE) --no-print-directory sdk
	@$(MAKE) --no-print-directory cover

unit: ## the quick tests alone
	go test -short ./...

e2e: ## the real binary from outside
	cd test/e2e && go test -count=1 ./...

fleet: ## 100,000 agents imported with a kill half-way, exported, compared, and suspended under load
	cd test/e2e && E2E_FLEET=100000 go test -count=1 -run AFleetIs -v .

upgrade-test: ## follow the deployment guide, with an upgrade from the commit before to this one
	@old=$$(mktemp -d); trap "git worktree remove --force $$old/tree; rm -rf $$old" EXIT; set -e; \
	git worktree add -q --detach $$old/tree HEAD~1; (cd $$old/tree && CGO_ENABLED=0 go build -o $$old/agentidp ./cmd/agentidp); \
	cd test/e2e && E2E_OLD_BINARY=$$old/agentidp go test -count=1 -v -run TestTheDeploymentGuideIsTrue .

# What npm installs, as the lock file says; made again where that changes.
NODE_MODULES := sdk/node/node_modules/.package-lock.json
$(NODE_MODULES): sdk/node/package-lock.json
	@scripts/needs.sh
	cd sdk/node && npm ci
	@touch $@

sdk: $(NODE_MODULES) ## the SDKs, against the real binary
	cd sdk/node && npm test

sdk-generate: $(NODE_MODULES) ## what the SDKs know of docs/openapi.yaml, after a change of it
	cd sdk/node && npm run generate

cover: ## coverage of the last make test, and its gate
	@scripts/coverage.sh $(COVERAGE_LEAST)

bench: ## the table of speed: every goal against the floor server, with more and longer rounds
	cd bench && go run . -out results

bench-quick: ## the same in two minutes, and less exact
	cd bench && go run . -quick -out results

bench-growth: ## what grows with what: agents, credentials, events, connections, overload
	cd bench && go run . -quick -growth

lint: $(NODE_MODULES) ## the linters and the formatting
	go vet ./...
	$(LINT) golangci-lint run ./...
	cd test/e2e && go tool -modfile=../../tools/go.mod golangci-lint run --config ../../.golangci.yml ./...
	cd bench && go tool -modfile=../tools/go.mod golangci-lint run --config ../.golangci.yml ./...
	cd sdk/node && npm run lint
	@unformatted=$$($(LINT) gofumpt -l $$(git ls-files '*.go')); test -z "$$unformatted" || { echo "not formatted:"; echo "$$unformatted"; exit 1; }

fmt: ## format the code
	$(LINT) gofumpt -w $$(git ls-files '*.go')

fuzz: ## each fuzz target for 20 seconds
	@set -e; for p in $$(go list ./...); do for f in $$(go test -list '^Fuzz' $$p | grep ^Fuzz || true); do echo "$$p $$f"; go test -run '^$$' -fuzz "^$$f$$" -fuzztime 20s -fuzzminimizetime 1s $$p; done; done

bench-audit: ## what the audit log costs: tokens, and 10,000,000 events verified
	go test ./internal/app -run '^$$' -bench '^BenchmarkSequencing$$' -benchtime 1x -timeout 30m
	go test ./internal/verify -run '^$$' -bench '^BenchmarkLongExport$$' -benchtime 1x -timeout 30m

gitleaks: ## try the rule of docs/gitleaks.toml with the real gitleaks
	go build -modfile=tools/gitleaks/go.mod -o bin/gitleaks github.com/zricethezav/gitleaks/v8
	AGENTIDP_GITLEAKS=$(CURDIR)/bin/gitleaks go test -count=1 -run Gitleaks ./cmd/agentidp

soak-rotation: ## 200 clients rotate every second for five minutes of real authentications
	AGENTIDP_SOAK=5m AGENTIDP_SOAK_CLIENTS=200 go test -count=1 -timeout 20m -v -run RotationSoak ./internal/app

clean: ## remove what was built and measured
	rm -rf bin .coverage sdk/node/dist sdk/node/coverage sdk/node/node_modules
