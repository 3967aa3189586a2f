.PHONY: help build test lint

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-14s %s\n", $$1, $$2}'

build: ## build bin/agentidp
	CGO_ENABLED=0 go build -trimpath -o bin/agentidp ./cmd/agentidp

test: ## all tests
	go test ./...

lint: ## vet and formatting
	go vet ./...
	@test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }
