# make setup | demo | test | bench | lint | docs | wheel — each works alone on a fresh clone.
# `setup` is a chain of stamps: the second run of any target checks a few files and goes on.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow bench lint docs wheel lock clean

VENV := .venv
PY := $(VENV)/bin/python
RUN := PATH="$(CURDIR)/$(VENV)/bin:$$PATH"
STAMP := $(VENV)/.installed
SPHINX := sphinx-build --fail-on-warning --keep-going --quiet

help:  ## Show the targets
	@sed -n 's/^\([a-z-]*\):.*## /make \1\t/p' $(MAKEFILE_LIST) | expand -t 14

setup: $(STAMP) ## Install everything: uv (private), Python 3.12, .venv, headless GL
	@scripts/system_libraries.sh libegl1 libgl1-mesa-dri libosmesa6 libgl1

demo: setup ## Five minutes: real LIBERO, two controls, two learned policies, their latency, one report
	@# An earlier demo is kept, under the time it was made.
	@[ ! -e reports/demo ] || mv reports/demo "reports/demo-$$(date -u -r reports/demo +%Y%m%d-%H%M%S)"
	@$(RUN) harness run suites/demo.yaml --out reports/demo

test: setup ## The whole test suite
	@scripts/system_libraries.sh --optional chromium
	@# Two processes of one thread (numpy reads it when it is imported, before tests/conftest.py says it), each file in one
	@# process, with its Ray cluster. Long files begin first (tests/conftest.py); xdist would order by number of tests.
	@OMP_NUM_THREADS=1 $(RUN) $(PY) -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder -m "not bench and not slow"

test-slow: setup ## The tests that take minutes each: every task of the five suites, long simulations
	@$(RUN) $(PY) -m pytest -q -m slow

bench: setup ## The performance benchmarks, ratios measured in one run
	@$(RUN) $(PY) tests/benchmarks/bench_sim.py
	@$(RUN) $(PY) tests/benchmarks/bench_worlds.py
	@$(RUN) $(PY) tests/benchmarks/bench_cluster.py
	@$(RUN) $(PY) tests/benchmarks/bench_probe.py
	@$(RUN) $(PY) tests/benchmarks/bench_gate.py
	@$(RUN) $(PY) tests/benchmarks/bench_training.py
	@$(RUN) $(PY) tests/benchmarks/bench_training_faults.py
	@$(RUN) $(PY) tests/benchmarks/bench_fuzz.py
	@$(RUN) $(PY) tests/benchmarks/bench_plan.py
	@$(RUN) $(PY) tests/benchmarks/bench_chaos.py
	@$(RUN) $(PY) tests/benchmarks/bench_chaos.py --world libero --rounds 10

lint: setup ## ruff, mypy --strict, the lock on x86-64 and aarch64, and a strict build of the documentation
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) mypy
	@$(RUN) $(PY) scripts/check_platforms.py
	@$(RUN) $(SPHINX) -b dummy -D run_notebooks=0 -d site/.doctrees-lint docs site/lint

docs: setup ## The documentation as site/index.html, with the example notebooks run; reads offline
	@$(RUN) $(SPHINX) -E -b html -d site/.doctrees docs site/html
	@# A page that fetches fonts or scripts would not read offline.
	@! grep -rEn '<(script|link|img)[^>]*(src|href)="(https?:)?//' site/html --include='*.html'
	@echo "site/html/index.html"

wheel: setup ## Build wheel and source archive, check both, install the wheel into a fresh environment
	@$(RUN) scripts/check_wheel.sh

lock: scripts/uv ## Write requirements.lock anew (versions and hashes, no addresses)
	@UV=$$(scripts/uv) && "$$UV" pip compile --quiet --python-version 3.12 --extra all --generate-hashes \
	  --no-emit-index-url --no-annotate --no-header --no-emit-package vla-harness pyproject.toml -o requirements.lock
	@! grep -nE 'https?://|--index-url|--find-links' requirements.lock

$(STAMP): requirements.lock pyproject.toml scripts/uv
	@UV=$$(scripts/uv) && \
	  { [ -x $(PY) ] || "$$UV" venv --quiet --python 3.12 $(VENV); } && \
	  "$$UV" pip install --quiet --compile-bytecode --python $(PY) --require-hashes -r requirements.lock && \
	  "$$UV" pip install --quiet --python $(PY) --no-deps --editable .
	@touch $@

clean: ## Remove what make made (never reports)
	rm -rf $(VENV) .uv .pytest_cache .mypy_cache .ruff_cache site dist
