# Every target does the set-up it needs, in a .venv of the project's own.
# Variables: PROFILE=smoke|quick|paper SEEDS=n FAMILY=a,b DATASET=a,b MODEL=a,b HORIZON=96,720 PROTOCOL=honest JOBS=n OVERRIDES='logger=none ...'

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# pip's own options, for instance where to find a CPU-only torch: make setup PIP_ARGS="--find-links folder"
PIP_ARGS ?=
LOCKED = $(BIN)/python -m pip install --quiet $(PIP_ARGS) --require-hashes --no-deps
EXTRAS ?= suite,dev

PROFILE ?= quick
SEEDS ?= 1
FAMILY ?=
DATASET ?=
MODEL ?=
HORIZON ?=
PROTOCOL ?= honest
JOBS ?= 0
OVERRIDES ?=
ARGS ?=
# Processes that share the tests; 0 runs them in pytest's own, for a debugger or for timing them one after another.
WORKERS ?= $(shell nproc 2>/dev/null || echo 2)

# Two torch threads under load cost up to 45 times one; jobs run side by side instead.
export OMP_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup test test-long faults lint types reproduce sweep plan tables report wandb-sync wandb-dashboard verify data bench bench-gpu lock lock-check audit clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'
	@sed -n 2p $(MAKEFILE_LIST)

setup: $(VENV)/.ready ## make .venv and install everything from requirements.lock by hash, torch by its exact version

# All but torch comes from the lock, by hash. Torch's build is the machine's own: PIP_ARGS may name one.
$(VENV)/.ready: pyproject.toml constraints.txt requirements.lock scripts/lock.py
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "aaren needs Python 3.11 or newer; say which with make setup PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python scripts/lock.py select build > $(VENV)/build.txt
	$(BIN)/python scripts/lock.py select "$(EXTRAS)" > $(VENV)/requirements.txt
	$(LOCKED) -r $(VENV)/build.txt
	$(LOCKED) --no-build-isolation -r $(VENV)/requirements.txt
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

test: lint types ## lint, type check and test everything (minutes)
	$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 8 --dist worksteal -m "not long" $(ARGS)

test-long: setup ## the tests that take long (10^7-token streams and the like)
	$(BIN)/python -m pytest -m long $(ARGS)

faults: setup ## kill sweeps at random, repeat jobs, soak streams and training, damage files: results/reliability (an hour and a half of one core)
	$(BIN)/python scripts/faults.py all $(ARGS)
	$(BIN)/python scripts/fuzz.py
	$(BIN)/python scripts/reliability.py

lint: setup ## ruff: style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup ## pyright
	$(BIN)/pyright

reproduce: setup ## run every job that is not done yet and make the tables (PROFILE=quick: under an hour on two cores)
	$(BIN)/python scripts/reproduce.py --profile "$(PROFILE)" --seeds "$(SEEDS)" --family "$(FAMILY)" \
	  --dataset "$(DATASET)" --model "$(MODEL)" --horizon "$(HORIZON)" --protocol "$(PROTOCOL)" --jobs "$(JOBS)" \
	  --overrides "$(OVERRIDES)" $(ARGS)

sweep: setup ## a Hydra multirun: make sweep ARGS="'dataset=glob(*)' model=aaren,transformer seed=0,1,2,3,4"
	$(BIN)/python scripts/train.py -m profile=$(PROFILE) $(ARGS)

plan: setup ## list the jobs of the full run with the hours each will take (ARGS='--device gpu --workers 8')
	$(BIN)/python scripts/plan.py $(ARGS)

tables: setup ## rebuild the tables from the records, without training
	$(BIN)/python scripts/tables.py $(ARGS)

report: setup ## make the committed tables and the HTML page anew (ARGS="--runs results/runs" for runs of your own)
	$(BIN)/python scripts/report.py $(ARGS)

wandb-sync: setup ## mirror records, curves and tables to Weights & Biases (ARGS="--records results/measured --entity you")
	$(BIN)/python scripts/wandb_sync.py $(ARGS)

wandb-dashboard: setup ## apply our W&B dashboard to a project (ARGS="--entity you")
	$(BIN)/python scripts/wandb_dashboard.py $(ARGS)

verify: setup ## check the committed results: records, staleness, tables, cells too good to be true
	$(BIN)/python scripts/verify.py $(ARGS)

data: setup ## which of the 38 datasets are ready, and what would make the others so
	$(BIN)/python scripts/data.py status $(ARGS)

bench: setup ## measure operator, training step and streams; draw results/efficiency (some ten minutes of one core)
	$(BIN)/python scripts/bench.py params
	$(BIN)/python scripts/bench.py all $(ARGS)

bench-gpu: setup ## build, check and time the GPU operator on the GPU at hand (needs a CUDA build of torch; ARGS=--plans)
	$(BIN)/python scripts/bench_gpu.py $(ARGS)

ALL_EXTRAS := suite,dashboard,d4rl,ray,slurm,onnx,behaviour,gpu,dev

lock: ## write constraints.txt and requirements.lock anew: the newest versions that all extras agree on, and their hashes
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet --upgrade pip uv
	PATH="$(CURDIR)/$(VENV)-lock/bin:$$PATH" $(VENV)-lock/bin/python scripts/lock.py write "$(ALL_EXTRAS)" $(PIP_ARGS)
	rm -rf $(VENV)-lock

lock-check: setup ## check that every extra resolves with constraints.txt (asks the package index)
	$(BIN)/python -m pip install --quiet --dry-run $(PIP_ARGS) -c constraints.txt -e ".[$(ALL_EXTRAS)]"

audit: setup ## check the lock and what is installed: hashes, blocked releases, licences, strangers (no network)
	$(BIN)/python scripts/audit.py

clean: ## remove caches and build leftovers; results, data and .venv stay
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis outputs multirun
	find aaren tasks scripts tests -name __pycache__ -type d -prune -exec rm -rf {} +
