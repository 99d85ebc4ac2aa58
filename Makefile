# Everything a person does with this project. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Heavy imports take twice as long without bytecode, so it is written here whatever the shell says.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
BENCH := .venv-bench
BENCH_INSTALLED := $(BENCH)/.installed
FAB := .venv-fab
FAB_INSTALLED := $(FAB)/.installed

.PHONY: help compose-command install demo sandbox test lint unit integration faults stress fab bench airflow lock clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

install: $(INSTALLED) ## Make .venv with everything that requirements.txt pins

$(INSTALLED): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.11 …")'
	@echo "Installing what requirements.txt pins into .venv: a few minutes, once"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(INSTALLED) ## Start everything, connect an organization, sync it (ARGS=--exit stops after the summary)
	@$(BIN)/python -m softpro_demo $(ARGS)

sandbox: $(INSTALLED) ## A local SoftPro 360 alone (ARGS=--help lists its switches)
	@$(BIN)/python -m softpro_sandbox $(ARGS)

# The longest first, as these wait for much of their time; the others use what is left of the processors.
test: $(INSTALLED) ## Run all checks and tests
	$(MAKE) --jobs=4 --keep-going --output-sync=target airflow faults integration-a-h integration-i-z lint unit

lint: $(INSTALLED) ## Style, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy include plugins dags config tests
	PYTHONPATH=plugins $(BIN)/lint-imports

# The check of docker-compose.yaml needs the command, not an engine.
compose-command:
	@command -v docker-compose >/dev/null || docker compose version >/dev/null 2>&1 || \
		{ [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq docker-compose >/dev/null; } || \
		echo "docker-compose is missing: apt-get install docker-compose"

unit: $(INSTALLED) compose-command ## Tests that need no server
	$(BIN)/pytest tests/unit tests/sandbox

integration: $(INSTALLED) ## Tests on the embedded PostgreSQL and the sandbox
	$(BIN)/pytest tests/integration

# Those whose file's name begins so: the halves run beside each other.
integration-%: $(INSTALLED)
	$(BIN)/pytest tests/integration/test_[$*]*.py

faults: $(INSTALLED) ## Processes killed at every step of a sync
	$(BIN)/pytest tests/faults

stress: $(INSTALLED) fab ## The tests that break promises on purpose, at sizes that take minutes
	SOFTPRO_TEST_KILLS=204 SOFTPRO_TEST_REFRESH_SECONDS=120 SOFTPRO_TEST_RATE_SECONDS=180 SOFTPRO_TEST_CREATES=1000 \
		SOFTPRO_TEST_HOSTILE_SECONDS=1 SOFTPRO_TEST_HOSTILE_STEP=1 SOFTPRO_TEST_CALLS=120 SOFTPRO_TEST_EXACT_RECORDS=20000 \
		SOFTPRO_TEST_BATCH_RECORDS=50000 SOFTPRO_TEST_REPLAY_RECORDS=10000 SOFTPRO_TEST_RESTARTS=16 \
		SOFTPRO_TEST_PUSH_CREATES=1000 SOFTPRO_TEST_PUSH_EDITS=10000 SOFTPRO_TEST_BOTH_WAYS_EXAMPLES=60 SOFTPRO_TEST_BOTH_WAYS_STEPS=20 \
		$(BIN)/pytest -s tests/faults
	SOFTPRO_TEST_RESTARTS=4 SOFTPRO_TEST_RESTART_RECORDS=45000 $(BIN)/pytest -s tests/faults/test_database_restart.py
	SOFTPRO_TEST_NO_CHANGE_RECORDS=20000 $(BIN)/pytest -s tests/integration/test_unchanged_sync.py
	SOFTPRO_TEST_SCHEMATHESIS_EXAMPLES=150 $(BIN)/pytest tests/airflow/test_schemathesis.py
	SOFTPRO_TEST_HISTORIES=20000 $(BIN)/pytest tests/unit/test_paging.py
	SOFTPRO_TEST_HISTORIES=5000 $(BIN)/pytest tests/unit/test_sweep.py

bench: $(INSTALLED) $(BENCH_INSTALLED) ## How fast it is, beside dlt and the floor (ARGS=--quick; ARGS=--help)
	@$(BIN)/python -m tests.benchmarks $(ARGS)

$(BENCH_INSTALLED): tests/benchmarks/requirements.txt
	@echo "Installing what the benchmarks compare with into $(BENCH)"
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

fab: $(INSTALLED) $(FAB_INSTALLED) ## Tests through an Airflow with FAB's auth manager
	$(BIN)/pytest tests/fab

# Laid over .venv, as it asks for another version of something that everything else has.
$(FAB_INSTALLED): tests/fab/requirements.txt
	@echo "Installing FAB's auth manager into $(FAB)"
	rm -rf $(FAB)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $(FAB) --requirement $<
	@touch $@

airflow: $(INSTALLED) ## Tests through a real Airflow
	$(BIN)/pytest tests/airflow

lock: ## Pin what the two requirements.in name, direct and indirect, in the requirements.txt beside them
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv
	for folder in . tests/benchmarks; do \
		$(BIN)/uv pip compile --quiet --directory $$folder requirements.in -o requirements.txt \
			--python-version 3.11 --no-emit-index-url --custom-compile-command \
			'make lock   (uv pip compile requirements.in -o requirements.txt --python-version 3.11)'; \
	done
	$(BIN)/python -m tests.fab.lock

clean: ## Throw away the environments and the demo's data
	rm -rf .venv $(BENCH) $(FAB) .softpro .mypy_cache .ruff_cache .import_linter_cache .hypothesis
