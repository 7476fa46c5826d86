# make demo [RUDE=1]   the whole story on the embedded engine, under load      make test   everything
# make bench [NAME=x]  benchmarks into target/bench                            make lint   formatting and clippy
.PHONY: demo test bench lint setup setup-bench

CARGO ?= cargo
XTASK = $(CARGO) run --quiet --package xtask --

demo: setup
	$(XTASK) demo $(if $(RUDE),--rude)

test: setup lint
	$(CARGO) test --workspace --no-fail-fast
	$(XTASK) demo
	$(XTASK) demo --rude

bench: setup-bench
	$(XTASK) bench $(NAME)

lint: setup
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

# What the machine lacks, from its own package manager.
setup-bench:
	@./scripts/setup bench

setup:
	@./scripts/setup
