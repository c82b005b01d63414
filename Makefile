# Everything is done from here; `make` alone says what there is.
#
# The virtual environments fill themselves: .venv when requirements/dev.txt changes (everything, locked with hashes),
# .venv-proto when requirements/proto.txt does (the generator of the stubs, whose old version would clash with .venv).

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# A Python of 3.11 or newer: `make PYTHON=/path/to/python3.12 …`
PYTHON ?= python3
# What pytest gets beside its configuration: `make test PYTEST="-k card -x"`
PYTEST ?=

BIN := .venv/bin
INSTALLED := .venv/.installed
GENERATOR := .venv-proto/.installed
PIP := -m pip --quiet --disable-pip-version-check

##@ Use

demo: $(INSTALLED) ## Start the mesh, stream two guarded turns, show the way they took, stop
	$(BIN)/python -m shieldmesh demo

up: $(INSTALLED) ## Start the mesh on this machine and keep it running until Ctrl-C
	$(BIN)/python -m shieldmesh up

install: $(INSTALLED) ## Fill .venv with everything; the other targets do it when needed

##@ Develop

test: $(INSTALLED) ## Run all tests, the end-to-end ones too
	$(BIN)/python -m pytest $(PYTEST)

check: lint test ## Run every check: format, lint, types, imports, contract, stubs, tests

lint: format-check ruff mypy pyright imports contract stubs ## Run every check but the tests

format: $(INSTALLED) ## Format the code and the contract
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .
	$(BIN)/buf format --write protos

proto: $(GENERATOR) ## Generate the Python stubs from protos/
	scripts/stubs

lock: $(INSTALLED) ## Resolve pyproject.toml into requirements/ (LOCK=--upgrade for the newest versions)
	scripts/lock $(LOCK)

clean: ## Remove everything that the other targets made
	rm -rf .venv .venv-proto .run build dist *.egg-info .{mypy,ruff,pytest,import_linter}_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## Say what there is
	@awk 'BEGIN { FS = ":.*## " } /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# The parts of `make lint`.

format-check: $(INSTALLED)
	$(BIN)/ruff format --check --quiet .
	$(BIN)/buf format --diff --exit-code protos

ruff: $(INSTALLED)
	$(BIN)/ruff check --quiet .

mypy: $(INSTALLED)
	$(BIN)/mypy

pyright: $(INSTALLED)
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright

imports: $(INSTALLED)
	$(BIN)/lint-imports --no-timing

contract: $(INSTALLED)
	$(BIN)/buf lint protos
	scripts/breaking

stubs: $(GENERATOR)
	scripts/stubs --check

$(INSTALLED): requirements/dev.txt pyproject.toml
	@scripts/virtualenv .venv $(PYTHON)
	$(BIN)/python $(PIP) install --no-deps --require-hashes --requirement requirements/dev.txt
	$(BIN)/python $(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(GENERATOR): requirements/proto.txt
	@scripts/virtualenv .venv-proto $(PYTHON)
	.venv-proto/bin/python $(PIP) install --no-deps --require-hashes --requirement requirements/proto.txt
	@touch $@

.PHONY: demo up install test check lint format proto lock clean help
.PHONY: format-check ruff mypy pyright imports contract stubs
