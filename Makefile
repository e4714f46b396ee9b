# Newswire's targets; `make help` lists them.

SHELL       := bash
.SHELLFLAGS := -euo pipefail -c

GO          ?= go
STATICCHECK ?= honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME    ?= 20000x
TESTTIMEOUT ?= 20m
PG          ?= 14 16 17 18
ROUNDS      ?= 3

.DEFAULT_GOAL := help
.PHONY: help demo build test torture matrix kafka bench lint fuzz clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The recipe becomes the demo (exec), so that Ctrl-C reaches it and nothing else.
demo: ## run the whole system on this machine; installs PostgreSQL where it is missing
	@.ci/install postgresql
	@echo "Building bin/newswire …"
	@$(GO) build -trimpath -o bin/newswire ./cmd/newswire
	@exec ./bin/newswire demo $(DEMOFLAGS)

build: ## build bin/newswire
	$(GO) build -trimpath -o bin/newswire ./cmd/newswire

test: lint ## vet, staticcheck and all tests under the race detector; installs PostgreSQL, Chromium, kcat, nginx and Node.js where they are missing
	@.ci/install postgresql chromium fonts kcat nginx node compiler
	$(GO) test -race -timeout $(TESTTIMEOUT) ./...

torture: ## long runs under random load and faults, many seeds; ROUNDS (3) of each, SEED=… replays one, STEPS=… faults; takes hours, and root for the power cuts
	@.ci/install postgresql
	TORTURE=1 $(GO) test -timeout 6h -count=$(ROUNDS) -v -run '^Test(Kills|RandomFaults|PowerCut|SlowDisk|DiskThatFails)' ./cmd/newswire
	TORTURE=1 $(GO) test -timeout 6h -count=1 -run 'AsInTheModel|AsItsModel|Race' ./ack ./fanout ./fanout/journal -rapid.checks=5000
	$(GO) test -timeout 6h -count=$(ROUNDS) -run 'PowerCut' ./fanout/journal
	NEWSWIRE_TEST_KILL_RECORDS=10000 NEWSWIRE_TEST_TAKEOVER_RECORDS=10000 NEWSWIRE_TEST_BACKLOG=1000000 NEWSWIRE_TEST_THROUGHPUT_RECORDS=50000 NEWSWIRE_TEST_DRAIN=200000 \
		$(GO) test -timeout 6h -count=1 -v -run 'Killed|TakesOver|Slept|Backlog|Throughput' ./ack/compensate

matrix: ## the tests that talk to PostgreSQL, against versions PG ("14 16 17 18") of it, which npm brings
	@.ci/matrix $(PG)

kafka: ## the hand-over against Apache Kafka itself, which Maven brings
	@.ci/kafka

bench: build ## what the engine costs editors, how fast it drains a backlog, what a delivery takes, each beside a yardstick; takes minutes and a quiet machine
	@.ci/install postgresql
	./bin/newswire bench editors
	./bin/newswire bench editors --rate 100
	./bin/newswire bench drain
	./bin/newswire bench latency
	./bin/newswire bench flood
	./bin/newswire bench fanout
	./bin/newswire bench fanout --curve --for 4s
	./bin/newswire bench fanout --reconnect --readers 10000
	./bin/newswire bench fanout --stalled 1000 --for 4s

lint: ## gofmt, go vet and staticcheck
	@wrong="$$("$$($(GO) env GOROOT)/bin/gofmt" -l .)"; \
	if [ -n "$$wrong" ]; then echo "gofmt would change these files; run gofmt -w on them:"; echo "$$wrong"; exit 1; fi
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...

# FUZZTIME counts executions: go test sometimes fails with "context deadline
# exceeded" where a duration ends. Minimising is cut short: an input that covers
# new code only sometimes would take up the whole time.
fuzz: ## run every fuzz test FUZZTIME times (20000x)
	@$(GO) list -f '{{.ImportPath}} {{.Dir}}' ./... | while read -r package dir; do \
		for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$$dir"/*_test.go 2>/dev/null); do \
			echo "$$package $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x "$$package" || exit 1; \
		done; \
	done

clean: ## remove bin/
	rm -rf bin
