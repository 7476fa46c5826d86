# make demo [RUDE=1]   the whole story on the embedded engine, under load      make test   everything
# make bench [NAME=x]  benchmarks into target/bench                            make lint   formatting and clippy
# make guide           the operations guide's lines on the embedded engine, with the docker client
.PHONY: demo test guide bench lint setup setup-bench setup-test

CARGO ?= cargo
XTASK = $(CARGO) run --quiet --package xtask --

demo: setup
	$(XTASK) demo $(if $(RUDE),--rude)

test: setup-test lint
	$(CARGO) test --workspace --no-fail-fast
	$(XTASK) guide
	$(XTASK) demo
	$(XTASK) demo --rude

guide: setup-test
	$(XTASK) guide

bench: setup-bench
	$(XTASK) bench $(NAME)

lint: setup
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

# What the machine lacks, from its own package manager.
setup-bench:
	@./scripts/setup bench

setup-test:
	@./scripts/setup test

setup:
	@./scripts/setup
