# Everything is done from here; `make` alone says what there is.
#
# The virtual environments fill themselves when a lock file in requirements/ changes: .venv with what the services need,
# and with the tools as soon as a target wants them; .venv-proto with the generator of the stubs, whose old version would
# clash with the rest; .venv-lowest with the oldest versions that the library works with; .venv-bench/* with the systems
# that benchmarks compare with, one each.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# A Python of 3.11 or newer: `make PYTHON=/path/to/python3.12 …`
PYTHON ?= python3
# What pytest gets beside its configuration: `make test PYTEST="-k card -x"`
PYTEST ?=
# How many processes share the tests: `make test WORKERS=0 PYTEST=--pdb` runs all in one, as debuggers need it
WORKERS ?= 2

BIN := .venv/bin
SERVICES := .venv/.services
TOOLS := .venv/.tools
GENERATOR := .venv-proto/.generator
LOWEST := .venv-lowest/.lowest
PEERS := .venv-bench/.peers
# Locked and exact; what is never imported need not be compiled.
PIP := -m pip install --quiet --disable-pip-version-check --no-deps --no-compile

##@ Use

demo: $(SERVICES) ## Start the mesh, stream two guarded turns, show the way they took, stop
	$(BIN)/python -m shieldmesh demo

up: $(SERVICES) ## Start the mesh on this machine and keep it running until Ctrl-C
	$(BIN)/python -m shieldmesh up

install: $(TOOLS) ## Fill .venv with everything; the other targets do it when needed

##@ Develop

test: $(TOOLS) ## Run all tests, the end-to-end ones too
	$(BIN)/python -m pytest --numprocesses $(WORKERS) $(PYTEST)

check: lint test ## Run every check: format, lint, types, imports, contract, stubs, tests

lint: format-check ruff mypy pyright imports contract stubs lowest ## Run every check but the tests

format: $(TOOLS) ## Format the code and the contract
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .
	$(BIN)/buf format --write protos

proto: $(GENERATOR) ## Generate the Python stubs from protos/
	scripts/stubs

lock: $(TOOLS) ## Resolve pyproject.toml into requirements/ (LOCK=--upgrade for the newest versions)
	scripts/lock $(LOCK)

bench: $(SERVICES) $(PEERS) ## Measure everything beside its peers, on a quiet machine: docs/performance.md (15 minutes)
	$(BIN)/python -m benchmarks

bench-quick: $(SERVICES) $(PEERS) ## The most telling part of it, printed (2 minutes)
	$(BIN)/python -m benchmarks --quick

clean: ## Remove everything that the other targets made
	rm -rf .venv .venv-proto .venv-lowest .venv-bench .run build dist *.egg-info .{mypy,ruff,pytest,import_linter}_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## Say what there is
	@awk 'BEGIN { FS = ":.*## " } /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# The parts of `make lint`.

format-check: $(TOOLS)
	$(BIN)/ruff format --check --quiet .
	$(BIN)/buf format --diff --exit-code protos

ruff: $(TOOLS)
	$(BIN)/ruff check --quiet .

mypy: $(TOOLS)
	$(BIN)/mypy

pyright: $(TOOLS)
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright

imports: $(TOOLS)
	$(BIN)/lint-imports --no-logo

contract: $(TOOLS)
	$(BIN)/buf lint protos
	scripts/breaking

stubs: $(GENERATOR)
	scripts/stubs --check

lowest: $(LOWEST)
	.venv-lowest/bin/python -m shieldmesh version

$(SERVICES): requirements/build.txt requirements/services.txt pyproject.toml
	@scripts/virtualenv .venv $(PYTHON)
	$(BIN)/python $(PIP) --require-hashes -r requirements/build.txt -r requirements/services.txt
	$(BIN)/python $(PIP) --no-build-isolation --editable .
	@touch $@

$(TOOLS): requirements/dev.txt $(SERVICES)
	$(BIN)/python $(PIP) --require-hashes -r requirements/dev.txt
	@touch $@

$(GENERATOR): requirements/proto.txt
	@scripts/virtualenv .venv-proto $(PYTHON)
	.venv-proto/bin/python $(PIP) --require-hashes -r requirements/proto.txt
	@touch $@

$(LOWEST): requirements/lowest.txt
	@scripts/virtualenv .venv-lowest $(PYTHON)
	.venv-lowest/bin/python $(PIP) --require-hashes -r requirements/lowest.txt
	@touch $@

$(PEERS): $(wildcard benchmarks/peers/requirements/*.txt) | $(SERVICES)
	$(BIN)/python -m benchmarks.peers install
	@touch $@

.PHONY: demo up install test check lint format proto lock bench bench-quick clean help
.PHONY: format-check ruff mypy pyright imports contract stubs lowest
