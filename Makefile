# Everything a newcomer needs, on a machine that has only python3 (3.11 or newer) and make.
VENV    ?= .venv
PYTHON  ?= $(firstword $(shell sh tools/pythons 3 3.13 3.12 3.11))
SEEDS   ?= 200
POINTS  ?= 1000
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.installed
VERSIONS := 3.11 3.12 3.13

PYTEST_ARGS ?=
DEMO_ARGS   ?=
BENCH_ARGS  ?=

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-all check docs-check format sim crash nightly bench bench-check clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(STAMP)  ## make the virtual environment and install everything into it

$(STAMP): pyproject.toml
	@test -n "$(PYTHON)" || { echo "zmqtasks needs Python 3.11 or newer with venv; none was found. Name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -e '.[dev,examples]'
	@touch $@

demo: $(STAMP)  ## smooth real photographs with a real scheduler and two workers
	$(BIN)/python examples/smoother/demo.py $(DEMO_ARGS)

test: $(STAMP)  ## run the tests (PYTEST_ARGS=…)
	$(BIN)/python -m pytest -n 2 --dist worksteal $(PYTEST_ARGS)

test-all:  ## run the tests on each supported Python that this machine has
	@set -e; pythons=$$(sh tools/pythons $(VERSIONS)); \
	test -n "$$pythons" || { echo "none of Python $(VERSIONS) was found" >&2; exit 1; }; \
	for python in $$pythons; do \
	    version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	    echo "== Python $$version ($$python)"; \
	    $(MAKE) --no-print-directory test VENV=$(VENV)-$$version PYTHON=$$python; \
	done

check: $(STAMP) docs-check  ## lint, format, types, layers, generated docs
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs-check: $(STAMP)  ## compare the generated docs with the code they are drawn from
	$(BIN)/python tools/docs.py --check

format: $(STAMP)  ## let ruff mend what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

sim: $(STAMP)  ## simulate SEEDS=200 seeds
	$(BIN)/python -m tests.sim --seeds $(SEEDS)

crash: $(STAMP)  ## lose power at POINTS=1000 points of the journal's life, and damage its files
	$(BIN)/python -m tests.crash --points $(POINTS)

nightly: check test-all  ## what takes longer: every Python, long tests and many seeds
	$(BIN)/python -m pytest -n 2 --dist worksteal -m nightly --timeout 1200
	$(MAKE) --no-print-directory sim SEEDS=20000
	$(MAKE) --no-print-directory crash POINTS=20000

bench: $(STAMP)  ## measure (ceiling, throughput, latency, stages, calls, payload, mix, start, journal)
	$(BIN)/python bench/ceiling.py $(BENCH_ARGS)
	$(BIN)/python bench/throughput.py $(BENCH_ARGS)
	$(BIN)/python bench/latency.py $(BENCH_ARGS)
	$(BIN)/python bench/stages.py $(BENCH_ARGS)
	$(BIN)/python bench/calls.py $(BENCH_ARGS)
	$(BIN)/python bench/payload.py $(BENCH_ARGS)
	$(BIN)/python bench/mix.py $(BENCH_ARGS)
	$(BIN)/python bench/start.py $(BENCH_ARGS)
	$(BIN)/python bench/journal.py $(BENCH_ARGS)

bench-check: $(STAMP)  ## 10 % more calls a job than in the recorded run, or a policy that costs a fifth, are a failure
	$(BIN)/python bench/stages.py --repeat 3 --beside bench/results/stages.json
	$(BIN)/python bench/calls.py --repeat 10 --check bench/results/calls.json $(BENCH_ARGS)
	$(BIN)/python bench/policy.py --at-least 0.8

clean:  ## remove the environments, caches and outputs
	rm -rf $(VENV) $(VENV)-3.* build dist htmlcov .coverage .coverage.* .hypothesis
	rm -rf .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
