# Two commands are enough: make run, make test.

.DEFAULT_GOAL := help
SHELL := /bin/bash

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SHIP := $(VENV)/.ship-installed
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)

# A third of the files wait for nine tenths of their time: with three processes a core, a third of each core was idle.
# A second copy of the suite beside it shares as many turns (tests/support/turns.py).
TEST_PROCESSES ?= $(shell echo $$(( 4 * $$(nproc) )))

# Kestra's own engine has a target of its own: a minute of compiling and starting in each process that runs one of its files.
# So has what needs the large programs that operators use.
PYTEST := $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder \
	--ignore=tests/kestra_engine --ignore=tests/operate

# In a new clone each process of a run would compile all tests, which takes it 4 s; this does it once for all of them.
# Errors are not shown here, because the run itself meets and shows them.
COMPILE_TESTS := $(BIN)/python -m pytest --collect-only --quiet --ignore=tests/kestra_engine --ignore=tests/operate \
	>/dev/null || true
# Some environments forbid Python to keep what it compiled.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help install run test test-kestra test-operate check format coverage chaos bench lock audit

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(STAMP) ## Make .venv with everything in it (does nothing when it is up to date)

$(STAMP): pyproject.toml tests/support/make_venv.sh
	@tests/support/make_venv.sh "$(PYTHON)" "$(VENV)"
	@touch $@

$(SHIP): $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group ship --editable '.[otel]'
	@touch $@

run: $(STAMP) ## Serve; on http://127.0.0.1:8000 with the embedded store unless the environment says otherwise
	@exec $(BIN)/python -m service

test: $(STAMP) ## Run the tests; gets redis-server and what else they need through apt when it is missing
	@tests/support/get_tools.sh
	@$(COMPILE_TESTS)
	@$(PYTEST)

test-kestra: $(STAMP) ## Run the flows we ship on Kestra's own engine, 1.3 and 2.0; wants Java 25 and Maven (about 25 minutes)
	@tests/support/get_tools.sh
	@KESTRA_TESTS=all $(BIN)/python -m pytest tests/kestra_engine

test-operate: $(SHIP) ## Run the tests of what operators use: alerts, dashboard, pages, manifests; gets Prometheus, Chromium and kubectl through apt
	@tests/support/get_tools.sh operate
	@$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder tests/operate

coverage: $(STAMP) ## Run the tests and fail below 95 % branch coverage
	@tests/support/get_tools.sh
	@$(COMPILE_TESTS)
	@$(PYTEST) --cov --cov-report=term-missing:skip-covered

check: $(STAMP) ## Lint and check types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(STAMP) ## Put the code in order
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

chaos: $(STAMP) ## Break Redis, its topologies and the replicas under load, and count what is missing afterwards
	@tests/support/get_tools.sh
	@$(BIN)/python -m tests.outage.chaos

bench: $(STAMP) ## Measure: the peers side by side, wakes, growth, latency, soak (twenty minutes; SOAK=1: thirty)
	@tests/support/get_tools.sh
	@python="$$(tests/bench/get_python.sh $(BIN)/python "$${XDG_CACHE_HOME:-$$HOME/.cache}/vapi-cache-bench")" && \
		"$$python" -m tests.bench $(if $(SOAK),--soak)

lock: $(SHIP) ## Write requirements.lock and requirements-build.lock, which the image installs from (UPGRADE=1: newest versions)
	@tests/support/lock.sh $(BIN) $(if $(UPGRADE),--upgrade)

audit: $(SHIP) ## List the licences of what the image installs, and its known vulnerabilities (asks a database on the internet)
	@$(BIN)/python -m tests.support.audit
