# The project's commands. `make demo` and `make test` work from a fresh clone; what they need and do not find is
# installed, or named with the command that installs it.

CARGO ?= cargo
TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))

.PHONY: help demo test conformance soak fuzz mutants bench lint needs-build needs-test

help:
	@echo "make demo   build weir and watch it count, decide and refuse"
	@echo "make test   install what the tests need and run all of them"
	@echo "make lint   format, clippy, docs and dependency rules, warnings denied"
	@echo "make conformance   what the log must do for Kafka's clients, case by case; BOOTSTRAP=host:port for one that runs"
	@echo "make soak   counting against models by the 100,000 cases, crashes, faults and a cluster's trouble by the hundred, and compaction at size, with their figures"
	@echo "make fuzz   garbage for the embedded log, FUZZ_SECONDS of each kind (600)"
	@echo "make mutants   whether a test notices each small change of the files that count; hours"
	@echo "make bench  the benches, with their numbers"

demo: needs-build
	$(CARGO) build --release --locked -p weir
	$(CARGO) run --quiet --release --locked -p weir -- demo $(DEMO_ARGS)

# The binary under test is built together with the tests: alone, its dependencies would be built anew.
test: needs-test
	$(CARGO) build --workspace --locked --bins --tests
	WEIR_BINARY=$(TARGET)/debug/weir $(CARGO) test --workspace --locked

# The embedded log beside Apache Kafka, or the log at BOOTSTRAP alone.
conformance: needs-test
	$(if $(BOOTSTRAP),BOOTSTRAP=$(BOOTSTRAP)) $(CARGO) test -p tests --locked --test it -- conformance --nocapture --test-threads=1

soak: needs-test
	MODEL_CASES=100000 SPAN_SCHEDULES=10000 $(CARGO) test -p aggregator -p schemas --release --locked --lib -- \
		counter:: engine:: cloudevents::agree:: --nocapture
	COMPACT_KEYS=1000000 $(CARGO) test -p broker --release --locked -- near_the_size --nocapture
	WEIR_KILLS=200 LOG_KILLS=200 LOG_CUTS=50 \
		$(CARGO) test -p tests --locked --test it -- crash --nocapture --test-threads=1
	FAULT_ROUNDS=10 CLUSTER_ROUNDS=20 REBALANCE_ROUNDS=10 DISORDER_KILLS=20 \
		$(CARGO) test -p tests --locked --test it -- faults cluster rebalance --nocapture --test-threads=1
	$(CARGO) build --release --locked -p weir
	WEIR_BINARY=$(TARGET)/release/weir LONG_SECONDS=7200 LONG_RATE=10000 \
		$(CARGO) test -p tests --release --locked --test it -- long_run --nocapture
	WEIR_BINARY=$(TARGET)/release/weir SIMULATE_EVENTS=10000000 \
		$(CARGO) test -p tests --release --locked --test it -- simulate --nocapture
	WEIR_BINARY=$(TARGET)/release/weir STRICT_REQUESTS=1000000 STRICT_KILLS=20 \
		$(CARGO) test -p tests --release --locked --test it -- strict --nocapture --test-threads=1
	WEIR_BINARY=$(TARGET)/release/weir EDIT_CHECKS=1000000 \
		$(CARGO) test -p tests --release --locked --test it -- edits --nocapture
	MODEL_CASES=100000 $(CARGO) test -p gateway --release --locked --lib -- share::model --nocapture
	SHARE_SECONDS=150 SHARE_STOPPED_SECONDS=30 \
		$(CARGO) test -p tests --release --locked --test it -- share --nocapture

fuzz: needs-build
	scripts/fuzz

mutants: needs-build
	scripts/mutants

bench: needs-build
	$(CARGO) bench --workspace --locked

lint: needs-build
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked
	scripts/deny

needs-build:
	@scripts/install-needs build

needs-test:
	@scripts/install-needs test
