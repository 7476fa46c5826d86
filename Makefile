# make demo [RUDE=1]                     the whole story under load, on the embedded engine
# make demo ENGINE=swarm [NODES=3]       both applications on Swarm    make test          everything
# make bench [NAME=x]                    benchmarks, into target/bench  make lint          formatting and clippy
# make bench ENGINE=swarm [ROUNDS=3]     updates on Docker Swarm behind nginx, haproxy and keel
# make fuzz [SECONDS=60] [NAME=x]        the parsers of outside bytes  make conformance   both engines
# make guide                             the operations guide's lines on the embedded engine
.PHONY: demo test guide conformance bench fuzz lint xtask setup setup-bench setup-fuzz setup-test

CARGO ?= cargo
XTASK = $(CARGO) run --quiet --package xtask --

demo: setup xtask
	$(if $(filter swarm,$(ENGINE)),@./scripts/setup dockerd)
	$(XTASK) demo $(if $(RUDE),--rude) $(if $(filter swarm,$(ENGINE)),--swarm=$(or $(NODES),1))

test: setup-test setup-fuzz lint
	$(CARGO) test --workspace --no-fail-fast
	$(XTASK) fuzz --seed 1 --seconds 60
	$(XTASK) guide
	$(CARGO) run --quiet --package conformance -- --engine both
	$(XTASK) demo
	$(XTASK) demo --rude

guide: setup-test xtask
	$(XTASK) guide

# The same scenarios on the embedded engine and on a Docker daemon of our own (needs root).
conformance: setup-test
	$(CARGO) run --quiet --package conformance -- --engine both

bench: setup-bench xtask
	$(XTASK) bench $(if $(filter swarm,$(ENGINE)),swarm $(if $(ROUNDS),--rounds $(ROUNDS)),$(NAME))

fuzz: setup-fuzz xtask
	$(XTASK) fuzz $(if $(SECONDS),--seconds $(SECONDS)) $(NAME)

# Cargo shows how far it is, the first time for a minute.
xtask: setup
	$(CARGO) build --package xtask

lint: setup
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

# What the machine lacks, from its own package manager.
setup-fuzz:
	@./scripts/setup fuzz

setup-bench:
	@./scripts/setup bench

setup-test:
	@./scripts/setup test

setup:
	@./scripts/setup
