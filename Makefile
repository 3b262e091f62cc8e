# Needs make and Python 3.11 or newer; everything else goes into .venv.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
# More for pip and for pytest, such as PYTEST_ARGS='-k cli'.
PIP_ARGS ?=
PYTEST_ARGS ?=
WORKERS ?= auto

.DEFAULT_GOAL := help
.PHONY: help demo test lint format bench coverage clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## compress a real text, decompress it elsewhere, compare; no network once installed
	@$(BIN)/pgolf-codec demo

test: lint ## lint, then all tests, as many at a time as there are cores (WORKERS=0: one)
	@$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses=8 $(PYTEST_ARGS)

lint: $(VENV)/.dev ## ruff and mypy --strict
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy --no-error-summary

format: $(VENV)/.dev ## let ruff fix and format the sources
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/ruff format --quiet .

bench: $(VENV)/.demo ## measure, write benchmarks/results, redraw the tables of README.md
	@$(BIN)/python benchmarks/text.py
	@$(BIN)/python benchmarks/tables.py

coverage: $(VENV)/.dev ## all tests with a coverage report
	@$(BIN)/python -m pytest --cov --cov-report=term-missing:skip-covered $(PYTEST_ARGS)

clean: ## remove what was built, .venv too
	rm -rf $(VENV) build dist *.egg-info .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 or newer found; set PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "make: $(PYTHON) has no venv module (Debian: apt install python3-venv)" >&2; exit 1; }

# The stamps: install again only when the requirements have changed.
$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing into $(VENV) ..." >&2
	@$(PIP) $(PIP_ARGS) --editable . brotli
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing into $(VENV), with the tools and torch for the tests ..." >&2
	@$(PIP) $(PIP_ARGS) --editable '.[dev,train,data]'
	@touch $@ $(VENV)/.demo
