# `make help` lists the targets. Works with GNU make 3.81 or later.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Heavy imports take twice as long without bytecode, so it is always written.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
# Tests through Airflow wait for much of their time, so one more process than cores runs at once.
WORKERS ?= $(shell echo $$(( $$(getconf _NPROCESSORS_ONLN) + 1 )))
BIN := .venv/bin
INSTALLED := .venv/.installed
BENCH := .venv-bench
BENCH_INSTALLED := $(BENCH)/.installed
FAB := .venv-fab
FAB_INSTALLED := $(FAB)/.installed
PYTEST := $(BIN)/pytest
IN_PARALLEL := --numprocesses $(WORKERS) --no-loadscope-reorder

.PHONY: help install lock sbom clean demo sandbox test lint programs tests unit integration faults airflow attack stress fab bench

help: ## Show this list
	@awk -F ':.*## ' '/^##@/ { printf "\n%s\n", substr($$0, 5) } /^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' \
		$(MAKEFILE_LIST)

##@ Set up
install: $(INSTALLED) ## Create .venv with everything that requirements-dev.txt pins

$(INSTALLED): requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.11 …")'
	@echo "Installing the packages of requirements-dev.txt into .venv (a few minutes, once)"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

lock: ## Pin the packages of each requirements*.in, direct and indirect, with hashes, in the .txt file next to it
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv
	for name in requirements requirements-dev tests/benchmarks/requirements; do \
		$(BIN)/uv pip compile --quiet --directory $$(dirname $$name) $$(basename $$name).in -o $$(basename $$name).txt \
			--generate-hashes --python-version 3.11 --no-emit-index-url --no-emit-find-links \
			--custom-compile-command 'make lock' || exit 1; \
	done
	$(BIN)/python -m tests.fab.lock

# The image installs exactly these packages, so the list describes it.
sbom: $(INSTALLED) ## Write the bill of materials of the image's Python packages to sbom.json (CycloneDX)
	rm -rf .venv-run
	$(PYTHON) -m venv --without-pip .venv-run
	$(BIN)/python -m pip --python .venv-run/bin/python install --quiet --disable-pip-version-check --no-deps \
		--require-hashes --requirement requirements.txt
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --output-file sbom.json .venv-run/bin/python

clean: ## Delete the environments and the demo's data
	rm -rf .venv .venv-run $(BENCH) $(FAB) sbom.json .softpro .mypy_cache .ruff_cache .import_linter_cache .hypothesis

##@ Try
demo: $(INSTALLED) ## Start everything, connect an organization and sync it (ARGS=--exit stops after the summary)
	@$(BIN)/python -m softpro_demo $(ARGS)

sandbox: $(INSTALLED) ## Start a local SoftPro 360 alone (ARGS=--help lists its switches)
	@$(BIN)/python -m softpro_sandbox $(ARGS)

##@ Test
test: $(INSTALLED) ## Run all checks and tests (WORKERS=4 sets the number of test processes)
	$(MAKE) --jobs=2 --keep-going lint tests

lint: $(INSTALLED) ## Check style, types and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy include plugins dags config tests
	PYTHONPATH=plugins $(BIN)/lint-imports

# Some tests use a browser and a connection pooler.
programs:
	@{ command -v chromium && command -v pgbouncer; } >/dev/null || \
		{ [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium pgbouncer >/dev/null; } || \
		{ echo "Tests need Chromium and PgBouncer, and only root can install them: apt-get install chromium pgbouncer"; exit 1; }

tests: $(INSTALLED) programs
	$(PYTEST) $(IN_PARALLEL) tests/unit tests/sandbox tests/integration tests/security tests/faults tests/airflow

unit: $(INSTALLED) ## Run the tests that need no server
	$(PYTEST) tests/unit tests/sandbox

integration: $(INSTALLED) programs ## Run the tests on the embedded PostgreSQL and the sandbox
	$(PYTEST) $(IN_PARALLEL) tests/integration

faults: $(INSTALLED) ## Run the tests that kill processes, lose responses and provoke races
	$(PYTEST) $(IN_PARALLEL) tests/faults

airflow: $(INSTALLED) ## Run the tests through a real Airflow
	$(PYTEST) tests/airflow

##@ Take minutes
stress: $(INSTALLED) fab ## Run the fault tests at large sizes
	SOFTPRO_TEST_KILLS=204 SOFTPRO_TEST_REFRESH_SECONDS=120 SOFTPRO_TEST_RATE_SECONDS=180 SOFTPRO_TEST_CREATES=1000 SOFTPRO_TEST_DELIVERIES=2000 \
		SOFTPRO_TEST_HOSTILE_SECONDS=1 SOFTPRO_TEST_HOSTILE_STEP=1 SOFTPRO_TEST_CALLS=120 SOFTPRO_TEST_EXACT_RECORDS=20000 \
		SOFTPRO_TEST_BATCH_RECORDS=50000 SOFTPRO_TEST_REPLAY_RECORDS=10000 SOFTPRO_TEST_RESTARTS=16 \
		SOFTPRO_TEST_PUSH_CREATES=1000 SOFTPRO_TEST_PUSH_EDITS=10000 SOFTPRO_TEST_BOTH_WAYS_EXAMPLES=60 SOFTPRO_TEST_BOTH_WAYS_STEPS=20 \
		$(PYTEST) -s tests/faults
	SOFTPRO_TEST_RESTARTS=4 SOFTPRO_TEST_RESTART_RECORDS=45000 $(PYTEST) -s tests/faults/test_database_restart.py
	SOFTPRO_TEST_NO_CHANGE_RECORDS=20000 $(PYTEST) -s tests/integration/test_unchanged_sync.py
	SOFTPRO_TEST_SCHEMATHESIS_EXAMPLES=150 $(PYTEST) tests/airflow/test_schemathesis.py
	SOFTPRO_TEST_DEMO_TWICE=1 $(PYTEST) tests/airflow/test_demo.py
	SOFTPRO_TEST_HISTORIES=20000 $(PYTEST) tests/unit/test_paging.py
	SOFTPRO_TEST_HISTORIES=5000 $(PYTEST) tests/unit/test_sweep.py

attack: $(INSTALLED) ## Attack a running API server and its database, and count what gets through (ARGS=--help)
	@$(BIN)/python -m tests.attack $(ARGS)

bench: $(INSTALLED) $(BENCH_INSTALLED) ## Measure speed and memory against dlt and a minimal loader (ARGS=--quick; ARGS=--help)
	@$(BIN)/python -m tests.benchmarks $(ARGS)

$(BENCH_INSTALLED): tests/benchmarks/requirements.txt
	@echo "Installing the peers of the benchmarks into $(BENCH)"
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement $<
	@touch $@

fab: $(INSTALLED) $(FAB_INSTALLED) ## Run the tests through an Airflow with FAB's auth manager
	$(PYTEST) tests/fab

# FAB needs another version of a package that everything else has, so it is installed over .venv.
$(FAB_INSTALLED): tests/fab/requirements.txt
	@echo "Installing FAB's auth manager into $(FAB)"
	rm -rf $(FAB)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --target $(FAB) --requirement $<
	@touch $@
